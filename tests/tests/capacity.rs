//! At the stated capacity the flow table refuses nobody. On the host alone: the kernel runs the same code.

use lb_common::clock::Ticks;
use lb_common::flow::{FlowEntry, FlowState};
use lb_common::hash::flow_v4;
use lb_common::table::{Inserted, Lookup, insert};
use weir_tests::host::Host;
use weir_tests::world::World;

/// Flows that find no free place among `buckets`, half of whose entries are meant to be used.
fn refusals(flows: u32, buckets: u32) -> usize {
    let mut world = World::default();
    world.host.flow_mask = buckets - 1;
    let seed = world.host.seed;
    let host = Host::new(world);
    let is_refused = |n: &u32| {
        let [a, b, ..] = n.to_be_bytes();
        let key = flow_v4(&seed, [10, 0, a, b], n.to_be_bytes()[2..].try_into().expect("two"), [0, 80], 1, false);
        let what = Lookup { key, mask: buckets - 1, service: 1, idle_ticks: 3_353 };
        insert(&&host, &what, FlowEntry::new(key.tag, 1, FlowState::Established, Ticks(1))) != Inserted::Yes
    };
    (0..flows).filter(is_refused).count()
}

#[test]
fn a_hundred_thousand_flows_fit() {
    assert_eq!(refusals(100_000, 32_768), 0);
}

#[test]
fn a_million_flows_fit() {
    assert_eq!(refusals(1_000_000, 262_144), 0);
}

#[test]
fn a_table_that_is_exactly_half_full_refuses_nobody() {
    assert_eq!(refusals(131_072, 32_768), 0);
    assert_eq!(refusals(1 << 20, 262_144), 0);
}
