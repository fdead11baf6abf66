//! ICMPv6 (RFC 4443) beside errors and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use lb_common::verdict::Verdict;

use super::build::{Packet, echo, icmp, other};
use super::case::{Case, case};
use super::icmp::echo_answer;
use super::layout::Field;
use super::side::Side;

const V6: Side = Side::V6;

pub(super) fn cases() -> Vec<Case> {
    [answered(), unanswered(), others()].into_iter().flatten().collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ping() -> Packet {
    echo(V6.client(), V6.vip(10))
}

fn answered() -> Vec<Case> {
    let asked = |name: &str, packet: Packet| {
        case(V6, name).send(packet).becomes(Verdict::EchoReply, echo_answer(V6.client(), V6.vip(10)))
    };
    let mut cases = vec![
        asked("RFC 4443 4.2: echo to a VIP is answered with its data", ping()),
        asked("RFC 4443 4.1: echo without data is answered", ping().payload(&[])),
        asked("RFC 4443 4.2: identifier and sequence number come back", ping().rest([0xff, 0xff, 0, 0])),
        asked("RFC 4443 4.2: an odd number of bytes comes back", ping().payload(&[0xa5; 57])),
        asked("RFC 4443 4.2: a full frame comes back", ping().payload(&[0x5a; 1_452])),
        asked("RFC 8200 3: echo with hop limit 1 has arrived", ping().ttl(1)),
        asked("RFC 6437 3: the flow label of an echo comes back", ping().label(0x12345)),
        asked("RFC 8200 4.3: echo behind hop-by-hop options is answered", ping().extension(0, &[1, 4, 0, 0, 0, 0])),
        asked("RFC 6946 4: echo in an atomic fragment is answered", ping().extension(44, &[0, 0, 0, 0, 0, 9])),
        asked("802.1Q: a tagged echo is answered by the same tag", ping().tag(0x8100, 0x602a)),
        asked("RFC 4443 2.3: an echo with a wrong checksum is answered with one", ping().but(Field::Sum, &[1, 2]))
            .unsound(),
    ];
    for n in [20, 30, 40, 50] {
        let name = format!("RFC 4443 4.2: echo to VIP {n}, whatever its services, is answered");
        let answer = echo_answer(V6.client(), V6.vip(n));
        cases.push(case(V6, &name).send(echo(V6.client(), V6.vip(n))).becomes(Verdict::EchoReply, answer));
    }
    let private = address("fd00:7::7");
    cases.push(
        case(V6, "RFC 4193 4: echo from a local address is answered")
            .send(echo(private, V6.vip(10)))
            .becomes(Verdict::EchoReply, echo_answer(private, V6.vip(10))),
    );
    cases
}

fn unanswered() -> Vec<Case> {
    let mut cases = Vec::new();
    let targets = [
        ("a backend", V6.backend(11), Verdict::PassNotOurs),
        ("this host", V6.ours(), Verdict::PassNotOurs),
        ("a stranger", V6.stranger(), Verdict::PassNotOurs),
        ("a VIP that the host holds", V6.vip(99), Verdict::PassLocal),
        ("all nodes", address("ff02::1"), Verdict::PassNotOurs),
        ("a VIP's own group", address("ff02::1:ff00:10"), Verdict::PassNotOurs),
        ("loopback", Ipv6Addr::LOCALHOST.into(), Verdict::PassNotOurs),
    ];
    for (name, to, verdict) in targets {
        cases
            .push(case(V6, &format!("echo to {name} is not ours to answer")).send(echo(V6.client(), to)).ends(verdict));
    }
    let sources = [("a group", address("ff02::1")), ("nobody", address("::")), ("loopback", address("::1"))];
    for (name, from) in sources {
        let name = format!("RFC 4291 2.5 and 2.7: no echo answer to {name}");
        cases.push(case(V6, &name).send(echo(from, V6.vip(10))).ends(Verdict::DropIcmp));
    }
    cases.push(
        case(V6, "RFC 4443 4.1: an echo of seven bytes")
            .send(other(V6.client(), V6.vip(10), 58).payload(&[128, 0, 0, 0, 0, 0, 0]))
            .ends(Verdict::DropMalformed),
    );
    cases
}

fn others() -> Vec<Case> {
    let kinds: [(u8, &str); 9] = [
        (129, "RFC 4443 4.2: an echo reply that nobody asked for"),
        (130, "RFC 2710: a listener query"),
        (133, "RFC 4861 4.1: a router solicitation"),
        (134, "RFC 4861 4.2: a router advertisement"),
        (136, "RFC 4861 4.4: a neighbour advertisement"),
        (137, "RFC 4861 4.5: a redirect"),
        (139, "RFC 4620: a node information query"),
        (160, "RFC 8335: an extended echo request"),
        (200, "RFC 4443 2.1: a message for private experiments"),
    ];
    let mut cases = Vec::new();
    for (kind, name) in kinds {
        let message = |to| icmp(V6.client(), to, kind, 0).payload(&[0; 16]).ttl(255);
        cases.push(case(V6, &format!("{name} to a VIP")).send(message(V6.vip(10))).ends(Verdict::DropIcmp));
        cases.push(
            case(V6, &format!("{name} to a stranger passes")).send(message(V6.stranger())).ends(Verdict::PassNotOurs),
        );
        cases.push(
            case(V6, &format!("{name} to all nodes passes"))
                .send(message(address("ff02::1")))
                .ends(Verdict::PassNotOurs),
        );
    }
    cases
}
