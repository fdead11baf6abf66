//! The backend's side of ipip and gue: takes the outer header off, where both ends of it are as they must be.
//!
//! Strict, because a host that strips headers for anybody lets strangers in with any source they like: the outer destination is
//! an address of this host, the inner one a VIP that it serves. What is anything else is the kernel's, untouched.

use crate::csum::Change;
use crate::endpoint::Address;
use crate::packet::Packet;
use crate::parse::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP, Piece, ethernet, ipv4, ipv6,
};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Decapped {
    /// Not an encapsulated packet for this host: passed as it came.
    Other = 0,
    /// The outer header is off.
    Done = 1,
    /// For this host, but the inner packet is for none of its VIPs: passed as it came.
    NotForVip = 2,
    /// For this host, and nothing that can be read lies inside, or a piece of it: passed as it came.
    Unreadable = 3,
    /// Dropped: a router has marked congestion on a packet whose sender would not understand (RFC 6040, section 4.2).
    CongestionLost = 4,
}

impl Decapped {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Other, Self::Done, Self::NotForVip, Self::Unreadable, Self::CongestionLost];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "passed, not encapsulated for this host",
            Self::Done => "decapsulated",
            Self::NotForVip => "passed, inner destination is no VIP of this host",
            Self::Unreadable => "passed, inner packet cannot be read",
            Self::CongestionLost => "dropped, congestion marked on a packet that cannot carry the mark",
        }
    }
}

/// What the program is told.
pub trait Ends {
    /// Whether outer packets may go to this address.
    fn is_own(&self, addr: &Address) -> bool;
    /// Whether inner packets may.
    fn is_vip(&self, addr: &Address) -> bool;
    /// UDP port of gue, host order.
    fn gue_port(&self) -> u16;
}

/// The outer header.
#[derive(Clone, Copy, Default)]
struct Outer {
    l3: usize,
    /// Where the inner packet starts.
    inner: usize,
    inner_is_v6: bool,
    /// The outer ECN field.
    ecn: u8,
}

/// Takes an outer header off.
#[inline(always)]
pub fn decapsulate<P: Packet, E: Ends>(p: &mut P, ends: &E) -> Decapped {
    // Filled in by steps that return a number: the verifier takes no result of which a part was never written.
    let mut outer = Outer::default();
    let read = match ethernet(p) {
        Some((ETHERTYPE_IPV4, l3)) => outer_v4(p, ends, l3, &mut outer),
        Some((ETHERTYPE_IPV6, l3)) => outer_v6(p, ends, l3, &mut outer),
        _ => Err(Decapped::Other),
    };
    match read.and_then(|()| strip(p, ends, &outer)) {
        Ok(()) => Decapped::Done,
        Err(why) => why,
    }
}

#[inline(always)]
fn outer_v4<P: Packet, E: Ends>(p: &P, ends: &E, l3: usize, outer: &mut Outer) -> Result<(), Decapped> {
    let mut ip = Ip::<[u8; 4]>::default();
    ipv4(p, l3, &mut ip).ok_or(Decapped::Other)?;
    let [class] = p.load::<1>(l3 + 1).ok_or(Decapped::Other)?;
    outer.ecn = class & 3;
    find_inner(p, ends, &ip, &Address::v4(ip.dst), outer)
}

#[inline(always)]
fn outer_v6<P: Packet, E: Ends>(p: &P, ends: &E, l3: usize, outer: &mut Outer) -> Result<(), Decapped> {
    let mut ip = Ip::<[u8; 16]>::default();
    ipv6(p, l3, &mut ip).ok_or(Decapped::Other)?;
    let [_, class] = p.load::<2>(l3).ok_or(Decapped::Other)?;
    outer.ecn = class >> 4 & 3;
    find_inner(p, ends, &ip, &Address(ip.dst), outer)
}

#[inline(always)]
fn find_inner<P: Packet, E: Ends, A>(
    p: &P,
    ends: &E,
    ip: &Ip<A>,
    dst: &Address,
    outer: &mut Outer,
) -> Result<(), Decapped> {
    let is_udp = ip.protocol == PROTOCOL_UDP;
    if !(is_udp || ip.protocol == PROTOCOL_IPV4 || ip.protocol == PROTOCOL_IPV6) || !ends.is_own(dst) {
        return Err(Decapped::Other);
    }
    outer.l3 = ip.l3;
    outer.inner = ip.l4;
    outer.inner_is_v6 = ip.protocol == PROTOCOL_IPV6;
    if is_udp {
        // A later piece has no ports; what is not gue's is somebody else's UDP.
        let [_, _, high, low] = p.load::<4>(ip.l4).ok_or(Decapped::Other)?;
        if matches!(ip.piece, Piece::Tail) || u16::from_be_bytes([high, low]) != ends.gue_port() {
            return Err(Decapped::Other);
        }
        in_gue(p, ip.l4 + 8, outer)?;
    }
    if matches!(ip.piece, Piece::Whole) { Ok(()) } else { Err(Decapped::Unreadable) }
}

