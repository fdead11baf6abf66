//! The ledger as an operator sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::flow::FlowState;
use lb_common::slot::Owner;
use lb_common::verdict::Verdict;

use super::command::BackendChange;
use super::ledger::{Ledger, Member, Phase, Service};
use super::limits;
use super::model::{Forward, Tracking};
use super::network::NextHop;
use super::snapshot::{
    AgentStatus, BackendStatus, CountQuality, Explanation, FlowTableStatus, InterfaceStatus, LimitStatus,
    ServiceStatus, Snapshot,
};

/// The whole state, as of `now`, around the services' own. These come from [`service`] one by one: thirty thousand backends
/// take longer to list than a failure may wait.
pub fn snapshot(
    ledger: &Ledger,
    services: Vec<ServiceStatus>,
    agent: AgentStatus,
    interfaces: Vec<InterfaceStatus>,
) -> Snapshot {
    let (table, took, sweeps) = ledger.sweep_summary();
    Snapshot {
        services,
        interfaces,
        agent,
        differences: ledger.changes().differences(ledger.specs()),
        verdicts: verdicts(ledger.verdicts()),
        flow_table: FlowTableStatus {
            used: table.used,
            room: table.room,
            sweep_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            sweeps,
        },
    }
}

fn verdicts(counts: &[u64]) -> BTreeMap<String, u64> {
    let count = |v: Verdict| counts.get(v as usize).copied().unwrap_or(0);
    Verdict::ALL.iter().map(|v| (v.name().to_owned(), count(*v))).collect()
}

/// One service, as of `now`.
pub fn service(s: &Service, ledger: &Ledger, now: Duration) -> ServiceStatus {
    ServiceStatus {
        name: s.spec.name.clone(),
        id: s.id,
        vip: s.spec.key.vip,
        vip_prefix: s.spec.key.prefix,
        port: s.spec.key.port,
        protocol: s.spec.key.protocol,
        forward: s.spec.forward,
        snat: s.spec.snat,
        select: s.spec.select,
        tracking: s.spec.tracking,
        active_flows: s.members.iter().map(|m| m.flows.active).sum(),
        half_open_flows: s.members.iter().map(|m| m.flows.half_open).sum(),
        counts: if s.spec.tracking == Tracking::Full { CountQuality::Exact } else { CountQuality::Estimate },
        slots_in_transition: u32::try_from(s.ring.in_transition()).unwrap_or(u32::MAX),
        panic: s.panic,
        limits: limit_status(s),
        backends: s.members.iter().map(|m| backend(s, m, ledger, now)).collect(),
    }
}

fn backend(s: &Service, m: &Member, ledger: &Ledger, now: Duration) -> BackendStatus {
    BackendStatus {
        address: m.addr.ip(),
        port: m.addr.port(),
        state: m.state(),
        weight: m.weight,
        weight_percent: if s.is_serving(m) { s.share_percent(m, now) } else { 0 },
        active_flows: m.flows.active,
        half_open_flows: m.flows.half_open,
        new_flows: m.counters.opened,
        packets: m.counters.packets,
        bytes: m.counters.bytes,
        reply_packets: m.counters.reply_packets,
        reply_bytes: m.counters.reply_bytes,
        messages: m.counters.messages,
        confirmed_flows: m.counters.confirmed,
        closed_flows: m.counters.closed + m.counters.lingered,
        reset_flows: m.counters.reset,
        expired_flows: m.counters.expired,
        refused_flows: m.counters.refused,
        evicted_flows: m.counters.evicted,
        max_connections: Some(limits::max_connections(&s.spec, m.addr)).filter(|most| *most > 0),
        reason: m.reason.clone(),
        next_hop: next_hop(ledger, s, m),
        owner: m.owner,
        drain_deadline_s: match m.phase {
            Phase::Draining { deadline, .. } => Some(deadline.saturating_sub(now).as_secs()),
            _ => None,
        },
        drained_after_ms: match m.phase {
            Phase::Drained { took, .. } => u64::try_from(took.as_millis()).ok(),
            _ => None,
        },
    }
}

