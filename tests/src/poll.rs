//! A program that passes every packet, for the wire's end of the balancer's cables.
//!
//! What XDP sends back out of a veth (`XDP_TX`) lies in its peer's ring until the peer polls, and the kernel wakes a peer that
//! has an XDP program, not one that polls for GRO alone (`veth_xdp_flush` in drivers/net/veth.c, up to 6.18 at least).
//! A NIC on a real wire has no peer to wake.

use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;

use crate::netns::Netns;

/// `r0 = XDP_PASS; exit`.
const PASS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// Section and program names, as ELF keeps them: each ends with a zero, the empty name comes first.
const NAMES: &[u8] = b"\0xdp\0pass\0.symtab\0.strtab\0";
const XDP: u32 = 1;
const PROGRAM: u32 = 5;
const SYMTAB: u32 = 10;
const STRTAB: u32 = 18;

/// Sizes of ELF's records, bytes.
const HEADER: usize = 64;
const SYMBOL: usize = 24;
const SECTION: usize = 64;

/// Attaches it to `port` of a machine, for as long as what is returned lives.
pub(crate) fn attach(machine: &Netns, port: &str) -> Ebpf {
    let port = port.to_owned();
    machine.call(move || {
        let mut object = Ebpf::load(&object()).expect("loading a BPF program needs root");
        let program: &mut Xdp = object.program_mut("pass").expect("it is in the object").try_into().expect("it is XDP");
        program.load().expect("two instructions satisfy the verifier");
        let _ = program.attach(&port, XdpMode::Driver).expect("a veth has native XDP");
        object
    })
}

/// The smallest ELF that a loader takes: one section with the program, its symbol, the names.
fn object() -> Vec<u8> {
    let symbols_at = HEADER + PASS.len();
    let names_at = symbols_at + 2 * SYMBOL;
    let sections_at = (names_at + NAMES.len()).next_multiple_of(8);

    let mut elf = Vec::with_capacity(sections_at + 4 * SECTION);
    // 64 bits, little endian, version 1; a relocatable file for BPF.
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put16(&mut elf, &[1, 247]);
    put32(&mut elf, &[1]);
    put64(&mut elf, &[0, 0, sections_at]);
    put32(&mut elf, &[0]);
    put16(&mut elf, &[64, 0, 0, 64, 4, 3]);
    elf.extend(PASS);
    elf.extend([0; SYMBOL]);
    put32(&mut elf, &[PROGRAM]);
    // A global function, in section 1.
    elf.extend([0x12, 0]);
    put16(&mut elf, &[1]);
    put64(&mut elf, &[0, PASS.len()]);
    elf.extend(NAMES);
    elf.resize(sections_at, 0);
    elf.extend([0; SECTION]);
    // Type, flags, offset, size, link, info, record size: code, symbols, names.
    section(&mut elf, XDP, 1, 6, HEADER, PASS.len(), [0, 0], 0);
    section(&mut elf, SYMTAB, 2, 0, symbols_at, 2 * SYMBOL, [3, 1], SYMBOL);
    section(&mut elf, STRTAB, 3, 0, names_at, NAMES.len(), [0, 0], 0);
    elf
}

#[expect(clippy::too_many_arguments, reason = "the fields of an ELF section header, in their order")]
fn section(
    elf: &mut Vec<u8>,
    name: u32,
    kind: u32,
    flags: usize,
    at: usize,
    size: usize,
    link: [u32; 2],
    record: usize,
) {
    put32(elf, &[name, kind]);
    put64(elf, &[flags, 0, at, size]);
    put32(elf, &link);
    put64(elf, &[8, record]);
}

fn put16(elf: &mut Vec<u8>, values: &[u16]) {
    elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put32(elf: &mut Vec<u8>, values: &[u32]) {
    elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put64(elf: &mut Vec<u8>, values: &[usize]) {
    elf.extend(values.iter().flat_map(|value| (*value as u64).to_le_bytes()));
}
