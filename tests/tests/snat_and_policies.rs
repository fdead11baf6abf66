//! snat lends ports; policies choose owners for new flows.

use lb_common::backend::BACKEND_ON_LINK;
use lb_common::decide::SNAT_PAUSE_TICKS;
use lb_common::service::{SELECT_LEAST_CONN, SELECT_ROUND_ROBIN, SELECT_SOURCE_HASH, SERVICE_SNAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, tcp, udp};
use weir_tests::world::{World, at, service_entry};

const VIP: &str = "203.0.113.10:80";
const BACKEND: &str = "10.0.0.11:8080";

fn lent(count: u16) -> Bench {
    let entry = ServiceEntry { flags: SERVICE_SNAT, snat_port_count: count, ..service_entry(1) };
    let ours = "10.0.0.1".parse().expect("an address");
    Bench::new(World::default().pool(VIP, 6, entry, &[(1, BACKEND)]).lend(&[1], ours))
}

fn of(n: u16, flags: Flags) -> Vec<u8> {
    tcp(at(&format!("192.0.2.7:{}", 40_000 + n)), at(VIP), flags, b"")
}

#[test]
fn a_flow_keeps_its_port_and_its_answers_find_back() {
    let mut bench = lent(4_096);
    let ours = bench.sent(&of(0, Flags::Syn), Verdict::Forward).src;
    assert_eq!(bench.sent(&of(0, Flags::Ack), Verdict::Forward).src, ours);
    assert_ne!(bench.sent(&of(1, Flags::Syn), Verdict::Forward).src, ours);
    let out = bench.sent(&tcp(at(BACKEND), ours, Flags::SynAck, b""), Verdict::Reply);
    assert_eq!((out.src, out.dst), (at(VIP), at("192.0.2.7:40000")));
    bench.compare_tables();
}

#[test]
fn exhausted_ports_drop_under_a_name_and_come_back_after_a_rest() {
    let mut bench = lent(1);
    let ours = bench.sent(&of(0, Flags::Syn), Verdict::Forward).src;
    assert_eq!(bench.verdict(&of(1, Flags::Syn)), Verdict::DropSnatExhausted);
    let _reset = bench.sent(&tcp(at(BACKEND), ours, Flags::Rst, b""), Verdict::Reply);
    bench.age(SNAT_PAUSE_TICKS);
    assert_eq!(bench.verdict(&of(1, Flags::Syn)), Verdict::DropSnatExhausted, "it rests");
    bench.age(1);
    assert_eq!(bench.sent(&of(1, Flags::Syn), Verdict::Forward).src, ours);
    bench.compare_tables();
}

#[test]
fn a_client_on_the_backends_link_and_a_backend_that_is_its_own_client_get_our_address() {
    let ours = "10.0.0.1".parse().expect("an address");
    let mut world = World::default().pool(VIP, 6, service_entry(1), &[(1, BACKEND)]).lend(&[1], ours);
    let backend = world.backend(1);
    (backend.flags, backend.link_prefix) = (backend.flags | BACKEND_ON_LINK, 24);
    let mut bench = Bench::new(world);
    for (client, is_lent) in [("10.0.0.99:5", true), ("10.0.0.11:5", true), ("10.0.1.99:5", false)] {
        let out = bench.sent(&tcp(at(client), at(VIP), Flags::Syn, b""), Verdict::Forward);
        assert_eq!(out.src.ip() == ours, is_lent, "{client}");
    }
}

fn pool(select: u8) -> World {
    let entry = ServiceEntry { select, ..service_entry(1) };
    World::default().pool(VIP, 6, entry, &[(1, BACKEND), (2, "10.0.0.12:80"), (3, "10.0.0.13:80")])
}

#[test]
fn round_robin_takes_turns_and_remembers_them() {
    let mut bench = Bench::new(pool(SELECT_ROUND_ROBIN));
    let owners: Vec<_> = (0..9).map(|n| bench.owner_of(&of(n, Flags::Syn))).collect();
    assert_eq!(owners, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    let later: Vec<_> = (0..9).map(|n| bench.owner_of(&of(n, Flags::Ack))).collect();
    assert_eq!(later, owners);
    bench.compare_tables();
}

#[test]
fn least_conn_evens_loads_out_better_than_the_ring() {
    let mut bench = Bench::new(pool(SELECT_LEAST_CONN));
    for n in 0..600 {
        let owner = bench.owner_of(&of(n, Flags::Syn));
        assert_eq!(bench.owner_of(&of(n, Flags::Ack)), owner);
    }
    let loads = [1, 2, 3].map(|owner| bench.rig.load_of(owner).expect("the load"));
    assert_eq!(loads.iter().sum::<u64>(), 600);
    assert!(loads.iter().all(|load| (190..=210).contains(load)), "{loads:?}");
    bench.compare_tables();
}

#[test]
fn source_hash_keeps_a_client_whatever_its_port() {
    let mut bench = Bench::new(pool(SELECT_SOURCE_HASH));
    let owners: Vec<_> = (0..50).map(|n| bench.owner_of(&of(n, Flags::Syn))).collect();
    assert!(owners.iter().all(|owner| *owner == owners[0]));
}

#[test]
fn a_service_of_every_port_yields_to_one_of_an_exact_port() {
    let world = World::default().pool("203.0.113.10:0", 17, service_entry(1), &[(1, "10.0.0.11:0")]).pool(
        "203.0.113.10:53",
        17,
        service_entry(2),
        &[(2, "10.0.0.12:5353")],
    );
    let mut bench = Bench::new(world);
    for (port, to) in [(9, "10.0.0.11:9"), (53, "10.0.0.12:5353"), (999, "10.0.0.11:999")] {
        let vip = at(&format!("203.0.113.10:{port}"));
        assert_eq!(bench.sent(&udp(at("192.0.2.7:7"), vip, b"x"), Verdict::Forward).dst, at(to));
        assert_eq!(bench.sent(&udp(at(to), at("192.0.2.7:7"), b"x"), Verdict::Reply).src, vip);
    }
}
