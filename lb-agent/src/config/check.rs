//! What goes together and what does not: decides over a whole configuration, when every field has been read by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::limits::{MAX_ADDRESSES, MAX_OWNERS, MAX_SERVICES, SCHEDULE_TURNS};

use super::InterfaceConfig;
use super::check_lookup;
use super::encap;
use super::environment::Environment;
use super::report::Report;
use super::service::{Draft, same_family};
use crate::pure::model::{Forward, ProbeKind, Protocol, Select, ServiceKey, ServiceSpec, Tracking};

/// Says everything that contradicts itself, each other, or this host.
pub(super) fn check(report: &mut Report, interfaces: &[InterfaceConfig], drafts: &[Draft], environment: &Environment) {
    check_interfaces(report, interfaces);
    for draft in drafts {
        check_pool(report, draft);
        check_forwarding(report, draft);
        check_snat(report, draft, environment);
        check_selection(report, draft);
        check_health(report, draft);
        check_lookup::check(report, draft);
    }
    check_names_and_keys(report, drafts);
    check_addresses(report, drafts);
    check_replies(report, drafts);
    check_limits(report, drafts);
}

fn check_interfaces(report: &mut Report, interfaces: &[InterfaceConfig]) {
    if interfaces.is_empty() {
        report.error(
            "interface",
            "there is none; name the one that clients' packets come in by: [[interface]] name = \"eth0\"".to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    for (at, interface) in interfaces.iter().enumerate() {
        if !interface.name.is_empty() && !seen.insert(&interface.name) {
            let message = format!("{:?} is listed twice; list each interface once", interface.name);
            report.error(&format!("interface #{}.name", at + 1), message);
        }
    }
}

fn check_names_and_keys(report: &mut Report, drafts: &[Draft]) {
    let mut names = BTreeSet::new();
    let mut keys: BTreeMap<ServiceKey, &str> = BTreeMap::new();
    for draft in drafts {
        let ServiceSpec { name, key, .. } = &draft.spec;
        if !names.insert(name) {
            report.error(&draft.field("name"), format!("another service is called {name:?} too; names must differ"));
        }
        if let Some(other) = keys.insert(*key, name) {
            let what = describe(key);
            report.error(
                &draft.field("vip"),
                format!("{what} is taken by service {other:?}; change VIP, port or protocol"),
            );
        }
    }
}

fn check_pool(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    let mut seen = BTreeSet::new();
    for (at, backend) in spec.backends.iter().enumerate() {
        let place = draft.field(&format!("backend #{}", at + 1));
        if !seen.insert(backend.addr) {
            report.error(
                &place,
                format!("{} is in this pool twice; give it once, with the sum of the weights", backend.addr),
            );
        }
        if !spec.forward.joins(spec.key.vip, backend.addr.ip()) {
            let why = if spec.forward.encapsulates() {
                "a backend that answers IPv6 clients has an IPv6 address itself: give that one (6in4 is not offered)"
            } else {
                "nat and l2dsr keep the family of the packet"
            };
            let (backend, vip) = (backend.addr.ip(), spec.key.vip);
            let message = format!("{backend} and the VIP {vip} are not of one family; {why}");
            report.error(&format!("{place}.address"), message);
        }
        if spec.key.port == 0 && backend.addr.port() != 0 {
            let message = "the service takes every port, so the client's port is kept; remove it".to_owned();
            report.error(&format!("{place}.port"), message);
        }
        if spec.key.port != 0 && backend.addr.port() == 0 {
            report.error(&format!("{place}.port"), "found 0, wanted a port, 1 to 65535".to_owned());
        }
    }
    if spec.backends.is_empty() {
        let message = "has no backend: its new flows are dropped (and counted) until `lb-agent backend add`".to_owned();
        report.warning(&draft.path, message);
    } else if spec.backends.iter().all(|backend| backend.weight == 0) {
        report.warning(&draft.path, "every backend has weight 0: no new flow is served".to_owned());
    }
}

fn check_forwarding(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    encap::check(report, draft);
    if !spec.forward.keeps_port() {
        return;
    }
    for (at, backend) in spec.backends.iter().enumerate() {
        if spec.key.port != 0 && backend.addr.port() != 0 && backend.addr.port() != spec.key.port {
            let message = format!(
                "found {}, wanted the service's port {} (or nothing): {}; use forward = \"nat\" to change ports",
                backend.addr.port(),
                spec.key.port,
                if spec.forward == Forward::L2dsr {
                    "l2dsr changes MAC addresses only"
                } else {
                    "the client's packet reaches the backend as it is"
                }
            );
            report.error(&draft.field(&format!("backend #{}.port", at + 1)), message);
        }
    }
}

fn check_snat(report: &mut Report, draft: &Draft, environment: &Environment) {
    let spec = &draft.spec;
    if !spec.snat {
        for field in ["snat_addresses", "snat_ports"] {
            if report.has_field(&draft.field(field)) {
                report.error(&draft.field(field), "means nothing without snat = true".to_owned());
            }
        }
        return;
    }
    if spec.forward != Forward::Nat {
        let message =
            "goes with forward = \"nat\" only: in the other modes the backend answers the client directly".to_owned();
        report.error(&draft.field("snat"), message);
    }
    for address in spec.snat_addresses.iter().filter(|address| !same_family(**address, spec.key.vip)) {
        let message = format!("{address} and the VIP {} are not of one family", spec.key.vip);
        report.error(&draft.field("snat_addresses"), message);
    }
    let (first, last) = (spec.snat_ports.0.get(), spec.snat_ports.1.get());
    if (first..=last).any(|port| environment.is_local(port)) {
        let local = &environment.local_ports;
        let advice = match environment.longest_free_ports() {
            Some(free) => format!("use ports within {}-{}", free.start(), free.end()),
            None => "narrow that range, or reserve ports for Weir with net.ipv4.ip_local_reserved_ports".to_owned(),
        };
        let message = format!(
            "ports {first}-{last} overlap those that this host gives its own sockets (net.ipv4.ip_local_port_range = {} {}); \
             {advice}",
            local.start(),
            local.end()
        );
        report.error(&draft.field("snat_ports"), message);
    }
}

fn check_selection(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    if spec.select == Select::RoundRobin && spec.backends.len() > SCHEDULE_TURNS {
        let message =
            format!("round_robin has turns for {SCHEDULE_TURNS} backends, the pool has {}", spec.backends.len());
        report.error(&draft.field("select"), message);
    }
    if spec.tracking == Tracking::Full {
        return;
    }
    let needs = match spec.select {
        Select::RoundRobin => Some("select = \"round_robin\""),
        Select::LeastConn => Some("select = \"least_conn\""),
        Select::Maglev | Select::SourceHash => spec.snat.then_some("snat = true"),
    };
    if let Some(needs) = needs {
        let message = format!("{needs} needs tracking = \"full\": only the flow table knows which backend a flow has");
        report.error(&draft.field("tracking"), message);
    }
}

fn check_health(report: &mut Report, draft: &Draft) {
    let (health, key) = (&draft.spec.health, &draft.spec.key);
    let is_probed = health.kind != ProbeKind::None;
    let place = draft.field("health");
    if key.port == 0 && is_probed && health.port.is_none() {
        let message =
            "the service takes every port: say which one to probe (health.port), or kind = \"none\"".to_owned();
        report.error(&place, message);
    }
    if key.protocol == Protocol::Udp && !draft.says_health {
        let message =
            "a udp service has no health check unless it says which: a dead backend keeps its share of flows. Add \
                       [service.health] with a TCP port to probe, or kind = \"none\" to say that this is meant"
                .to_owned();
        report.warning(&draft.path, message);
    }
    if is_probed && health.timeout > health.interval {
        let message = format!(
            "{} is longer than the interval ({}): probes wait for each other, and a failure is seen later",
            humantime::format_duration(health.timeout),
            humantime::format_duration(health.interval)
        );
        report.warning(&format!("{place}.timeout"), message);
    }
}

/// A VIP is answered for by us, so it can be nobody's own address.
fn check_addresses(report: &mut Report, drafts: &[Draft]) {
    let taken_by = |ip: IpAddr| drafts.iter().find(|d| d.spec.key.holds(ip)).map(|d| &d.spec);
    for draft in drafts {
        for (at, backend) in draft.spec.backends.iter().enumerate() {
            if let Some(service) = taken_by(backend.addr.ip()) {
                let is = if service.key.prefix.is_some() { "lies within" } else { "is" };
                let message = format!(
                    "{} {is} the VIP of service {:?}: packets would come back to us; give the backend's own address",
                    backend.addr.ip(),
                    service.name
                );
                report.error(&draft.field(&format!("backend #{}.address", at + 1)), message);
            }
        }
        for address in draft.spec.snat_addresses.iter().filter(|address| taken_by(**address).is_some()) {
            let message = format!(
                "{address} is a VIP: replies to it would look like new flows; use another address of this host"
            );
            report.error(&draft.field("snat_addresses"), message);
        }
    }
}

/// nat without snat finds a reply's service by the backend that sent it, so no two services may share one.
fn check_replies(report: &mut Report, drafts: &[Draft]) {
    let mut owners: BTreeMap<(IpAddr, Protocol), Vec<(u16, &str)>> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| draft.spec.forward == Forward::Nat && !draft.spec.snat) {
        let ServiceSpec { name, key, backends, .. } = &draft.spec;
        for (at, backend) in backends.iter().enumerate() {
            let others = owners.entry((backend.addr.ip(), key.protocol)).or_default();
            let port = backend.addr.port();
            // Port 0 is every port, so it meets them all.
            let clash = others.iter().find(|(other, by)| by != name && (*other == port || *other == 0 || port == 0));
            if let Some((_, by)) = clash {
                let message = format!(
                    "{}/{} serves service {by:?} as well: nat finds a reply's service by the backend it comes from. Set snat = \
                     true on one of them, or give the backend another port or address",
                    backend.addr,
                    key.protocol.name()
                );
                report.error(&draft.field(&format!("backend #{}", at + 1)), message);
            }
            others.push((port, name));
        }
    }
}

fn check_limits(report: &mut Report, drafts: &[Draft]) {
    if drafts.len() > MAX_SERVICES {
        report.error("service", format!("there are {}; one host has room for {MAX_SERVICES}", drafts.len()));
    }
    let pairs: usize = drafts.iter().map(|draft| draft.spec.backends.len()).sum();
    // Index 0 is nobody's.
    if pairs >= MAX_OWNERS {
        report.error(
            "service",
            format!("there are {pairs} backends over all services; one host has room for {}", MAX_OWNERS - 1),
        );
    }
    check_lookup::check_limits(report, drafts);
    let vips = drafts.iter().filter(|draft| draft.spec.key.prefix.is_none()).map(|draft| draft.spec.key.vip);
    let nat = drafts.iter().filter(|draft| draft.spec.forward == Forward::Nat);
    let answered: BTreeSet<_> = vips.chain(nat.flat_map(|d| d.spec.backends.iter().map(|b| b.addr.ip()))).collect();
    if answered.len() > MAX_ADDRESSES {
        let message = format!(
            "there are {} different VIPs and addresses of nat backends; one host has room for {MAX_ADDRESSES}",
            answered.len()
        );
        report.error("service", message);
    }
}

fn describe(key: &ServiceKey) -> String {
    let port = if key.port == 0 { "every port".to_owned() } else { format!("port {}", key.port) };
    format!("{} {port}/{}", key.vip_text(), key.protocol.name())
}
