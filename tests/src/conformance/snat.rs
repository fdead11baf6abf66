//! nat with snat: the backend sees one of our addresses and a lent port, and answers to it.

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::Event::{Closed, Confirmed, Message, Opened, Reset};
use super::case::{Case, Event, Service, case};
use super::expected::{Change, bytes_of, quoted, set};
use super::layout::{Field, Level};
use super::side::{BOTH, LENT_PORTS, Side};
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [forward(side), back(side), errors(side)]).flatten().collect()
}

/// What snat makes of the client's packet.
pub(super) fn lent_to_backend(side: Side, s: &Service) -> Vec<Change> {
    let mut changes = s.to_backend();
    changes.extend([set(Field::Src, &bytes_of(side.lent())), Change::lent_source(LENT_PORTS)]);
    changes
}

/// What snat makes of the backend's packet.
pub(super) fn lent_to_client(s: &Service) -> Vec<Change> {
    let mut changes = s.to_client();
    changes.extend([set(Field::Dst, &bytes_of(s.client.ip())), set(Field::DstPort, &s.client.port().to_be_bytes())]);
    changes
}

/// The backend's packet to a lent port.
fn answer(side: Side, s: &Service, port: u16) -> Packet {
    s.packet(s.backend, SocketAddr::new(side.lent(), port))
}

fn forward(side: Side) -> Vec<Case> {
    let (tcp, udp) = (side.snat(), side.snat_udp());
    let lent = |name: &str, s: Service, packet: Packet, events: &[Event]| {
        case(side, name).send(packet).becomes(Verdict::Forward, lent_to_backend(side, &s)).counts(s.owner, events)
    };
    let mut anonymous = udp;
    anonymous.client.set_port(0);
    let none = side.snat().owner;
    vec![
        lent("RFC 3022 2.2: a SYN leaves from a lent port", tcp, tcp.ask().flags("S"), &[Opened]),
        lent("RFC 3022 2.2: a datagram leaves from a lent port", udp, udp.ask().payload(b"odd"), &[Opened, Message]),
        lent(
            "RFC 3022 4.1: a datagram without checksum stays without",
            udp,
            udp.ask().no_checksum(),
            &[Opened, Message],
        ),
        lent("RFC 768: a client's port of zero is lent a port too", udp, anonymous.ask(), &[Opened, Message]),
        lent(
            "RFC 3022 4.1: options and data stay",
            tcp,
            tcp.ask().flags("AP").tcp_options(&[1; 12]).payload(&[7; 999]),
            &[Opened, Message],
        ),
        lent("RFC 3022 4.1: a wrong checksum stays wrong", tcp, tcp.ask().but(Field::Sum, &[1, 2]), &[Opened])
            .unsound(),
        lent("RFC 4787 4.1: a flow's second packet leaves alike", tcp, tcp.ask(), &[Confirmed])
            .after(tcp.ask().flags("S")),
        case(side, "RFC 1812 5.3.1: no hop left").send(tcp.ask().ttl(1)).ends(Verdict::DropTtl).counts(none, &[Opened]),
    ]
}

