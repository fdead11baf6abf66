//! l2dsr: the backend holds the VIP, so the packet changes its MAC addresses and nothing else.

use lb_common::backend::{BACKEND_REACHABLE, BACKEND_VIA_TC};
use lb_common::verdict::Verdict;

use super::build::Packet;
use super::case::Event::{Message, Opened};
use super::case::{Case, case};
use super::layout::Field;
use super::side::{BOTH, Side};
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [contents(side), ways(side)]).flatten().collect()
}

fn contents(side: Side) -> Vec<Case> {
    let (tcp, udp) = (side.dsr(), side.dsr_udp());
    let as_it_is = |name: &str, packet: Packet| {
        case(side, &format!("l2dsr: {name}"))
            .send(packet)
            .becomes(Verdict::Forward, tcp.macs())
            .counts(tcp.owner, &[Opened])
    };
    let datagram = |name: &str, packet: Packet| {
        case(side, &format!("l2dsr: {name}"))
            .send(packet)
            .becomes(Verdict::Forward, udp.macs())
            .counts(udp.owner, &[Opened, Message])
    };
    vec![
        as_it_is("a SYN keeps its addresses, ports and TTL", tcp.ask().flags("S")),
        as_it_is("DSCP and ECN stay", tcp.ask().tos(0xbb)),
        as_it_is("a wrong TCP checksum stays", tcp.ask().but(Field::Sum, &[1, 2])).unsound(),
        as_it_is(
            "an urgent pointer and a window of zero stay",
            tcp.ask().with_tcp(|h| (h.urgent_pointer, h.window_size) = (9, 0)),
        ),
        datagram("a datagram stays", udp.ask().payload(b"odd")),
        datagram("an empty datagram stays", udp.ask()),
        datagram("a wrong UDP checksum stays", udp.ask().but(Field::Sum, &[1, 2])).unsound(),
        case(side, "l2dsr: what the backend answers from the VIP is not seen as ours")
            .send(tcp.packet(tcp.vip, tcp.client))
            .ends(Verdict::PassNotOurs),
    ]
}

fn ways(side: Side) -> Vec<Case> {
    let s = side.dsr();
    let owner = s.owner;
    let opened = |case: Case| case.counts(owner, &[Opened]);
    let room = 1_280 - if side.is_v6() { 60 } else { 40 };
    vec![
        opened(
            case(side, "l2dsr: a backend behind another interface")
                .world(move |w| w.backend(owner).ifindex = OTHER)
                .send(s.ask())
                .becomes(Verdict::Forward, s.macs())
                .leaves_by(OTHER),
        ),
        opened(
            case(side, "l2dsr: a backend whose MAC address is unknown cannot be named otherwise")
                .world(move |w| w.backend(owner).flags &= !BACKEND_REACHABLE)
                .send(s.ask())
                .ends(Verdict::DropNoNextHop),
        ),
        opened(
            case(side, "l2dsr: a backend in a container is TC's to reach")
                .world(move |w| w.backend(owner).flags |= BACKEND_VIA_TC)
                .send(s.ask())
                .ends(Verdict::PassToTc),
        ),
        opened(
            case(side, "l2dsr: a packet that just fits the way")
                .world(move |w| w.backend(owner).mtu = 1_280)
                .send(s.ask().payload(&vec![1; room]))
                .becomes(Verdict::Forward, s.macs()),
        ),
    ]
}
