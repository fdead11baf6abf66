//! Builds packets readably and reads them back in fields, never in hex. Checksums are etherparse's, not ours.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Ethernet2Header, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TcpHeader,
    TcpSlice, TransportSlice, UdpHeader, UdpSlice,
};

use crate::world::OUR_MAC;

/// MAC address of whoever sends to us.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// TTL of what is sent to us.
pub const TTL: u8 = 64;

/// TCP flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// SYN.
    Syn,
    /// ACK.
    Ack,
    /// PSH and ACK.
    Data,
    /// FIN and ACK.
    Fin,
    /// RST.
    Rst,
    /// SYN and ACK.
    SynAck,
}

/// A TCP segment from `src` to `dst`.
pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(src.port(), dst.port(), 1_000, 8_192);
    match flags {
        Flags::Syn => header.syn = true,
        Flags::Ack => header.ack = true,
        Flags::Data => (header.ack, header.psh) = (true, true),
        Flags::Fin => (header.ack, header.fin) = (true, true),
        Flags::Rst => header.rst = true,
        Flags::SynAck => (header.syn, header.ack) = (true, true),
    }
    let builder = PacketBuilder::ethernet2(PEER_MAC, OUR_MAC);
    let builder = match (src.ip(), dst.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => builder.ipv4(a.octets(), b.octets(), TTL),
        (IpAddr::V6(a), IpAddr::V6(b)) => builder.ipv6(a.octets(), b.octets(), TTL),
        _ => panic!("{src} and {dst} are of different families"),
    };
    let mut frame = Vec::new();
    builder.tcp_header(header).write(&mut frame, payload).expect("a vector takes everything");
    frame
}

/// A UDP datagram from `src` to `dst`.
pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, OUR_MAC);
    let builder = match (src.ip(), dst.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => builder.ipv4(a.octets(), b.octets(), TTL),
        (IpAddr::V6(a), IpAddr::V6(b)) => builder.ipv6(a.octets(), b.octets(), TTL),
        _ => panic!("{src} and {dst} are of different families"),
    };
    let mut frame = Vec::new();
    builder.udp(src.port(), dst.port()).write(&mut frame, payload).expect("a vector takes everything");
    frame
}

/// A frame around an IP packet that `protocol` is carried by: for ICMP, ICMPv6 and odd things.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a test's packet is small");
    let mut frame = Vec::new();
    match (src, dst) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            ethernet(0x0800).write(&mut frame).expect("a vector takes everything");
            let header = Ipv4Header::new(len, ttl, IpNumber(protocol), a.octets(), b.octets()).expect("a small packet");
            header.write(&mut frame).expect("a vector takes everything");
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            ethernet(0x86dd).write(&mut frame).expect("a vector takes everything");
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: len,
                next_header: IpNumber(protocol),
                hop_limit: ttl,
                source: a.octets(),
                destination: b.octets(),
            };
            header.write(&mut frame).expect("a vector takes everything");
        }
        _ => panic!("{src} and {dst} are of different families"),
    }
    frame.extend_from_slice(payload);
    frame
}

/// ICMP or ICMPv6, by the addresses' family, with its checksum.
pub fn icmp(src: IpAddr, dst: IpAddr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    icmp_with_ttl(src, dst, TTL, &[&[kind, code, 0, 0], rest].concat())
}

fn icmp_with_ttl(src: IpAddr, dst: IpAddr, ttl: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let mut sum = Sum16BitWords::new().add_slice(&message);
    let (protocol, sum) = match (src, dst) {
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let len = u32::try_from(message.len()).expect("a test's packet is small");
            let mut sum = sum.add_16bytes(a.octets()).add_16bytes(b.octets());
            (58, sum.add_4bytes(len.to_be_bytes()).add_2bytes([0, 58]))
        }
        _ => (1, sum),
    };
    message[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    ip(src, dst, protocol, ttl, &message)
}

/// An echo request.
pub fn echo(src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    icmp(src, dst, if src.is_ipv4() { 8 } else { 128 }, 0, &[&[0x12, 0x34, 0, 1], payload].concat())
}

/// "Fragmentation needed" or "packet too big" (MTU 1,400) from `src`, about a packet of which it quotes `l4_len` bytes after the
/// IP header; it goes to who sent that packet.
pub fn too_big(src: IpAddr, about: &[u8], l4_len: usize) -> Vec<u8> {
    let (dst, header_len) = match src {
        IpAddr::V4(_) => (IpAddr::from(bytes::<4>(about, 26)), usize::from(about[14] & 15) * 4),
        IpAddr::V6(_) => (IpAddr::from(bytes::<16>(about, 22)), 40),
    };
    let quote = &about[14..(14 + header_len + l4_len).min(about.len())];
    let mtu = 1_400_u32.to_be_bytes();
    match src {
        IpAddr::V4(_) => icmp(src, dst, 3, 4, &[&mtu, quote].concat()),
        IpAddr::V6(_) => icmp(src, dst, 2, 0, &[&mtu, quote].concat()),
    }
}

