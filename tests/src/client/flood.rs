//! A SYN flood: handshakes that nobody completes, from sources that nobody has.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Netns;

/// `IPPROTO_RAW`: the packet comes with its IP header.
const RAW: i32 = 255;

/// Sends `count` SYNs to `target`, each of another flow, from 10.66.0.0/16, which the lab's router leads nowhere. The
/// same `seed` gives the same flows.
pub fn send_syns(client: &Netns, target: SocketAddrV4, count: u32, seed: u16) {
    client.call(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))).expect("raw sockets need root");
        socket.set_header_included_v4(true).expect("a raw socket takes whole packets");
        let to = SockAddr::from(SocketAddr::V4(target));
        for number in 0..count {
            let packet = syn(target, number, seed);
            let sent = socket.send_to(&packet, &to).expect("the packet fits and the route exists");
            assert_eq!(sent, packet.len());
        }
    });
}

fn syn(target: SocketAddrV4, number: u32, seed: u16) -> Vec<u8> {
    let [_, high, middle, low] = number.to_be_bytes();
    let source = Ipv4Addr::new(10, 66, high, middle);
    let port = 1_024 + (u16::from(low) << 6) + (seed % 64);
    let builder =
        PacketBuilder::ipv4(source.octets(), target.ip().octets(), 64).tcp(port, target.port(), number, 65_535).syn();
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[]).expect("a vector takes every byte");
    packet
}
