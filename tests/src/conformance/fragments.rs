//! Fragments: the head carries the ports and is routed like any packet; its tails follow it, in both directions.

use std::net::SocketAddr;
use std::ops::Range;

use lb_common::verdict::Verdict;

use super::build::{Packet, echo, icmp, other};
use super::case::Event::{Confirmed, Message, Opened};
use super::case::{Case, Service, case, to_the_client};
use super::expected::{Change, bytes_of, set};
use super::icmp::{echo_answer, turned};
use super::layout::Field;
use super::pieces::{first, pieces};
use super::side::{BOTH, LENT_PORTS, Side};
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    let all = |side| [forward(side), order(side), back(side), attacks(side), others(side), modes(side)];
    BOTH.into_iter().flat_map(all).flatten().collect()
}

/// Three pieces of a datagram of 200 bytes.
fn three(packet: &Packet, id: u16) -> [Vec<u8>; 3] {
    let pieces = pieces(packet, id, &[0..64, 64..128, 128..208]);
    pieces.try_into().expect("three of them")
}

fn large(packet: Packet) -> Packet {
    packet.payload(&[7; 200])
}

/// A tail gets the addresses that its head got, and has no ports.
fn tail_to_backend(s: &Service) -> Vec<Change> {
    let mut changes = s.macs();
    changes.extend([Change::OneHop, set(Field::Dst, &bytes_of(s.backend.ip()))]);
    changes
}

fn tail_to_client(s: &Service) -> Vec<Change> {
    let mut changes = to_the_client();
    changes.push(set(Field::Src, &bytes_of(s.vip.ip())));
    changes
}

fn rfc(side: Side) -> &'static str {
    if side.is_v6() { "RFC 8200 4.5" } else { "RFC 791 3.2" }
}

fn forward(side: Side) -> Vec<Case> {
    let s = side.nat_udp();
    let [head, middle, last] = three(&large(s.ask()), 1);
    let rfc = rfc(side);
    let follows = |name: &str, tail: &Vec<u8>| {
        case(side, &format!("{rfc}: {name}"))
            .after(head.clone())
            .send(tail.clone())
            .becomes(Verdict::Forward, tail_to_backend(&s))
            .counts(s.owner, &[])
    };
    let [tcp_head, tcp_tail, _] = three(&large(side.nat().ask()), 2);
    let eight = first(&large(s.ask()), 3, 8);
    vec![
        case(side, &format!("{rfc}: the head carries the ports and is routed by them"))
            .send(head.clone())
            .forwards(&s, &[Opened, Message]),
        follows("a tail follows its head", &middle),
        follows("the last tail may overtake another", &last),
        follows("the last tail follows its head", &last).after(middle.clone()),
        follows("a tail that comes twice goes twice", &middle).after(middle.clone()),
        case(side, &format!("{rfc}: a head of the UDP header alone")).send(eight).forwards(&s, &[Opened, Message]),
        case(side, &format!("{rfc}: a head of a TCP segment")).send(tcp_head.clone()).forwards(&side.nat(), &[Opened]),
        case(side, &format!("{rfc}: a tail of a TCP segment"))
            .after(tcp_head)
            .send(tcp_tail)
            .becomes(Verdict::Forward, tail_to_backend(&side.nat()))
            .counts(side.nat().owner, &[]),
    ]
}

