//! Ethernet (IEEE 802.3), tags (IEEE 802.1Q): they stay as they are.

use lb_common::verdict::Verdict;

use super::build::{Packet, echo, raw_frame};
use super::case::Event::{Message, Opened};
use super::case::{Case, case};
use super::side::{BOTH, Side};
use crate::world::OUR_MAC;

/// Name, kind and content of each tag, outermost first.
const TAGS: [(&str, &[(u16, u16)]); 6] = [
    ("802.1Q 9.6: a tag stays, priority and drop eligibility included", &[(0x8100, 0xf02a)]),
    ("802.1Q 6.9.1: a priority tag of VLAN 0 stays", &[(0x8100, 0xa000)]),
    ("802.1Q 9.6: the reserved VLAN 4095 is the switch's affair", &[(0x8100, 0x0fff)]),
    ("802.1ad: a service tag alone stays", &[(0x88a8, 0x0064)]),
    ("802.1ad: a service tag and a customer tag stay", &[(0x88a8, 0x0064), (0x8100, 0x002a)]),
    ("QinQ before 802.1ad: two customer tags stay", &[(0x8100, 0x0064), (0x8100, 0x002a)]),
];

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter()
        .flat_map(|side| [tags(side), padding(side), addresses(side), odd(side)].into_iter().flatten())
        .collect()
}

fn tagged(packet: Packet, tags: &[(u16, u16)]) -> Packet {
    tags.iter().fold(packet, |packet, (kind, content)| packet.tag(*kind, *content))
}

fn tags(side: Side) -> Vec<Case> {
    let (nat, dsr) = (side.nat(), side.dsr());
    let mut cases = Vec::new();
    for (name, tags) in TAGS {
        cases.push(case(side, name).send(tagged(nat.ask(), tags)).forwards(&nat, &[Opened]));
        let name = format!("{name}, on replies");
        cases.push(case(side, &name).send(tagged(nat.answer(), tags)).replies(&nat, &[]));
    }
    let tags = TAGS[4].1;
    cases.push(
        case(side, "802.1ad: two tags stay in l2dsr")
            .send(tagged(dsr.ask(), tags))
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened]),
    );
    let three = [(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
    cases.push(
        case(side, "three tags: not ours to look behind").send(tagged(nat.ask(), &three)).ends(Verdict::PassNotIp),
    );
    cases.push(
        case(side, "a tag of the unofficial kind 0x9100 is none")
            .send(nat.ask().tag(0x9100, 1))
            .ends(Verdict::PassNotIp),
    );
    cases
}

fn padding(side: Side) -> Vec<Case> {
    let (nat, udp, dsr) = (side.nat(), side.nat_udp(), side.dsr());
    vec![
        case(side, "802.3 3.2.8: padding behind an acknowledgement travels along and is not counted")
            .send(nat.ask().padding(6))
            .forwards(&nat, &[Opened]),
        case(side, "802.3 3.2.8: padding behind an empty datagram travels along")
            .send(udp.ask().padding(18))
            .forwards(&udp, &[Opened, Message]),
        case(side, "802.3 3.2.8: padding behind a reply").send(udp.answer().padding(17)).replies(&udp, &[]),
        case(side, "802.3 3.2.8: padding that is odd and not zero is in no checksum")
            .send([nat.ask().payload(b"odd").frame(), vec![0xff; 5]].concat())
            .forwards(&nat, &[Opened]),
        case(side, "802.3 3.2.8: padding in l2dsr")
            .send(dsr.ask().padding(6))
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened]),
    ]
}

fn addresses(side: Side) -> Vec<Case> {
    let nat = side.nat();
    let ping = || echo(side.client(), nat.vip.ip());
    vec![
        case(side, "802.3 3.2.3: no echo answer from the broadcast address")
            .send(ping().to_mac([0xff; 6]))
            .ends(Verdict::DropIcmp),
        case(side, "802.3 3.2.3: no echo answer from a group's address")
            .send(ping().to_mac([0x01, 0, 0x5e, 0, 0, 1]))
            .ends(Verdict::DropIcmp),
        case(side, "a client behind another router on the link is served alike")
            .send(nat.ask().from_mac([0x02, 0, 0, 0, 0, 0x77]))
            .forwards(&nat, &[Opened]),
    ]
}

fn odd(side: Side) -> Vec<Case> {
    let kind = if side.is_v6() { 0x86dd } else { 0x0800 };
    vec![
        case(side, "a frame of nothing but its Ethernet header passes")
            .send(raw_frame(OUR_MAC, kind, b""))
            .ends(Verdict::PassNotOurs),
        case(side, "a frame that ends within its tag passes")
            .send(raw_frame(OUR_MAC, 0x8100, &[0, 42]))
            .ends(Verdict::PassNotIp),
        case(side, "a frame that ends behind its tag passes")
            .send(raw_frame(OUR_MAC, 0x8100, &[&[0, 42][..], &u16::to_be_bytes(kind)].concat()))
            .ends(Verdict::PassNotOurs),
    ]
}