/// "Who has `target`?"
pub fn arp_request(asker: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet(0x0806).write(&mut frame).expect("a vector takes everything");
    frame[..6].fill(0xff);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER_MAC.iter().chain(&asker.octets()).chain(&[0; 6]).chain(&target.octets()));
    frame
}

/// A neighbour solicitation, with an option of eight bytes or none; who has no address asks the target's group.
pub fn solicitation(asker: Ipv6Addr, target: Ipv6Addr, option: &[u8]) -> Vec<u8> {
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..], option].concat();
    let mut dst = target.octets();
    if asker.is_unspecified() {
        dst[..13].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    }
    icmp_with_ttl(asker.into(), Ipv6Addr::from(dst).into(), 255, &message)
}

/// The same frame with tags of these kinds (0x8100, 0x88a8) before its own.
pub fn tagged(frame: &[u8], kinds: &[u16]) -> Vec<u8> {
    let tags: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes().into_iter().chain([0, 42])).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// The same packet with another TTL or hop limit.
pub fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if is_v4(&frame) {
        frame[22] = ttl;
        set_header_checksum(&mut frame);
    } else {
        frame[21] = ttl;
    }
    frame
}

/// The same IPv4 UDP datagram without a checksum.
pub fn without_checksum(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[40..42].fill(0);
    frame
}

/// The same IPv4 packet with `words` times four bytes of options that do nothing.
pub fn with_options(frame: &[u8], words: u8) -> Vec<u8> {
    let mut frame = [&frame[..34], &vec![1; usize::from(words) * 4], &frame[34..]].concat();
    frame[14] += words;
    let len = u16::try_from(frame.len() - 14).expect("a test's packet is small");
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    set_header_checksum(&mut frame);
    frame
}

/// The same IPv6 packet with extension headers of these kinds (0, 43, 60), eight bytes each.
pub fn with_extensions(frame: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for kind in kinds.iter().rev() {
        // Routing: type 0 with no segment left. Options: padding.
        let rest = if *kind == 43 { [0; 6] } else { [1, 4, 0, 0, 0, 0] };
        let header = [&[frame[20], 0][..], &rest].concat();
        frame[20] = *kind;
        let _none = frame.splice(54..54, header);
    }
    set_v6_len(&mut frame);
    frame
}

/// A packet cut in two after `at` bytes of what its IP header carries; `at` is a multiple of eight.
pub fn fragments(frame: &[u8], at: usize, id: u32) -> (Vec<u8>, Vec<u8>) {
    assert_eq!(at % 8, 0, "fragments start at multiples of eight");
    let offset = u16::try_from(at / 8).expect("a test's packet is small");
    if is_v4(frame) {
        let start = 14 + usize::from(frame[14] & 15) * 4;
        let piece = |from: usize, to: usize, field: u16| {
            let mut piece = [&frame[..start], &frame[from..to]].concat();
            let len = u16::try_from(piece.len() - 14).expect("a test's packet is small");
            piece[16..18].copy_from_slice(&len.to_be_bytes());
            piece[18..20].copy_from_slice(&id.to_be_bytes()[2..]);
            piece[20..22].copy_from_slice(&field.to_be_bytes());
            set_header_checksum(&mut piece);
            piece
        };
        return (piece(start, start + at, 0x2000), piece(start + at, frame.len(), offset));
    }
    let piece = |from: usize, to: usize, field: u16| {
        let header = [&[frame[20], 0][..], &field.to_be_bytes(), &id.to_be_bytes()].concat();
        let mut piece = [&frame[..54], &header, &frame[from..to]].concat();
        piece[20] = 44;
        set_v6_len(&mut piece);
        piece
    };
    (piece(54, 54 + at, 1), piece(54 + at, frame.len(), offset << 3))
}

fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

fn set_v6_len(frame: &mut [u8]) {
    let len = u16::try_from(frame.len() - 54).expect("a test's packet is small");
    frame[18..20].copy_from_slice(&len.to_be_bytes());
}

fn set_header_checksum(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = Sum16BitWords::new().add_slice(&frame[14..end]).ones_complement();
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    frame[at..at + N].try_into().expect("N bytes")
}

fn ethernet(kind: u16) -> Ethernet2Header {
    Ethernet2Header { source: PEER_MAC, destination: OUR_MAC, ether_type: etherparse::EtherType(kind) }
}