fn order(side: Side) -> Vec<Case> {
    let s = side.nat_udp();
    let [head, tail, _] = three(&large(s.ask()), 1);
    let [_, of_another, _] = three(&large(s.ask()), 2);
    let [_, of_a_stranger, _] = three(&large(s.packet(SocketAddr::new(side.on_link(8), 40_000), s.vip)), 1);
    let [_, late, _] = three(&large(s.ask()).ttl(1), 1);
    let [expired, ..] = three(&large(s.ask()).ttl(1), 1);
    let [unknown, its_tail, _] = three(&large(side.nat().packet(s.client, SocketAddr::new(s.vip.ip(), 9))), 1);
    let rfc = rfc(side);
    let lost = |name: &str| case(side, &format!("{rfc}: {name}"));
    vec![
        lost("a tail before its head has nowhere to go").send(tail.clone()).ends(Verdict::DropFragmentTail),
        lost("the head that comes after its tail is routed")
            .after(tail.clone())
            .send(head.clone())
            .forwards(&s, &[Opened, Message]),
        lost("a tail of another datagram waits for its own head")
            .after(head.clone())
            .send(of_another)
            .ends(Verdict::DropFragmentTail),
        lost("a tail of another sender's datagram, identified alike, waits for its own head")
            .after(head.clone())
            .send(of_a_stranger)
            .ends(Verdict::DropFragmentTail),
        lost("a tail with no hop left goes no further").after(head.clone()).send(late).ends(Verdict::DropTtl),
        lost("a head with no hop left leads no tail").after(expired).send(tail).ends(Verdict::DropFragmentTail),
        lost("a head for no service is dropped").send(unknown.clone()).ends(Verdict::DropNoService),
        lost("a tail of a head for no service is dropped")
            .after(unknown)
            .send(its_tail)
            .ends(Verdict::DropFragmentTail),
        lost("a head that comes again is routed again")
            .after(head.clone())
            .send(head)
            .forwards(&s, &[Confirmed, Message]),
    ]
}

fn back(side: Side) -> Vec<Case> {
    let s = side.nat_udp();
    let [head, tail, last] = three(&large(s.answer()), 1);
    let ssh = SocketAddr::new(s.backend.ip(), 999);
    let [own, own_tail, _] = three(&large(s.packet(ssh, s.client)), 2);
    let rfc = rfc(side);
    let named = |name: &str| case(side, &format!("{rfc}: {name}"));
    vec![
        named("a reply's head comes from the VIP").send(head.clone()).replies(&s, &[]),
        named("a reply's tail follows its head")
            .after(head.clone())
            .send(tail.clone())
            .becomes(Verdict::Reply, tail_to_client(&s))
            .counts(s.owner, &[])
            .leaves_by(OTHER),
        named("a reply's last tail follows its head")
            .after(head)
            .send(last)
            .becomes(Verdict::Reply, tail_to_client(&s))
            .counts(s.owner, &[])
            .leaves_by(OTHER),
        named("a reply's tail before its head would show the backend's address")
            .send(tail)
            .ends(Verdict::DropFragmentTail),
        named("what a backend sends in pieces on its own behalf passes").send(own.clone()).ends(Verdict::PassNotOurs),
        named("the tails of what a backend sends on its own behalf pass")
            .after(own)
            .send(own_tail)
            .ends(Verdict::PassNotOurs),
    ]
}

fn attacks(side: Side) -> Vec<Case> {
    let (tcp, udp) = (side.nat(), side.nat_udp());
    let segment = large(tcp.ask());
    let cut = |cuts: Range<usize>| pieces(&segment, 1, &[cuts]).remove(0);
    let (rfc, tiny) = if side.is_v6() { ("RFC 5722 3", "RFC 7112 5") } else { ("RFC 1858 4", "RFC 1858 3") };
    let [head, ..] = three(&large(udp.ask()), 1);
    let other_port = SocketAddr::new(udp.client.ip(), 40_001);
    let [second, ..] = three(&large(udp.packet(other_port, udp.vip)), 1);
    vec![
        case(side, &format!("{tiny}: a TCP header in two pieces is dropped"))
            .send(cut(0..8))
            .ends(Verdict::DropMalformed),
        case(side, &format!("{tiny}: a TCP header less its last word is dropped"))
            .send(cut(0..16))
            .ends(Verdict::DropMalformed),
        case(side, &format!("{tiny}: a head that carries nothing is dropped"))
            .send(cut(0..0))
            .ends(Verdict::DropMalformed),
        case(side, &format!("{tiny}: a UDP header cut in two is dropped"))
            .send(first(&large(udp.ask()), 1, 4))
            .ends(Verdict::DropMalformed),
        case(side, &format!("{rfc}: a tail that overlaps the ports goes where the ports went"))
            .after(cut(0..64))
            .send(cut(8..72))
            .becomes(Verdict::Forward, tail_to_backend(&tcp))
            .counts(tcp.owner, &[]),
        case(side, &format!("{rfc}: a second head with other ports is routed by its own"))
            .after(head)
            .send(second)
            .forwards(&udp, &[Opened, Message]),
    ]
}

