//! A snapshot as an agent with one service might have it, for tests of what reads snapshots.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::pure::model::{BackendState, Forward, Protocol, Select, Tracking};
use crate::pure::snapshot::{
    AgentStatus, BackendStatus, CountQuality, Difference, FlowTableStatus, InterfaceStatus, LatencyStatus,
    ServiceStatus, Snapshot,
};

/// One service `llm` with one backend up and one draining.
pub fn snapshot() -> Snapshot {
    let backends = vec![backend(11, BackendState::Up, 12), backend(12, BackendState::Draining, 0)];
    let service = ServiceStatus {
        name: "llm".to_owned(),
        id: 0,
        vip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
        vip_prefix: None,
        port: 8000,
        protocol: Protocol::Tcp,
        forward: Forward::Nat,
        snat: false,
        select: Select::LeastConn,
        tracking: Tracking::Full,
        active_flows: 12,
        half_open_flows: 1,
        counts: CountQuality::Exact,
        slots_in_transition: 3,
        limits: None,
        panic: false,
        backends,
    };
    Snapshot {
        services: vec![service],
        interfaces: vec![InterfaceStatus { name: "eth0".to_owned(), mode: "native".to_owned(), reason: None }],
        agent: AgentStatus {
            version: "0.1.0".to_owned(),
            abi: 1,
            pid: 4242,
            uptime_s: 3725,
            adopted: true,
            config: "/etc/weir/weir.toml".to_owned(),
            program: "abc123".to_owned(),
            watches: 0,
            reconciles: 17,
            reprogram: LatencyStatus::default(),
            problems: Vec::new(),
        },
        differences: vec![Difference {
            service: "llm".to_owned(),
            backend: "10.0.0.12:8000".parse().ok(),
            what: "draining".to_owned(),
            file: "weight 100".to_owned(),
            runtime: "draining".to_owned(),
        }],
        verdicts: BTreeMap::from([("forward".to_owned(), 91_234)]),
        flow_table: FlowTableStatus { used: 13, room: 2_000_000, sweep_us: 1_500, sweeps: 99 },
    }
}

fn backend(last: u8, state: BackendState, active_flows: u64) -> BackendStatus {
    BackendStatus {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        port: 8000,
        state,
        weight: 100,
        weight_percent: if state == BackendState::Up { 100 } else { 0 },
        active_flows,
        half_open_flows: 1,
        new_flows: 340,
        packets: 91_234,
        bytes: 5_512_345,
        reply_packets: 80_000,
        reply_bytes: 9_000_000,
        messages: 700,
        confirmed_flows: 339,
        closed_flows: 320,
        reset_flows: 5,
        expired_flows: 3,
        refused_flows: 0,
        evicted_flows: 0,
        max_connections: None,
        reason: "2 of 2 probes passed".to_owned(),
        next_hop: "ok".to_owned(),
        owner: u16::from(last),
        drain_deadline_s: (state == BackendState::Draining).then_some(290),
        drained_after_ms: None,
    }
}
