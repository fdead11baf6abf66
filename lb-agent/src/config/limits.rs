//! Reads `[service.limits]` and `[service.access]`, and says what in them does not go together.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::admission::{MAX_NEW_FLOWS, MAX_NEW_FLOWS_PER_SOURCE};
use lb_common::limits::MAX_ACCESS_RULES;
use toml::de::DeValue;

use super::report::Report;
use super::scalar;
use super::section::{Section, shown};
use super::service::Draft;
use crate::pure::limits::is_capped;
use crate::pure::model::{Access, ServiceLimits, Tracking};

/// More flows than any table holds: larger is a slip rather than a limit.
const MOST_CONNECTIONS: u32 = 1_000_000_000;

/// `max_connections`, of a service or a backend.
pub(super) fn max_connections(value: &DeValue<'_>) -> Result<u32, String> {
    scalar::number(0, MOST_CONNECTIONS)(value)
}

pub(super) fn read_limits(report: &mut Report, mut section: Section<'_, '_>) -> ServiceLimits {
    let default = ServiceLimits::default();
    let number = scalar::number::<u32>;
    let limits = ServiceLimits {
        new_flows: section.read(report, "new_flows", number(0, MAX_NEW_FLOWS)).unwrap_or(default.new_flows),
        new_flows_per_source: section
            .read(report, "new_flows_per_source", number(0, MAX_NEW_FLOWS_PER_SOURCE))
            .unwrap_or(default.new_flows_per_source),
        source_prefix_v4: section
            .read(report, "source_prefix_v4", scalar::number(1_u8, 32))
            .unwrap_or(default.source_prefix_v4),
        source_prefix_v6: section
            .read(report, "source_prefix_v6", scalar::number(1_u8, 128))
            .unwrap_or(default.source_prefix_v6),
        max_connections: section.read(report, "max_connections", max_connections).unwrap_or(default.max_connections),
    };
    section.finish(report);
    limits
}

pub(super) fn read_access(report: &mut Report, mut section: Section<'_, '_>) -> Access {
    let access = Access {
        allow: section.read(report, "allow", prefixes).unwrap_or_default(),
        deny: section.read(report, "deny", prefixes).unwrap_or_default(),
    };
    section.finish(report);
    access
}

/// Networks and single addresses, all of them.
fn prefixes(value: &DeValue<'_>) -> Result<Vec<IpNet>, String> {
    let wanted = "wanted a list of networks: [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]";
    let mut networks = Vec::new();
    for item in value.as_array().ok_or_else(|| wanted.to_owned())? {
        let item = item.get_ref();
        let text = item.as_str().ok_or_else(|| format!("with {} in it, {wanted}", shown(item)))?;
        let network = network(text).ok_or_else(|| format!("with {text:?} in it, {wanted}"))?;
        if network.addr() != network.network() {
            return Err(format!("with {text:?} in it, which has bits beyond its length; wanted {}", network.trunc()));
        }
        if networks.contains(&network) {
            return Err(format!("with {network} in it twice, wanted each network once"));
        }
        networks.push(network);
    }
    Ok(networks)
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// What a service's limits need of the rest of it.
pub(super) fn check(report: &mut Report, draft: &Draft) {
    let (spec, limits) = (&draft.spec, &draft.spec.limits);
    let field = |name: &str| draft.field(&format!("limits.{name}"));
    if spec.tracking != Tracking::Full {
        let wants = [
            ("new_flows", limits.new_flows > 0),
            ("new_flows_per_source", limits.new_flows_per_source > 0),
            ("max_connections", is_capped(spec)),
        ];
        for (name, _) in wants.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            let message =
                "needs tracking = \"full\": only the flow table knows which flows are new, and how many there are";
            report.error(&field(name), message.to_owned());
        }
    }
    if spec.quic.is_some() && is_capped(spec) {
        let message = "does not go with quic: a connection ID names its backend, whether that has a place or not";
        report.error(&field("max_connections"), message.to_owned());
    }
    if limits.new_flows_per_source == 0 {
        for name in ["source_prefix_v4", "source_prefix_v6"] {
            if report.has_field(&field(name)) {
                report.error(&field(name), "means nothing without new_flows_per_source".to_owned());
            }
        }
    }
    if limits.new_flows > 0 && limits.new_flows < limits.new_flows_per_source {
        let message = format!(
            "{} a second of one source is more than the service takes of all ({}): one source can spend it alone",
            limits.new_flows_per_source, limits.new_flows
        );
        report.warning(&field("new_flows_per_source"), message);
    }
    check_access(report, draft);
}

fn check_access(report: &mut Report, draft: &Draft) {
    let (access, vip) = (&draft.spec.access, draft.spec.key.vip);
    for (name, networks) in [("allow", &access.allow), ("deny", &access.deny)] {
        let field = draft.field(&format!("access.{name}"));
        for network in networks.iter().filter(|network| network.addr().is_ipv4() != vip.is_ipv4()) {
            report.error(&field, format!("{network} and the VIP {vip} are not of one family: no packet has both"));
        }
    }
    for network in access.allow.iter().filter(|network| access.deny.contains(network)) {
        let message =
            format!("{network} is allowed and denied; the longest prefix decides, and these are equally long");
        report.error(&draft.field("access.deny"), message);
    }
}

/// What all services together need.
pub(super) fn check_room(report: &mut Report, drafts: &[Draft]) {
    for is_v4 in [true, false] {
        let of_family = drafts.iter().filter(|draft| draft.spec.key.vip.is_ipv4() == is_v4);
        let rules: usize = of_family
            .map(|draft| &draft.spec.access)
            .filter(|access| !access.is_open())
            .map(|access| access.allow.len() + access.deny.len() + 1)
            .sum();
        // While a list changes, old and new rules stand beside each other.
        if rules > MAX_ACCESS_RULES / 2 {
            let message = format!(
                "the access lists of all services have {rules} rules; one host has room for {} of a family",
                MAX_ACCESS_RULES / 2
            );
            report.error("service", message);
        }
    }
}
