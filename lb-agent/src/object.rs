//! The BPF objects that this agent carries: built by `build.rs` from `lb-ebpf`, one file to install.

/// The ELF, aligned as its parser needs it.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir.bpf.o"));

/// Sixteen hexadecimal digits that change with every change of [`OBJECT`]: which build of the programs this is, in `status`
/// and beside the pins.
pub const OBJECT_ID: &str = env!("WEIR_OBJECT_ID");

/// The ELF of the decapsulation program, for backends.
pub const DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/decap.bpf.o"));

/// The ELF of the benchmark's generator and floor.
#[cfg(feature = "testing")]
pub const BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));

#[cfg(test)]
mod tests {
    use lb_common::maps;

    use super::*;

    #[test]
    fn the_object_is_an_elf_for_bpf_and_aligned() {
        const EM_BPF: [u8; 2] = 247_u16.to_le_bytes();
        assert_eq!(&OBJECT[..4], b"\x7fELF");
        assert_eq!(&OBJECT[18..20], EM_BPF);
        assert_eq!(OBJECT.as_ptr().addr() % 8, 0);
    }

    #[test]
    fn the_object_names_every_map_and_program_of_the_contract() {
        for name in maps::ALL.iter().chain(&[maps::PROGRAM_INGRESS, maps::PROGRAM_REPLY]) {
            let found = OBJECT.windows(name.len() + 1).any(|window| window.split_last() == Some((&0, name.as_bytes())));
            assert!(found, "{name} is not in the object");
        }
    }

    #[test]
    fn the_object_id_is_sixteen_hexadecimal_digits() {
        assert_eq!(OBJECT_ID.len(), 16);
        assert!(OBJECT_ID.chars().all(|digit| digit.is_ascii_hexdigit()));
    }
}
