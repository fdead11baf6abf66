//! `explain`: which limits a packet meets, and what is left of them.

use std::net::IpAddr;

use lb_common::admission::{ACCESS_ALLOW, Limits, SOURCE_UNIT_SHIFT, SOURCE_WINDOW, SourceEntry, WINDOW_NS};
use lb_common::family::{Family, V4, V6};
use lb_common::limits::{FLOW_BUCKET_ENTRIES, SOURCE_BUCKETS};
use lb_common::service::{SERVICE_ACCESS, SERVICE_CAPPED, SERVICE_LIMITED, ServiceEntry};
use lb_common::slot::Slot;
use lb_common::tables::{Bucket as _, Tables as _};

use super::frozen::Frozen;
use crate::pure::snapshot::FlowQuery;
use crate::pure::tables::rule_of;

/// What the service's limits say, in the order in which they are asked. `slot`: the flow's.
pub(super) fn steps(t: &Frozen<'_>, query: &FlowQuery, service: &ServiceEntry, slot: Slot) -> Vec<String> {
    let mut steps = Vec::new();
    let client = query.client.ip();
    if service.flags & SERVICE_ACCESS != 0 {
        steps.push(match rule_of(&t.written.access, service.id, client) {
            Some((net, ACCESS_ALLOW)) => {
                format!("the access list allows {net}, the longest prefix that {client} is in")
            }
            Some((net, _)) => format!("the access list denies {net}, the longest prefix that {client} is in"),
            None => format!("the access list has no rule for {client}: it is let in"),
        });
    }
    if let Some(limits) = t.limits(service.id).filter(|_| service.flags & SERVICE_LIMITED != 0) {
        steps.extend(source(t, client, service.id, limits));
        steps.extend(budget(t, service.id, limits));
    }
    if service.flags & SERVICE_CAPPED != 0 {
        let first = slot.current();
        let mut owners = vec![first];
        owners.extend((0..t.turns(service.id)).map(|n| t.nth_turn(service.id, n)).filter(|owner| *owner != first));
        owners.dedup();
        let places = owners.iter().take(MOST_SHOWN).map(|owner| {
            let most = t.backend(*owner).map_or(0, |b| b.max_flows);
            let most = if most == 0 { "any number".to_owned() } else { most.to_string() };
            format!("owner {owner} holds {} of {most}", t.load(*owner))
        });
        let places = places.collect::<Vec<_>>().join(", ");
        steps.push(format!("a new flow takes the first place there is: {places}"));
    }
    steps
}

/// Backends that one line has room for.
const MOST_SHOWN: usize = 8;

fn source(t: &Frozen<'_>, client: IpAddr, service: u16, limits: &Limits) -> Option<String> {
    let cost = u64::from(limits.source_cost);
    if cost == 0 {
        return None;
    }
    let (key, bits) = match client {
        IpAddr::V4(a) => (V4::source_key(&t.host.seed, &a.octets(), service, limits), limits.prefix_v4),
        IpAddr::V6(a) => (V6::source_key(&t.host.seed, &a.octets(), service, limits), limits.prefix_v6),
    };
    let index = key.bucket % u32::try_from(SOURCE_BUCKETS).ok()?;
    let bucket = t.source_bucket(index)?;
    let entries = (0..FLOW_BUCKET_ENTRIES).map(|n| SourceEntry(bucket.load(n)));
    let ahead = entries.filter(|e| e.is_of(key.tag)).map(|e| e.ahead(t.now_ns >> SOURCE_UNIT_SHIFT)).max().unwrap_or(0);
    let (left, of) = ((SOURCE_WINDOW - ahead) / cost, SOURCE_WINDOW / cost);
    Some(format!("of {of} new flows a second, its source (the first {bits} bits of {client}) has {left} left now"))
}

fn budget(t: &Frozen<'_>, service: u16, limits: &Limits) -> Option<String> {
    let cost = u64::from(limits.flow_cost_ns);
    if cost == 0 {
        return None;
    }
    let ahead = t.budget(service).saturating_sub(t.now_ns).min(WINDOW_NS);
    let (left, of) = ((WINDOW_NS - ahead) / cost, WINDOW_NS / cost);
    Some(format!(
        "of {of} new flows a second, the service has {left} left now; those beyond are routed by the ring alone"
    ))
}
