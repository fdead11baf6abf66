//! The TC program: what XDP leaves to it, and what XDP never saw.

use std::net::SocketAddr;

use lb_common::backend::{BACKEND_REACHABLE, BACKEND_VIA_TC};
use lb_common::verdict::Verdict;

use super::build::{Packet, echo, icmp};
use super::case::Event::{Message, Opened};
use super::case::{Case, Event, Service, case};
use super::expected::{Change, bytes_of, set};
use super::icmp::echo_answer;
use super::layout::Field;
use super::side::{BOTH, Side};
use super::snat::lent_to_backend;
use crate::world::{WIRE, World};

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [alone(side), behind_xdp(side), passes(side)]).flatten().collect()
}

/// The interface has no XDP program.
fn no_xdp(world: &mut World) {
    let _wire = world.interfaces.remove(&WIRE);
}

fn alone(side: Side) -> Vec<Case> {
    let (tcp, udp, dsr, snat) = (side.nat(), side.nat_udp(), side.dsr(), side.snat());
    let forwards = |name: &str, s: &Service, packet: Packet, events: &[Event]| {
        case(side, &format!("TC: {name}")).world(no_xdp).tc().send(packet).forwards(s, events)
    };
    let replies = |name: &str, s: &Service, packet: Packet| {
        case(side, &format!("TC: {name}")).world(no_xdp).tc().send(packet).replies(s, &[])
    };
    let error =
        |about: Packet| icmp(side.router(), about.source(), if side.is_v6() { 1 } else { 3 }, 1).quoting(about, 20);
    vec![
        forwards("a SYN", &tcp, tcp.ask().flags("S").tcp_options(&[2, 4, 5, 0xb4]), &[Opened]),
        forwards("odd data", &tcp, tcp.ask().flags("AP").payload(b"odd"), &[Opened, Message]),
        forwards("a datagram", &udp, udp.ask().payload(b"odd"), &[Opened, Message]),
        forwards("a datagram without checksum", &udp, udp.ask().payload(b"odd").no_checksum(), &[Opened, Message]),
        replies("a SYN and ACK", &tcp, tcp.answer().flags("SA")),
        replies("a reply of odd length", &tcp, tcp.answer().payload(b"odd")),
        replies("a datagram in reply", &udp, udp.answer().payload(b"odd")),
        replies("a datagram in reply without checksum", &udp, udp.answer().payload(b"odd").no_checksum()),
        case(side, "TC: l2dsr")
            .world(no_xdp)
            .tc()
            .send(dsr.ask())
            .becomes(Verdict::Forward, dsr.macs())
            .counts(dsr.owner, &[Opened]),
        case(side, "TC: snat")
            .world(no_xdp)
            .tc()
            .send(snat.ask().payload(b"odd"))
            .becomes(Verdict::Forward, lent_to_backend(side, &snat))
            .counts(snat.owner, &[Opened]),
        case(side, "TC: an error tells the backend")
            .world(no_xdp)
            .tc()
            .send(error(tcp.packet(tcp.vip, tcp.client)))
            .tells_backend(&tcp),
        case(side, "TC: an error tells the client")
            .world(no_xdp)
            .tc()
            .send(error(udp.packet(udp.client, udp.backend)))
            .tells_client(&udp),
        case(side, "TC: RFC 1812 5.3.1: no hop left")
            .world(no_xdp)
            .tc()
            .send(tcp.ask().ttl(1))
            .ends(Verdict::DropTtl)
            .counts(tcp.owner, &[Opened]),
    ]
}

/// XDP keeps the books; what it left to TC is counted where it is sent.
fn behind_xdp(side: Side) -> Vec<Case> {
    let s = side.nat();
    let owner = s.owner;
    let neighbour = SocketAddr::new(side.on_link(66), 40_000);
    let unresolved =
        vec![Change::OneHop, set(Field::Src, &bytes_of(s.vip.ip())), set(Field::SrcPort, &s.vip.port().to_be_bytes())];
    let to_unknown = vec![
        Change::OneHop,
        set(Field::Dst, &bytes_of(s.backend.ip())),
        set(Field::DstPort, &s.backend.port().to_be_bytes()),
    ];
    vec![
        case(side, "TC behind XDP: a backend in a container")
            .world(move |w| w.backend(owner).flags |= BACKEND_VIA_TC)
            .tc()
            .send(s.ask())
            .forwards(&s, &[]),
        case(side, "TC behind XDP: RFC 826 is the kernel's to ask for the client's MAC address")
            .tc()
            .send(s.packet(s.backend, neighbour))
            .becomes(Verdict::Reply, unresolved)
            .counts(owner, &[]),
        case(side, "TC behind XDP: RFC 826 is the kernel's to ask for the backend's MAC address")
            .world(move |w| w.backend(owner).flags &= !BACKEND_REACHABLE)
            .tc()
            .send(s.ask())
            .becomes(Verdict::Forward, to_unknown)
            .counts(owner, &[]),
    ]
}

fn passes(side: Side) -> Vec<Case> {
    let s = side.nat();
    let stranger = SocketAddr::new(side.stranger(), 80);
    let vip = s.vip.ip();
    let mut answer = echo_answer(side.client(), vip);
    // Loopback's MAC address, which the frame was sent to, is all zeroes.
    answer.retain(|change| !matches!(change, Change::Set(_, Field::SrcMac, _)));
    answer.push(set(Field::SrcMac, &[0; 6]));
    vec![
        case(side, "TC: a stranger's segment passes")
            .world(no_xdp)
            .tc()
            .send(s.packet(s.client, stranger))
            .ends(Verdict::PassNotOurs),
        case(side, "TC: a VIP's port without service")
            .world(no_xdp)
            .tc()
            .send(s.packet(s.client, SocketAddr::new(vip, 9)))
            .ends(Verdict::DropNoService),
        case(side, "TC: echo to a VIP is answered")
            .world(no_xdp)
            .tc()
            .send(echo(side.client(), vip))
            .becomes(Verdict::EchoReply, answer),
    ]
}
