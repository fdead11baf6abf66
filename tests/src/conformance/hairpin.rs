//! Hairpin: a client on the backend's own link would be answered directly, past us, so its flows get our address.

use std::net::{IpAddr, SocketAddr};

use lb_common::verdict::Verdict;

use super::case::Event::{Message, Opened};
use super::case::{Case, Event, Service, case, to_the_client};
use super::expected::{bytes_of, set};
use super::layout::Field;
use super::side::{BOTH, Side};
use super::snat::lent_to_backend;
use crate::ground::GATEWAY_MAC;
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [links(side), itself(side)]).flatten().collect()
}

fn links(side: Side) -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, s, events) in
        [("TCP", side.hairpin(), &[Opened][..]), ("UDP", side.hairpin_udp(), &[Opened, Message])]
    {
        let mut neighbour = s;
        neighbour.client.set_ip(side.backend(200));
        cases.push(
            case(side, &format!("RFC 4787 6: a {protocol} client on the backend's link is known by our address"))
                .send(neighbour.ask())
                .becomes(Verdict::Forward, lent_to_backend(side, &s))
                .counts(s.owner, events),
        );
        cases.push(answered(side, protocol, &neighbour));
        cases.push(
            case(side, &format!("a {protocol} client on another link keeps its address"))
                .send(s.ask())
                .forwards(&s, events),
        );
        cases.push(
            case(side, &format!("the answer to a {protocol} client on another link")).send(s.answer()).replies(&s, &[]),
        );
    }
    let s = side.hairpin();
    let beyond: IpAddr = if side.is_v6() { "fd00:0:0:1::200" } else { "10.0.1.200" }.parse().expect("an address");
    let mut outside = s;
    outside.client.set_ip(beyond);
    cases
        .push(case(side, "a client one network further keeps its address").send(outside.ask()).forwards(&s, &[Opened]));
    cases
}

/// The way back goes through us, where the host's routes lead to the client.
fn answered(side: Side, protocol: &str, s: &Service) -> Case {
    let s = *s;
    let mut changes = to_the_client();
    changes.extend([
        set(Field::DstMac, &GATEWAY_MAC),
        set(Field::Src, &bytes_of(s.vip.ip())),
        set(Field::SrcPort, &s.vip.port().to_be_bytes()),
        set(Field::Dst, &bytes_of(s.client.ip())),
        set(Field::DstPort, &s.client.port().to_be_bytes()),
    ]);
    case(side, &format!("RFC 4787 6: a {protocol} client on the backend's link is answered by the VIP"))
        .after(s.ask())
        .send_to_lent(move |port| s.packet(s.backend, SocketAddr::new(side.lent(), port)))
        .becomes(Verdict::Reply, changes)
        .counts(s.owner, &[])
        .leaves_by(OTHER)
}

fn itself(side: Side) -> Vec<Case> {
    let (lending, plain) = (side.hairpin(), side.nat());
    let mut client_of_itself = lending;
    client_of_itself.client.set_ip(lending.backend.ip());
    let mut without_address = plain;
    without_address.client.set_ip(plain.backend.ip());
    let opened: &[Event] = &[Opened];
    vec![
        case(side, "RFC 4787 6: a backend that is its own client is known by our address")
            .send(client_of_itself.ask())
            .becomes(Verdict::Forward, lent_to_backend(side, &lending))
            .counts(lending.owner, opened),
        case(side, "a backend that is its own client where we have no address to lend")
            .send(without_address.ask())
            .ends(Verdict::DropSnatExhausted)
            .counts(plain.owner, opened),
    ]
}
