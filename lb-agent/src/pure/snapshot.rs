//! What the agent shows: the JSON of `status` (a contract: fields may be added, none renamed), of `flow list` and of
//! `explain`. The API serves these types, the CLI reads them back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{BackendState, Forward, Protocol, Select, Tracking};

/// The whole state, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Services in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// Interfaces that we listen on.
    pub interfaces: Vec<InterfaceStatus>,
    /// The agent itself.
    pub agent: AgentStatus,
    /// Where runtime changes differ from the file.
    pub differences: Vec<Difference>,
    /// Packets since load, by how they ended (names of `Verdict`).
    pub verdicts: BTreeMap<String, u64>,
    /// The flow table.
    pub flow_table: FlowTableStatus,
}

impl ServiceStatus {
    /// The VIP as the configuration writes it: an address, or a prefix.
    pub fn vip_text(&self) -> String {
        self.vip_prefix.map_or_else(|| self.vip.to_string(), |len| format!("{}/{len}", self.vip))
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its index in the maps.
    #[serde(default)]
    pub id: u16,
    /// Its virtual address.
    pub vip: IpAddr,
    /// Length of a prefix VIP, whose network address `vip` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip_prefix: Option<u8>,
    /// Its port; 0: every port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// How packets reach its backends.
    pub forward: Forward,
    /// Whether flows get one of our source addresses.
    pub snat: bool,
    /// How a new flow's backend is chosen.
    pub select: Select,
    /// How much the flow table remembers.
    pub tracking: Tracking,
    /// Flows now: confirmed and not ended.
    pub active_flows: u64,
    /// Flows now of which only the SYN has been seen.
    pub half_open_flows: u64,
    /// `exact` (tracking full) or `estimate`.
    pub counts: CountQuality,
    /// Slots of its ring in transition.
    pub slots_in_transition: u32,
    /// Whether too few backends are up and flows go to all that have ever been.
    pub panic: bool,
    /// Its pool.
    pub backends: Vec<BackendStatus>,
}

/// Whether active flows are counted or estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountQuality {
    /// Every flow is tracked.
    Exact,
    /// Flows are tracked in transitions only, or never.
    Estimate,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its state.
    pub state: BackendState,
    /// Its weight, as wanted.
    pub weight: u16,
    /// Share of new flows it is given now, per cent of its weight (slow start, drain).
    pub weight_percent: u8,
    /// Flows now: confirmed and not ended.
    pub active_flows: u64,
    /// Flows now of which only the SYN has been seen.
    pub half_open_flows: u64,
    /// Flows opened since load.
    pub new_flows: u64,
    /// Packets towards it since load.
    pub packets: u64,
    /// Bytes towards it since load, from the IP header on.
    pub bytes: u64,
    /// Packets from it since load (nat).
    pub reply_packets: u64,
    /// Bytes from it since load (nat).
    pub reply_bytes: u64,
    /// Segments with PSH, or datagrams, since load.
    pub messages: u64,
    /// Flows confirmed since load.
    pub confirmed_flows: u64,
    /// Flows ended by FINs since load.
    pub closed_flows: u64,
    /// Flows ended by an RST since load.
    pub reset_flows: u64,
    /// Flows ended by silence since load.
    pub expired_flows: u64,
    /// Flows for which the table had no room, since load.
    pub refused_flows: u64,
    /// Flows pushed out of the table since load.
    pub evicted_flows: u64,
    /// Why it is in this state: the last probe's words, who drained it and when.
    pub reason: String,
    /// Whether it has a way out: `ok`, or what is missing.
    pub next_hop: String,
    /// Its index in the maps.
    pub owner: u16,
    /// Draining: seconds until it is cut; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline_s: Option<u64>,
    /// Draining or disabled: how long the last drain took, from its acknowledgement, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_after_ms: Option<u64>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// How XDP is attached: `native` or `generic`; `tc` where only replies of local containers are taken.
    pub mode: String,
    /// Why it is not native, where `auto` fell back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// Layout version of the maps.
    pub abi: u32,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether the maps were there before it.
    pub adopted: bool,
    /// Configuration file.
    pub config: String,
    /// Identity of the packet program's build.
    pub program: String,
    /// Traces and captures that run now; while there is one, every packet takes the full path.
    #[serde(default)]
    pub watches: u64,
    /// Reconciliations since start.
    pub reconciles: u64,
    /// What is wrong now; empty when all is well.
    pub problems: Vec<String>,
    /// From the judgement that a backend is down until the last of its slots was another's.
    #[serde(default)]
    pub reprogram: LatencyStatus,
}

