//! Ethernet, 802.1Q and QinQ, IPv4 with options, IPv6 with bounded extension headers, TCP, UDP: bytes to values.
//!
//! Parsing judges nothing: whether a fault matters depends on whether the packet is ours, which the caller finds out.

use crate::flow::Segment;
use crate::packet::Packet;

/// Ethernet type of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethernet type of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IANA protocol numbers.
pub const PROTOCOL_ICMP: u8 = 1;
/// IANA protocol number of an IPv4 packet inside another.
pub const PROTOCOL_IPV4: u8 = 4;
/// IANA protocol number of an IPv6 packet inside another.
pub const PROTOCOL_IPV6: u8 = 41;
/// IANA protocol number.
pub const PROTOCOL_TCP: u8 = 6;
/// IANA protocol number.
pub const PROTOCOL_UDP: u8 = 17;
/// IANA protocol number.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// Most IPv6 extension headers that are walked; more than any honest packet has.
const MAX_EXTENSIONS: usize = 4;

/// IPv6 hop-by-hop options.
const EXTENSION_HOP_BY_HOP: u8 = 0;
/// IPv6 routing header.
const EXTENSION_ROUTING: u8 = 43;
/// IPv6 fragment header.
const EXTENSION_FRAGMENT: u8 = 44;

/// Bytes of an Ethernet header without tags.
const ETHERNET_LEN: usize = 14;

/// Whether an IP packet is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Piece {
    /// A whole datagram.
    #[default]
    Whole,
    /// The first fragment: it carries the ports.
    Head,
    /// A later fragment.
    Tail,
}

/// An IP header, either family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ip<A> {
    /// Offset of the IP header in the frame.
    pub l3: usize,
    /// Offset of what it carries.
    pub l4: usize,
    /// Source.
    pub src: A,
    /// Destination.
    pub dst: A,
    /// What it carries (after extension headers).
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Length of the whole IP packet, bytes.
    pub len: u16,
    /// Whether it is a fragment.
    pub piece: Piece,
    /// Identification of the fragment.
    pub id: u32,
}

/// TCP or UDP ports, and what the packet says about its flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// Source port, wire order.
    pub src_port: [u8; 2],
    /// Destination port, wire order.
    pub dst_port: [u8; 2],
    /// What it says.
    pub segment: Segment,
    /// PSH, or a datagram.
    pub is_message: bool,
}

/// Ethernet type and the offset of what follows, past up to two tags (IEEE 802.1Q, 802.1ad). `None`: shorter than its header.
#[inline(always)]
pub fn ethernet<P: Packet>(p: &P) -> Option<(u16, usize)> {
    let mut kind = u16::from_be_bytes(p.load::<2>(12)?);
    let mut l3 = ETHERNET_LEN;
    if is_tag(kind) {
        kind = u16::from_be_bytes(p.load::<2>(16)?);
        l3 = 18;
        if is_tag(kind) {
            kind = u16::from_be_bytes(p.load::<2>(20)?);
            l3 = 22;
        }
    }
    Some((kind, l3))
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    kind == 0x8100 || kind == 0x88a8
}

/// IPv4 header (RFC 791). `None`: too short, another version, or lengths that contradict each other.
#[inline(always)]
pub fn ipv4<P: Packet>(p: &P, l3: usize, ip: &mut Ip<[u8; 4]>) -> Option<()> {
    let h = p.load::<20>(l3)?;
    let header_len = usize::from(h[0] & 0x0f) * 4;
    let len = u16::from_be_bytes([h[2], h[3]]);
    if h[0] >> 4 != 4 || header_len < 20 || usize::from(len) < header_len || !p.holds(l3 + usize::from(len)) {
        return None;
    }
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    let piece = if fragment & 0x1fff != 0 {
        Piece::Tail
    } else if fragment & 0x2000 != 0 {
        Piece::Head
    } else {
        Piece::Whole
    };
    *ip = Ip {
        l3,
        l4: l3 + header_len,
        src: [h[12], h[13], h[14], h[15]],
        dst: [h[16], h[17], h[18], h[19]],
        protocol: h[9],
        ttl: h[8],
        len,
        piece,
        id: u32::from(u16::from_be_bytes([h[4], h[5]])),
    };
    Some(())
}

