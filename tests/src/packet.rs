//! Builds packets readably and reads them back in fields, never in hex. Checksums are etherparse's, not ours.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
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

/// Reads a TCP or UDP frame and verifies its checksums.
pub fn read(frame: &[u8]) -> Result<Fields> {
    let sliced = SlicedPacket::from_ethernet(frame).context("etherparse cannot read it")?;
    let link = sliced.link.as_ref().and_then(|l| l.to_header()?.ethernet2()).context("no Ethernet header")?;
    let net = sliced.net.as_ref().context("no IP header")?;
    let (src, dst, protocol, ttl) = match net {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            if h.header_checksum() != h.to_header().calc_header_checksum() {
                bail!("wrong IPv4 header checksum");
            }
            (IpAddr::from(h.source_addr()), IpAddr::from(h.destination_addr()), ip.payload().ip_number.0, h.ttl())
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (IpAddr::from(h.source_addr()), IpAddr::from(h.destination_addr()), ip.payload().ip_number.0, h.hop_limit())
        }
        _ => bail!("not IP"),
    };
    let (src_port, dst_port, payload) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            if tcp.checksum() != tcp_checksum(tcp, src, dst)? {
                bail!("wrong TCP checksum");
            }
            (tcp.source_port(), tcp.destination_port(), tcp.payload().to_vec())
        }
        Some(TransportSlice::Udp(udp)) => {
            if udp.checksum() != 0 && udp.checksum() != udp_checksum(udp, src, dst)? {
                bail!("wrong UDP checksum");
            }
            (udp.source_port(), udp.destination_port(), udp.payload().to_vec())
        }
        _ => (0, 0, Vec::new()),
    };
    Ok(Fields {
        dst_mac: link.destination,
        src_mac: link.source,
        src: SocketAddr::new(src, src_port),
        dst: SocketAddr::new(dst, dst_port),
        protocol,
        ttl,
        payload,
    })
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
