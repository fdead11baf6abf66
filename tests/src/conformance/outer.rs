//! Outer headers of encapsulated packets (RFC 2003, RFC 2473, gue variant 1), as etherparse makes them.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};

use super::layout::{Field, Layout, Level};
use crate::world::GUE_PORT;

/// First of the ports that gue sends from (draft-ietf-intarea-gue, section 5.11.1).
const DYNAMIC_PORTS: u16 = 0xc000;

/// Our TTL.
const TTL: u8 = 64;

/// An outer packet.
#[derive(Clone, Debug)]
pub struct Outer {
    /// From.
    pub src: IpAddr,
    /// To.
    pub dst: IpAddr,
    /// UDP lies between.
    pub is_gue: bool,
}

impl Outer {
    /// The frame with this packet around its own. What the flow's hash decides, gue's source port and IPv6's flow label, is taken from
    /// `got`.
    pub(super) fn around(&self, frame: &[u8], layout: &Layout, got: &[u8]) -> Result<Vec<u8>> {
        let kind = layout.find(Level::Packet, Field::EtherType).context("no Ethernet type")?;
        let l3 = kind.end;
        let inner = Inner::of(&frame[l3..])?;
        let header_len = if self.dst.is_ipv4() { 20 } else { 40 };
        let udp = if self.is_gue { Self::udp(&inner, got.get(l3 + header_len..).unwrap_or(&[]))? } else { vec![] };
        let protocol = match (self.is_gue, inner.is_v6) {
            (true, _) => IpNumber::UDP,
            (false, false) => IpNumber::IPV4,
            (false, true) => IpNumber::IPV6,
        };
        let carried = inner.len + u16::try_from(udp.len())?;
        let mut outer = frame[..kind.start].to_vec();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                outer.extend([0x08, 0x00]);
                let mut header = Ipv4Header::new(carried, TTL, protocol, src.octets(), dst.octets())?;
                header.dscp = IpDscp::try_new(inner.class >> 2)?;
                header.ecn = IpEcn::try_new(inner.class & 3)?;
                header.dont_fragment = true;
                header.header_checksum = header.calc_header_checksum();
                header.write_raw(&mut outer)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                outer.extend([0x86, 0xdd]);
                let word = got.get(l3..l3 + 4).context("no outer header")?;
                let label = u32::from_be_bytes([0, word[1] & 0x0f, word[2], word[3]]);
                let header = Ipv6Header {
                    traffic_class: inner.class,
                    flow_label: Ipv6FlowLabel::try_new(label)?,
                    payload_length: carried,
                    next_header: protocol,
                    hop_limit: TTL,
                    source: src.octets(),
                    destination: dst.octets(),
                };
                header.write(&mut outer)?;
            }
            _ => bail!("{} and {} are of different families", self.src, self.dst),
        }
        Ok([&outer, &udp[..], &frame[l3..]].concat())
    }

    fn udp(inner: &Inner, got: &[u8]) -> Result<Vec<u8>> {
        let port = got.get(..2).context("no outer UDP header")?;
        let port = u16::from_be_bytes([port[0], port[1]]);
        ensure!(port >= DYNAMIC_PORTS, "gue's source port {port} is not dynamic");
        // RFC 6935: a tunnel may do without a checksum.
        let header = UdpHeader { source_port: port, destination_port: GUE_PORT, length: inner.len + 8, checksum: 0 };
        Ok(header.to_bytes().to_vec())
    }
}

/// What an outer header says of the inner packet.
struct Inner {
    is_v6: bool,
    class: u8,
    len: u16,
}

impl Inner {
    fn of(packet: &[u8]) -> Result<Self> {
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        Ok(match packet[0] >> 4 {
            4 => Self { is_v6: false, class: packet[1], len: word(2) },
            6 => Self { is_v6: true, class: packet[0] << 4 | packet[1] >> 4, len: word(4) + 40 },
            version => bail!("IP version {version}"),
        })
    }
}
