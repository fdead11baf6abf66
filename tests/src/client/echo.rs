//! ICMP echo: is an address answered, and with what was sent?

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// An answer that has not come by then does not come.
const LIMIT: Duration = Duration::from_secs(1);

/// Type of an echo reply in ICMP and in ICMPv6.
const REPLY_V4: u8 = 0;
const REPLY_V6: u8 = 129;

/// Asks `target` once with `payload`; whether the very same came back from it.
pub fn answers(client: &Netns, target: IpAddr, payload: &'static [u8]) -> bool {
    client.call(move || {
        let (domain, protocol) =
            if target.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("raw sockets need root");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket can have a timeout");
        socket.connect(&SocketAddr::new(target, 0).into()).expect("there is a route");
        let request = request(target, payload);
        assert_eq!(socket.send(&request).expect("it fits"), request.len());
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 2_048];
        while Instant::now() < deadline {
            let Ok(length) = socket.read(&mut buffer) else { return false };
            // A raw IPv4 socket hands out the IP header too.
            let start = if target.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            let message = &buffer[start..length];
            let wanted = if target.is_ipv4() { REPLY_V4 } else { REPLY_V6 };
            if message.first() == Some(&wanted) && message.get(4..) == request.get(4..) {
                return true;
            }
        }
        false
    })
}

/// The ICMP message; the kernel adds the IP header, and the checksum of ICMPv6.
fn request(target: IpAddr, payload: &[u8]) -> Vec<u8> {
    let header = IcmpEchoHeader { id: 0x7765, seq: 1 };
    let mut packet = Vec::new();
    let ip_header = match target {
        IpAddr::V4(target) => {
            let builder = PacketBuilder::ipv4([0; 4], target.octets(), 64).icmpv4(Icmpv4Type::EchoRequest(header));
            builder.write(&mut packet, payload).expect("a vector takes every byte");
            20
        }
        IpAddr::V6(target) => {
            let builder = PacketBuilder::ipv6([0; 16], target.octets(), 64).icmpv6(Icmpv6Type::EchoRequest(header));
            builder.write(&mut packet, payload).expect("a vector takes every byte");
            40
        }
    };
    packet.split_off(ip_header)
}
