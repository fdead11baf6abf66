//! ICMP errors (RFC 792, RFC 4443): they follow the flow that they quote, to whoever sent the quoted packet.

use lb_common::verdict::Verdict;

use super::build::{Packet, icmp, tcp};
use super::case::{Case, Service, case};
use super::side::{BOTH, Side};
use std::net::SocketAddr;

/// Type, codes, and what they mean.
const KINDS_V4: [(u8, std::ops::RangeInclusive<u8>, &str); 4] = [
    (3, 0..=15, "RFC 792: destination unreachable"),
    (4, 0..=0, "RFC 6633 5: source quench, for the backend to ignore,"),
    (11, 0..=1, "RFC 792: time exceeded"),
    (12, 0..=2, "RFC 792: parameter problem"),
];
const KINDS_V6: [(u8, std::ops::RangeInclusive<u8>, &str); 6] = [
    (1, 0..=6, "RFC 4443 3.1: destination unreachable"),
    (2, 0..=0, "RFC 4443 3.2: packet too big"),
    (3, 0..=1, "RFC 4443 3.3: time exceeded"),
    (4, 0..=2, "RFC 4443 3.4: parameter problem"),
    (100, 0..=0, "RFC 4443 2.1: an error for private experiments"),
    (127, 0..=0, "RFC 4443 2.4: an error of an unknown type"),
];

pub(super) fn cases() -> Vec<Case> {
    let all = |side| [kinds(side), quotes(side), strange(side), ways(side), not_ours(side)];
    BOTH.into_iter().flat_map(all).flatten().collect()
}

/// "Fragmentation needed" or "packet too big", MTU 1,400, about this packet.
fn error(side: Side, about: &Packet, l4_len: usize) -> Packet {
    let (kind, code) = if side.is_v6() { (2, 0) } else { (3, 4) };
    of_kind(side, kind, code, about, l4_len)
}

/// An error from far away to whoever sent the packet that it quotes.
fn of_kind(side: Side, kind: u8, code: u8, about: &Packet, l4_len: usize) -> Packet {
    icmp(side.router(), about.source(), kind, code).rest([0, 0, 0x05, 0x78]).quoting(about, l4_len)
}

/// A packet of the VIP to its client, as a router on that way would quote it.
fn of_vip(s: &Service) -> Packet {
    s.packet(s.vip, s.client).payload(&[7; 400])
}

/// A packet of the client to the backend, as a router on that way would quote it.
fn of_client(s: &Service) -> Packet {
    s.packet(s.client, s.backend).payload(&[7; 400])
}

fn kinds(side: Side) -> Vec<Case> {
    let kinds = if side.is_v6() { &KINDS_V6[..] } else { &KINDS_V4 };
    let (nat, udp) = (side.nat(), side.nat_udp());
    let mut cases = Vec::new();
    for (kind, codes, name) in kinds {
        for code in codes.clone() {
            let name = format!("{name} {kind}/{code}");
            let told =
                case(side, &format!("{name} tells the backend")).send(of_kind(side, *kind, code, &of_vip(&nat), 8));
            cases.push(told.tells_backend(&nat));
            let told =
                case(side, &format!("{name} tells the client")).send(of_kind(side, *kind, code, &of_client(&udp), 8));
            cases.push(told.tells_client(&udp));
        }
    }
    cases
}

fn quotes(side: Side) -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, s, rfc) in [("TCP", side.nat(), "RFC 792"), ("UDP", side.nat_udp(), "RFC 1812 4.3.2.3")] {
        for len in [4, 8, 16, 17, 18, 20, 64, 420] {
            let name = format!("{rfc}: {len} bytes of a {protocol} packet are quoted");
            let told = case(side, &format!("{name} to the backend")).send(error(side, &of_vip(&s), len));
            cases.push(told.tells_backend(&s));
            let told = case(side, &format!("{name} to the client")).send(error(side, &of_client(&s), len));
            cases.push(told.tells_client(&s));
        }
        let name = format!("{rfc}: 3 bytes of a {protocol} packet name no flow");
        cases.push(case(side, &name).send(error(side, &of_vip(&s), 3)).ends(Verdict::DropIcmp));
    }
    let s = side.nat();
    let (name, quoted) = if side.is_v6() {
        let padding = [1, 4, 0, 0, 0, 0];
        let atomic = [0, 0, 0, 0, 0, 1];
        ("RFC 4443 2.4: the quote has extension headers", of_vip(&s).extension(0, &padding).extension(44, &atomic))
    } else {
        ("RFC 792: the quoted header has 40 bytes of options", of_vip(&s).options(&[1; 40]))
    };
    cases.push(case(side, name).send(error(side, &quoted, 8)).tells_backend(&s));
    cases.push(case(side, &format!("{name}, all of it")).send(error(side, &quoted, 420)).tells_backend(&s));
    let own = if side.is_v6() {
        error(side, &of_vip(&s), 8).extension(60, &[1, 4, 0, 0, 0, 0])
    } else {
        error(side, &of_vip(&s), 8).options(&[1; 8])
    };
    cases.push(case(side, "the error itself has options").send(own).tells_backend(&s));
    cases.push(extended(side, &s));
    cases
}

