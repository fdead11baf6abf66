use std::collections::BTreeSet;
use std::time::Duration;

use lb_common::slot::{NOBODY, Slot};
use proptest::prelude::*;

use super::*;
use crate::pure::command::BackendChange;
use crate::pure::desired::desired;
use crate::pure::health::{Health, HealthChange};
use crate::pure::ledger::Ledger;
use crate::pure::model::{FailKind, ProbeKind, Select};
use crate::pure::part::desired_part;
use crate::pure::sweep::{SlotSet, SweepReport};
use crate::pure::tables::{Endpoint, Observed};
use crate::pure::testing::spec;
use crate::pure::wanted::RuntimeChanges;

/// The maps as they are after some operations: tables and slots.
#[derive(Default)]
struct Maps {
    tables: Tables,
    slots: BTreeMap<ServiceId, Vec<u32>>,
}

impl Maps {
    fn apply(&mut self, op: &Op) {
        note(op, &mut self.tables);
        match op {
            Op::CreateRing(id, slots) => drop(self.slots.insert(*id, slots.clone())),
            Op::RemoveRing(id) => drop(self.slots.remove(id)),
            Op::StoreSlots(id, changes) => {
                let ring = self.slots.get_mut(id).expect("a store needs a ring");
                for (at, slot) in changes {
                    ring[*at as usize] = *slot;
                }
            }
            _ => {}
        }
    }

    /// Whoever is pointed at is there.
    fn check(&self) {
        for (at, service) in &self.tables.services {
            assert!(self.slots.contains_key(&service.id), "service {at:?} without a ring");
        }
        for (id, slots) in &self.slots {
            let owners: BTreeSet<u16> =
                slots.iter().flat_map(|s| [Slot(*s).current(), Slot(*s).previous()]).filter(|o| *o != NOBODY).collect();
            for owner in owners {
                assert!(self.tables.backends.contains_key(&owner), "ring {id} names {owner}, which has no entry");
            }
        }
        for (at, reply) in &self.tables.replies {
            assert!(self.tables.backends.contains_key(&reply.owner), "reply {at:?} names an owner without an entry");
        }
    }
}

/// Plans, carries out and checks after every operation; `crash_after` cuts the plan off and starts over by adoption.
fn converge(maps: &mut Maps, ledger: &mut Ledger, now: Duration, crash_after: Option<usize>) {
    let want = desired(ledger, now);
    let ops = plan(&maps.tables, &want, ledger.take_ring_changes(), |id| ledger.ring(id));
    let end = crash_after.map_or(ops.len(), |n| n.min(ops.len()));
    for op in &ops[..end] {
        maps.apply(op);
        maps.check();
    }
    if end < ops.len() {
        let observed = Observed { tables: maps.tables.clone(), slots: maps.slots.clone(), adopted: true };
        let (specs, changes) = (ledger.specs().to_vec(), ledger.changes().clone());
        *ledger = Ledger::adopt(specs, changes, &observed, &SweepReport::default(), now).expect("it fitted before");
        converge(maps, ledger, now, None);
    }
    let again = plan(&maps.tables, &desired(ledger, now), ledger.take_ring_changes(), |id| ledger.ring(id));
    assert_eq!(again, [], "applying twice changes nothing");
}

