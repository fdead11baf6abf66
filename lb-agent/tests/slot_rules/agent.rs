//! The agent's side: the ring's transitions and the sweeps that move them on.

use std::time::Duration;

use lb_agent::pure::model::Tracking;
use lb_agent::pure::sweep::SlotSet;
use lb_agent::pure::transition::{GRACE, RingState, Rules, Swept};
use lb_common::flow::FlowEntry;
use lb_common::slot::{Owner, slot_of};
use lb_common::sweep::{Judgement, judge};

use crate::story::{Broken, Mode};
use crate::world::{IDLE, World, fold};

/// One agent process.
pub(crate) struct Agent {
    pub(crate) ring: RingState,
    broken: Option<Broken>,
    sweep: Option<Sweep>,
    /// Refusals that the counters showed when they were last read.
    refusals: u64,
    /// Silent owners whose entries must go before they may be alive again, and since when they are silent.
    pub(crate) purge: Vec<(Owner, Duration)>,
}

/// A sweep under way.
struct Sweep {
    started: Duration,
    blocked: SlotSet,
    forget: Option<SlotSet>,
    purge: Vec<Owner>,
    /// Places that it has visited.
    done: usize,
}

impl Agent {
    pub(crate) fn rules(mode: Mode, broken: Option<Broken>) -> Rules {
        let tracking = if mode.is_full { Tracking::Full } else { Tracking::Minimal };
        let idle = if broken == Some(Broken::SettlesEarly) { Duration::ZERO } else { IDLE };
        Rules { tracking, idle, owner_is_in_table: mode.select >= lb_common::service::SELECT_ROUND_ROBIN }
    }

    /// A process that finds what the last one left: it remembers nothing of it.
    pub(crate) fn start(world: &mut World, mode: Mode, broken: Option<Broken>, purge: Vec<(Owner, Duration)>) -> Self {
        let values: Vec<u32> = world.slots.iter().map(|s| s.0).collect();
        let (ring, stores) = RingState::adopt(&values, Self::rules(mode, broken), false, world.now);
        world.store(&stores);
        Self { ring, broken, sweep: None, refusals: world.refusals.get(), purge }
    }

    /// Begins a sweep, carries it on, or ends it and draws the conclusions; which of these.
    pub(crate) fn sweep_on(&mut self, world: &mut World) -> &'static str {
        let Some(mut sweep) = self.sweep.take() else {
            self.sweep = Some(self.begin_sweep(world.now));
            return "begins";
        };
        let places = world.entries().count();
        let until = if sweep.done == 0 { places / 2 } else { places };
        for cell in world.entries().take(until).skip(sweep.done) {
            visit(world, &mut sweep, cell);
        }
        sweep.done = until;
        if until < places {
            self.sweep = Some(sweep);
            return "goes on";
        }
        self.end_sweep(world, &sweep);
        "ends"
    }

    fn begin_sweep(&mut self, now: Duration) -> Sweep {
        let forget = self.ring.to_forget(now).cloned();
        let purge = self.purge.iter().filter(|(_, since)| now >= *since + GRACE).map(|(owner, _)| *owner).collect();
        Sweep { started: now, blocked: SlotSet::default(), forget, purge, done: 0 }
    }

    fn end_sweep(&mut self, world: &mut World, sweep: &Sweep) {
        let now = world.now;
        let refusals = world.refusals.get();
        if refusals != self.refusals && self.broken != Some(Broken::IgnoresRefusals) {
            self.ring.note_refusals(now);
        }
        self.refusals = refusals;
        self.purge.retain(|(owner, _)| !sweep.purge.contains(owner));
        if sweep.forget.is_some() {
            self.ring.forgotten(now);
        }
        let nothing = SlotSet::default();
        let blocked = if self.broken == Some(Broken::SettlesBlindly) { &nothing } else { &sweep.blocked };
        let stores = self.ring.settle(Swept { started: sweep.started, blocked }, now);
        world.store(&stores);
    }
}

/// What a sweep does with one entry: the same judgement as the agent's edge makes.
fn visit(world: &World, sweep: &mut Sweep, cell: &std::cell::Cell<u64>) {
    let entry = FlowEntry(cell.get());
    if entry.is_free() {
        return;
    }
    let slot = fold(slot_of(entry.tag(), false));
    let slot_number = u32::try_from(slot).expect("a few slots");
    // In transition again: the entry may be a new one.
    let is_settled = !world.slots[slot].in_transition();
    let is_forgotten = is_settled && sweep.forget.as_ref().is_some_and(|set| set.contains(slot_number));
    let judgement = judge(entry, world.ticks(), &world.service);
    if judgement == Judgement::Expire || is_forgotten || sweep.purge.contains(&entry.owner()) {
        cell.set(0);
    } else if judgement != Judgement::Ended
        && world.is_alive(entry.owner())
        && entry.owner() != world.slots[slot].current()
    {
        sweep.blocked.insert(slot_number);
    }
}
