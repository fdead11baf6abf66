//! UDP flows of a backend that is gone: the very next datagram goes to another, whatever remembers the flow.

use lb_common::backend::BACKEND_ALIVE;
use lb_common::service::{
    FORWARD_L2DSR, FORWARD_NAT, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN, SELECT_SOURCE_HASH, SERVICE_SNAT,
    ServiceEntry, TRACKING_FULL, TRACKING_MINIMAL, TRACKING_NONE,
};
use lb_common::slot::{Owner, Slot};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::udp;
use weir_tests::world::{World, at, service_entry};

const FLOWS: u16 = 30;
const POOL: [(Owner, &str); 3] = [(1, "10.0.0.11:53"), (2, "10.0.0.12:53"), (3, "10.0.0.13:53")];

fn datagram(n: u16) -> Vec<u8> {
    udp(at(&format!("192.0.2.7:{}", 40_000 + n)), at("203.0.113.10:53"), b"who")
}

fn owners(bench: &mut Bench) -> Vec<Owner> {
    (0..FLOWS).map(|n| bench.owner_of(&datagram(n))).collect()
}

/// What the agent does when owner 1 is down: nobody may stay there, its slots are others'.
fn fail(bench: &mut Bench) {
    bench.change(|world| world.backend(1).flags &= !BACKEND_ALIVE);
    bench.turn_ring(1, |slot| slot.bereave(1, if slot.0 & 1 == 0 { 2 } else { 3 }));
}

#[test]
fn flows_of_a_dead_backend_go_elsewhere_at_once_and_nobody_elses_do() {
    for (select, tracking) in [
        (SELECT_MAGLEV, TRACKING_FULL),
        (SELECT_MAGLEV, TRACKING_MINIMAL),
        (SELECT_MAGLEV, TRACKING_NONE),
        (SELECT_SOURCE_HASH, TRACKING_FULL),
        (SELECT_ROUND_ROBIN, TRACKING_FULL),
        (SELECT_LEAST_CONN, TRACKING_FULL),
    ] {
        for (forward, flags) in [(FORWARD_NAT, 0), (FORWARD_NAT, SERVICE_SNAT), (FORWARD_L2DSR, 0)] {
            for moving in [false, true] {
                if tracking != TRACKING_FULL && flags != 0 || tracking == TRACKING_NONE && moving {
                    continue;
                }
                let entry = ServiceEntry { select, tracking, forward, flags, ..service_entry(1) };
                let world = World::default().pool("203.0.113.10:53", 17, entry, &POOL);
                let mut bench = Bench::new(world.lend(&[1, 2, 3], "10.0.0.1".parse().expect("an address")));
                if moving {
                    bench.turn_ring(1, |slot| slot.change_to(slot.current() % 3 + 1));
                }
                let _first = owners(&mut bench);
                let before = owners(&mut bench);

                fail(&mut bench);
                let after = owners(&mut bench);

                let what = format!("select {select} tracking {tracking} forward {forward} {flags} moving {moving}");
                assert!(!after.contains(&1), "{what}: {after:?}");
                let moved = before.iter().zip(&after).filter(|(b, a)| **b != 1 && b != a).count();
                assert_eq!(moved, 0, "{what}: {before:?} {after:?}");
                assert_eq!(owners(&mut bench), after, "{what}: and stay there");
                bench.compare_tables();
            }
        }
    }
}

#[test]
fn under_snat_the_new_backend_knows_the_flow_by_a_port_of_its_own() {
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    let world = World::default().pool("203.0.113.10:53", 17, entry, &POOL);
    let mut bench = Bench::new(world.lend(&[1, 2, 3], "10.0.0.1".parse().expect("an address")));
    bench.turn_ring(1, |_| Slot::settled(1));
    let _old = bench.sent(&datagram(0), Verdict::Forward);

    bench.change(|world| world.backend(1).flags &= !BACKEND_ALIVE);
    bench.turn_ring(1, |slot| slot.bereave(1, 3));
    let new = bench.sent(&datagram(0), Verdict::Forward);

    assert_eq!(new.dst, at("10.0.0.13:53"));
    let reply = bench.sent(&udp(new.dst, new.src, b"me"), Verdict::Reply);
    assert_eq!((reply.src, reply.dst), (at("203.0.113.10:53"), at("192.0.2.7:40000")));
    bench.compare_tables();
}
