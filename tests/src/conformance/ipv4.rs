//! IPv4 (RFC 791, RFC 1122, RFC 1812).

use lb_common::verdict::Verdict;

use super::build::tcp;
use super::case::Event::Opened;
use super::case::{Case, case};
use super::layout::Field;
use super::side::Side;
use crate::world::at;

const V4: Side = Side::V4;

/// Options that people have sent, filled up with end-of-list.
const OPTIONS: [(&str, &[u8]); 8] = [
    ("RFC 791 3.1: no-operation and end of list", &[1, 1, 1, 0]),
    ("RFC 791 3.1: record route", &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("RFC 791 3.1: timestamps", &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("RFC 791 3.1: loose source route", &[131, 7, 4, 198, 18, 0, 1, 0]),
    ("RFC 791 3.1: strict source route, used up", &[137, 7, 8, 198, 18, 0, 1, 0]),
    ("RFC 2113 2.1: router alert", &[148, 4, 0, 0]),
    ("RFC 1108 2: security", &[130, 4, 0xab, 0]),
    ("RFC 7126 4: an option nobody knows", &[0x9e, 4, 1, 2]),
];

pub(super) fn cases() -> Vec<Case> {
    [options(), fields(), ttl(), lengths(), headers()].into_iter().flatten().collect()
}

fn options() -> Vec<Case> {
    let (nat, dsr) = (V4.nat(), V4.dsr());
    let mut cases = Vec::new();
    for words in 1..=10 {
        let name = format!("RFC 791 3.1: IHL {}, options travel along under the header checksum", 5 + words);
        cases.push(case(V4, &name).send(nat.ask().options(&vec![1; words * 4])).forwards(&nat, &[Opened]));
    }
    for (name, options) in OPTIONS {
        cases.push(case(V4, name).send(nat.ask().options(options)).forwards(&nat, &[Opened]));
        cases.push(case(V4, &format!("{name}, in a reply")).send(nat.answer().options(options)).replies(&nat, &[]));
    }
    cases.push(
        case(V4, "RFC 791 3.1: IHL 15 in l2dsr")
            .send(dsr.ask().options(&[1; 40]))
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened]),
    );
    cases
}

fn fields() -> Vec<Case> {
    let nat = V4.nat();
    let mut cases = Vec::new();
    for (name, tos) in [("CS1", 0x20), ("AF41", 0x88), ("EF", 0xb8), ("the highest", 0xfc)] {
        let name = format!("RFC 2474 3: DSCP {name} stays");
        cases.push(case(V4, &name).send(nat.ask().tos(tos)).forwards(&nat, &[Opened]));
    }
    for (name, tos) in [("ECT(1)", 1), ("ECT(0)", 2), ("CE", 3)] {
        let name = format!("RFC 3168 5: {name} stays");
        cases.push(case(V4, &name).send(nat.ask().tos(tos)).forwards(&nat, &[Opened]));
    }
    let ask = || nat.ask();
    cases.extend([
        case(V4, "RFC 1191 3: DF stays").send(ask().df()).forwards(&nat, &[Opened]),
        case(V4, "RFC 6864 4.1: DF with identification 0").send(ask().df().id(0)).forwards(&nat, &[Opened]),
        case(V4, "RFC 791 3.1: identification 65535").send(ask().id(0xffff)).forwards(&nat, &[Opened]),
        // etherparse does not know the flag, so it takes its header for one with a wrong checksum.
        case(V4, "RFC 3514 2: the reserved flag stays, whatever it means")
            .send(ask().but(Field::Fragment, &[0x80, 0]).resummed())
            .unsound()
            .forwards(&nat, &[Opened]),
        case(V4, "RFC 1812 4.2.2.5: a wrong header checksum stays wrong, for the next hop to see")
            .send(ask().but(Field::HeaderSum, &[0xbe, 0xef]))
            .unsound()
            .forwards(&nat, &[Opened]),
        case(V4, "RFC 1812 4.2.2.5: in a reply a wrong header checksum stays wrong as well")
            .send(nat.answer().but(Field::HeaderSum, &[0xbe, 0xef]))
            .unsound()
            .replies(&nat, &[]),
    ]);
    cases
}

fn ttl() -> Vec<Case> {
    let (nat, dsr) = (V4.nat(), V4.dsr());
    let mut cases = Vec::new();
    for ttl in [255, 128, 64, 2] {
        let name = format!("RFC 1812 5.3.1: TTL {ttl} is decremented where we route");
        cases.push(case(V4, &name).send(nat.ask().ttl(ttl)).forwards(&nat, &[Opened]));
        let name = format!("{name}, replies too");
        cases.push(case(V4, &name).send(nat.answer().ttl(ttl)).replies(&nat, &[]));
    }
    for ttl in [1, 0] {
        let name = format!("RFC 1812 5.3.1: TTL {ttl} goes no further");
        cases.push(case(V4, &name).send(nat.ask().ttl(ttl)).ends(Verdict::DropTtl).counts(nat.owner, &[Opened]));
        let name = format!("{name}, replies neither");
        cases.push(case(V4, &name).send(nat.answer().ttl(ttl)).ends(Verdict::DropTtl));
        cases.push(
            case(V4, &format!("l2dsr is one link: TTL {ttl} is not ours to count"))
                .send(dsr.ask().ttl(ttl))
                .becomes(Verdict::Forward, dsr.macs())
                .counts(dsr.owner, &[Opened]),
        );
    }
    cases
}

fn lengths() -> Vec<Case> {
    let nat = V4.nat();
    let ask = || nat.ask().payload(&[7; 20]);
    let elsewhere = || tcp(nat.client, at("198.18.5.5:80")).payload(&[7; 20]);
    let cases = [
        ("a total length beyond the frame", [0, 61]),
        ("a total length of 65535 in a short frame", [0xff, 0xff]),
        ("a total length within the header", [0, 19]),
        ("a total length of 0", [0, 0]),
        ("a total length within the TCP header", [0, 39]),
    ];
    let at_vip = cases.into_iter().map(|(name, len)| {
        case(V4, &format!("RFC 791 3.1: {name} is dropped at a VIP"))
            .send(ask().but(Field::Length, &len).resummed())
            .ends(Verdict::DropMalformed)
    });
    let at_others = cases.into_iter().map(|(name, len)| {
        case(V4, &format!("RFC 791 3.1: {name} is the kernel's to judge at another address"))
            .send(elsewhere().but(Field::Length, &len).resummed())
            .ends(Verdict::PassNotOurs)
    });
    at_vip.chain(at_others).collect()
}

fn headers() -> Vec<Case> {
    let nat = V4.nat();
    let elsewhere = || tcp(nat.client, at("198.18.5.5:80"));
    let cases = [
        ("IHL 4", 0x44),
        ("IHL 0", 0x40),
        ("IHL 15 in a packet of 40 bytes", 0x4f),
        ("version 5", 0x55),
        ("version 6 behind the type of IPv4", 0x65),
        ("version 0", 0x05),
    ];
    let at_vip = cases.into_iter().map(|(name, byte)| {
        case(V4, &format!("RFC 1122 3.2.1.1: {name} is dropped at a VIP"))
            .send(nat.ask().but(Field::Version, &[byte]))
            .ends(Verdict::DropMalformed)
    });
    let at_others = cases.into_iter().map(|(name, byte)| {
        case(V4, &format!("RFC 1122 3.2.1.1: {name} passes at another address"))
            .send(elsewhere().but(Field::Version, &[byte]))
            .ends(Verdict::PassNotOurs)
    });
    at_vip.chain(at_others).collect()
}
