//! The slot rules and the flow table, packet by packet.

use lb_common::backend::BACKEND_ALIVE;
use lb_common::flow::FlowState;
use lb_common::service::{SELECT_ROUND_ROBIN, ServiceEntry, TRACKING_MINIMAL, TRACKING_NONE};
use lb_common::slot::Slot;
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, tcp, udp};
use weir_tests::world::{World, at, service_entry};

const VIP: &str = "203.0.113.10:80";
const CLIENT: &str = "192.0.2.7:40000";

/// Owners 1, 2, 3; the ring is 1's.
fn bench(protocol: u8, entry: ServiceEntry) -> Bench {
    let pool = [(1, "10.0.0.11:80"), (2, "10.0.0.12:80"), (3, "10.0.0.13:80")];
    let mut world = World::default().pool(VIP, protocol, entry, &pool);
    world.turn_ring(1, |_| Slot::settled(1));
    Bench::new(world)
}

fn full() -> Bench {
    bench(6, service_entry(1))
}

fn segment(flags: Flags) -> Vec<u8> {
    tcp(at(CLIENT), at(VIP), flags, b"")
}

#[test]
fn rule_1_a_settled_slot_routes_whatever_the_table_says_and_corrects_it() {
    let mut bench = full();
    for flags in [Flags::Syn, Flags::Ack] {
        assert_eq!(bench.owner_of(&segment(flags)), 1);
    }
    bench.turn_ring(1, |_| Slot::settled(2));
    bench.age(64);
    assert_eq!(bench.owner_of(&segment(Flags::Ack)), 2);
    assert_eq!(bench.flow().owner(), 2);
}

#[test]
fn rule_2_in_transition_known_flows_stay_new_ones_go_to_current_and_unknown_ones_to_previous() {
    let mut bench = full();
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 1);
    bench.turn_ring(1, |s| s.change_to(2));
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 1, "a retransmitted SYN keeps its owner");
    assert_eq!(bench.owner_of(&segment(Flags::Ack)), 1);
    assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40001"), at(VIP), Flags::Syn, b"")), 2);
    assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40001"), at(VIP), Flags::Ack, b"")), 2);
    assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40002"), at(VIP), Flags::Ack, b"")), 1);
    bench.turn_ring(1, Slot::age);
    assert_eq!(
        bench.owner_of(&tcp(at("192.0.2.7:40003"), at(VIP), Flags::Ack, b"")),
        2,
        "aged: what is unknown is new"
    );
    bench.compare_tables();
}

#[test]
fn rule_2_udp_misses_go_to_previous_until_the_slot_has_aged() {
    let mut bench = bench(17, service_entry(1));
    bench.turn_ring(1, |s| s.change_to(2));
    assert_eq!(bench.owner_of(&udp(at(CLIENT), at(VIP), b"x")), 1);
    bench.turn_ring(1, Slot::age);
    assert_eq!(bench.owner_of(&udp(at(CLIENT), at(VIP), b"x")), 1, "known by now");
    assert_eq!(bench.owner_of(&udp(at("192.0.2.7:40001"), at(VIP), b"x")), 2);
}

#[test]
fn rule_3_a_further_change_replaces_current_and_keeps_previous() {
    let mut bench = full();
    bench.turn_ring(1, |s| s.change_to(2));
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 2);
    bench.turn_ring(1, |s| s.change_to(3));
    assert_eq!(bench.owner_of(&segment(Flags::Ack)), 2);
    assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40001"), at(VIP), Flags::Syn, b"")), 3);
    assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40002"), at(VIP), Flags::Ack, b"")), 1);
}