fn some_change(kind: u8) -> BackendChange {
    match kind % 8 {
        0 => BackendChange::Add { weight: 100 },
        1 => BackendChange::Remove { force: false },
        2 => BackendChange::Drain,
        3 => BackendChange::Undrain,
        4 => BackendChange::Weight { weight: 10 },
        5 => BackendChange::Disable,
        6 => BackendChange::Enable,
        _ => BackendChange::Weight { weight: 0 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_prefix_of_a_plan_leaves_nothing_that_points_at_nothing(
        steps in proptest::collection::vec((0..5_u8, any::<u8>(), proptest::option::of(0..12_usize)), 1..12),
        services in 1..3_u8,
    ) {
        let specs: Vec<_> = (0..services).map(|n| {
            let mut s = spec(&format!("s{n}"), &[1 + n * 10, 2 + n * 10]);
            s.key.port = 8_000 + u16::from(n);
            s
        }).collect();
        let mut now = Duration::from_secs(100);
        let mut maps = Maps::default();
        let mut ledger =
            Ledger::adopt(specs.clone(), RuntimeChanges::default(), &Observed::default(), &SweepReport::default(), now).expect("fits");
        converge(&mut maps, &mut ledger, now, Some(2));
        for (backend, kind, crash) in steps {
            now += Duration::from_secs(7);
            let addr = format!("10.0.0.{}:8000", backend + 1).parse().expect("an address");
            if kind > 240 {
                let fewer = ledger.specs().iter().skip(1).cloned().collect();
                ledger.want(fewer, ledger.changes().clone(), now).expect("fits");
            } else if let Ok(changes) = ledger.prepare("s0", addr, &some_change(kind)) {
                ledger.want(ledger.specs().to_vec(), changes, now).expect("fits");
            }
            converge(&mut maps, &mut ledger, now, crash);
            let report = SweepReport { started: now, walked_reply_maps: kind % 2 == 0, ..SweepReport::default() };
            now += Duration::from_secs(1);
            ledger.swept(&report, now);
            converge(&mut maps, &mut ledger, now, crash);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_judgements_sweeps_and_time_change_is_found_without_comparing_everything(
        steps in proptest::collection::vec((0..6_usize, 0..3_u8, 0..12_u64, any::<bool>()), 1..25),
        select in 0..3_u8,
        slow_start in 0..2_u64,
    ) {
        let specs: Vec<_> = (0..2_u8).map(|n| {
            let mut s = spec(&format!("s{n}"), &[1 + n * 10, 2 + n * 10, 3 + n * 10]);
            s.key.port = 8_000 + u16::from(n);
            s.health.kind = ProbeKind::Tcp;
            s.health.slow_start = Duration::from_secs(slow_start * 10);
            s.select = [Select::Maglev, Select::RoundRobin, Select::LeastConn][usize::from(select)];
            s
        }).collect();
        let mut now = Duration::from_secs(100);
        let mut maps = Maps::default();
        let mut ledger =
            Ledger::adopt(specs, RuntimeChanges::default(), &Observed::default(), &SweepReport::default(), now).expect("fits");
        converge(&mut maps, &mut ledger, now, None);
        let _ = ledger.take_changed();
        let owners: Vec<_> = ledger.services().values().flat_map(|s| &s.members).map(|m| m.owner).collect();
        for (backend, kind, seconds, sweeps) in steps {
            now += Duration::from_millis(700 * seconds);
            let to = match kind {
                0 => Health::Up,
                1 => Health::Down(FailKind::Silent),
                _ => Health::Down(FailKind::Answered),
            };
            ledger.health(owners[backend], &HealthChange { to, reason: String::new() }, now);
            ledger.look(now);
            if sweeps {
                let started = now.saturating_sub(Duration::from_millis(100));
                let blocked = ledger.sweep_request(now).in_transition.into_iter().map(|id| (id, SlotSet::default()));
                ledger.swept(&SweepReport { started, blocked: blocked.collect(), ..SweepReport::default() }, now);
            } else {
                ledger.look_at_all(now);
            }
            for is_rebuilt in [false, true] {
                if is_rebuilt {
                    ledger.tick(now);
                }
                let changed = ledger.take_changed();
                prop_assert!(!changed.everything);
                let part = desired_part(&ledger, &changed, maps.tables.epoch_shift, now);
                for op in plan_part(&maps.tables, part, ledger.take_ring_changes()) {
                    maps.apply(&op);
                    maps.check();
                }
                let rest = plan(&maps.tables, &desired(&ledger, now), RingChanges::default(), |id| ledger.ring(id));
                prop_assert_eq!(rest, []);
            }
            for (id, slots) in &maps.slots {
                prop_assert!(ledger.ring(*id).expect("a ring") == *slots);
            }
        }
    }
}

#[test]
fn a_service_is_written_last_and_removed_first() {
    let now = Duration::from_secs(100);
    let mut ledger = Ledger::adopt(
        vec![spec("web", &[1])],
        RuntimeChanges::default(),
        &Observed::default(),
        &SweepReport::default(),
        now,
    )
    .expect("fits");
    let want = desired(&ledger, now);
    let ops = plan(&Tables::default(), &want, ledger.take_ring_changes(), |id| ledger.ring(id));
    assert!(matches!(ops.last(), Some(Op::SetService(Endpoint::V4(_), _))), "{:?}", ops.last());
    let ops = plan(&want, &Tables::default(), RingChanges::default(), |_| None);
    assert!(matches!(ops.iter().find(|op| !matches!(op, Op::SetHost { .. })), Some(Op::RemoveService(_))));
}
