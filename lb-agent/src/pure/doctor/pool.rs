//! Judges the ways to backends, and VIPs.

use std::net::IpAddr;

use super::Finding;
use super::facts::Facts;
use crate::pure::model::{Forward, ServiceSpec};
use crate::pure::prefix;

/// Whether what is not ours to rewrite can pass through this host.
pub(super) fn forwarding(facts: &Facts, services: &[ServiceSpec]) -> Vec<Finding> {
    let families =
        [(true, facts.forwards_v4, "net.ipv4.ip_forward"), (false, facts.forwards_v6, "net.ipv6.conf.all.forwarding")];
    let mut findings = Vec::new();
    for (is_v4, forwards, sysctl) in families {
        let is_gateway = services.iter().any(|service| {
            service.forward == Forward::Nat
                && !service.snat
                && service.key.vip.is_ipv4() == is_v4
                && !service.backends.is_empty()
        });
        if is_gateway && forwards == Some(false) {
            findings.push(Finding::warn(
                "forwarding",
                format!("{sysctl} is 0: replies of services pass, what else backends send through this host does not"),
                format!("sysctl -w {sysctl}=1 if this host is their gateway to other places too"),
            ));
        }
    }
    findings
}

/// Whether a VIP is free for us to answer for.
pub(super) fn vip(facts: &Facts, service: &ServiceSpec) -> Finding {
    let vip = service.key.vip;
    let subject = format!("VIP {}", service.key.vip_text());
    if let Some(len) = service.key.prefix {
        return prefix(facts, (vip, len), subject);
    }
    match facts.addresses.iter().find(|(address, ..)| *address == vip) {
        None => Finding::ok(subject, "held by no interface of this host, as it should be"),
        Some((_, prefix, interface)) => Finding::warn(
            subject,
            format!("is an address of {interface}: what no service takes reaches this host itself"),
            format!("ip addr del {vip}/{prefix} dev {interface} unless that is meant; Weir answers ARP and ND for it"),
        ),
    }
}

/// Whether a prefix leaves this host's own links alone: what it holds of a link's network, neighbours included, is answered for by us.
fn prefix(facts: &Facts, vip: (IpAddr, u8), subject: String) -> Finding {
    match facts.addresses.iter().find(|(address, ..)| prefix::holds(vip, *address)) {
        None => Finding::ok(subject, "holds no address of this host, as it should be"),
        Some((address, len, interface)) if (vip.1..prefix::full_length(*address)).contains(len) => Finding::warn(
            subject,
            format!(
                "holds the whole network of {interface} ({address}/{len}): Weir answers ARP and ND for its hosts too"
            ),
            "choose a prefix that is routed to this host, or a part of that network that no host uses",
        ),
        Some((address, _, interface)) => Finding::warn(
            subject,
            format!("holds {address}, an address of {interface}, which stays this host's own"),
            "keep clients off that address, or move the prefix",
        ),
    }
}

/// Whether there is a way to every backend.
pub(super) fn judge_backends(findings: &mut Vec<Finding>, facts: &Facts, service: &ServiceSpec) {
    for backend in &service.backends {
        let subject = format!("backend {}", backend.addr);
        let Some(way) = facts.ways.iter().find(|way| way.backend == backend.addr) else { continue };
        let address = backend.addr.ip();
        let finding = match &way.source {
            Err(why) => Finding::fail(subject, format!("no way there: {why}"), format!("ip route get {address}")),
            Ok(source) if *source == address => Finding::fail(
                subject,
                "is an address of this host: packets cannot be forwarded to ourselves",
                "run the server on another host, in a container or in a VM with its own address",
            ),
            Ok(_) if service.forward == Forward::L2dsr && !is_on_link(facts, address) => Finding::fail(
                subject,
                "is behind a gateway, and l2dsr reaches only what is on a link of ours",
                "put it on the same L2 network, or use forward = \"nat\"",
            ),
            Ok(_) if way.neighbour_failed => Finding::warn(
                subject,
                "does not answer ARP or ND",
                format!("is it up, and on this segment? ping {address}; ip neigh show {address}"),
            ),
            Ok(source) => Finding::ok(subject, format!("reached from {source}")),
        };
        findings.push(finding);
    }
}

fn is_on_link(facts: &Facts, address: IpAddr) -> bool {
    facts.addresses.iter().any(|(ours, prefix, _)| same_network(*ours, address, *prefix))
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let differing = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(prefix)
}