/// What lies in gue at `at` (draft-ietf-intarea-gue): variant 1, an IP packet whose version says so, which is what Weir and
/// Katran send; or variant 0 with the four bytes that every header has and nothing more, which Linux sends.
#[inline(always)]
fn in_gue<P: Packet>(p: &P, at: usize, outer: &mut Outer) -> Result<(), Decapped> {
    let [first, protocol, flags_high, flags_low] = p.load::<4>(at).ok_or(Decapped::Unreadable)?;
    let version = first >> 4;
    if version == 4 || version == 6 {
        outer.inner = at;
        outer.inner_is_v6 = version == 6;
        return Ok(());
    }
    let is_ip = protocol == PROTOCOL_IPV4 || protocol == PROTOCOL_IPV6;
    if first != 0 || flags_high != 0 || flags_low != 0 || !is_ip {
        return Err(Decapped::Unreadable);
    }
    outer.inner = at + 4;
    outer.inner_is_v6 = protocol == PROTOCOL_IPV6;
    Ok(())
}

#[inline(always)]
fn strip<P: Packet, E: Ends>(p: &mut P, ends: &E, outer: &Outer) -> Result<(), Decapped> {
    let at = outer.inner;
    let [first, second] = p.load::<2>(at).ok_or(Decapped::Unreadable)?;
    if first >> 4 != if outer.inner_is_v6 { 6 } else { 4 } {
        return Err(Decapped::Unreadable);
    }
    let ecn = if outer.inner_is_v6 { second >> 4 & 3 } else { second & 3 };
    let is_ours = if outer.inner_is_v6 {
        ends.is_vip(&Address(p.load::<16>(at + 24).ok_or(Decapped::Unreadable)?))
    } else {
        ends.is_vip(&Address::v4(p.load::<4>(at + 16).ok_or(Decapped::Unreadable)?))
    };
    if !is_ours {
        return Err(Decapped::NotForVip);
    }
    let new = ecn_after(ecn, outer.ecn).ok_or(Decapped::CongestionLost)?;
    if new != ecn {
        mark(p, outer, [first, second], new).ok_or(Decapped::Unreadable)?;
    }
    p.take_away(outer.l3, at - outer.l3).ok_or(Decapped::Unreadable)?;
    let kind = if outer.inner_is_v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    p.store::<2>(outer.l3 - 2, kind.to_be_bytes()).ok_or(Decapped::Unreadable)
}

/// Congestion experienced.
const CE: u8 = 3;
/// ECN-capable transport (1).
const ECT_1: u8 = 1;

/// The ECN field that leaves a tunnel, by the inner and the outer one (RFC 6040, figure 4). `None`: the packet must be dropped.
#[inline(always)]
const fn ecn_after(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (0, CE) => None,
        (0, _) => Some(0),
        (_, CE) => Some(CE),
        (2, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Gives the inner header another ECN field.
#[inline(always)]
fn mark<P: Packet>(p: &mut P, outer: &Outer, old: [u8; 2], ecn: u8) -> Option<()> {
    let at = outer.inner;
    if outer.inner_is_v6 {
        return p.store(at + 1, [old[1] & !(3 << 4) | ecn << 4]);
    }
    let new = [old[0], old[1] & !3 | ecn];
    let checksum = p.load::<2>(at + 10)?;
    p.store(at + 10, Change::NONE.word(old, new).apply(checksum))?;
    p.store(at, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6040_figure_4_every_pair_of_ecn_fields() {
        let table = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in (0_u8..).zip(table) {
            for (outer, left) in (0_u8..).zip(row) {
                assert_eq!(ecn_after(inner, outer), left, "inner {inner}, outer {outer}");
            }
        }
    }

    #[test]
    fn numbers_count_from_zero() {
        for (n, what) in Decapped::ALL.iter().enumerate() {
            assert_eq!(*what as usize, n);
        }
    }
}