/// IPv6 header and its extension headers (RFC 8200). `None`: as for IPv4, a chain longer than we walk, or
/// one that leads on to another address.
#[inline(always)]
pub fn ipv6<P: Packet>(p: &P, l3: usize, ip: &mut Ip<[u8; 16]>) -> Option<()> {
    let h = p.load::<8>(l3)?;
    let len = u16::from_be_bytes([h[4], h[5]]).checked_add(40)?;
    let end = l3 + usize::from(len);
    if h[0] >> 4 != 6 || !p.holds(end) {
        return None;
    }
    let mut chain = Chain { protocol: h[6], l4: l3 + 40, piece: Piece::Whole, id: 0 };
    if is_extension(chain.protocol) {
        chain = extensions(p, chain, end)?;
    }
    ip.src = p.load::<16>(l3 + 8)?;
    ip.dst = p.load::<16>(l3 + 24)?;
    ip.l3 = l3;
    ip.l4 = chain.l4;
    ip.protocol = chain.protocol;
    ip.ttl = h[7];
    ip.len = len;
    ip.piece = chain.piece;
    ip.id = chain.id;
    Some(())
}

/// What a chain of extension headers leads to.
#[derive(Clone, Copy)]
struct Chain {
    protocol: u8,
    l4: usize,
    piece: Piece,
    id: u32,
}

/// Walks extension headers up to `end`. `None`: beyond it, or more of them than we walk.
#[inline(always)]
fn extensions<P: Packet>(p: &P, mut chain: Chain, end: usize) -> Option<Chain> {
    let mut n = 0;
    while n < MAX_EXTENSIONS {
        if !is_extension(chain.protocol) || matches!(chain.piece, Piece::Tail) {
            break;
        }
        // Hop-by-hop options come first or not at all (RFC 8200, section 4.1).
        if chain.protocol == EXTENSION_HOP_BY_HOP && n > 0 {
            return None;
        }
        let e = p.load::<8>(chain.l4)?;
        // With segments left it is on its way to somebody else, whose address its checksum covers (RFC 8200, sections 4.4 and
        // 8.1): not for us to route by.
        if chain.protocol == EXTENSION_ROUTING && e[3] != 0 {
            return None;
        }
        if chain.protocol == EXTENSION_FRAGMENT {
            let offset = u16::from_be_bytes([e[2], e[3]]);
            chain.id = u32::from_be_bytes([e[4], e[5], e[6], e[7]]);
            chain.piece = if offset & 0xfff8 != 0 {
                Piece::Tail
            } else if offset & 1 != 0 {
                Piece::Head
            } else {
                Piece::Whole
            };
            chain.l4 += 8;
        } else {
            chain.l4 += (usize::from(e[1]) + 1) * 8;
        }
        chain.protocol = e[0];
        if chain.l4 > end {
            return None;
        }
        n += 1;
    }
    if is_extension(chain.protocol) && !matches!(chain.piece, Piece::Tail) { None } else { Some(chain) }
}

/// Hop-by-hop, routing, fragment and destination options: what a packet may carry before its transport header.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, EXTENSION_HOP_BY_HOP | EXTENSION_ROUTING | EXTENSION_FRAGMENT | 60)
}

