//! Limits in the kernel: who is let in, how fast, and how many a backend holds.

use lb_common::admission::{ACCESS_ALLOW, ACCESS_DENY, Limits};
use lb_common::service::{
    FORWARD_L2DSR, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN, SERVICE_ACCESS, SERVICE_CAPPED,
    SERVICE_LIMITED, ServiceEntry, TRACKING_NONE,
};
use lb_common::slot::{Owner, Slot};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, tcp, udp};
use weir_tests::world::{World, at, service_entry};

const VIP: &str = "203.0.113.10:80";
const VIP_V6: &str = "[2001:db8::10]:80";
const POOL: [(Owner, &str); 3] = [(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080"), (3, "10.0.0.13:8080")];

/// A second, in ticks, and a little more.
const SECOND: u16 = 4;

fn world(entry: ServiceEntry) -> World {
    World::default().pool(VIP, 6, entry, &POOL)
}

fn limited(flows: u32, per_source: u32) -> World {
    let mut world = world(ServiceEntry { flags: SERVICE_LIMITED, ..service_entry(1) });
    let _none = world.limits.insert(1, Limits::per_second(flows, per_source, 24, 64));
    world
}

fn capped(select: u8, most: [u32; 3]) -> World {
    let mut world = world(ServiceEntry { flags: SERVICE_CAPPED, select, ..service_entry(1) });
    for (owner, most) in (1..).zip(most) {
        world.backend(owner).max_flows = most;
    }
    world
}

fn of(client: &str, n: u16, flags: Flags) -> Vec<u8> {
    tcp(at(&format!("{client}:{}", 40_000 + n)), at(VIP), flags, b"")
}

fn syn(n: u16) -> Vec<u8> {
    of("192.0.2.7", n, Flags::Syn)
}

#[test]
fn the_longest_prefix_of_an_access_list_decides_about_every_packet() {
    let entry = ServiceEntry { flags: SERVICE_ACCESS, ..service_entry(1) };
    let world = world(entry)
        .rule(1, "0.0.0.0/0", ACCESS_DENY)
        .rule(1, "192.0.2.0/24", ACCESS_ALLOW)
        .rule(1, "192.0.2.66/32", ACCESS_DENY)
        .rule(2, "0.0.0.0/0", ACCESS_ALLOW);
    let mut bench = Bench::new(world);
    for (client, verdict) in [
        ("192.0.2.7", Verdict::Forward),
        ("192.0.2.66", Verdict::DropDenied),
        ("198.51.100.5", Verdict::DropDenied),
        ("192.0.2.67", Verdict::Forward),
    ] {
        for flags in [Flags::Syn, Flags::Ack, Flags::Data, Flags::Fin] {
            assert_eq!(bench.verdict(&of(client, 0, flags)), verdict, "{client} {flags:?}");
        }
    }
    assert_eq!(bench.rig.refusals(1).expect("refusals").denied, 8);
    bench.compare_tables();
}

#[test]
fn an_established_flow_of_a_source_that_is_denied_now_is_denied_too() {
    let entry = ServiceEntry { flags: SERVICE_ACCESS, ..service_entry(1) };
    let mut bench = Bench::new(world(entry).rule(1, "0.0.0.0/0", ACCESS_ALLOW));
    assert_eq!(bench.verdict(&syn(0)), Verdict::Forward);
    assert_eq!(bench.verdict(&of("192.0.2.7", 0, Flags::Ack)), Verdict::Forward);
    bench.change(|world| *world = std::mem::take(world).rule(1, "192.0.2.0/25", ACCESS_DENY));
    assert_eq!(bench.verdict(&of("192.0.2.7", 0, Flags::Data)), Verdict::DropDenied);
}

#[test]
fn an_access_list_works_with_every_tracking_and_in_both_families() {
    let entry = ServiceEntry { flags: SERVICE_ACCESS, tracking: TRACKING_NONE, ..service_entry(2) };
    let world = World::default().pool(VIP_V6, 6, entry, &[(4, "[fd00::11]:80")]).rule(2, "::/0", ACCESS_ALLOW).rule(
        2,
        "2001:db8:9::/64",
        ACCESS_DENY,
    );
    let mut bench = Bench::new(world);
    let of = |client: &str| tcp(at(client), at(VIP_V6), Flags::Data, b"");
    assert_eq!(bench.verdict(&of("[2001:db8:9::7]:5")), Verdict::DropDenied);
    assert_eq!(bench.verdict(&of("[2001:db8:9:1::7]:5")), Verdict::Forward);
}

#[test]
fn a_source_that_opens_too_many_flows_is_dropped_and_others_are_not() {
    let mut bench = Bench::new(limited(0, 3));
    let mut verdicts = |client: &str, from: u16| -> Vec<Verdict> {
        (from..from + 5).map(|n| bench.verdict(&of(client, n, Flags::Syn))).collect()
    };
    let [yes, no] = [Verdict::Forward, Verdict::DropRateLimited];
    assert_eq!(verdicts("192.0.2.7", 0), [yes, yes, yes, no, no]);
    assert_eq!(verdicts("192.0.2.9", 0), [no, no, no, no, no], "the same /24");
    assert_eq!(verdicts("198.51.100.5", 0), [yes, yes, yes, no, no]);
    bench.age(SECOND);
    assert_eq!(bench.verdict(&syn(9)), yes);
    assert_eq!(bench.rig.refusals(1).expect("refusals").rate_limited, 9);
    bench.compare_tables();
}

#[test]
fn established_and_repeated_packets_cost_a_source_nothing() {
    let mut bench = Bench::new(limited(0, 1));
    assert_eq!(bench.verdict(&syn(0)), Verdict::Forward);
    for flags in [Flags::Syn, Flags::Ack, Flags::Data, Flags::Data, Flags::Fin] {
        assert_eq!(bench.verdict(&of("192.0.2.7", 0, flags)), Verdict::Forward, "{flags:?}");
    }
    assert_eq!(bench.verdict(&syn(1)), Verdict::DropRateLimited);
    assert_eq!(bench.verdict(&of("192.0.2.7", 1, Flags::Ack)), Verdict::Forward, "met in mid-stream: no new flow");
}

#[test]
fn a_udp_flow_beyond_its_sources_rate_stays_out_however_often_it_tries() {
    let entry = ServiceEntry { flags: SERVICE_LIMITED, ..service_entry(1) };
    let mut world = World::default().pool(VIP, 17, entry, &POOL);
    let _none = world.limits.insert(1, Limits::per_second(0, 2, 32, 64));
    let mut bench = Bench::new(world);
    let datagram = |n: u16| udp(at(&format!("192.0.2.7:{}", 40_000 + n)), at(VIP), b"x");
    for _ in 0..4 {
        let verdicts: Vec<Verdict> = (0..4).map(|n| bench.verdict(&datagram(n))).collect();
        assert_eq!(verdicts[..2], [Verdict::Forward; 2], "the first two are flows");
        assert_eq!(verdicts[2..], [Verdict::DropRateLimited; 2]);
    }
    assert_eq!(bench.flows().len(), 2);
    bench.compare_tables();
}

#[test]
fn a_full_bucket_of_sources_forgets_the_one_that_has_spent_least() {
    let mut bench = Bench::new(limited(0, 1));
    let mut limited = 0;
    // Three times as many sources as there are places: all of them get in, none is limited for another's sake.
    for n in 0..500_u32 {
        let client = format!("10.{}.{}.1", n / 250, n % 250);
        assert_eq!(bench.verdict(&of(&client, 0, Flags::Syn)), Verdict::Forward, "{client}");
        limited += u32::from(bench.verdict(&of(&client, 1, Flags::Syn)) == Verdict::DropRateLimited);
    }
    assert_eq!(limited, 500);
    bench.compare_tables();
}

#[test]
fn flows_beyond_the_services_budget_work_by_the_ring_and_are_counted_as_refused() {
    let mut bench = Bench::new(limited(4, 0));
    let owners: Vec<Owner> = (0..10).map(|n| bench.owner_of(&syn(n))).collect();
    assert_eq!(bench.flows().len(), 4);
    let refused: u64 = (1..=3).map(|owner| bench.counters(owner).refused).sum();
    assert_eq!((refused, bench.rig.refusals(1).expect("refusals").over_budget), (6, 6));
    // A client that answers enters the table by that.
    let later: Vec<Owner> = (0..10).map(|n| bench.owner_of(&of("192.0.2.7", n, Flags::Ack))).collect();
    assert_eq!(later, owners);
    assert_eq!(bench.flows().len(), 10);
    bench.age(SECOND);
    let _owner = bench.owner_of(&syn(99));
    assert_eq!(bench.flows().len(), 11, "a second later there is a new budget");
    bench.compare_tables();
}

#[test]
fn flows_beyond_the_budget_stay_with_the_slots_previous_owner_in_a_transition() {
    let mut bench = Bench::new(limited(1, 0));
    bench.turn_ring(1, |_| Slot::settled(1).change_to(2));
    assert_eq!(bench.owner_of(&syn(0)), 2, "entered: current");
    for n in 1..5 {
        assert_eq!(bench.owner_of(&syn(n)), 1, "refused: previous, where its later packets go");
        assert_eq!(bench.owner_of(&of("192.0.2.7", n, Flags::Ack)), 1);
    }
}

#[test]
fn a_backend_holds_as_many_flows_as_it_may_and_others_take_the_rest() {
    for select in [SELECT_MAGLEV, SELECT_ROUND_ROBIN, SELECT_LEAST_CONN] {
        let mut bench = Bench::new(capped(select, [2, 5, 3]));
        let verdicts: Vec<Verdict> = (0..14).map(|n| bench.verdict(&syn(n))).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Forward).count(), 10, "{select} {verdicts:?}");
        assert_eq!(verdicts[10..], [Verdict::DropBackendFull; 4], "{select}");
        let loads = [1, 2, 3].map(|owner| bench.rig.load_of(owner).expect("the load"));
        assert_eq!(loads, [2, 5, 3], "{select}");
        assert_eq!(bench.rig.refusals(1).expect("refusals").backend_full, 4);
        bench.compare_tables();
    }
}