fn limit_status(s: &Service) -> Option<LimitStatus> {
    let access = &s.spec.access;
    (limits::flags(&s.spec) != 0).then(|| LimitStatus {
        configured: s.spec.limits,
        access_rules: (access.allow.len() + access.deny.len()) as u64,
        denied_packets: s.refusals.denied,
        rate_limited_flows: s.refusals.rate_limited,
        over_budget_flows: s.refusals.over_budget,
        backend_full_flows: s.refusals.backend_full,
    })
}

fn next_hop(ledger: &Ledger, s: &Service, m: &Member) -> String {
    match ledger.network().next_hops.get(&m.addr.ip()) {
        Some(NextHop::Unresolved { ifindex, .. }) => {
            let link = ledger.network().interfaces.get(ifindex).map_or("?", |i| i.name.as_str());
            format!("no MAC address for {} on {link}: is the interface up, does the host answer?", m.addr.ip())
        }
        Some(NextHop::Resolved { on_link: None, .. }) if s.spec.forward == Forward::L2dsr => {
            format!("{} is behind a gateway; l2dsr needs it on this link. Use nat, or move it", m.addr.ip())
        }
        Some(NextHop::Unroutable { reason }) => reason.clone(),
        Some(NextHop::Local) => {
            format!("{} is an address of this host: backends must have addresses of their own", m.addr.ip())
        }
        Some(NextHop::Resolved { .. }) => "ok".to_owned(),
        None => "not looked up yet".to_owned(),
    }
}

/// Names behind an owner: service and backend.
pub fn names(ledger: &Ledger, owner: Owner) -> Option<(String, SocketAddr)> {
    ledger.services().values().find_map(|s| s.member(owner).map(|m| (s.spec.name.clone(), m.addr)))
}

/// Puts names where the packet path knows numbers.
pub fn name(ledger: &Ledger, answer: &mut Explanation) {
    let service = answer.service_id.and_then(|id| ledger.services().get(&id));
    answer.service = service.map(|s| s.spec.name.clone());
    answer.backend = answer.owner.and_then(|owner| names(ledger, owner)).map(|(_, addr)| addr);
    if let Some(entry) = &mut answer.entry {
        entry.backend = names(ledger, entry.owner).map(|(_, addr)| addr);
    }
}

/// What an operator is told when a change is in force.
pub fn acknowledge(ledger: &Ledger, service: &str, addr: SocketAddr, change: &BackendChange) -> String {
    let member = ledger.service(service).and_then(|s| s.members.iter().find(|m| m.addr == addr));
    let flows = member.map_or(0, Member::flows_at_stake);
    match change {
        BackendChange::Add { weight } => {
            format!("backend {addr} added to {service} with weight {weight}; it serves after its first passed probe")
        }
        BackendChange::Remove { .. } => {
            format!("backend {addr} of {service} takes no new flows; it is removed when its {flows} flows have ended")
        }
        BackendChange::Drain => format!("backend {addr} of {service} takes no new flows; {flows} flows are finishing"),
        BackendChange::Undrain => format!("backend {addr} of {service} takes new flows again"),
        BackendChange::Weight { weight } => format!("backend {addr} of {service} has weight {weight}"),
        BackendChange::Disable => format!("backend {addr} of {service} disabled; {flows} flows cut"),
        BackendChange::Enable => format!("backend {addr} of {service} enabled; it serves after its next passed probe"),
    }
}

/// A flow state's name in `flow list`.
pub fn state_name(number: u8) -> &'static str {
    const NAMES: [(FlowState, &str); 6] = [
        (FlowState::HalfOpen, "half_open"),
        (FlowState::Adopted, "adopted"),
        (FlowState::Established, "established"),
        (FlowState::FinClient, "fin_client"),
        (FlowState::FinServer, "fin_server"),
        (FlowState::Ended, "ended"),
    ];
    NAMES.iter().find(|(state, _)| *state as u8 == number).map_or("free", |(_, name)| name)
}
