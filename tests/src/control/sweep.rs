//! The sweep at work: a million live flows are put into the table of a running agent, whose own clock then says how long it
//! takes to count them.

use std::thread;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use lb_common::clock::Ticks;
use lb_common::flow::{FlowBucket, FlowEntry, FlowState};
use lb_common::maps;
use lb_common::slot::Owner;
use nix::time::{ClockId, clock_gettime};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::config::Scale;
use super::maps::Pins;
use super::report::Sweep;
use super::{LOADED_WITHIN, LOOK_AGAIN, wait};
use crate::agent::Agent;

/// Flows in the table: what it is made for.
pub(super) const FLOWS: u64 = 1_000_000;

/// Sweeps whose times are kept.
const SWEEPS: usize = 9;

/// Fills the agent's table and watches some sweeps.
pub(super) fn measure(agent: &Agent, scale: Scale) -> Vec<Sweep> {
    let owners = u16::try_from(scale.services() * scale.backends()).expect("they fit");
    fill(&Pins(agent.pin_dir().to_owned()), owners);
    wait("all flows counted", agent, LOADED_WITHIN, || active(agent) == FLOWS);
    let mut seen = Vec::new();
    let mut last = agent.status().flow_table.sweeps;
    while seen.len() < SWEEPS {
        thread::sleep(20 * LOOK_AGAIN);
        let status = agent.status();
        if status.flow_table.sweeps != last {
            last = status.flow_table.sweeps;
            let active: u64 = status.services.iter().map(|service| service.active_flows).sum();
            assert_eq!(active, FLOWS, "counts are exact");
            let took = Duration::from_micros(status.flow_table.sweep_us);
            seen.push(Sweep { scale: scale.name(), flows: active, ms: took.as_secs_f64() * 1e3 });
        }
    }
    seen
}

fn active(agent: &Agent) -> u64 {
    agent.status().services.iter().map(|service| service.active_flows).sum()
}

/// Puts flows of all owners into random places, as hashing would.
fn fill(pins: &Pins, owners: Owner) {
    let map = MapData::from_pin(pins.0.join(maps::FLOWS)).expect("the flow table is pinned");
    let buckets = map.info().expect("a map knows itself").max_entries();
    let mut table: Array<_, FlowBucket> = Array::try_from(Map::Array(map)).expect("the flow table is an array");
    let clock: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is one").into();
    let now = Ticks::from_ns(u64::try_from(clock.as_nanos()).expect("not in 500 years"));
    let mut random = StdRng::seed_from_u64(7);
    let mut left = FLOWS;
    for bucket in 0..buckets {
        let to_come = u64::from(buckets - bucket);
        let mean = left.div_ceil(to_come);
        let count = if to_come == 1 { left } else { random.random_range(0..=2 * mean).min(left).min(8) };
        let mut entries = FlowBucket::default();
        for entry in entries.iter_mut().take(usize::try_from(count).expect("eight at most")) {
            *entry = FlowEntry::new(random.random(), random.random_range(1..=owners), FlowState::Established, now).0;
        }
        left -= count.min(8);
        table.set(bucket, entries, 0).expect("it is within the array");
    }
    assert_eq!(left, 0, "there is room for all");
}
