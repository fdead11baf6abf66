//! What the kernel knows of an owner: one (service, backend) pair, one cache line.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::Address;

/// Established flows may stay with this owner. Cleared when it is silent: its entries become misses.
pub const BACKEND_ALIVE: u16 = 1 << 0;
/// `dst_mac`, `src_mac` and `ifindex` are known.
pub const BACKEND_REACHABLE: u16 = 1 << 1;
/// A client on the backend's own link would be answered directly: its flows get our source address (hairpin).
pub const BACKEND_ON_LINK: u16 = 1 << 2;
/// Its service picks the slot by the client's address alone (`source_hash`).
pub const BACKEND_SLOT_BY_SOURCE: u16 = 1 << 3;
/// The way out is an interface that XDP cannot send to (a bridge, a container's veth): the TC program forwards.
pub const BACKEND_VIA_TC: u16 = 1 << 4;

/// One owner. The agent changes an entry in place by aligned 64-bit stores; each of the eight words is right by itself, so a
/// packet never sees half a MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct BackendEntry {
    /// Next hop's MAC address.
    pub dst_mac: [u8; 6],
    /// `BACKEND_*` bits.
    pub flags: u16,
    /// Our MAC address on the way out.
    pub src_mac: [u8; 6],
    /// Service id that this owner serves: a flow entry whose owner belongs to another service is a miss.
    pub service: u16,
    /// The backend's address; ipip, gue: the outer destination, of either family.
    pub addr: Address,
    /// Interface on the way out.
    pub ifindex: u32,
    /// The backend's port, wire order; 0 keeps the client's (any-port services). gue: the UDP port of the outer destination.
    pub port: [u8; 2],
    /// Prefix length of the link that the backend is on (of 32 or 128), where `BACKEND_ON_LINK`.
    pub link_prefix: u8,
    /// ipip, gue: how many low bits of the outer source are the flow's (at most 32).
    pub source_bits: u8,
    /// nat: our address towards this backend, for `snat` and hairpin; all zero where there is none. ipip, gue: the outer source,
    /// its low `source_bits` bits zero.
    pub snat_addr: Address,
    /// Relative weight, for least_conn.
    pub weight: u16,
    /// Largest IP packet the way out takes, bytes.
    pub mtu: u16,
    /// Always zero.
    pub zero2: u32,
}

impl BackendEntry {
    /// Whether flows may stay here.
    #[inline(always)]
    pub const fn is_alive(&self) -> bool {
        self.flags & BACKEND_ALIVE != 0
    }

    /// The entry as little-endian words: one load each, where its bytes would be sixteen.
    #[inline(always)]
    fn words(&self) -> [u64; 8] {
        let words: &[u64; 8] = zerocopy::transmute_ref!(self);
        words.map(u64::from_le)
    }

    /// Whether the backend's address is an IPv4 one.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        let [_, _, high, low, ..] = self.words();
        high == 0 && low & 0xffff_ffff == 0xffff_0000
    }

    /// The first twelve bytes of a frame to this backend: `dst_mac` and `src_mac`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub fn macs(&self) -> [u8; 12] {
        let [dst, src, ..] = self.words();
        let a = (dst & 0xffff_ffff_ffff | src << 48).to_le_bytes();
        let b = ((src >> 16) as u32).to_le_bytes();
        [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3]]
    }

    /// Whether slots of its service come from the client's address alone.
    #[inline(always)]
    pub const fn slot_by_source(&self) -> bool {
        self.flags & BACKEND_SLOT_BY_SOURCE != 0
    }
}

const _: () = assert!(size_of::<BackendEntry>() == 64 && align_of::<BackendEntry>() == 8);
const _: () = assert!(core::mem::offset_of!(BackendEntry, src_mac) == 8);
const _: () = assert!(core::mem::offset_of!(BackendEntry, addr) == 16);
const _: () = assert!(core::mem::offset_of!(BackendEntry, ifindex) == 32);
const _: () = assert!(core::mem::offset_of!(BackendEntry, snat_addr) == 40);
const _: () = assert!(core::mem::offset_of!(BackendEntry, weight) == 56);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_the_fields_say() {
        let v6 = BackendEntry {
            dst_mac: [1, 2, 3, 4, 5, 6],
            flags: 0xffff,
            src_mac: [7, 8, 9, 10, 11, 12],
            service: 0xffff,
            addr: Address([0x20; 16]),
            ..BackendEntry::default()
        };
        assert_eq!(v6.macs(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(!v6.is_v4());
        assert!(BackendEntry { addr: Address::v4([10, 0, 0, 1]), ..v6 }.is_v4());
        assert!(!BackendEntry::default().is_v4());
    }
}
