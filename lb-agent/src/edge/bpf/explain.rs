//! `explain`: the very decision that the packet path would take, on a packet made up from the question, with its reasons.

use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{BACKEND_REACHABLE, BackendEntry};
use lb_common::clock::TICK_NS;
use lb_common::decide::{Work, ingress};
use lb_common::endpoint::{EndpointV4, EndpointV6};
use lb_common::flow::{FlowEntry, FlowKey, FlowState};
use lb_common::hash::{flow_v4, flow_v6, to_vip_v4, to_vip_v6};
use lb_common::host::INTERFACE_LOCAL;
use lb_common::limits::MAX_OWNERS;
use lb_common::maps;
use lb_common::service::{SERVICE_PREFIX, SERVICE_QUIC, ServiceEntry};
use lb_common::slot::{NOBODY, Owner, Slot, slot_of};
use lb_common::table::{Lookup, find};
use lb_common::tables::Tables;

use super::explain_packet::MadeUp;
use super::frozen::Frozen;
use super::maps::{BpfDataPlane, Failure, address, failed};
use super::observe::{backend, now};
use crate::edge::dataplane::DataPlaneError;
use crate::pure::flows::state_name;
use crate::pure::snapshot::{Explanation, FlowEntryStatus, FlowQuery};
use crate::pure::tables::{Endpoint, Tables as Written};

impl BpfDataPlane {
    pub(super) fn explain_flow(&mut self, query: &FlowQuery) -> Result<Explanation, DataPlaneError> {
        let told = |failure: Failure| failure.told(format!("explain {} to {}", query.client, query.vip));
        if query.client.is_ipv4() != query.vip.is_ipv4() {
            let steps = vec!["client and VIP are of different families: no packet has both".to_owned()];
            return Ok(Explanation { verdict: "pass_not_ours".to_owned(), steps, ..Explanation::default() });
        }
        let written = self.read_tables().map_err(told)?;
        let service = service_of(&written, query);
        let ring = match service {
            Some((service, _)) => self.rings.get(service.id).map_err(|e| told(failed(maps::RINGS, e)))?,
            None => None,
        };
        let frozen = Frozen {
            host: self.host.read().unwrap_or_default(),
            written,
            backends: (0..MAX_OWNERS).map(|n| backend(&self.backends, n).unwrap_or_default()).collect(),
            ring: service.zip(ring).map(|((service, _), ring)| (service.id, ring)),
            flows: &self.flows,
            kept: &self.kept,
            now: now().map_err(|e| told(failed(maps::FLOWS, e)))?,
        };
        Ok(explain(&frozen, query, service))
    }
}

/// The service that takes the packet, and whether it takes every port.
fn service_of(written: &Written, query: &FlowQuery) -> Option<(ServiceEntry, bool)> {
    let get = |port: u16| {
        let (port, protocol, zero) = (port.to_be_bytes(), query.protocol.number(), 0);
        written.services.get(&match query.vip.ip() {
            IpAddr::V4(addr) => Endpoint::V4(EndpointV4 { addr: addr.octets(), port, protocol, zero }),
            IpAddr::V6(addr) => Endpoint::V6(EndpointV6 { addr: addr.octets(), port, protocol, zero }),
        })
    };
    let exact = get(query.vip.port()).map(|service| (*service, false));
    exact.or_else(|| get(0).map(|service| (*service, true))).or_else(|| service_of_prefix(written, query))
}

/// The same by the longest prefix VIP that holds the address.
fn service_of_prefix(written: &Written, query: &FlowQuery) -> Option<(ServiceEntry, bool)> {
    if written.locals.iter().any(|local| address(local) == query.vip.ip()) {
        return None;
    }
    let prefix = written.longest_prefix(query.vip.ip())?;
    let get = |port: u16| {
        let (port, protocol) = (port.to_be_bytes(), query.protocol.number());
        written.services.get(&match prefix {
            Endpoint::V4(key) => Endpoint::V4(EndpointV4 { port, protocol, ..*key }),
            Endpoint::V6(key) => Endpoint::V6(EndpointV6 { port, protocol, ..*key }),
        })
    };
    let exact = get(query.vip.port()).map(|service| (*service, false));
    exact.or_else(|| get(0).map(|service| (*service, true)))
}

fn explain(t: &Frozen<'_>, query: &FlowQuery, service: Option<(ServiceEntry, bool)>) -> Explanation {
    let mut steps = Vec::new();
    let mut told = Explanation::default();
    let vip = format!("{}/{}", query.vip, query.protocol.name());
    match service {
        Some((service, every_port)) => {
            let how = if every_port { "takes every port of" } else { "takes" };
            steps.push(format!("service {} {how} {vip}", service.id));
            told.service_id = Some(service.id);
            flow_steps(t, query, &service, &mut told, &mut steps);
        }
        None => steps.push(format!("no service takes {vip}")),
    }
    let arrival =
        t.written.interfaces.iter().find(|(_, i)| i.flags & INTERFACE_LOCAL == 0).map_or(0, |(ifindex, _)| *ifindex);
    let outcome = ingress(&mut MadeUp::new(query, arrival), t, &mut Work::default());
    if outcome.owner != NOBODY {
        told.owner = Some(outcome.owner);
        steps.push(way(outcome.owner, t.backend(outcome.owner)));
    }
    outcome.verdict.name().clone_into(&mut told.verdict);
    steps.push(format!("the packet ends as {}", told.verdict));
    Explanation { steps, ..told }
}

