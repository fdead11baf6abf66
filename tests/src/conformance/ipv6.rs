//! IPv6 and its extension headers (RFC 8200).

use lb_common::verdict::Verdict;

use super::build::{Packet, other, tcp};
use super::case::Event::Opened;
use super::case::{Case, case};
use super::layout::Field;
use super::side::Side;
use crate::world::at;

const V6: Side = Side::V6;
const PADDING: &[u8] = &[1, 4, 0, 0, 0, 0];
/// Type 0 with no segment left.
const ROUTED: &[u8] = &[0, 0, 0, 0, 0, 0];
/// A fragment of everything: offset 0, no more of them.
const ATOMIC: &[u8] = &[0, 0, 0xde, 0xad, 0xbe, 0xef];

/// Extension headers: their number, and what is behind their first two bytes.
type Chain = &'static [(u8, &'static [u8])];

/// Chains that lead to the transport header.
const CHAINS: [(&str, Chain); 11] = [
    ("RFC 8200 4.3: hop-by-hop options", &[(0, PADDING)]),
    ("RFC 2711 2.1: router alert", &[(0, &[5, 2, 0, 0, 1, 0])]),
    ("RFC 8200 4.6: destination options", &[(60, PADDING)]),
    (
        "RFC 8200 4.6: destination options of 24 bytes",
        &[(60, &[1, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ),
    ("RFC 8200 4.4: a routing header with no segment left", &[(43, ROUTED)]),
    (
        "RFC 8754 2: a segment routing header at its last segment",
        &[(43, &[4, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10])],
    ),
    ("RFC 6946 4: an atomic fragment is a whole packet", &[(44, ATOMIC)]),
    ("RFC 8200 4.1: hop-by-hop, then destination options", &[(0, PADDING), (60, PADDING)]),
    ("RFC 8200 4.1: all four in the recommended order", &[(0, PADDING), (60, PADDING), (43, ROUTED), (44, ATOMIC)]),
    (
        "RFC 8200 4.1: destination options before and behind a routing header",
        &[(60, PADDING), (43, ROUTED), (60, PADDING)],
    ),
    ("RFC 8200 4.1: any order must be taken", &[(60, PADDING), (44, ATOMIC), (43, ROUTED)]),
];

/// Chains that do not.
const BROKEN: [(&str, Chain); 6] = [
    ("RFC 8200 4.1: hop-by-hop options behind another header", &[(60, PADDING), (0, PADDING)]),
    ("RFC 8200 4.1: hop-by-hop options twice", &[(0, PADDING), (0, PADDING)]),
    ("RFC 8200 4.4: a routing header that leads on to somebody else", &[(43, &[0, 1, 0, 0, 0, 0])]),
    ("RFC 8754 4.3.1: a segment routing header with a segment left", &[(43, &[4, 1, 1, 0, 0, 0])]),
    ("RFC 6275 6.4: a home address routing header, unused", &[(60, PADDING), (43, &[2, 1, 0, 0, 0, 0])]),
    ("a chain of five headers", &[(0, PADDING), (60, PADDING), (43, ROUTED), (60, PADDING), (60, PADDING)]),
];

pub(super) fn cases() -> Vec<Case> {
    [chains(), broken(), fields(), hop_limit(), lengths()].into_iter().flatten().collect()
}

fn with(packet: Packet, chain: &[(u8, &[u8])]) -> Packet {
    chain.iter().fold(packet, |packet, (kind, rest)| packet.extension(*kind, rest))
}

fn chains() -> Vec<Case> {
    let (nat, dsr) = (V6.nat(), V6.dsr());
    let mut cases = Vec::new();
    for (name, chain) in CHAINS {
        cases.push(case(V6, name).send(with(nat.ask(), chain)).forwards(&nat, &[Opened]));
        cases.push(case(V6, &format!("{name}, in a reply")).send(with(nat.answer(), chain)).replies(&nat, &[]));
        cases.push(
            case(V6, &format!("{name}, in l2dsr"))
                .send(with(dsr.ask(), chain))
                .becomes(Verdict::Forward, dsr.macs())
                .counts(dsr.owner, &[Opened]),
        );
    }
    cases
}

fn broken() -> Vec<Case> {
    let nat = V6.nat();
    let elsewhere = || tcp(nat.client, at("[2001:db8:185::5]:80"));
    let mut cases = Vec::new();
    for (name, chain) in BROKEN {
        let dropped = case(V6, &format!("{name} is dropped at a VIP")).send(with(nat.ask(), chain));
        cases.push(dropped.ends(Verdict::DropMalformed));
        let passed = case(V6, &format!("{name} passes at another address")).send(with(elsewhere(), chain));
        cases.push(passed.ends(Verdict::PassNotOurs));
    }
    let beyond = nat.ask().extension(60, PADDING).but(Field::Extensions, &[6, 200]);
    cases.push(
        case(V6, "RFC 8200 4.6: options that reach beyond the packet are dropped at a VIP")
            .send(beyond)
            .ends(Verdict::DropMalformed),
    );
    cases.push(
        case(V6, "RFC 8200 4.7: no next header is for no service")
            .send(other(V6.client(), nat.vip.ip(), 59))
            .ends(Verdict::DropNoService),
    );
    cases.push(
        case(V6, "RFC 4302 2: an authentication header is for no service")
            .send(other(V6.client(), nat.vip.ip(), 51))
            .ends(Verdict::DropNoService),
    );
    cases
}

fn fields() -> Vec<Case> {
    let nat = V6.nat();
    let mut cases = Vec::new();
    for label in [1, 0xfffff] {
        let name = format!("RFC 6437 3: flow label {label} stays");
        cases.push(case(V6, &name).send(nat.ask().label(label)).forwards(&nat, &[Opened]));
        cases.push(case(V6, &format!("{name}, in a reply")).send(nat.answer().label(label)).replies(&nat, &[]));
    }
    for (name, class) in [("CS1", 0x20), ("EF", 0xb8), ("the highest", 0xfc)] {
        let name = format!("RFC 2474 3: DSCP {name} stays");
        cases.push(case(V6, &name).send(nat.ask().tos(class)).forwards(&nat, &[Opened]));
    }
    for (name, class) in [("ECT(1)", 1), ("ECT(0)", 2), ("CE", 3)] {
        let name = format!("RFC 3168 5: {name} stays");
        cases.push(case(V6, &name).send(nat.ask().tos(class)).forwards(&nat, &[Opened]));
    }
    cases
}

fn hop_limit() -> Vec<Case> {
    let (nat, dsr) = (V6.nat(), V6.dsr());
    let mut cases = Vec::new();
    for limit in [255, 64, 2] {
        let name = format!("RFC 8200 3: hop limit {limit} is decremented where we route");
        cases.push(case(V6, &name).send(nat.ask().ttl(limit)).forwards(&nat, &[Opened]));
        cases.push(case(V6, &format!("{name}, replies too")).send(nat.answer().ttl(limit)).replies(&nat, &[]));
    }
    for limit in [1, 0] {
        let name = format!("RFC 8200 3: hop limit {limit} goes no further");
        cases.push(case(V6, &name).send(nat.ask().ttl(limit)).ends(Verdict::DropTtl).counts(nat.owner, &[Opened]));
        let name = format!("{name}, replies neither");
        cases.push(case(V6, &name).send(nat.answer().ttl(limit)).ends(Verdict::DropTtl));
    }
    cases.push(
        case(V6, "l2dsr is one link: hop limit 1 is not ours to count")
            .send(dsr.ask().ttl(1))
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened]),
    );
    cases
}

fn lengths() -> Vec<Case> {
    let nat = V6.nat();
    let elsewhere = || tcp(nat.client, at("[2001:db8:185::5]:80"));
    let mut cases = Vec::new();
    for (name, field, bytes) in [
        ("RFC 8200 3: a payload length beyond the frame", Field::Length, &[0, 21][..]),
        ("RFC 8200 3: a payload length near the largest", Field::Length, &[0xff, 0xff]),
        ("RFC 2675 3: a jumbogram, which no Ethernet carries,", Field::Length, &[0, 0]),
        ("RFC 8200 3: a payload length within the TCP header", Field::Length, &[0, 19]),
        ("RFC 8200 3: version 4 behind the type of IPv6", Field::FlowLabel, &[0x40, 0, 0, 0]),
    ] {
        let dropped = case(V6, &format!("{name} is dropped at a VIP")).send(nat.ask().but(field, bytes));
        cases.push(dropped.ends(Verdict::DropMalformed));
        let passed = case(V6, &format!("{name} passes at another address")).send(elsewhere().but(field, bytes));
        cases.push(passed.ends(Verdict::PassNotOurs));
    }
    cases
}
