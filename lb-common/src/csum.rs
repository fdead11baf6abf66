//! One's-complement sums and their incremental update (RFC 1071, RFC 1624).
//!
//! Sums are kept in this machine's byte order and in 32-bit words: a one's-complement sum does not care (RFC 1071, section 2),
//! and four additions for an IPv6 address are fewer than sixteen.

/// The change that some replaced bytes make to a checksum, as a sum to be folded in: `Σ ~old + new`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u64);

impl Change {
    /// Nothing has been replaced.
    pub const NONE: Self = Self(0);

    /// One 16-bit word, wire order.
    #[inline(always)]
    pub const fn word(self, old: [u8; 2], new: [u8; 2]) -> Self {
        Self(self.0 + !u16::from_ne_bytes(old) as u64 + u16::from_ne_bytes(new) as u64)
    }

    /// Four bytes that start at an even offset.
    #[inline(always)]
    pub const fn four(self, old: [u8; 4], new: [u8; 4]) -> Self {
        Self(self.0 + !u32::from_ne_bytes(old) as u64 + u32::from_ne_bytes(new) as u64)
    }

    /// Sixteen bytes that start at an even offset.
    #[inline(always)]
    pub const fn sixteen(self, old: &[u8; 16], new: &[u8; 16]) -> Self {
        self.four([old[0], old[1], old[2], old[3]], [new[0], new[1], new[2], new[3]])
            .four([old[4], old[5], old[6], old[7]], [new[4], new[5], new[6], new[7]])
            .four([old[8], old[9], old[10], old[11]], [new[8], new[9], new[10], new[11]])
            .four([old[12], old[13], old[14], old[15]], [new[12], new[13], new[14], new[15]])
    }

    /// As the kernel's checksum helpers take it.
    #[inline(always)]
    pub const fn to_kernel(self) -> u32 {
        fold(self.0) as u32
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum after the change: `HC' = ~(~HC + ~m + m')`, RFC 1624 equation 3, with the end-around carry.
    #[inline(always)]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(self.0 + !u16::from_ne_bytes(checksum) as u64)).to_ne_bytes()
    }

    /// The same for UDP, where zero means "no checksum" and stays (RFC 768), and a computed zero is sent as all ones.
    #[inline(always)]
    pub const fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        if checksum[0] == 0 && checksum[1] == 0 {
            return checksum;
        }
        let new = self.apply(checksum);
        if new[0] == 0 && new[1] == 0 { [0xff, 0xff] } else { new }
    }
}

/// An IPv4 header's checksum after its TTL, the upper half of a word, has become one less: what [`Change`] says of it (RFC 1141).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the carry goes around, the rest is 16 bits")]
pub const fn after_a_hop(checksum: [u8; 2]) -> [u8; 2] {
    let sum = u16::from_ne_bytes(checksum) as u32 + u16::from_ne_bytes([1, 0]) as u32;
    ((sum + (sum >= 0xffff) as u32) as u16).to_ne_bytes()
}

/// Folds a sum to 16 bits with end-around carry.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "four folds of 64 bits leave 16")]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(bytes: &[u8]) -> [u8; 2] {
        let sum = bytes.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], c[1]]))).sum();
        (!fold(sum)).to_be_bytes()
    }

    #[test]
    fn the_incremental_update_agrees_with_the_full_sum() {
        let mut bytes = [0_u8; 20];
        for round in 0..5_000_u32 {
            for (i, b) in bytes.iter_mut().enumerate() {
                let word = round.wrapping_mul(2_654_435_761).to_le_bytes();
                *b = word[i % 4].wrapping_add(u8::try_from(i).expect("20 bytes"));
            }
            let before = full(&bytes);
            let old = [bytes[12], bytes[13], bytes[14], bytes[15]];
            let new = round.wrapping_mul(40_503).to_be_bytes();
            bytes[12..16].copy_from_slice(&new);
            let after = Change::NONE.four(old, new).apply(before);
            let sum = |c: [u8; 2]| u16::from_be_bytes(c) % 0xffff;
            assert_eq!(sum(after), sum(full(&bytes)), "round {round}");
        }
    }

    #[test]
    fn rfc_1624_section_4_example_keeps_the_carry() {
        assert_eq!(Change::NONE.word([0x55, 0x55], [0x32, 0x85]).apply([0xdd, 0x2f]), [0x00, 0x00]);
    }

    #[test]
    fn a_hop_changes_a_checksum_as_any_change_of_its_word_does() {
        for checksum in 0..=u16::MAX {
            let old = checksum.to_be_bytes();
            let change = Change::NONE.word([64, 6], [63, 6]);
            assert_eq!(after_a_hop(old), change.apply(old), "{checksum:04x}");
        }
    }

    #[test]
    fn udp_without_checksum_stays_without() {
        assert_eq!(Change::NONE.word([1, 2], [3, 4]).apply_udp([0, 0]), [0, 0]);
    }
}
