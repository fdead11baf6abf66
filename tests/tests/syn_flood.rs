//! A SYN flood costs no established flow: what nobody has confirmed pushes out what nobody has confirmed, and nothing else.

use lb_common::flow::{FlowEntry, FlowState};
use lb_common::service::{SELECT_LEAST_CONN, SELECT_MAGLEV, ServiceEntry};
use lb_common::slot::Owner;
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, tcp};
use weir_tests::world::{BUCKETS, World, at, service_entry};

const VIP: &str = "203.0.113.10:80";

/// Three of four places of the rigs' flow table.
const CONFIRMED: u32 = BUCKETS * 6;

/// Twice what the table has room for.
const FLOOD: u32 = BUCKETS * 16;

fn of(net: u8, n: u32, flags: Flags) -> Vec<u8> {
    let [_, high, middle, low] = n.to_be_bytes();
    tcp(at(&format!("{net}.{high}.{middle}.{low}:4000")), at(VIP), flags, b"")
}

fn established(bench: &mut Bench) -> Vec<FlowEntry> {
    let mut flows = bench.flows();
    flows.retain(|flow| flow.state() == Some(FlowState::Established));
    flows.sort_unstable_by_key(|flow| flow.0);
    flows
}

#[test]
fn a_flood_of_bare_syns_on_a_full_table_evicts_no_confirmed_flow() {
    for select in [SELECT_MAGLEV, SELECT_LEAST_CONN] {
        let entry = ServiceEntry { select, ..service_entry(1) };
        let pool = [(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080"), (3, "10.0.0.13:8080")];
        let mut bench = Bench::new(World::default().pool(VIP, 6, entry, &pool));
        for n in 0..CONFIRMED {
            let _owner = bench.owner_of(&of(11, n, Flags::Syn));
            let _owner = bench.owner_of(&of(11, n, Flags::Ack));
        }
        let before = established(&mut bench);
        for n in 0..FLOOD {
            assert_eq!(bench.verdict(&of(66, n, Flags::Syn)), Verdict::Forward);
        }
        assert!(established(&mut bench) == before, "policy {select}: a confirmed flow has gone");
        let counters = [1, 2, 3].map(|owner: Owner| bench.counters(owner));
        let pushed_out: u64 = counters.iter().map(|c| c.evicted + c.refused).sum();
        assert!(pushed_out > u64::from(FLOOD) / 4, "the table was full: {pushed_out} pushed out or refused");
        bench.compare_tables();
    }
}
