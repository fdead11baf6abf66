//! Prometheus: what services' limits have refused.

use std::fmt::Error;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::metrics::family;
use crate::pure::snapshot::{LimitStatus, ServiceStatus};

/// Series of services that have limits; none where none has.
pub(super) fn limits(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceStatus]) -> Result<(), Error> {
    let limited: Vec<(&str, &LimitStatus)> =
        services.iter().filter_map(|s| Some((s.name.as_str(), s.limits.as_ref()?))).collect();
    let mut total = |name, help, read: fn(&LimitStatus) -> u64| {
        family(encoder, name, help, limited.iter().map(|(s, l)| ([("service", *s)], ConstCounter::new(read(l)))))
    };
    total("service_denied_packets", "Packets of sources that the access list denies", |l| l.denied_packets)?;
    total("service_rate_limited_flows", "New flows of sources that opened too many, dropped", |l| {
        l.rate_limited_flows
    })?;
    total("service_over_budget_flows", "New flows beyond the service's budget, routed by the ring alone", |l| {
        l.over_budget_flows
    })?;
    total("service_backend_full_flows", "New flows for which no backend had a place, dropped", |l| {
        l.backend_full_flows
    })?;
    let capped = services.iter().flat_map(|s| s.backends.iter().map(move |b| (s, b))).filter_map(|(s, b)| {
        let backend = std::net::SocketAddr::new(b.address, b.port).to_string();
        Some(([("service", s.name.clone()), ("backend", backend)], ConstGauge::new(i64::from(b.max_connections?))))
    });
    family(encoder, "backend_max_connections", "Most flows that the backend may have at once", capped)
}
