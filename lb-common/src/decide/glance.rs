//! Headers at places known at compile time: what the shortest way reads of a packet and writes to it, per family.

use crate::csum;
use crate::endpoint::{EndpointV4, EndpointV6};
use crate::family::{Family, V4, V6};
use crate::host::Host;
use crate::packet::Packet;
use crate::parse::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::service::ServiceEntry;
use crate::tables::Tables;

/// Offset of the IP header: no tag.
pub(super) const L3: usize = 14;

/// What is read of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance<A> {
    pub(super) src: A,
    pub(super) dst: A,
    /// Wire order.
    pub(super) src_port: [u8; 2],
    /// Wire order.
    pub(super) dst_port: [u8; 2],
    /// TCP or UDP.
    pub(super) protocol: u8,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    /// Length of the IP packet, bytes.
    pub(super) len: u16,
    /// DSCP and ECN.
    pub(super) class: u8,
    /// A TCP header longer than 20 bytes.
    pub(super) has_options: bool,
    /// TCP's flag byte; of a datagram, which is a message, as if it said PSH.
    pub(super) flags: u8,
}

/// TCP's flag bits (RFC 9293, section 3.1).
pub(super) const FIN: u8 = 1 << 0;
pub(super) const SYN: u8 = 1 << 1;
pub(super) const RST: u8 = 1 << 2;
pub(super) const PSH: u8 = 1 << 3;
pub(super) const ACK: u8 = 1 << 4;

/// A family whose plain headers lie where they always lie.
pub(super) trait Plain: Family {
    /// Reads an untagged packet without options or extension headers. `start`: its bytes 12 to 27. `None`: it is another, or
    /// its lengths contradict each other.
    fn glance<P: Packet>(p: &P, start: [u64; 2]) -> Option<Glance<Self::Addr>>;
    /// The service that the packet is for, by its exact port.
    fn service<'a, T: Tables>(t: &'a T, host: &Host, g: &Glance<Self::Addr>) -> Option<&'a ServiceEntry>;
    /// Gives the packet one hop less to live.
    fn hop<P: Packet>(p: &mut P, g: &Glance<Self::Addr>) -> Option<()>;
    /// Gives the packet another destination and one hop less to live.
    fn aim<P: Packet>(p: &mut P, g: &Glance<Self::Addr>, dst: &Self::Addr, port: [u8; 2]) -> Option<()>;
}

impl Plain for V4 {
    #[inline(always)]
    fn glance<P: Packet>(p: &P, start: [u64; 2]) -> Option<Glance<[u8; 4]>> {
        let [first, second] = start.map(u64::to_le_bytes);
        let [ends, ports, tcp] = p.words::<{ L3 + 12 }, 3>()?.map(u64::to_le_bytes);
        let len = u16::from_be_bytes([first[4], first[5]]);
        // More fragments, or an offset.
        if second[0] & 0x3f != 0 || second[1] != 0 || len < 20 || !p.holds(L3 + usize::from(len)) {
            return None;
        }
        let flags = flags(second[3], usize::from(len) - 20, (tcp[4], tcp[5]), [ports[4], ports[5]])?;
        Some(Glance {
            src: [ends[0], ends[1], ends[2], ends[3]],
            dst: [ends[4], ends[5], ends[6], ends[7]],
            src_port: [ports[0], ports[1]],
            dst_port: [ports[2], ports[3]],
            protocol: second[3],
            ttl: second[2],
            len,
            class: first[3],
            has_options: tcp[4] >> 4 != 5,
            flags,
        })
    }

    #[inline(always)]
    fn service<'a, T: Tables>(t: &'a T, host: &Host, g: &Glance<[u8; 4]>) -> Option<&'a ServiceEntry> {
        t.service_v4_at_hand(host, &EndpointV4 { addr: g.dst, port: g.dst_port, protocol: g.protocol, zero: 0 })
    }

    #[inline(always)]
    fn hop<P: Packet>(p: &mut P, g: &Glance<[u8; 4]>) -> Option<()> {
        let c = csum::after_a_hop(p.get::<{ L3 + 10 }, 2>()?);
        p.put::<{ L3 + 8 }, 4>([g.ttl.wrapping_sub(1), g.protocol, c[0], c[1]])
    }

    #[inline(always)]
    fn aim<P: Packet>(p: &mut P, g: &Glance<[u8; 4]>, dst: &[u8; 4], port: [u8; 2]) -> Option<()> {
        let address = Self::change(&g.dst, dst);
        let rest = address.word(g.dst_port, port);
        if g.protocol == PROTOCOL_TCP {
            let sum = rest.apply(p.get::<{ L3 + 36 }, 2>()?);
            p.put::<{ L3 + 36 }, 2>(sum)?;
        } else {
            let sum = rest.apply_udp(p.get::<{ L3 + 26 }, 2>()?);
            p.put::<{ L3 + 26 }, 2>(sum)?;
        }
        let ttl = g.ttl.wrapping_sub(1);
        let c = address.word([g.ttl, g.protocol], [ttl, g.protocol]).apply(p.get::<{ L3 + 10 }, 2>()?);
        p.put::<{ L3 + 8 }, 4>([ttl, g.protocol, c[0], c[1]])?;
        p.put::<{ L3 + 16 }, 4>(*dst)?;
        p.put::<{ L3 + 22 }, 2>(port)
    }
}