/// Upper ends of a latency's buckets, microseconds; what is longer counts in none.
pub const LATENCY_BOUNDS_US: [u64; 8] = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// How long something took, each time since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// How often.
    pub count: u64,
    /// Altogether, microseconds.
    pub sum_us: u64,
    /// The last time, microseconds.
    pub last_us: u64,
    /// The longest time, microseconds.
    pub worst_us: u64,
    /// How often it took no longer than each of [`LATENCY_BOUNDS_US`] (and longer than the one before).
    pub within: [u64; LATENCY_BOUNDS_US.len()],
}

impl LatencyStatus {
    /// One more time.
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.last_us = us;
        self.worst_us = self.worst_us.max(us);
        if let Some(within) = LATENCY_BOUNDS_US.iter().position(|bound| us <= *bound) {
            self.within[within] += 1;
        }
    }

    /// The last time.
    pub const fn last(&self) -> Duration {
        Duration::from_micros(self.last_us)
    }
}

/// The flow table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTableStatus {
    /// Entries in use.
    pub used: u64,
    /// Entries there are.
    pub room: u64,
    /// How long the last sweep took, microseconds.
    pub sweep_us: u64,
    /// Sweeps since start.
    pub sweeps: u64,
}

/// One way in which the running state differs from the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Service.
    pub service: String,
    /// Backend, where it concerns one.
    pub backend: Option<SocketAddr>,
    /// What differs: `added`, `removed`, `weight`, `draining`, `disabled`.
    pub what: String,
    /// As the file has it.
    pub file: String,
    /// As it runs.
    pub runtime: String,
}

/// A flow, asked about by its tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowQuery {
    /// Protocol.
    pub protocol: Protocol,
    /// Client's address and port.
    pub client: SocketAddr,
    /// VIP and port.
    pub vip: SocketAddr,
    /// Ask for a SYN rather than a later segment.
    pub syn: bool,
}

/// What the packet path would do with a packet, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Name of the verdict.
    pub verdict: String,
    /// Service id, where one takes it.
    pub service_id: Option<u16>,
    /// Owner it goes to.
    pub owner: Option<u16>,
    /// Backend it goes to (filled in by the agent, which knows the names).
    pub backend: Option<SocketAddr>,
    /// Service's name (filled in by the agent).
    pub service: Option<String>,
    /// Slot of the ring.
    pub slot: Option<u32>,
    /// The slot's content: `settled on 3`, `in transition from 3 to 4`.
    pub slot_state: Option<String>,
    /// The flow's entry, where it has one: `established, owner 3, silent 12 s`.
    pub flow: Option<String>,
    /// The same in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Box<FlowEntryStatus>>,
    /// Steps in order, in words.
    pub steps: Vec<String>,
}

/// A row of `flow list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Service.
    pub service: String,
    /// Backend.
    pub backend: SocketAddr,
    /// `half_open`, `adopted`, `established`, `fin_client`, `fin_server`, `ended`.
    pub state: String,
    /// Slot of the ring.
    pub slot: u32,
    /// Half of the flow's hash, hexadecimal.
    pub tag: String,
    /// Silence, seconds (to an epoch's length).
    pub silent_s: u64,
    /// Client, where it is known (snat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// VIP and port that it talks to, where they are known (snat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<SocketAddr>,
    /// Address and port of ours by which the backend knows it (snat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
}

/// A row of `flow count`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCount {
    /// Service.
    pub service: String,
    /// Backend.
    pub backend: SocketAddr,
    /// As in [`FlowRow`].
    pub state: String,
    /// Entries.
    pub flows: u64,
}

/// A flow's entry in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntryStatus {
    /// As in [`FlowRow`].
    pub state: String,
    /// Owner it names.
    pub owner: u16,
    /// Backend that this is (filled in by the agent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// Half of the flow's hash, hexadecimal.
    pub tag: String,
    /// Silence, seconds (to an epoch's length).
    pub silent_s: u64,
}
