//! What a service's limits and its access list are to the packet path, and which of them an operator is told of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::admission::{ACCESS_ALLOW, ACCESS_DENY, AccessV4, AccessV6, Limits};
use lb_common::service::{SERVICE_ACCESS, SERVICE_CAPPED, SERVICE_LIMITED, SERVICE_SLOW};

use super::model::{BackendSpec, ServiceSpec};
use super::tables::{ServiceId, Source};

/// `SERVICE_*` bits. The fast path asks none of this.
pub fn flags(spec: &ServiceSpec) -> u8 {
    let access = if spec.access.is_open() { 0 } else { SERVICE_ACCESS };
    let limited = if limits(spec) == Limits::default() { 0 } else { SERVICE_LIMITED };
    let capped = if is_capped(spec) { SERVICE_CAPPED } else { 0 };
    let flags = access | limited | capped;
    if flags == 0 { 0 } else { flags | SERVICE_SLOW }
}

/// What new flows cost; all zeroes where they are free.
pub fn limits(spec: &ServiceSpec) -> Limits {
    let wanted = &spec.limits;
    if wanted.new_flows == 0 && wanted.new_flows_per_source == 0 {
        return Limits::default();
    }
    Limits::per_second(wanted.new_flows, wanted.new_flows_per_source, wanted.source_prefix_v4, wanted.source_prefix_v6)
}

/// Whether some backend has a most number of flows, so that the owner of a flow need not be the ring's.
pub fn is_capped(spec: &ServiceSpec) -> bool {
    spec.limits.max_connections != 0 || spec.backends.iter().any(|b| b.max_connections.is_some_and(|most| most != 0))
}

/// Most flows of a backend; 0: no limit. One that was added at run time has the service's.
pub fn max_connections(spec: &ServiceSpec, backend: std::net::SocketAddr) -> u32 {
    let filed: Option<&BackendSpec> = spec.backends.iter().find(|b| b.addr == backend);
    filed.and_then(|b| b.max_connections).unwrap_or(spec.limits.max_connections)
}

/// The access list of a service: a rule for every prefix, and one for all other sources. Empty where there is no list.
pub fn access(id: ServiceId, spec: &ServiceSpec) -> BTreeMap<Source, u32> {
    let access = &spec.access;
    if access.is_open() {
        return BTreeMap::new();
    }
    // Whoever says whom to allow denies the others.
    let rest = if access.allow.is_empty() { ACCESS_ALLOW } else { ACCESS_DENY };
    let all: IpNet = match spec.key.vip {
        IpAddr::V4(_) => ipnet::Ipv4Net::default().into(),
        IpAddr::V6(_) => ipnet::Ipv6Net::default().into(),
    };
    let rules = [(&all, rest)]
        .into_iter()
        .chain(access.allow.iter().map(|net| (net, ACCESS_ALLOW)))
        .chain(access.deny.iter().map(|net| (net, ACCESS_DENY)));
    rules.map(|(net, rule)| (source(id, net), rule)).collect()
}

/// A prefix of a service's access list.
pub fn source(id: ServiceId, net: &IpNet) -> Source {
    let service = u32::from(id).to_be_bytes();
    match net {
        IpNet::V4(net) => {
            Source::V4 { bits: net.prefix_len(), key: AccessV4 { service, addr: net.network().octets() } }
        }
        IpNet::V6(net) => {
            Source::V6 { bits: net.prefix_len(), key: AccessV6 { service, addr: net.network().octets() } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::rule_of;
    use super::super::testing::spec;
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn listed(allow: &[&str], deny: &[&str]) -> ServiceSpec {
        let mut spec = spec("llm", &[11]);
        spec.access.allow = allow.iter().map(|text| net(text)).collect();
        spec.access.deny = deny.iter().map(|text| net(text)).collect();
        spec
    }

    fn says(spec: &ServiceSpec, source: &str) -> u32 {
        let rules = access(7, spec);
        rule_of(&rules, 7, source.parse().unwrap()).unwrap().1
    }

    #[test]
    fn the_longest_prefix_wins_and_a_list_of_friends_keeps_others_out() {
        let spec = listed(&["10.0.0.0/8", "10.1.2.3/32"], &["10.1.0.0/16"]);
        for (source, rule) in [
            ("10.2.0.1", ACCESS_ALLOW),
            ("10.1.9.9", ACCESS_DENY),
            ("10.1.2.3", ACCESS_ALLOW),
            ("9.9.9.9", ACCESS_DENY),
        ] {
            assert_eq!(says(&spec, source), rule, "{source}");
        }
        assert_eq!(says(&listed(&[], &["10.1.0.0/16"]), "9.9.9.9"), ACCESS_ALLOW);
    }

    #[test]
    fn a_service_without_limits_has_no_flag_and_no_rule() {
        let spec = spec("llm", &[11]);
        assert_eq!((flags(&spec), limits(&spec)), (0, Limits::default()));
        assert!(access(7, &spec).is_empty());
    }

    #[test]
    fn every_limit_keeps_the_service_on_the_full_path() {
        let mut per_backend = spec("llm", &[11, 12]);
        per_backend.backends[1].max_connections = Some(3);
        assert_eq!(flags(&per_backend), SERVICE_CAPPED | SERVICE_SLOW);
        assert_eq!(max_connections(&per_backend, per_backend.backends[1].addr), 3);
        assert_eq!(max_connections(&per_backend, per_backend.backends[0].addr), 0);
        let mut budget = spec("llm", &[11]);
        budget.limits.new_flows = 5;
        assert_eq!(flags(&budget), SERVICE_LIMITED | SERVICE_SLOW);
        assert_eq!(flags(&listed(&["10.0.0.0/8"], &[])), SERVICE_ACCESS | SERVICE_SLOW);
    }
}