/// What a frame says, in fields. Reading one checks every checksum that it carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Source, with port where there is one.
    pub src: SocketAddr,
    /// Destination, with port where there is one.
    pub dst: SocketAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What the transport header carries.
    pub payload: Vec<u8>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |m: &[u8; 6]| m.map(|b| format!("{b:02x}")).join(":");
        write!(
            f,
            "eth {} > {} / ip {} > {} proto {} ttl {} / {} bytes",
            mac(&self.src_mac),
            mac(&self.dst_mac),
            self.src,
            self.dst,
            self.protocol,
            self.ttl,
            self.payload.len()
        )
    }
}

/// Reads an IP frame and verifies its checksums; those of a datagram in pieces are nobody's before it is whole again.
pub fn read(frame: &[u8]) -> Result<Fields> {
    let sliced = SlicedPacket::from_ethernet(frame).context("etherparse cannot read it")?;
    let link = sliced.link.as_ref().and_then(|l| l.to_header()?.ethernet2()).context("no Ethernet header")?;
    let net = sliced.net.as_ref().context("no IP header")?;
    let (src, dst, ttl, carried) = match net {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            if h.header_checksum() != h.to_header().calc_header_checksum() {
                bail!("wrong IPv4 header checksum");
            }
            (IpAddr::from(h.source_addr()), IpAddr::from(h.destination_addr()), h.ttl(), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (IpAddr::from(h.source_addr()), IpAddr::from(h.destination_addr()), h.hop_limit(), ip.payload())
        }
        NetSlice::Arp(_) => bail!("not IP"),
    };
    let (src_port, dst_port, payload) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            if tcp.checksum() != tcp_checksum(tcp, src, dst)? {
                bail!("wrong TCP checksum");
            }
            (tcp.source_port(), tcp.destination_port(), tcp.payload())
        }
        Some(TransportSlice::Udp(udp)) => {
            if udp.checksum() != 0 && udp.checksum() != udp_checksum(udp, src, dst)? {
                bail!("wrong UDP checksum");
            }
            (udp.source_port(), udp.destination_port(), udp.payload())
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            if Sum16BitWords::new().add_slice(icmp.slice()).ones_complement() != 0 {
                bail!("wrong ICMP checksum");
            }
            (0, 0, icmp.slice())
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (IpAddr::V6(a), IpAddr::V6(b)) = (src, dst) else { bail!("two families") };
            if !icmp.is_checksum_valid(a.octets(), b.octets()) {
                bail!("wrong ICMPv6 checksum");
            }
            (0, 0, icmp.slice())
        }
        Some(TransportSlice::Igmp(_)) | None => (0, 0, carried.payload),
    };
    Ok(Fields {
        dst_mac: link.destination,
        src_mac: link.source,
        src: SocketAddr::new(src, src_port),
        dst: SocketAddr::new(dst, dst_port),
        protocol: carried.ip_number.0,
        ttl,
        payload: payload.to_vec(),
    })
}

/// The packet that an ICMP error quotes, checksums and all, as far as it goes: source and destination.
pub fn quoted(error: &Fields) -> (SocketAddr, SocketAddr) {
    let quote = &error.payload[8..];
    let (src, dst, l4): (IpAddr, IpAddr, usize) = if quote[0] >> 4 == 4 {
        let header_len = usize::from(quote[0] & 15) * 4;
        let sum = Sum16BitWords::new().add_slice(&quote[..header_len]).ones_complement();
        assert_eq!(sum, 0, "checksum of the quoted header");
        (bytes::<4>(quote, 12).into(), bytes::<4>(quote, 16).into(), header_len)
    } else {
        (bytes::<16>(quote, 8).into(), bytes::<16>(quote, 24).into(), 40)
    };
    let port = |at: usize| u16::from_be_bytes(bytes::<2>(quote, at));
    (SocketAddr::new(src, port(l4)), SocketAddr::new(dst, port(l4 + 2)))
}

fn tcp_checksum(tcp: &TcpSlice<'_>, src: IpAddr, dst: IpAddr) -> Result<u16> {
    let header: TcpHeader = tcp.to_header();
    Ok(match (src, dst) {
        (IpAddr::V4(a), IpAddr::V4(b)) => header.calc_checksum_ipv4_raw(a.octets(), b.octets(), tcp.payload())?,
        (IpAddr::V6(a), IpAddr::V6(b)) => header.calc_checksum_ipv6_raw(a.octets(), b.octets(), tcp.payload())?,
        _ => bail!("two families"),
    })
}

fn udp_checksum(udp: &UdpSlice<'_>, src: IpAddr, dst: IpAddr) -> Result<u16> {
    let header: UdpHeader = udp.to_header();
    Ok(match (src, dst) {
        (IpAddr::V4(a), IpAddr::V4(b)) => header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload())?,
        (IpAddr::V6(a), IpAddr::V6(b)) => header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload())?,
        _ => bail!("two families"),
    })
}