/// What slot and flow table say.
fn flow_steps(
    t: &Frozen<'_>,
    query: &FlowQuery,
    service: &ServiceEntry,
    told: &mut Explanation,
    steps: &mut Vec<String>,
) {
    let key = flow_key(t, query, service);
    let number = slot_of(key.tag, service.slot_by_source());
    let Some(slot) = t.slot(service.id, number) else {
        steps.push(format!("service {} has no ring", service.id));
        return;
    };
    let state = slot_state(slot);
    steps.push(format!("its flow falls on slot {number}, which is {state}"));
    (told.slot, told.slot_state) = (Some(number), Some(state));

    let what = Lookup { key, mask: t.host.flow_mask, service: service.id, idle_ticks: service.idle_ticks };
    match find(t, &what) {
        Some(found) => {
            let entry = entry_state(found.entry, t);
            steps.push(format!("the flow table knows the flow: {entry}"));
            told.flow = Some(entry);
            told.entry = Some(Box::new(FlowEntryStatus {
                state: state_name(found.entry.state_number()).to_owned(),
                owner: found.entry.owner(),
                backend: None,
                tag: format!("{:08x}", found.entry.tag()),
                silent_s: u64::from(t.now.since(found.entry.time())) * TICK_NS / 1_000_000_000,
            }));
        }
        None => steps.push("the flow table does not know the flow".to_owned()),
    }
    let decides = match (service.asks_table_first(), slot.in_transition()) {
        _ if service.flags & SERVICE_QUIC != 0 && service.asks_table_first() => {
            "a connection ID that names a backend decides; the packet here has none, so the flow table is asked first"
        }
        (true, _) => "the policy remembers its choices in the flow table: it is asked first",
        (false, true) => "in transition the flow table is asked first, then the slot's previous owner",
        (false, false) => "a settled slot routes alone, whatever the flow table says",
    };
    steps.push(decides.to_owned());
}

fn flow_key(t: &Frozen<'_>, query: &FlowQuery, service: &ServiceEntry) -> FlowKey {
    let (client_port, vip_port) = (query.client.port().to_be_bytes(), query.vip.port().to_be_bytes());
    let (id, by_source) = (service.id, service.slot_by_source());
    let seed = &t.host.seed;
    let key = match query.client.ip() {
        IpAddr::V4(a) => flow_v4(seed, a.octets(), client_port, vip_port, id, by_source),
        IpAddr::V6(a) => flow_v6(seed, &a.octets(), client_port, vip_port, id, by_source),
    };
    match query.vip.ip() {
        _ if service.flags & SERVICE_PREFIX == 0 => key,
        IpAddr::V4(a) => to_vip_v4(seed, key, a.octets(), by_source),
        IpAddr::V6(a) => to_vip_v6(seed, key, &a.octets(), by_source),
    }
}

fn slot_state(slot: Slot) -> String {
    let (current, previous) = (slot.current(), slot.previous());
    match (slot.in_transition(), slot.aged()) {
        (false, _) if current == NOBODY => "nobody's: the pool is empty".to_owned(),
        (false, _) => format!("settled on owner {current}"),
        (true, false) => format!("in transition from owner {previous} to {current}"),
        (true, true) => format!("in transition from owner {previous} to {current}, for longer than an idle timeout"),
    }
}

fn entry_state(entry: FlowEntry, t: &Frozen<'_>) -> String {
    let state = match entry.state() {
        Some(FlowState::HalfOpen) => "half open",
        Some(FlowState::Adopted) => "adopted",
        Some(FlowState::Established) => "established",
        Some(FlowState::FinClient) => "closed by the client",
        Some(FlowState::FinServer) => "closed by the server",
        Some(FlowState::Ended) | None => "ended",
    };
    let silent = u64::from(t.now.since(entry.time())) * TICK_NS / 1_000_000_000;
    format!("{state}, owner {}, silent {silent} s", entry.owner())
}

fn way(owner: Owner, backend: Option<&BackendEntry>) -> String {
    let Some(b) = backend else {
        return format!("owner {owner} has no backend");
    };
    let alive = if b.is_alive() { "takes flows" } else { "takes no flows" };
    let [m0, m1, m2, m3, m4, m5] = b.dst_mac;
    let hop = if b.flags & BACKEND_REACHABLE == 0 {
        "its next hop is not known".to_owned()
    } else {
        format!("next hop {m0:02x}:{m1:02x}:{m2:02x}:{m3:02x}:{m4:02x}:{m5:02x} by interface {}", b.ifindex)
    };
    let addr = SocketAddr::new(address(&b.addr), u16::from_be_bytes(b.port));
    format!("owner {owner} is {addr}, which {alive}; {hop}")
}