#[test]
fn a_flow_that_overflowed_stays_where_it_went_and_its_end_frees_the_place() {
    let mut bench = Bench::new(capped(SELECT_MAGLEV, [1, 1, 1]));
    bench.turn_ring(1, |_| Slot::settled(1));
    let owners: Vec<Owner> = (0..3).map(|n| bench.owner_of(&syn(n))).collect();
    assert_eq!(owners[0], 1);
    let mut all = owners.clone();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    for _ in 0..2 {
        let later: Vec<Owner> = (0..3).map(|n| bench.owner_of(&of("192.0.2.7", n, Flags::Data))).collect();
        assert_eq!(later, owners);
    }
    assert_eq!(bench.verdict(&syn(3)), Verdict::DropBackendFull);
    assert_eq!(bench.verdict(&syn(0)), Verdict::Forward, "a repeated SYN is no new flow");
    assert_eq!(bench.owner_of(&of("192.0.2.7", 1, Flags::Rst)), owners[1]);
    assert_eq!(bench.owner_of(&syn(3)), owners[1]);
    bench.compare_tables();
}

#[test]
fn the_servers_last_word_frees_a_place_too() {
    let mut bench = Bench::new(capped(SELECT_MAGLEV, [1, 1, 1]));
    bench.turn_ring(1, |_| Slot::settled(1));
    let owner = bench.owner_of(&syn(0));
    let server = POOL[usize::from(owner) - 1].1;
    assert_eq!(bench.verdict(&tcp(at(server), at("192.0.2.7:40000"), Flags::Rst, b"")), Verdict::Reply);
    assert_eq!(bench.rig.load_of(owner).expect("the load"), 0);
    assert_eq!(bench.owner_of(&syn(1)), owner);
    bench.compare_tables();
}