/// RFC 4884: the quote is padded to 128 bytes, its length is said in words, and an extension follows.
fn extended(side: Side, s: &Service) -> Case {
    let mut message = s.packet(s.vip, s.client).frame()[14..].to_vec();
    message.resize(128, 0);
    message.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0xff]);
    let rest = if side.is_v6() { [16, 0, 0, 0] } else { [0, 32, 0, 0] };
    let kind = if side.is_v6() { 3 } else { 11 };
    case(side, "RFC 4884 4: an extension behind the quote travels along under the checksum")
        .send(icmp(side.router(), s.vip.ip(), kind, 0).rest(rest).payload(&message))
        .tells_backend(s)
}

fn strange(side: Side) -> Vec<Case> {
    let s = side.nat();
    let vip_of = |n, port| SocketAddr::new(side.vip(n), port);
    let of_another = tcp(vip_of(77, 80), s.client);
    let no_service = tcp(vip_of(10, 9), s.client);
    let whole = error(side, &of_vip(&s), 8);
    let cut = error(side, &of_vip(&s), 0).frame();
    let padded = [&cut[..], &whole.frame()[cut.len()..]].concat();
    vec![
        case(side, "RFC 5927 4: a quote that its receiver never sent is about nobody")
            .send(icmp(side.router(), s.vip.ip(), if side.is_v6() { 1 } else { 3 }, 1).quoting(&of_another, 8))
            .ends(Verdict::DropIcmp),
        case(side, "RFC 5927 4: a quote from a port without service is about nobody")
            .send(error(side, &no_service, 8))
            .ends(Verdict::DropIcmp),
        case(side, "802.3 3.2.8: padding behind a short error is no quote").send(padded).ends(Verdict::DropIcmp),
        case(side, "RFC 792: an error that quotes nothing").send(cut).ends(Verdict::DropIcmp),
        case(side, "RFC 1812 5.3.1: an error with no hop left does not reach the backend")
            .send(whole.clone().ttl(1))
            .ends(Verdict::DropTtl),
        case(side, "RFC 1812 5.3.1: an error with no hop left does not reach the client")
            .send(error(side, &of_client(&s), 8).ttl(1))
            .ends(Verdict::DropTtl),
        case(side, "an error about a flow of an empty pool")
            .send(error(side, &of_vip(&side.empty()), 8))
            .ends(Verdict::DropNoBackend),
        case(side, "an error for a backend whose next hop is unknown")
            .send(error(side, &of_vip(&side.unresolved()), 8))
            .ends(Verdict::DropNoNextHop),
        case(side, "RFC 1122 3.2.2: an error about an ICMP message is nobody's")
            .send(error(side, &icmp(s.vip.ip(), side.client(), 0, 0), 8))
            .ends(Verdict::DropIcmp),
    ]
}

fn ways(side: Side) -> Vec<Case> {
    let (dsr, dsr_udp, any, any_udp) = (side.dsr(), side.dsr_udp(), side.any_port(), side.any_port_udp());
    let dsr_told =
        |name: &str, s: &Service, packet: Packet| case(side, name).send(packet).becomes(Verdict::ForwardIcmp, s.macs());
    vec![
        dsr_told("l2dsr: a TCP error reaches the backend as it is", &dsr, error(side, &of_vip(&dsr), 8)),
        dsr_told("l2dsr: a UDP error reaches the backend as it is", &dsr_udp, error(side, &of_vip(&dsr_udp), 420)),
        dsr_told("l2dsr: an error with one hop left reaches the backend", &dsr, error(side, &of_vip(&dsr), 8).ttl(1)),
        case(side, "any port: a TCP error tells the backend").send(error(side, &of_vip(&any), 8)).tells_backend(&any),
        case(side, "any port: a UDP error tells the backend")
            .send(error(side, &of_vip(&any_udp), 64))
            .tells_backend(&any_udp),
        case(side, "any port: a TCP error tells the client").send(error(side, &of_client(&any), 8)).tells_client(&any),
        case(side, "any port: a UDP error tells the client")
            .send(error(side, &of_client(&any_udp), 8))
            .tells_client(&any_udp),
        case(side, "802.1Q: a tagged error tells the backend")
            .send(error(side, &of_vip(&side.nat()), 8).tag(0x8100, 42))
            .tells_backend(&side.nat()),
        case(side, "an error opens no flow and is counted for no backend")
            .after(side.nat().ask())
            .send(error(side, &of_vip(&side.nat()), 8))
            .tells_backend(&side.nat()),
    ]
}

fn not_ours(side: Side) -> Vec<Case> {
    let stranger = SocketAddr::new(side.stranger(), 80);
    let ours = SocketAddr::new(side.ours(), 50_000);
    let s = side.nat();
    let ssh = SocketAddr::new(s.backend.ip(), 22);
    vec![
        case(side, "an error about a packet of this host's own passes")
            .send(error(side, &tcp(ours, stranger), 8))
            .ends(Verdict::PassNotOurs),
        case(side, "an error about a client's packet to a stranger passes")
            .send(error(side, &tcp(s.client, stranger), 8))
            .ends(Verdict::PassNotOurs),
        case(side, "an error about a client's packet to a backend's other port passes")
            .send(error(side, &tcp(s.client, ssh), 8))
            .ends(Verdict::PassNotOurs),
        case(side, "an error about a packet of an assigned VIP without service passes")
            .send(error(side, &tcp(SocketAddr::new(side.vip(99), 22), s.client), 8))
            .ends(Verdict::PassLocal),
    ]
}