fn others(side: Side) -> Vec<Case> {
    let s = side.nat_udp();
    let stranger = SocketAddr::new(side.stranger(), 53);
    let [head, tail, _] = three(&large(s.packet(s.client, stranger)), 1);
    let [sctp, sctp_tail, _] = three(&other(side.client(), s.vip.ip(), 132).payload(&[0; 208]), 1);
    let kind = if side.is_v6() { 1 } else { 3 };
    let error = icmp(side.router(), s.vip.ip(), kind, 1).quoting(large(s.packet(s.vip, s.client)), 200);
    let [error, ..] = three(&error, 1);
    let asker = side.client();
    let [ping, ping_tail, _] = three(&echo(asker, s.vip.ip()).payload(&[7; 200]), 1);
    let rfc = rfc(side);
    let named = |name: &str| case(side, &format!("{rfc}: {name}"));
    vec![
        named("a head for a stranger passes").send(head).ends(Verdict::PassNotOurs),
        named("a tail for a stranger passes without a head").send(tail).ends(Verdict::PassNotOurs),
        named("a head of another protocol is dropped at a VIP").send(sctp).ends(Verdict::DropNoService),
        named("a tail of another protocol is dropped at a VIP").send(sctp_tail).ends(Verdict::DropFragmentTail),
        named("an error in pieces is about nobody").send(error).ends(Verdict::DropIcmp),
        named("an echo's head comes back")
            .send(ping.clone())
            .becomes(Verdict::EchoReply, echo_answer(asker, s.vip.ip())),
        named("an echo's tail comes back")
            .after(ping)
            .send(ping_tail.clone())
            .becomes(Verdict::EchoReply, turned(asker, s.vip.ip())),
        named("an echo's tail before its head is dropped").send(ping_tail).ends(Verdict::DropFragmentTail),
    ]
}

fn modes(side: Side) -> Vec<Case> {
    let (dsr, snat) = (side.dsr_udp(), side.snat_udp());
    let [dsr_head, dsr_tail, _] = three(&large(dsr.ask()), 1);
    let [head, tail, _] = three(&large(snat.ask()), 1);
    let lent = bytes_of(side.lent());
    let mut head_changes = snat.to_backend();
    head_changes.extend([set(Field::Src, &lent), Change::lent_source(LENT_PORTS)]);
    let mut tail_changes = tail_to_backend(&snat);
    tail_changes.push(set(Field::Src, &lent));
    let rfc = rfc(side);
    vec![
        case(side, &format!("{rfc}: l2dsr heads keep all but their MAC addresses"))
            .send(dsr_head.clone())
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened, Message]),
        case(side, &format!("{rfc}: l2dsr tails follow"))
            .after(dsr_head)
            .send(dsr_tail.clone())
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[]),
        case(side, &format!("{rfc}: l2dsr tails before their head are dropped"))
            .send(dsr_tail)
            .ends(Verdict::DropFragmentTail),
        case(side, &format!("{rfc}: snat heads come from us"))
            .send(head.clone())
            .becomes(Verdict::Forward, head_changes)
            .counts(snat.owner, &[Opened, Message]),
        case(side, &format!("{rfc}: snat tails come from us as well"))
            .after(head)
            .send(tail)
            .becomes(Verdict::Forward, tail_changes)
            .counts(snat.owner, &[]),
    ]
}
