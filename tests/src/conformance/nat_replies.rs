//! nat: what a backend answers comes from the VIP, and goes to its client by the host's routes.

use std::net::{IpAddr, SocketAddr};

use lb_common::verdict::Verdict;

use super::build::{Packet, udp};
use super::case::{Case, Service, case};
use super::expected::set;
use super::layout::Field;
use super::side::{BOTH, Side};
use crate::everything::LOCAL;
use crate::ground::GATEWAY_MAC;
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [ways(side), own_affairs(side), groups(side)]).flatten().collect()
}

/// A service's answer to somebody else than its usual client.
fn to(s: &Service, client: IpAddr) -> Packet {
    s.packet(s.backend, SocketAddr::new(client, 40_000))
}

fn ways(side: Side) -> Vec<Case> {
    let s = side.nat();
    let mut cases = Vec::new();
    for (name, s) in
        [("TCP", s), ("UDP", side.nat_udp()), ("any TCP port", side.any_port()), ("any UDP port", side.any_port_udp())]
    {
        let name = format!("a reply from {name} comes from the VIP");
        cases.push(case(side, &name).send(s.answer().payload(b"me")).replies(&s, &[]));
        let mut changes = s.to_client();
        changes.push(set(Field::DstMac, &GATEWAY_MAC));
        let far = case(side, &format!("{name}, to a client beyond the gateway")).send(to(&s, side.stranger()));
        cases.push(far.becomes(Verdict::Reply, changes).counts(s.owner, &[]).leaves_by(OTHER));
    }
    let room = 1_280 - if side.is_v6() { 60 } else { 40 };
    let mut narrow = s.to_client();
    narrow.push(set(Field::DstMac, &GATEWAY_MAC));
    cases.extend([
        case(side, "a reply leaves where it came in, if its client is there")
            .by(OTHER)
            .send(s.answer())
            .replies(&s, &[]),
        case(side, "a reply to a neighbour that must be resolved is TC's")
            .send(to(&s, side.on_link(66)))
            .ends(Verdict::PassToTc),
        case(side, "a reply that comes in by a local interface is TC's")
            .by(LOCAL)
            .send(s.answer())
            .ends(Verdict::PassToTc),
        case(side, "RFC 1812 5.2.7.1: a reply that no route leads back from here")
            .send(to(&s, side.unreachable()))
            .ends(Verdict::DropNoRoute),
        case(side, "a reply that just fits the way to its client")
            .send(to(&s, side.narrow()).payload(&vec![1; room]))
            .becomes(Verdict::Reply, narrow)
            .counts(s.owner, &[])
            .leaves_by(OTHER),
        case(side, "a reply that is a byte too large for the way to its client")
            .send(to(&s, side.narrow()).payload(&vec![1; room + 1]))
            .ends(Verdict::DropTooBig),
    ]);
    cases
}

fn own_affairs(side: Side) -> Vec<Case> {
    let s = side.nat();
    let from = |addr: IpAddr, port| s.packet(SocketAddr::new(addr, port), s.client);
    let (dsr, snat) = (side.dsr(), side.snat());
    let cases = [
        ("what a backend answers to this host's own probe", s.packet(s.backend, SocketAddr::new(side.ours(), 50_000))),
        ("what a backend sends from another port", from(s.backend.ip(), 22)),
        ("what a backend sends by another protocol from the port", udp(s.backend, s.client)),
        ("what somebody else sends from the backend's port", from(side.backend(12), 8_080)),
        ("what an l2dsr backend sends from its own address", from(dsr.backend.ip(), 80)),
        ("what an snat backend sends to somebody who is not us", from(snat.backend.ip(), 8_080)),
        ("what comes from a VIP", from(s.vip.ip(), 80)),
    ];
    cases
        .into_iter()
        .map(|(name, packet)| case(side, &format!("{name} passes")).send(packet).ends(Verdict::PassNotOurs))
        .collect()
}

/// A served port may speak to groups too, mDNS above all: nobody's answer, and not ours to send anywhere.
fn groups(side: Side) -> Vec<Case> {
    let s = side.nat_udp();
    let groups: &[(&str, &str)] = if side.is_v6() {
        &[
            ("RFC 6762 3: mDNS", "ff02::fb"),
            ("RFC 4291 2.7.1: all nodes", "ff02::1"),
            ("RFC 4291 2.7: a global group", "ff0e::42"),
        ]
    } else {
        &[
            ("RFC 6762 3: mDNS", "224.0.0.251"),
            ("RFC 919 7: everybody here", "255.255.255.255"),
            ("RFC 2365: a scoped group", "239.1.2.3"),
        ]
    };
    let addressed = |(name, group): &(&str, &str)| {
        let group: IpAddr = group.parse().expect("an address");
        case(side, &format!("{name} from a served port passes"))
            .send(udp(s.backend, SocketAddr::new(group, 5_353)).payload(b"hello, all"))
            .ends(Verdict::PassNotOurs)
    };
    let mut cases: Vec<Case> = groups.iter().map(addressed).collect();
    let mut changes = s.to_client();
    changes.push(set(Field::DstMac, &GATEWAY_MAC));
    let far: IpAddr = if side.is_v6() { "fe00::7" } else { "223.255.255.254" }.parse().expect("an address");
    let answer = to(&s, far);
    cases.push(
        case(side, "the last address before the groups is one host's")
            .send(answer)
            .becomes(Verdict::Reply, changes)
            .counts(s.owner, &[])
            .leaves_by(OTHER),
    );
    cases
}