fn back(side: Side) -> Vec<Case> {
    let (tcp, udp) = (side.snat(), side.snat_udp());
    let back = |name: &str, s: Service, sent: Packet, events: &[Event]| {
        case(side, name)
            .after(sent)
            .becomes(Verdict::Reply, lent_to_client(&s))
            .counts(s.owner, events)
            .leaves_by(OTHER)
    };
    let stranger = SocketAddr::new(side.backend(77), 8_080);
    vec![
        back("RFC 3022 2.2: a SYN and ACK to a lent port reaches the client", tcp, tcp.ask().flags("S"), &[])
            .send_to_lent(move |port| answer(side, &tcp, port).flags("SA")),
        back("RFC 3022 2.2: a datagram to a lent port reaches the client", udp, udp.ask(), &[])
            .send_to_lent(move |port| answer(side, &udp, port).payload(b"odd")),
        back("RFC 3022 4.1: an answer without checksum stays without", udp, udp.ask(), &[])
            .send_to_lent(move |port| answer(side, &udp, port).payload(b"me").no_checksum()),
        back("RFC 9293 3.5.3: a server's RST ends the flow", tcp, tcp.ask().flags("S"), &[Reset])
            .send_to_lent(move |port| answer(side, &tcp, port).flags("AR")),
        back("RFC 9293 3.6: the second FIN ends the flow", tcp, tcp.ask().flags("S"), &[])
            .after(tcp.ask())
            .after(tcp.ask().flags("AF"))
            .send_to_lent(move |port| answer(side, &tcp, port).flags("AF"))
            .counts(tcp.owner, &[Closed]),
        case(side, "RFC 4787 5: a stranger cannot use a lent port")
            .after(tcp.ask())
            .send_to_lent(move |port| tcp.packet(stranger, SocketAddr::new(side.lent(), port)))
            .ends(Verdict::PassNotOurs),
        case(side, "RFC 4787 5: the backend's other port cannot use a lent port")
            .after(tcp.ask())
            .send_to_lent(move |port| {
                tcp.packet(SocketAddr::new(tcp.backend.ip(), 22), SocketAddr::new(side.lent(), port))
            })
            .ends(Verdict::PassNotOurs),
        case(side, "what the backend sends to a port that was lent to nobody is this host's")
            .send(answer(side, &tcp, 1_024))
            .ends(Verdict::PassNotOurs),
        case(side, "what the backend answers to this host's own probe passes")
            .send(tcp.packet(tcp.backend, SocketAddr::new(side.ours(), 50_000)))
            .ends(Verdict::PassNotOurs),
    ]
}

fn errors(side: Side) -> Vec<Case> {
    let (kind, code) = if side.is_v6() { (2, 0) } else { (3, 4) };
    let error = move |about: Packet, len| {
        icmp(side.router(), about.source(), kind, code).rest([0, 0, 5, 0]).quoting(about, len)
    };
    let mut cases = Vec::new();
    for (protocol, s) in [("TCP", side.snat()), ("UDP", side.snat_udp())] {
        for len in [8, 20, 100] {
            let mut to_backend = s.error_to_backend();
            to_backend.extend([
                quoted(Field::Dst, &bytes_of(side.lent())),
                Change::Lent(Level::Quote, Field::DstPort, LENT_PORTS),
            ]);
            let name =
                format!("RFC 5508 4.2: an error about {protocol} from the VIP, {len} bytes quoted, tells the backend");
            let told = case(side, &name).after(s.ask()).send(error(s.packet(s.vip, s.client).payload(&[7; 92]), len));
            cases.push(told.becomes(Verdict::ForwardIcmp, to_backend));

            let mut to_client = s.error_to_client();
            to_client.extend([
                set(Field::Dst, &bytes_of(s.client.ip())),
                quoted(Field::Src, &bytes_of(s.client.ip())),
                quoted(Field::SrcPort, &s.client.port().to_be_bytes()),
            ]);
            let name = format!(
                "RFC 5508 4.2: an error about {protocol} from a lent port, {len} bytes quoted, tells the client"
            );
            let told = case(side, &name).after(s.ask()).send_to_lent(move |port| {
                error(s.packet(SocketAddr::new(side.lent(), port), s.backend).payload(&[7; 92]), len)
            });
            cases.push(told.becomes(Verdict::ReplyIcmp, to_client).leaves_by(OTHER));
        }
    }
    let s = side.snat();
    cases.push(
        case(side, "RFC 5508 4.2: an error about a port that was lent to nobody is this host's")
            .send(error(s.packet(SocketAddr::new(side.lent(), 1_024), s.backend), 8))
            .ends(Verdict::PassNotOurs),
    );
    cases
}
