//! ICMP (RFC 792, RFC 1122) beside errors: echo is answered for VIPs and for nothing else.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::verdict::Verdict;

use super::build::{Packet, echo, icmp, other};
use super::case::{Case, case};
use super::expected::{Change, bytes_of, set};
use super::layout::Field;
use super::side::Side;
use crate::packet::PEER_MAC;
use crate::world::OUR_MAC;

const V4: Side = Side::V4;

pub(super) fn cases() -> Vec<Case> {
    [answered(), unanswered(), others()].into_iter().flatten().collect()
}

/// An echo's answer, or a reflected piece of one: ends change places, and the TTL is our own.
pub(super) fn turned(asker: IpAddr, vip: IpAddr) -> Vec<Change> {
    vec![
        set(Field::DstMac, &PEER_MAC),
        set(Field::SrcMac, &OUR_MAC),
        set(Field::Src, &bytes_of(vip)),
        set(Field::Dst, &bytes_of(asker)),
        set(Field::Ttl, &[64]),
    ]
}

/// An echo's answer.
pub(super) fn echo_answer(asker: IpAddr, vip: IpAddr) -> Vec<Change> {
    let mut changes = turned(asker, vip);
    changes.push(set(Field::Kind, &[if vip.is_ipv4() { 0 } else { 129 }]));
    changes
}

fn ping() -> Packet {
    echo(V4.client(), V4.vip(10))
}

fn answered() -> Vec<Case> {
    let asked = |name: &str, packet: Packet| {
        case(V4, name).send(packet).becomes(Verdict::EchoReply, echo_answer(V4.client(), V4.vip(10)))
    };
    let mut cases = vec![
        asked("RFC 1122 3.2.2.6: echo to a VIP is answered with its data", ping()),
        asked("RFC 792: echo without data is answered", ping().payload(&[])),
        asked("RFC 792: identifier and sequence number come back", ping().rest([0xff, 0xff, 0, 0])),
        asked("RFC 1122 3.2.2.6: an odd number of bytes comes back", ping().payload(&[0xa5; 57])),
        asked("RFC 1122 3.2.2.6: a full frame comes back", ping().payload(&[0x5a; 1_472])),
        asked("RFC 1812 5.3.1: echo with TTL 1 has arrived", ping().ttl(1)),
        asked("RFC 1812 5.3.1: echo with TTL 255 is answered with our own", ping().ttl(255)),
        asked("RFC 1812 4.3.3.6: options of an echo come back", ping().options(&[1; 12])),
        asked("RFC 1122 3.2.4: the TOS of an echo comes back", ping().tos(0xb8)),
        asked("RFC 792: a code other than zero comes back", ping_with_code(7)),
        asked("802.1Q: a tagged echo is answered by the same tag", ping().tag(0x8100, 0x602a)),
        asked("802.3 3.2.8: padding of an echo comes back", ping().payload(&[]).padding(18)),
        asked("RFC 1122 3.2.2.6: an echo with a wrong checksum is answered with one", ping().but(Field::Sum, &[1, 2]))
            .unsound(),
    ];
    for n in [20, 30, 40, 50] {
        let name = format!("RFC 1122 3.2.2.6: echo to VIP {n}, whatever its services, is answered");
        let answer = echo_answer(V4.client(), V4.vip(n));
        cases.push(case(V4, &name).send(echo(V4.client(), V4.vip(n))).becomes(Verdict::EchoReply, answer));
    }
    for corner in [0x0000, 0x0800, 0xf7ff, 0xfffe] {
        // The type is 0x0800 in the request's sum and nothing in the answer's.
        let frame = ping().payload(&[0, 0]).frame();
        let was = u16::from_be_bytes([frame[36], frame[37]]);
        let word = u16::try_from((0xffff + u32::from(was) - corner) % 0xffff).expect("less than 0xffff");
        let name = format!("RFC 1624 3: an echo whose checksum is {corner:#06x}");
        cases.push(asked(&name, ping().payload(&word.to_be_bytes())));
    }
    cases
}

fn ping_with_code(code: u8) -> Packet {
    icmp(V4.client(), V4.vip(10), 8, code).rest([0x12, 0x34, 0, 1])
}

fn unanswered() -> Vec<Case> {
    let mut cases = Vec::new();
    let targets = [
        ("a backend", V4.backend(11), Verdict::PassNotOurs),
        ("this host", V4.ours(), Verdict::PassNotOurs),
        ("a stranger", V4.stranger(), Verdict::PassNotOurs),
        ("a VIP that the host holds", V4.vip(99), Verdict::PassLocal),
        ("everybody", Ipv4Addr::BROADCAST.into(), Verdict::PassNotOurs),
        ("everybody on a network", V4.on_link(255), Verdict::PassNotOurs),
        ("all hosts", [224, 0, 0, 1].into(), Verdict::PassNotOurs),
        ("loopback", Ipv4Addr::LOCALHOST.into(), Verdict::PassNotOurs),
    ];
    for (name, to, verdict) in targets {
        cases
            .push(case(V4, &format!("echo to {name} is not ours to answer")).send(echo(V4.client(), to)).ends(verdict));
    }
    let sources: [(&str, [u8; 4]); 5] = [
        ("everybody", [255; 4]),
        ("a group", [224, 0, 0, 1]),
        ("nobody", [0; 4]),
        ("loopback", [127, 0, 0, 1]),
        ("a class that was never used", [240, 0, 0, 1]),
    ];
    for (name, from) in sources {
        let name = format!("RFC 1122 3.2.1.3: no echo answer to {name}");
        cases.push(case(V4, &name).send(echo(from.into(), V4.vip(10))).ends(Verdict::DropIcmp));
    }
    cases.push(
        case(V4, "RFC 792: an echo of seven bytes")
            .send(other(V4.client(), V4.vip(10), 1).payload(&[8, 0, 0xf7, 0xff, 0, 0, 0]))
            .ends(Verdict::DropMalformed),
    );
    cases
}

fn others() -> Vec<Case> {
    let kinds: [(u8, &str); 13] = [
        (0, "RFC 792: an echo reply that nobody asked for"),
        (5, "RFC 1122 3.2.2.2: a redirect"),
        (6, "RFC 6918: an alternate host address"),
        (9, "RFC 1256: a router advertisement"),
        (10, "RFC 1256: a router solicitation"),
        (13, "RFC 1122 3.2.2.8: a timestamp request"),
        (14, "RFC 1122 3.2.2.8: a timestamp reply"),
        (15, "RFC 6918: an information request"),
        (17, "RFC 6918: an address mask request"),
        (18, "RFC 6918: an address mask reply"),
        (30, "RFC 6918: a traceroute"),
        (42, "RFC 8335: an extended echo request"),
        (253, "RFC 4727: an experiment"),
    ];
    let mut cases = Vec::new();
    for (kind, name) in kinds {
        let message = |to| icmp(V4.client(), to, kind, 0).payload(&[0; 12]);
        cases.push(case(V4, &format!("{name} to a VIP")).send(message(V4.vip(10))).ends(Verdict::DropIcmp));
        cases.push(
            case(V4, &format!("{name} to a stranger passes")).send(message(V4.stranger())).ends(Verdict::PassNotOurs),
        );
    }
    cases
}