#[test]
fn rule_5_flows_of_a_silent_owner_go_to_the_new_one_and_those_of_one_that_answers_stay() {
    for is_silent in [true, false] {
        let mut bench = full();
        for flags in [Flags::Syn, Flags::Ack] {
            assert_eq!(bench.owner_of(&segment(flags)), 1);
        }
        bench.turn_ring(1, |s| s.change_to(2));
        if is_silent {
            bench.change(|world| world.backend(1).flags &= !BACKEND_ALIVE);
        }
        let owner = if is_silent { 2 } else { 1 };
        assert_eq!(bench.owner_of(&segment(Flags::Ack)), owner, "silent: {is_silent}");
        assert_eq!(bench.owner_of(&tcp(at("192.0.2.7:40001"), at(VIP), Flags::Ack, b"")), owner);
        assert_eq!(bench.flows().iter().filter(|f| f.owner() == owner).count(), 2);
    }
}

#[test]
fn minimal_uses_the_table_in_transitions_only_and_none_never() {
    let mut bench = bench(6, ServiceEntry { tracking: TRACKING_MINIMAL, ..service_entry(1) });
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 1);
    assert!(bench.flows().is_empty());
    bench.turn_ring(1, |s| s.change_to(2));
    assert_eq!(bench.owner_of(&segment(Flags::Ack)), 1);
    assert_eq!(bench.flow().owner(), 1);
    drop(bench);
    let mut bench = self::bench(6, ServiceEntry { tracking: TRACKING_NONE, ..service_entry(1) });
    bench.turn_ring(1, |s| s.change_to(2));
    assert_eq!(bench.owner_of(&segment(Flags::Ack)), 2);
    assert!(bench.flows().is_empty());
}

#[test]
fn a_syn_on_an_ended_flow_chooses_anew() {
    let mut bench = bench(6, ServiceEntry { select: SELECT_ROUND_ROBIN, ..service_entry(1) });
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 1);
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 1, "retransmitted");
    assert_eq!(bench.owner_of(&segment(Flags::Rst)), 1);
    assert_eq!(bench.owner_of(&segment(Flags::Syn)), 2);
    assert_eq!(bench.flow().state(), Some(FlowState::HalfOpen));
    bench.compare_tables();
}

#[test]
fn an_empty_pool_drops_under_a_name_and_remembers_nothing() {
    let mut bench = full();
    bench.turn_ring(1, |_| Slot::settled(0));
    assert_eq!(bench.verdict(&segment(Flags::Syn)), Verdict::DropNoBackend);
    assert!(bench.flows().is_empty());
}

/// One bucket, so that sixteen flows at most fit.
fn crowded() -> Bench {
    let mut world = World::default().pool(VIP, 6, service_entry(1), &[(1, "10.0.0.11:80")]);
    world.host.flow_mask = 1;
    Bench::new(world)
}

fn of(n: u16, flags: Flags) -> Vec<u8> {
    tcp(at(&format!("192.0.2.7:{}", 40_000 + n)), at(VIP), flags, b"")
}

#[test]
fn a_syn_flood_costs_no_established_flow() {
    let mut bench = crowded();
    for n in 0..16 {
        let _owner = bench.owner_of(&of(n, Flags::Syn));
        let _owner = bench.owner_of(&of(n, Flags::Ack));
    }
    let established = bench.rig.flows().expect("the table");
    for n in 100..200 {
        assert_eq!(bench.owner_of(&of(n, Flags::Syn)), 1, "refused, and forwarded by the ring");
    }
    assert_eq!(bench.rig.flows().expect("the table"), established);
    assert_eq!((bench.counters(1).refused, bench.counters(1).evicted), (100, 0));
}

#[test]
fn ended_flows_go_first_then_the_oldest_unconfirmed() {
    let mut bench = crowded();
    for n in 0..16 {
        let _owner = bench.owner_of(&of(n, Flags::Syn));
    }
    let _owner = bench.owner_of(&of(3, Flags::Rst));
    let _owner = bench.owner_of(&of(100, Flags::Syn));
    assert_eq!((bench.counters(1).evicted, bench.counters(1).refused), (0, 0));
    let _owner = bench.owner_of(&of(101, Flags::Syn));
    assert_eq!((bench.counters(1).evicted, bench.counters(1).opened), (1, 18));
}
