//! Which entries of the flow table an operator wants to see, and what they are called.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::flow::FlowState;
use lb_common::slot::Owner;
use serde::{Deserialize, Serialize};

use super::command::Refusal;
use super::model::Protocol;
use super::snapshot::{FlowCount, FlowRow, ServiceStatus, Snapshot};
use super::sweep::TrackedFlow;
use super::watch::Network;

/// Names of `FlowState`, by its number; 0 is a free place.
const STATES: [(FlowState, &str); 6] = [
    (FlowState::HalfOpen, "half_open"),
    (FlowState::Adopted, "adopted"),
    (FlowState::Established, "established"),
    (FlowState::FinClient, "fin_client"),
    (FlowState::FinServer, "fin_server"),
    (FlowState::Ended, "ended"),
];

/// Which entries; what is absent excludes nothing. As the API takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// Only of this service.
    pub service: Option<String>,
    /// Only of this backend.
    pub backend: Option<SocketAddr>,
    /// Only of clients in this network, where clients are known (snat).
    pub client: Option<String>,
    /// Only in these states, with commas.
    pub state: Option<String>,
    /// Only of services of this protocol.
    pub protocol: Option<Protocol>,
    /// At most so many rows.
    pub limit: Option<usize>,
}

/// Entries that are wanted, and their names.
pub struct FlowView<'a> {
    owners: BTreeMap<Owner, (&'a ServiceStatus, SocketAddr)>,
    client: Option<Network>,
    /// Bit n: state number n.
    states: u8,
}

impl<'a> FlowView<'a> {
    /// What `filter` wants to see of what there is.
    ///
    /// # Errors
    /// What it names is not there, or cannot be known.
    pub fn new(snapshot: &'a Snapshot, filter: &FlowFilter) -> Result<Self, Refusal> {
        let name = filter.service.as_deref();
        if let Some(name) = name
            && !snapshot.services.iter().any(|s| s.name == name)
        {
            return Err(Refusal::NotFound(format!("no service \"{name}\"; `lb-agent service list` shows them")));
        }
        let services = snapshot.services.iter().filter(|s| {
            name.is_none_or(|name| name == s.name) && filter.protocol.is_none_or(|protocol| protocol == s.protocol)
        });
        let client = filter.client.as_deref().map(str::parse::<Network>).transpose().map_err(Refusal::Invalid)?;
        let states = filter.state.as_deref().map(states).transpose().map_err(Refusal::Invalid)?;
        let owners: BTreeMap<_, _> = services
            .flat_map(|s| s.backends.iter().map(move |b| (b.owner, (s, SocketAddr::new(b.address, b.port)))))
            .filter(|(_, (_, addr))| filter.backend.is_none_or(|wanted| wanted == *addr))
            .collect();
        if client.is_some() && !owners.is_empty() && !owners.values().any(|(s, _)| s.snat) {
            return Err(Refusal::Invalid(
                "the flow table holds hashes: clients are known of services with snat only. \
                 `lb-agent flow show tcp CLIENT:PORT VIP:PORT` finds one flow; `lb-agent trace --client` shows what is going on"
                    .to_owned(),
            ));
        }
        Ok(Self { owners, client, states: states.unwrap_or(u8::MAX) })
    }

    /// Whether clients must be known to say what is wanted.
    pub const fn asks_for_client(&self) -> bool {
        self.client.is_some()
    }

    fn wanted(&self, flow: &TrackedFlow) -> Option<(&'a ServiceStatus, SocketAddr)> {
        let (service, backend) = self.owners.get(&flow.owner)?;
        let is_client = self.client.is_none_or(|net| flow.known.is_some_and(|known| net.contains(known.client.ip())));
        (is_client && self.states >> flow.state & 1 != 0).then_some((*service, *backend))
    }

    /// An entry's row; `None`: it is not wanted, or nobody's any more.
    pub fn row(&self, flow: &TrackedFlow) -> Option<FlowRow> {
        let (service, backend) = self.wanted(flow)?;
        Some(FlowRow {
            service: service.name.clone(),
            backend,
            state: state_name(flow.state).to_owned(),
            slot: flow.slot,
            tag: format!("{:08x}", flow.tag),
            silent_s: flow.silent_s,
            client: flow.known.map(|known| known.client),
            vip: flow.known.map(|known| known.vip),
            source: flow.known.map(|known| known.source),
        })
    }
}

/// Counts entries as they come by.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<(Owner, u8), u64>);

impl Counts {
    /// One more, if it is wanted.
    pub fn add(&mut self, view: &FlowView<'_>, flow: &TrackedFlow) {
        if view.wanted(flow).is_some() {
            *self.0.entry((flow.owner, flow.state)).or_default() += 1;
        }
    }

    /// By service, backend and state.
    pub fn rows(&self, view: &FlowView<'_>) -> Vec<FlowCount> {
        let row = |(&(owner, state), &flows): (&(Owner, u8), &u64)| {
            let (service, backend) = view.owners.get(&owner)?;
            Some(FlowCount {
                service: service.name.clone(),
                backend: *backend,
                state: state_name(state).to_owned(),
                flows,
            })
        };
        let mut rows: Vec<_> = self.0.iter().filter_map(row).collect();
        rows.sort_by(|a, b| (&a.service, a.backend).cmp(&(&b.service, b.backend)));
        rows
    }
}

fn states(names: &str) -> Result<u8, String> {
    names.split(',').filter(|name| !name.is_empty()).try_fold(0, |bits, name| {
        let found = STATES.iter().find(|(_, known)| *known == name);
        found.map(|(state, _)| bits | 1 << *state as u8).ok_or_else(|| {
            let names: Vec<_> = STATES.iter().map(|(_, name)| *name).collect();
            format!("{name:?} is no state of a flow; there are: {}", names.join(", "))
        })
    })
}

/// A flow state's name in `flow list`.
pub fn state_name(number: u8) -> &'static str {
    STATES.iter().find(|(state, _)| *state as u8 == number).map_or("free", |(_, name)| name)
}
