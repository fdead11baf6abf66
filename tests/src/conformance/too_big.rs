//! What does not fit the way to its backend: its sender is told how much does (RFC 1191, RFC 8201).

use lb_common::slot::Owner;
use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::Event::Opened;
use super::case::{Case, Event, Service, case};
use super::pieces::pieces;
use super::side::{BOTH, Side};
use crate::packet::PEER_MAC;
use crate::world::{OUR_MAC, World};

/// Largest packet that the way takes.
const MTU: u16 = 1_280;

/// Every mode, and the bytes that it puts in front.
fn modes(side: Side) -> Vec<(&'static str, Service, u16)> {
    let mut modes = vec![
        ("nat", side.nat(), 0),
        ("nat, UDP", side.nat_udp(), 0),
        ("l2dsr", side.dsr(), 0),
        ("ipip", side.ipip(), if side.is_v6() { 40 } else { 20 }),
        ("gue", side.gue(), if side.is_v6() { 48 } else { 28 }),
    ];
    if !side.is_v6() {
        modes.push(("ipip over IPv6", side.ipip_over_v6(), 40));
        modes.push(("gue over IPv6", side.gue_over_v6(), 48));
    }
    modes
}

pub(super) fn cases() -> Vec<Case> {
    let of = |side: Side| modes(side).into_iter().flat_map(move |(mode, s, more)| told(side, mode, &s, more));
    BOTH.into_iter().flat_map(|side| of(side).chain(untold(side))).collect()
}

/// The client's packet, of this length from its IP header on.
fn of_len(side: Side, s: &Service, len: u16) -> Packet {
    let headers = (if side.is_v6() { 40 } else { 20 }) + if s.protocol == 6 { 20 } else { 8 };
    s.ask().payload(&vec![0x5a; usize::from(len) - headers])
}

/// The report: from the VIP, back the way the packet came, control precedence (RFC 1812, section 4.3.2.5), as much of the packet as
/// holds its headers.
fn report(side: Side, s: &Service, limit: u16, about: &[u8]) -> Packet {
    let (kind, code, quote) = if side.is_v6() { (2, 0, 256) } else { (3, 4, 128) };
    let [high, low] = limit.to_be_bytes();
    let report = icmp(s.vip.ip(), s.client.ip(), kind, code)
        .rest([0, 0, high, low])
        .payload(&about[..quote])
        .ttl(64)
        .tos(0xc0)
        .to_mac(PEER_MAC)
        .from_mac(OUR_MAC);
    if side.is_v6() { report } else { report.df().id(0) }
}

fn narrow(owner: Owner) -> impl Fn(&mut World) {
    move |world| world.backend(owner).mtu = MTU
}

fn told(side: Side, mode: &str, s: &Service, extra: u16) -> Vec<Case> {
    let rfc = if side.is_v6() { "RFC 4443 3.2" } else { "RFC 1191 4" };
    let limit = MTU - extra;
    let large = of_len(side, s, limit + 1);
    let opened: &[Event] = &[Opened];
    let told = |name: &str, packet: Packet, about: &[u8]| {
        let report = report(side, s, limit, about);
        case(side, &format!("{rfc}: {mode}: {name}"))
            .world(narrow(s.owner))
            .send(packet)
            .answered(Verdict::SendTooBig, &report)
    };
    let about = large.frame()[14..].to_vec();
    let full = of_len(side, s, 1_500).df();
    let about_full = full.frame()[14..].to_vec();
    let tagged = report(side, s, limit, &about).tag(0x8100, 0x602a);
    vec![
        told("a byte too much is told of", large.clone(), &about).counts(s.owner, opened),
        told("a full frame is told of", full, &about_full).counts(s.owner, opened),
        case(side, &format!("802.1Q: {mode}: what is told has the tag of what was sent"))
            .world(narrow(s.owner))
            .send(large.tag(0x8100, 0x602a))
            .answered(Verdict::SendTooBig, &tagged)
            .counts(s.owner, opened),
    ]
}

fn untold(side: Side) -> Vec<Case> {
    let s = side.nat();
    let owner = s.owner;
    let rfc = if side.is_v6() { "RFC 4443 2.4" } else { "RFC 1122 3.2.2" };
    let silent = |name: &str, s: &Service, packet: Vec<u8>| {
        let owner = s.owner;
        case(side, &format!("{rfc}: {name}")).world(narrow(owner)).send(packet).ends(Verdict::DropTooBig)
    };
    let mut from_group = s;
    from_group.client.set_ip(side.in_prefix("224.0.0.1", "ff02::1"));
    let mut from_nobody = s;
    from_nobody.client.set_ip(side.in_prefix("0.0.0.0", "::"));
    let u = side.nat_udp();
    let [head, tail]: [Vec<u8>; 2] =
        pieces(&of_len(side, &u, 1_500), 7, &[0..64, 64..1_480]).try_into().expect("two pieces");
    let kind = if side.is_v6() { 1 } else { 3 };
    let error = icmp(side.router(), s.vip.ip(), kind, 1).quoting(s.packet(s.vip, s.client).payload(&[0; 1_400]), 1_300);
    let large = |s: &Service| of_len(side, s, MTU + 1);
    vec![
        silent("nothing is told to a group", &from_group, large(&from_group).frame()).counts(owner, &[Opened]),
        silent("nothing is told to nobody", &from_nobody, large(&from_nobody).frame()).counts(owner, &[Opened]),
        silent("nothing is told of what came to a group's MAC address", &s, large(&s).to_mac([0xff; 6]).frame())
            .counts(owner, &[Opened]),
        silent("nothing is told of a later piece", &u, tail).after(head),
        silent("nothing is told of an error", &s, error.frame()),
    ]
}
