//! The packet that `explain` asks about.

use std::net::IpAddr;

use lb_common::packet::{Arrival, Packet};

use crate::pure::model::Protocol;
use crate::pure::snapshot::FlowQuery;

const ETHERNET: usize = 14;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
/// Neither 0 nor 1: nothing may find the TTL used up.
const TTL: u8 = 64;

/// A frame with headers and nothing else. Its checksums are not right: the decision core changes them without looking.
#[derive(Debug)]
pub(super) struct MadeUp {
    frame: Vec<u8>,
    ifindex: u32,
}

impl MadeUp {
    /// A packet of the flow in question, come in by this interface. Both ends are of one family.
    pub(super) fn new(query: &FlowQuery, ifindex: u32) -> Self {
        let transport = transport(query);
        let length = u16::try_from(transport.len()).unwrap_or(u16::MAX);
        let mut frame = vec![0; ETHERNET];
        match (query.client.ip(), query.vip.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                frame[12..].copy_from_slice(&[0x08, 0x00]);
                frame.extend([0x45, 0]);
                frame.extend((20 + length).to_be_bytes());
                frame.extend([0, 0, 0, 0, TTL, query.protocol.number(), 0, 0]);
                frame.extend(client.octets());
                frame.extend(vip.octets());
            }
            (client, vip) => {
                frame[12..].copy_from_slice(&[0x86, 0xdd]);
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([query.protocol.number(), TTL]);
                frame.extend(v6(client));
                frame.extend(v6(vip));
            }
        }
        frame.extend(transport);
        Self { frame, ifindex }
    }
}

impl Packet for MadeUp {
    const CAN_RESOLVE: bool = false;

    fn arrival(&self) -> Arrival {
        Arrival { ifindex: self.ifindex, keeps_books: true }
    }

    fn holds(&self, end: usize) -> bool {
        end <= self.frame.len()
    }

    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.frame.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        self.frame.get_mut(at..at.checked_add(N)?)?.copy_from_slice(&bytes);
        Some(())
    }

    fn make_room(&mut self, l3: usize, by: usize) -> Option<()> {
        let _none = self.frame.splice(l3..l3, vec![0; by]);
        Some(())
    }
}

fn transport(query: &FlowQuery) -> Vec<u8> {
    let mut header = Vec::with_capacity(20);
    header.extend(query.client.port().to_be_bytes());
    header.extend(query.vip.port().to_be_bytes());
    match query.protocol {
        Protocol::Tcp => {
            let flags = if query.syn { TCP_SYN } else { TCP_ACK };
            header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Udp => header.extend([0, 8, 0, 0]),
    }
    header
}

fn v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}
