//! Prefix VIPs: every address of the prefix is the service's, and answers come from the very address that was asked.

use std::net::{IpAddr, SocketAddr};

use lb_common::verdict::Verdict;

use super::build::{echo, icmp, tcp, udp};
use super::case::Event::Opened;
use super::case::{Case, case};
use super::icmp::echo_answer;
use super::side::{BOTH, Side};
use super::snat::{lent_to_backend, lent_to_client};
use crate::world::OTHER;

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [within(side), beyond(side), answers(side)]).flatten().collect()
}

fn rfc(side: Side) -> &'static str {
    if side.is_v6() { "RFC 4291 2.3" } else { "RFC 4632 5.1" }
}

fn addresses(side: Side) -> [(&'static str, IpAddr); 4] {
    [
        ("its network's own", side.in_prefix("198.19.0.0", "2001:db8:19::")),
        ("its first", side.in_prefix("198.19.0.1", "2001:db8:19::1")),
        ("one in its middle", side.in_prefix("198.19.128.0", "2001:db8:19:8000::")),
        ("its last", side.in_prefix("198.19.255.255", "2001:db8:19:ffff:ffff:ffff:ffff:ffff")),
    ]
}

fn within(side: Side) -> Vec<Case> {
    let (dsr, snat) = (side.prefix(), side.prefix_snat());
    let mut cases = Vec::new();
    for (name, address) in addresses(side) {
        let (mut at_dsr, mut at_snat) = (dsr, snat);
        at_dsr.vip.set_ip(address);
        at_snat.vip.set_ip(address);
        let name = format!("{}: of a prefix VIP's addresses {name}", rfc(side));
        cases.push(
            case(side, &format!("{name} is served, l2dsr"))
                .send(at_dsr.ask().flags("S"))
                .becomes(Verdict::Forward, dsr.macs())
                .counts(dsr.owner, &[Opened]),
        );
        cases.push(
            case(side, &format!("{name} is served, snat"))
                .send(at_snat.ask().flags("S"))
                .becomes(Verdict::Forward, lent_to_backend(side, &snat))
                .counts(snat.owner, &[Opened]),
        );
        cases.push(
            case(side, &format!("{name} is what the answer comes from, snat"))
                .after(at_snat.ask().flags("S"))
                .send_to_lent(move |port| {
                    at_snat.packet(at_snat.backend, SocketAddr::new(side.lent(), port)).flags("SA")
                })
                .becomes(Verdict::Reply, lent_to_client(&at_snat))
                .counts(snat.owner, &[])
                .leaves_by(OTHER),
        );
        let answer = echo_answer(side.client(), address);
        cases.push(
            case(side, &format!("{name} answers echo"))
                .send(echo(side.client(), address))
                .becomes(Verdict::EchoReply, answer),
        );
    }
    cases
}

fn beyond(side: Side) -> Vec<Case> {
    let client = side.nat().client;
    let vip = side.prefix().vip.ip();
    let own = side.in_prefix("198.19.0.250", "2001:db8:19::250");
    let before = side.in_prefix("198.18.255.255", "2001:db8:18:ffff:ffff:ffff:ffff:ffff");
    let behind = side.in_prefix("198.20.0.0", "2001:db8:1a::");
    let named = |name: &str| case(side, &format!("{}: {name}", rfc(side)));
    let to = |ip, port| tcp(client, SocketAddr::new(ip, port));
    vec![
        named("the address before a prefix VIP is none").send(to(before, 80)).ends(Verdict::PassNotOurs),
        named("the address behind a prefix VIP is none").send(to(behind, 80)).ends(Verdict::PassNotOurs),
        named("a prefix VIP's port without service").send(to(vip, 82)).ends(Verdict::DropNoService),
        named("a prefix VIP's port by another protocol")
            .send(udp(client, SocketAddr::new(vip, 80)))
            .ends(Verdict::DropNoService),
        named("the host's own address within a prefix VIP stays its own").send(to(own, 80)).ends(Verdict::PassLocal),
        named("echo to the host's own address within a prefix VIP is its own")
            .send(echo(side.client(), own))
            .ends(Verdict::PassLocal),
    ]
}

fn answers(side: Side) -> Vec<Case> {
    let s = side.prefix();
    let neighbour = side.in_prefix("198.19.1.1", "2001:db8:19:1::1");
    let mut other = s;
    other.vip.set_ip(neighbour);
    let error = icmp(side.router(), s.vip.ip(), if side.is_v6() { 1 } else { 3 }, 1).quoting(tcp(s.vip, s.client), 8);
    let dsr = |case: Case, events| case.becomes(Verdict::Forward, s.macs()).counts(s.owner, events);
    vec![
        case(side, "a client's port has a flow of its own at each address of a prefix VIP")
            .after(s.ask().flags("S"))
            .send(other.ask().flags("S"))
            .becomes(Verdict::Forward, s.macs())
            .counts(s.owner, &[Opened]),
        dsr(
            case(side, "a repeated SYN to an address of a prefix VIP")
                .after(s.ask().flags("S"))
                .send(s.ask().flags("S")),
            &[],
        ),
        case(side, "an error about an address of a prefix VIP reaches the backend")
            .send(error)
            .becomes(Verdict::ForwardIcmp, s.macs()),
    ]
}
