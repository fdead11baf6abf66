//! UDP (RFC 768).

use lb_common::verdict::Verdict;

use super::build::{other, udp};
use super::case::Event::{Confirmed, Message, Opened};
use super::case::{Case, case};
use super::layout::Field;
use super::side::{BOTH, Side};
use crate::world::at;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [sums(side), lengths(side), flows(side)]).flatten().collect()
}

fn sums(side: Side) -> Vec<Case> {
    let (nat, dsr) = (side.nat_udp(), side.dsr_udp());
    let rfc = if side.is_v6() { "RFC 6936 4" } else { "RFC 768" };
    vec![
        case(side, &format!("{rfc}: no checksum stays none"))
            .send(nat.ask().payload(b"who?").no_checksum())
            .forwards(&nat, &[Opened, Message]),
        case(side, &format!("{rfc}: no checksum stays none, in a reply"))
            .send(nat.answer().payload(b"me").no_checksum())
            .replies(&nat, &[]),
        case(side, &format!("{rfc}: no checksum stays none, in l2dsr"))
            .send(dsr.ask().payload(b"who?").no_checksum())
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened, Message]),
        case(side, "RFC 768: a wrong checksum stays wrong, for the backend to see")
            .send(nat.ask().payload(b"spoilt").but(Field::Sum, &[0x12, 0x34]))
            .unsound()
            .forwards(&nat, &[Opened, Message]),
        case(side, "RFC 768: in a reply a wrong checksum stays wrong as well")
            .send(nat.answer().payload(b"spoilt").but(Field::Sum, &[0x12, 0x34]))
            .unsound()
            .replies(&nat, &[]),
    ]
}

fn lengths(side: Side) -> Vec<Case> {
    let nat = side.nat_udp();
    let room = if side.is_v6() { 1_452 } else { 1_472 };
    let mut cases = Vec::new();
    for len in [0, 1, 2, 3, 511, 512, room - 1, room] {
        let name = format!("RFC 768: a datagram of {len} bytes");
        let data: Vec<u8> = (1..=255).cycle().take(len).collect();
        cases.push(case(side, &name).send(nat.ask().payload(&data)).forwards(&nat, &[Opened, Message]));
        cases.push(case(side, &format!("{name}, in a reply")).send(nat.answer().payload(&data)).replies(&nat, &[]));
    }
    for (name, packet) in [
        ("RFC 768: a length beyond the packet", nat.ask().but(Field::UdpLength, &[0, 9])),
        ("RFC 768: a length of 65535", nat.ask().but(Field::UdpLength, &[0xff, 0xff])),
        ("RFC 768: a length of 7", nat.ask().but(Field::UdpLength, &[0, 7])),
        ("RFC 2675 4: a length of 0", nat.ask().but(Field::UdpLength, &[0, 0])),
        ("RFC 768: a header of 7 bytes", other(side.client(), nat.vip.ip(), 17).payload(&[0; 7])),
        ("RFC 768: no header at all", other(side.client(), nat.vip.ip(), 17).payload(&[])),
    ] {
        cases.push(case(side, &format!("{name} is dropped at a VIP")).send(packet).ends(Verdict::DropMalformed));
    }
    let surplus = |packet: super::build::Packet| packet.payload(&[7; 24]).no_checksum().but(Field::UdpLength, &[0, 16]);
    cases.extend([
        case(side, "RFC 9868 5: a surplus area behind the datagram travels along")
            .send(surplus(nat.ask()))
            .forwards(&nat, &[Opened, Message]),
        case(side, "RFC 9868 5: a surplus area travels along in a reply")
            .send(surplus(nat.answer()))
            .replies(&nat, &[]),
        case(side, "RFC 768: a length beyond the packet is the kernel's to judge at another address")
            .send(
                udp(nat.client, at(if side.is_v6() { "[2001:db8:185::5]:53" } else { "198.18.5.5:53" }))
                    .but(Field::UdpLength, &[0, 9]),
            )
            .ends(Verdict::PassNotOurs),
    ]);
    cases
}

fn flows(side: Side) -> Vec<Case> {
    let nat = side.nat_udp();
    let mut nobody = nat;
    nobody.client.set_port(0);
    vec![
        case(side, "RFC 768: a source port of zero means that no reply is wanted")
            .send(nobody.ask())
            .forwards(&nat, &[Opened, Message]),
        case(side, "a second datagram confirms its flow")
            .after(nat.ask())
            .send(nat.ask())
            .forwards(&nat, &[Confirmed, Message]),
        case(side, "a third is a message and no event")
            .after(nat.ask())
            .after(nat.ask())
            .send(nat.ask())
            .forwards(&nat, &[Message]),
        case(side, "a server's datagram does not confirm the client's flow")
            .after(nat.ask())
            .after(nat.answer())
            .send(nat.ask())
            .forwards(&nat, &[Confirmed, Message]),
    ]
}