impl Plain for V6 {
    #[inline(always)]
    fn glance<P: Packet>(p: &P, start: [u64; 2]) -> Option<Glance<[u8; 16]>> {
        let [first, second] = start.map(u64::to_le_bytes);
        let [src_high, src_low, dst_high, dst_low, ports, tcp] = p.words::<{ L3 + 8 }, 6>()?;
        let (ports, tcp) = (ports.to_le_bytes(), tcp.to_le_bytes());
        let room = usize::from(u16::from_be_bytes([first[6], first[7]]));
        if !p.holds(L3 + 40 + room) {
            return None;
        }
        let flags = flags(second[0], room, (tcp[4], tcp[5]), [ports[4], ports[5]])?;
        Some(Glance {
            src: both(src_high, src_low),
            dst: both(dst_high, dst_low),
            src_port: [ports[0], ports[1]],
            dst_port: [ports[2], ports[3]],
            protocol: second[0],
            ttl: second[1],
            len: u16::from_be_bytes([first[6], first[7]]).checked_add(40)?,
            class: first[2] << 4 | first[3] >> 4,
            has_options: tcp[4] >> 4 != 5,
            flags,
        })
    }

    #[inline(always)]
    fn service<'a, T: Tables>(t: &'a T, host: &Host, g: &Glance<[u8; 16]>) -> Option<&'a ServiceEntry> {
        t.service_v6_at_hand(host, &EndpointV6 { addr: g.dst, port: g.dst_port, protocol: g.protocol, zero: 0 })
    }

    #[inline(always)]
    fn hop<P: Packet>(p: &mut P, g: &Glance<[u8; 16]>) -> Option<()> {
        p.put::<{ L3 + 7 }, 1>([g.ttl.wrapping_sub(1)])
    }

    #[inline(always)]
    fn aim<P: Packet>(p: &mut P, g: &Glance<[u8; 16]>, dst: &[u8; 16], port: [u8; 2]) -> Option<()> {
        let change = Self::change(&g.dst, dst).word(g.dst_port, port);
        if g.protocol == PROTOCOL_TCP {
            let sum = change.apply(p.get::<{ L3 + 56 }, 2>()?);
            p.put::<{ L3 + 56 }, 2>(sum)?;
        } else {
            let sum = change.apply_udp(p.get::<{ L3 + 46 }, 2>()?);
            p.put::<{ L3 + 46 }, 2>(sum)?;
        }
        p.put::<{ L3 + 7 }, 1>([g.ttl.wrapping_sub(1)])?;
        p.put::<{ L3 + 24 }, 16>(*dst)?;
        p.put::<{ L3 + 42 }, 2>(port)
    }
}

#[inline(always)]
fn both(first: u64, second: u64) -> [u8; 16] {
    let (a, b) = (first.to_le_bytes(), second.to_le_bytes());
    [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
}

/// The flags of a whole segment or datagram that has `room` bytes; `tcp`: its bytes 12 and 13; `len`: its bytes 4 and 5. `None`:
/// another protocol, or lengths that contradict each other.
#[inline(always)]
fn flags(protocol: u8, room: usize, tcp: (u8, u8), len: [u8; 2]) -> Option<u8> {
    if protocol == PROTOCOL_TCP {
        let header = usize::from(tcp.0 >> 4) * 4;
        return if header >= 20 && room >= header { Some(tcp.1) } else { None };
    }
    let len = usize::from(u16::from_be_bytes(len));
    if protocol == PROTOCOL_UDP && len >= 8 && room >= len { Some(PSH) } else { None }
}
