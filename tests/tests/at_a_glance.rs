//! The shortest way decides as the full one does: two hosts, one of which never takes it, see the same packets and must end
//! with the same bytes and the same tables.
//!
//! `WEIR_SEED` and `WEIR_PACKETS` explore further; the seed is printed when the test fails.

use std::env;
use std::fmt::Display;
use std::str::FromStr;

use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE};
use lb_common::host::HOST_SLOW;
use lb_common::service::{SERVICE_SLOW, ServiceEntry};
use lb_common::slot::Slot;
use weir_tests::age::{older_flow, older_snat};
use weir_tests::everything::everything;
use weir_tests::generate::{Generator, Hook};
use weir_tests::host::Host;
use weir_tests::packet::{Flags, read, tcp};
use weir_tests::world::{WIRE, World, at, service_entry};

const PACKETS: u32 = 60_000;

/// Packets between two changes of what the agent has written.
const CHANGE_EVERY: u32 = 200;

fn setting<T: FromStr + Display>(name: &str, default: T) -> T {
    let value = env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    eprintln!("{name}={value}");
    value
}

/// Two hosts with the same tables; the second looks at every packet in full.
struct Pair([Host; 2]);

impl Pair {
    fn new(world: &World) -> Self {
        let mut hosts = [world.clone(), world.clone()].map(Host::new);
        hosts[1].glances = false;
        Self(hosts)
    }

    fn change(&mut self, change: impl Fn(&mut World)) {
        self.0.iter_mut().for_each(|host| change(&mut host.world));
    }

    fn age(&mut self, ticks: u16) {
        for host in &self.0 {
            host.flows.iter().for_each(|f| f.set(older_flow(f.get(), ticks)));
            host.epochs.iter().for_each(|word| word.set(0));
            host.snat_forward.borrow_mut().values_mut().for_each(|e| *e = older_snat(*e, ticks));
        }
    }

    #[track_caller]
    fn see(&mut self, frame: &[u8], hook: Hook) {
        let [ran, full] = self.0.each_ref().map(|host| match hook {
            Hook::Xdp(ifindex) => host.run_xdp(frame, ifindex),
            Hook::Tc => host.run_tc(frame, WIRE),
        });
        assert_eq!(ran, full, "{:?}: {frame:02x?}", read(frame));
    }

    #[track_caller]
    fn compare(&self) {
        let [a, b] = &self.0;
        assert_eq!(a.flows, b.flows, "flow table");
        assert_eq!(a.epochs, b.epochs, "epoch bitmap");
        assert_eq!(*a.counters.borrow(), *b.counters.borrow(), "counters");
        assert_eq!(*a.loads.borrow(), *b.loads.borrow(), "loads");
        assert_eq!(*a.snat_forward.borrow(), *b.snat_forward.borrow(), "snat");
    }
}

#[test]
fn a_glance_decides_and_leaves_behind_what_the_full_look_does() {
    let (world, known) = everything();
    let mut pair = Pair::new(&world);
    let mut generator = Generator::new(setting("WEIR_SEED", 20_261_128), known);
    let packets = setting("WEIR_PACKETS", PACKETS);
    for n in 0..packets {
        let (frame, hook) = generator.next(&pair.0[1]);
        pair.see(&frame, hook);
        pair.compare_sometimes(n);
        if n % CHANGE_EVERY == 0 {
            turn(&mut pair, &mut generator);
        }
    }
    pair.compare();
    let glanced = pair.0[0].glanced.get();
    eprintln!("{glanced} of {packets} at a glance");
    // Most services of this world have a flag (limits, prefixes, QUIC, snat) for which a glance is not enough.
    assert!(glanced > packets / 25, "a test of the shortest way must take it");
}

impl Pair {
    #[track_caller]
    fn compare_sometimes(&self, n: u32) {
        if n.is_multiple_of(100) {
            self.compare();
        }
    }
}

/// The agent changes something, or time passes.
fn turn(pair: &mut Pair, generator: &mut Generator) {
    let known = generator.service();
    let (id, draw) = (known.entry.id, generator.below(3));
    let (owner, _) = known.backends[draw as usize];
    let (heir, _) = known.backends[(draw as usize + 1) % 3];
    let part = generator.below(4) + 1;
    let kind = generator.below(10);
    pair.change(|world| match kind {
        0 | 1 => world.turn_ring(id, |s| if s.0 % part == 0 { s.change_to(owner) } else { s }),
        2 => world.turn_ring(id, Slot::age),
        3 | 4 => world.turn_ring(id, Slot::settle),
        5 => world.turn_ring(id, |s| s.bereave(owner, heir)),
        6 => world.backend(owner).flags ^= BACKEND_ALIVE,
        7 => world.backend(owner).flags ^= BACKEND_REACHABLE,
        8 if part == 1 => world.turn_ring(id, |_| Slot::settled(0)),
        _ => {}
    });
    if kind == 9 {
        pair.age(if part == 1 { 4_000 } else { 30 });
    }
}

/// A flow's second packet, of an otherwise plain service; whether a glance was enough for its third.
fn third_is_glanced_at(change: impl Fn(&mut World), entry: ServiceEntry) -> bool {
    let mut world = World::default().pool("203.0.113.10:8000", 6, entry, &[(1, "10.0.0.1:9000"), (2, "10.0.0.2:9000")]);
    change(&mut world);
    let mut pair = Pair::new(&world);
    let packet = |flags| tcp(at("192.0.2.7:40000"), at("203.0.113.10:8000"), flags, b"");
    pair.see(&packet(Flags::Syn), Hook::Xdp(WIRE));
    pair.see(&packet(Flags::Ack), Hook::Xdp(WIRE));
    let before = pair.0[0].glanced.get();
    pair.see(&packet(Flags::Data), Hook::Xdp(WIRE));
    pair.compare();
    pair.0[0].glanced.get() > before
}

#[test]
fn a_flag_of_service_or_host_keeps_packets_on_the_full_way() {
    assert!(third_is_glanced_at(|_| {}, service_entry(1)));
    assert!(!third_is_glanced_at(|_| {}, ServiceEntry { flags: SERVICE_SLOW, ..service_entry(1) }));
    assert!(!third_is_glanced_at(|world| world.host.flags |= HOST_SLOW, service_entry(1)));
}
