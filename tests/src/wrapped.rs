//! Reads encapsulated packets: outer and inner headers, each with every checksum verified.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};

use crate::packet::{Fields, PEER_MAC, TTL, read};
use crate::world::OUR_MAC;

/// A SYN with these bytes of TCP options, padded with zeroes.
pub fn syn_with(src: SocketAddr, dst: SocketAddr, options: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(src.port(), dst.port(), 1_000, 8_192);
    header.syn = true;
    header.set_options_raw(options).expect("at most 40 bytes");
    let builder = PacketBuilder::ethernet2(PEER_MAC, OUR_MAC);
    let builder = match (src.ip(), dst.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => builder.ipv4(a.octets(), b.octets(), TTL),
        (IpAddr::V6(a), IpAddr::V6(b)) => builder.ipv6(a.octets(), b.octets(), TTL),
        _ => panic!("{src} and {dst} are of different families"),
    };
    let mut frame = Vec::new();
    builder.tcp_header(header).write(&mut frame, b"").expect("a vector takes everything");
    frame
}

/// An encapsulated packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The outer packet: protocol 4, 41 or 17, the last with its ports.
    pub outer: Fields,
    /// DSCP and ECN of the outer header.
    pub outer_class: u8,
    /// Don't-fragment of the outer header; `None` where it is IPv6.
    pub dont_fragment: Option<bool>,
    /// The inner packet behind the outer frame's MAC addresses.
    pub inner_frame: Vec<u8>,
    /// What the inner packet says.
    pub inner: Fields,
}

/// Reads an ipip or gue (variant 1) frame. What the outer header says of its length must be true.
pub fn unwrap(frame: &[u8]) -> Result<Wrapped> {
    let outer = read(frame).context("the outer packet")?;
    let sliced = SlicedPacket::from_ethernet(frame)?;
    let (outer_class, dont_fragment) = match sliced.net.context("no outer IP header")? {
        NetSlice::Ipv4(ip) => {
            (ip.header().dcp().value() << 2 | ip.header().ecn().value(), Some(ip.header().dont_fragment()))
        }
        NetSlice::Ipv6(ip) => (ip.header().traffic_class(), None),
        NetSlice::Arp(_) => bail!("not IP"),
    };
    match (&sliced.transport, outer.protocol) {
        (Some(TransportSlice::Udp(udp)), 17) if usize::from(udp.length()) == outer.payload.len() + 8 => {}
        (None, 4 | 41) => {}
        other => bail!("protocol {} is no encapsulation of ours, or its length is wrong", other.1),
    }
    let mut inner_frame = frame[..12].to_vec();
    inner_frame.extend(match (outer.payload.first().map(|first| first >> 4), outer.protocol) {
        (Some(4), 4 | 17) => [0x08, 0x00],
        (Some(6), 41 | 17) => [0x86, 0xdd],
        other => bail!("IP version and protocol are {other:?}"),
    });
    inner_frame.extend(&outer.payload);
    let inner = read(&inner_frame).context("the inner packet")?;
    Ok(Wrapped { outer, outer_class, dont_fragment, inner_frame, inner })
}
