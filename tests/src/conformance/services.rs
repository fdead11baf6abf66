//! Which packets are for a service: exact VIP, port and protocol, then the VIP with any port. What is left of a VIP is dropped.

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use super::build::{other, tcp, udp};
use super::case::Event::{Message, Opened};
use super::case::{Case, case};
use super::expected::set;
use super::layout::Field;
use super::side::{BOTH, Side};

/// Protocols that nobody serves.
const PROTOCOLS: [(u8, &str); 16] = [
    (2, "RFC 3376: IGMP"),
    (4, "RFC 2003: IPv4 in IP"),
    (33, "RFC 4340: DCCP"),
    (41, "RFC 4213: IPv6 in IP"),
    (46, "RFC 2205: RSVP"),
    (47, "RFC 2784: GRE"),
    (50, "RFC 4303: ESP"),
    (89, "RFC 2328: OSPF"),
    (97, "RFC 3378: Ethernet in IP"),
    (103, "RFC 7761: PIM"),
    (112, "RFC 5798: VRRP"),
    (115, "RFC 3931: L2TP"),
    (132, "RFC 9260: SCTP"),
    (136, "RFC 3828: UDP-Lite"),
    (137, "RFC 4023: MPLS in IP"),
    (253, "RFC 3692: an experiment"),
];

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [exact(side), any_port(side), protocols(side), assigned(side)]).flatten().collect()
}

fn exact(side: Side) -> Vec<Case> {
    let (nat, nat_udp) = (side.nat(), side.nat_udp());
    let vip = |n, port| SocketAddr::new(side.vip(n), port);
    let none = |name: &str, packet: super::build::Packet| case(side, name).send(packet).ends(Verdict::DropNoService);
    vec![
        case(side, "a TCP service gets TCP").send(nat.ask()).forwards(&nat, &[Opened]),
        case(side, "a UDP service gets UDP").send(nat_udp.ask()).forwards(&nat_udp, &[Opened, Message]),
        none("a TCP port that no service has", tcp(nat.client, vip(10, 81))),
        none("a UDP port that no service has", udp(nat.client, vip(10, 54))),
        none("UDP to a TCP service's port", udp(nat.client, nat.vip)),
        none("TCP to a UDP service's port", tcp(nat.client, nat_udp.vip)),
        none("RFC 9293 3.1: port 0, where no service takes every port", tcp(nat.client, vip(10, 0))),
        none("RFC 768: port 0, where no service takes every port, by UDP", udp(nat.client, vip(10, 0))),
        none("a service of another VIP", tcp(nat.client, vip(20, 8_080))),
        none("a VIP's port that only its backend has", tcp(nat.client, vip(10, 8_080))),
        case(side, "a backend's own address is no VIP: clients of it pass")
            .send(tcp(nat.client, nat.backend))
            .ends(Verdict::PassNotOurs),
        case(side, "the address next to a VIP is none").send(tcp(nat.client, vip(11, 80))).ends(Verdict::PassNotOurs),
        none("the RST of nobody's flow is dropped as its SYN would be", tcp(nat.client, vip(10, 81)).flags("R")),
    ]
}

fn any_port(side: Side) -> Vec<Case> {
    let (any, any_udp, exact) = (side.any_port(), side.any_port_udp(), side.exact_beside_any());
    let mut cases = Vec::new();
    for port in [1, 22, 443, 8_080, 65_535] {
        let (mut s, mut u) = (any, any_udp);
        s.vip.set_port(port);
        s.backend.set_port(port);
        u.vip.set_port(port);
        u.backend.set_port(port);
        cases.push(case(side, &format!("any port: TCP port {port} stays")).send(s.ask()).forwards(&s, &[Opened]));
        cases.push(
            case(side, &format!("any port: UDP port {port} stays")).send(u.ask()).forwards(&u, &[Opened, Message]),
        );
        cases.push(
            case(side, &format!("any port: a reply from TCP port {port} stays")).send(s.answer()).replies(&s, &[]),
        );
    }
    let mut zero = any;
    zero.vip.set_port(0);
    zero.backend.set_port(0);
    cases.extend([
        case(side, "any port: even port 0").send(zero.ask()).forwards(&zero, &[Opened]),
        case(side, "any port: a service of the exact port comes first").send(exact.ask()).forwards(&exact, &[Opened]),
        case(side, "any port: a reply of the service of the exact port").send(exact.answer()).replies(&exact, &[]),
        case(side, "any port: its protocol alone")
            .send(other(side.client(), any.vip.ip(), 132))
            .ends(Verdict::DropNoService),
    ]);
    cases
}

fn protocols(side: Side) -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, name) in PROTOCOLS {
        let packet = |to| other(side.client(), to, number);
        let dropped = case(side, &format!("{name} to a VIP is for no service")).send(packet(side.vip(10)));
        cases.push(dropped.ends(Verdict::DropNoService));
        let passed = case(side, &format!("{name} to a stranger passes")).send(packet(side.stranger()));
        cases.push(passed.ends(Verdict::PassNotOurs));
        let passed =
            case(side, &format!("{name} of a backend passes")).send(other(side.backend(11), side.client(), number));
        cases.push(passed.ends(Verdict::PassNotOurs));
    }
    cases
}

/// A VIP that the host holds itself: what no service takes is its own.
fn assigned(side: Side) -> Vec<Case> {
    let ssh = SocketAddr::new(side.vip(99), 22);
    let served = side.nat();
    let mut cases = vec![
        case(side, "a VIP that the host holds keeps its own TCP")
            .send(tcp(served.client, ssh))
            .ends(Verdict::PassLocal),
        case(side, "a VIP that the host holds keeps its own UDP")
            .send(udp(served.client, ssh))
            .ends(Verdict::PassLocal),
        case(side, "a VIP that the host holds keeps its own ESP")
            .send(other(side.client(), side.vip(99), 50))
            .ends(Verdict::PassLocal),
    ];
    let vip = served.vip.ip();
    let hold = move |world: &mut crate::world::World| {
        let flags = lb_common::host::VIP_ASSIGNED;
        let _old = world.vips.insert(crate::world::address(vip), lb_common::host::VipEntry { flags });
    };
    let mut changes = served.to_backend();
    changes.push(set(Field::Ttl, &[63]));
    cases.push(
        case(side, "a service of a VIP that the host holds is served")
            .world(hold)
            .send(served.ask())
            .becomes(Verdict::Forward, changes)
            .counts(served.owner, &[Opened]),
    );
    cases
}
