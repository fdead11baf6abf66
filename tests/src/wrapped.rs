//! Reads encapsulated packets: outer and inner headers, each with every checksum verified.

use anyhow::{Context, Result, bail};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::packet::{Fields, read};

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
