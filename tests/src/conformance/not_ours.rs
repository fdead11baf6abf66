//! What is not ours passes, byte for byte, however odd it is.

use std::net::{IpAddr, SocketAddr};

use lb_common::verdict::Verdict;

use super::build::{Packet, icmp, other, raw_frame, tcp, udp};
use super::case::{Case, case};
use super::layout::Field;
use super::pieces::{first, pieces};
use super::side::{BOTH, Side};

/// Destination, type or length, and what it is.
const FRAMES: [([u8; 6], u16, &str); 22] = [
    ([0x01, 0x80, 0xc2, 0, 0, 0], 0x0026, "802.1D: spanning tree"),
    ([0x01, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, "802.1AB: LLDP"),
    ([0x01, 0x80, 0xc2, 0, 0, 0x02], 0x8809, "802.3 annex 57: LACP"),
    ([0x01, 0x80, 0xc2, 0, 0, 0x01], 0x8808, "802.3 annex 31: a pause"),
    ([0x01, 0x80, 0xc2, 0, 0, 0x03], 0x888e, "802.1X: EAPOL"),
    ([0x01, 0x1b, 0x19, 0, 0, 0], 0x88f7, "IEEE 1588: PTP"),
    ([0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc], 0x0040, "CDP, in SNAP"),
    ([2, 0, 0, 0, 0, 1], 0x88e5, "802.1AE: MACsec"),
    ([2, 0, 0, 0, 0, 1], 0x8847, "RFC 3032: MPLS"),
    ([2, 0, 0, 0, 0, 1], 0x8848, "RFC 5332: MPLS multicast"),
    ([2, 0, 0, 0, 0, 1], 0x8863, "RFC 2516: PPPoE discovery"),
    ([2, 0, 0, 0, 0, 1], 0x8864, "RFC 2516: PPPoE session"),
    ([0xff; 6], 0x8137, "IPX"),
    ([0xff; 6], 0x809b, "AppleTalk"),
    ([2, 0, 0, 0, 0, 1], 0x8906, "FCoE"),
    ([2, 0, 0, 0, 0, 1], 0x8915, "RoCE"),
    ([2, 0, 0, 0, 0, 1], 0x22f0, "IEEE 1722: AVTP"),
    ([0xff; 6], 0x0842, "wake-on-LAN"),
    ([2, 0, 0, 0, 0, 1], 0x0000, "a length of zero"),
    ([2, 0, 0, 0, 0, 1], 0x05dc, "802.3 3.2.6: the largest length"),
    ([2, 0, 0, 0, 0, 1], 0x88b5, "802: a local experiment"),
    ([2, 0, 0, 0, 0, 1], 0xffff, "a reserved type"),
];

pub(super) fn cases() -> Vec<Case> {
    let frames = FRAMES.into_iter().map(|(dst, kind, name)| {
        case(Side::V4, &format!("{name} passes")).send(raw_frame(dst, kind, &[0x42; 46])).ends(Verdict::PassNotIp)
    });
    frames.chain(BOTH.into_iter().flat_map(|side| [groups(side), odd(side), hosts(side)]).flatten()).collect()
}

fn passes(side: Side, name: &str, packet: impl Into<Vec<u8>>) -> Case {
    case(side, &format!("{name} passes")).send(packet).ends(Verdict::PassNotOurs)
}

fn groups(side: Side) -> Vec<Case> {
    let client = SocketAddr::new(side.client(), 5_353);
    let to = |text: &str, port| udp(client, SocketAddr::new(text.parse().expect("an address"), port)).payload(b"all");
    if side.is_v6() {
        return vec![
            passes(side, "RFC 6762 3: mDNS", to("ff02::fb", 5_353)),
            passes(side, "RFC 8415 7.1: DHCPv6", to("ff02::1:2", 547)),
            passes(side, "RFC 4291 2.7.1: all nodes", to("ff02::1", 80)),
            passes(side, "RFC 4291 2.7.1: all routers", to("ff02::2", 53)),
        ];
    }
    vec![
        passes(side, "RFC 6762 3: mDNS", to("224.0.0.251", 5_353)),
        passes(side, "UPnP 1.1: SSDP", to("239.255.255.250", 1_900)),
        passes(side, "RFC 919 7: everybody here", to("255.255.255.255", 80)),
        passes(side, "RFC 919 7: everybody on our network", to("192.0.2.255", 53)),
        passes(
            side,
            "RFC 2131 4.1: DHCP",
            udp(SocketAddr::from(([0; 4], 68)), SocketAddr::from(([255; 4], 67))).payload(&[0; 240]).to_mac([0xff; 6]),
        ),
    ]
}

/// To a stranger, and nobody's to repair.
fn odd(side: Side) -> Vec<Case> {
    let (client, stranger) = (SocketAddr::new(side.client(), 40_000), SocketAddr::new(side.stranger(), 80));
    let segment = || tcp(client, stranger).payload(&[7; 80]);
    let [head, tail]: [Vec<u8>; 2] = pieces(&segment(), 9, &[0..48, 48..100]).try_into().expect("two pieces");
    let tiny = first(&segment(), 9, 8);
    let mut cases = vec![
        passes(side, "a stranger's segment", segment()),
        passes(side, "a stranger's segment with TTL 1", segment().ttl(1)),
        passes(side, "a stranger's segment with TTL 0", segment().ttl(0)),
        passes(side, "a stranger's segment with a wrong checksum", segment().but(Field::Sum, &[1, 2])),
        passes(side, "a stranger's segment with a data offset of 0", segment().but(Field::DataOffset, &[0])),
        passes(side, "a stranger's segment without flags", segment().flags("")),
        passes(side, "a stranger's datagram without checksum", udp(client, stranger).no_checksum()),
        passes(side, "a stranger's datagram with a length of 7", udp(client, stranger).but(Field::UdpLength, &[0, 7])),
        passes(side, "a stranger's fragment, a head", head),
        passes(side, "a stranger's fragment, a tail", tail),
        passes(side, "a stranger's fragment, a tiny one", tiny),
        passes(side, "a stranger's tagged segment", segment().tag(0x88a8, 7).tag(0x8100, 9)),
        passes(side, "a stranger's padded segment", tcp(client, stranger).padding(6)),
        passes(
            side,
            "a stranger's ICMP message of one byte",
            other(side.client(), side.stranger(), if side.is_v6() { 58 } else { 1 }).payload(&[8]),
        ),
    ];
    if side.is_v6() {
        let chain = |packet: Packet| (0..6).fold(packet, |packet, _| packet.extension(60, &[1, 4, 0, 0, 0, 0]));
        cases.push(passes(side, "a stranger's chain of six headers", chain(segment())));
        cases.push(passes(side, "a stranger's mobility header", other(side.client(), side.stranger(), 135)));
    } else {
        cases.push(passes(side, "a stranger's segment with options", segment().options(&[7, 7, 4, 0, 0, 0, 0, 0])));
        cases.push(passes(
            side,
            "a stranger's segment with a wrong header checksum",
            segment().but(Field::HeaderSum, &[1, 2]),
        ));
    }
    cases
}

fn hosts(side: Side) -> Vec<Case> {
    let client = SocketAddr::new(side.client(), 40_000);
    let ours = |port| SocketAddr::new(side.ours(), port);
    let loopback: IpAddr = if side.is_v6() { "::1" } else { "127.0.0.1" }.parse().expect("an address");
    let lent = SocketAddr::new(side.lent(), 22);
    vec![
        passes(side, "the host's own SSH", tcp(client, ours(22))),
        passes(side, "the host's own DNS", udp(client, ours(53))),
        passes(side, "the host's own HTTP, on a port that a VIP serves", tcp(client, ours(80))),
        passes(side, "SSH to the address that snat uses", tcp(client, lent)),
        passes(side, "RFC 1122 3.2.1.3: what claims to be for loopback", tcp(client, SocketAddr::new(loopback, 80))),
        passes(
            side,
            "an error about the host's own packet",
            icmp(side.router(), side.ours(), 3, 1).quoting(tcp(ours(50_000), client), 8),
        ),
        passes(side, "a client's packet to a client", tcp(client, SocketAddr::new(side.on_link(8), 80))),
    ]
}