#[test]
fn a_capped_service_drops_what_its_budget_cannot_count() {
    let mut world = capped(SELECT_MAGLEV, [9, 9, 9]);
    for entry in world.services_v4.values_mut() {
        entry.flags |= SERVICE_LIMITED;
    }
    let _none = world.limits.insert(1, Limits::per_second(2, 0, 32, 64));
    let mut bench = Bench::new(world);
    let verdicts: Vec<Verdict> = (0..3).map(|n| bench.verdict(&syn(n))).collect();
    assert_eq!(verdicts, [Verdict::Forward, Verdict::Forward, Verdict::DropRateLimited]);
    let loads: u64 = (1..=3).map(|owner| bench.rig.load_of(owner).expect("the load")).sum();
    assert_eq!(loads, 2);
}

#[test]
fn a_syn_on_an_ended_tuple_is_a_new_flow_for_every_limit() {
    let mut world = capped(SELECT_MAGLEV, [1, 1, 1]);
    for entry in world.services_v4.values_mut() {
        *entry = ServiceEntry { flags: entry.flags | SERVICE_LIMITED, forward: FORWARD_L2DSR, ..*entry };
    }
    let _none = world.limits.insert(1, Limits::per_second(0, 3, 32, 64));
    let mut bench = Bench::new(world);
    for _ in 0..3 {
        assert_eq!(bench.verdict(&syn(0)), Verdict::Forward);
        assert_eq!(bench.verdict(&of("192.0.2.7", 0, Flags::Rst)), Verdict::Forward);
    }
    assert_eq!(bench.verdict(&syn(0)), Verdict::DropRateLimited);
    let loads: u64 = (1..=3).map(|owner| bench.rig.load_of(owner).expect("the load")).sum();
    assert_eq!(loads, 0, "every place was given back");
    bench.compare_tables();
}