/// TCP (RFC 9293) or UDP (RFC 768) header of a packet that is no tail. `None`: another protocol, or too short.
#[inline(always)]
pub fn transport<P: Packet, A>(p: &P, ip: &Ip<A>) -> Option<Transport> {
    let room = (ip.l3 + usize::from(ip.len)).checked_sub(ip.l4)?;
    if ip.protocol == PROTOCOL_TCP {
        let h = p.load::<14>(ip.l4)?;
        let header_len = usize::from(h[12] >> 4) * 4;
        if header_len < 20 || room < 20 || (matches!(ip.piece, Piece::Whole) && room < header_len) {
            return None;
        }
        return Some(Transport {
            src_port: [h[0], h[1]],
            dst_port: [h[2], h[3]],
            segment: Segment::of_tcp(h[13]),
            is_message: h[13] & 0x08 != 0,
        });
    }
    if ip.protocol == PROTOCOL_UDP {
        let h = p.load::<8>(ip.l4)?;
        let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
        if room < 8 || len < 8 || (matches!(ip.piece, Piece::Whole) && len > room) {
            return None;
        }
        return Some(Transport {
            src_port: [h[0], h[1]],
            dst_port: [h[2], h[3]],
            segment: Segment::Datagram,
            is_message: true,
        });
    }
    None
}

/// A packet that an ICMP error quotes: as much of it as matters, which is its addresses and 4 bytes of what it carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quote<A> {
    /// Offset of the quoted IP header.
    pub l3: usize,
    /// Offset of the quoted TCP or UDP header.
    pub l4: usize,
    /// Source of the quoted packet.
    pub src: A,
    /// Destination of the quoted packet.
    pub dst: A,
    /// TCP or UDP.
    pub protocol: u8,
    /// Source port, wire order.
    pub src_port: [u8; 2],
    /// Destination port, wire order.
    pub dst_port: [u8; 2],
}

/// The IPv4 packet that an error quotes from `l3` on. `None`: neither TCP nor UDP, without ports, or too short.
#[inline(always)]
pub fn quoted_ipv4<P: Packet>(p: &P, l3: usize, quote: &mut Quote<[u8; 4]>) -> Option<()> {
    let h = p.load::<20>(l3)?;
    let header_len = usize::from(h[0] & 0x0f) * 4;
    let tail = u16::from_be_bytes([h[6], h[7]]) & 0x1fff != 0;
    if h[0] >> 4 != 4 || header_len < 20 || tail || !has_ports(h[9]) {
        return None;
    }
    let l4 = l3 + header_len;
    let ports = p.load::<4>(l4)?;
    *quote = Quote {
        l3,
        l4,
        src: [h[12], h[13], h[14], h[15]],
        dst: [h[16], h[17], h[18], h[19]],
        protocol: h[9],
        src_port: [ports[0], ports[1]],
        dst_port: [ports[2], ports[3]],
    };
    Some(())
}

/// The same for IPv6.
#[inline(always)]
pub fn quoted_ipv6<P: Packet>(p: &P, l3: usize, quote: &mut Quote<[u8; 16]>) -> Option<()> {
    let h = p.load::<8>(l3)?;
    if h[0] >> 4 != 6 {
        return None;
    }
    let (mut protocol, mut l4) = (h[6], l3 + 40);
    let mut n = 0;
    while n < MAX_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        let e = p.load::<8>(l4)?;
        if protocol == EXTENSION_FRAGMENT {
            if u16::from_be_bytes([e[2], e[3]]) & 0xfff8 != 0 {
                return None;
            }
            l4 += 8;
        } else {
            l4 += (usize::from(e[1]) + 1) * 8;
        }
        protocol = e[0];
        n += 1;
    }
    if !has_ports(protocol) {
        return None;
    }
    let ports = p.load::<4>(l4)?;
    quote.src = p.load::<16>(l3 + 8)?;
    quote.dst = p.load::<16>(l3 + 24)?;
    quote.l3 = l3;
    quote.l4 = l4;
    quote.protocol = protocol;
    quote.src_port = [ports[0], ports[1]];
    quote.dst_port = [ports[2], ports[3]];
    Some(())
}

/// Whether a protocol's header starts with two ports that we route by.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP
}
