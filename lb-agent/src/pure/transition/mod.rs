//! One service's ring over time: which slots are in transition, since when, and which may settle. Decides; others store.
//!
//! In: wanted rings, failures, what sweeps saw, all with their moments. Out: slots to store, as (index, value), each right
//! by itself. The rules are numbered as in the design; the words of a single slot are [`lb_common::slot`]'s.
//!
//! The one invariant: **in every slot, a live flow that the table does not know belongs to [`Slot::untracked`]**: previous
//! while the slot is young, current once it has aged or settled. A slot ages when one idle timeout has passed in which
//! nothing was refused: every live flow has spoken, so it is in the table. `tracking = "full"` ages without the wait where
//! nothing was refused for one idle timeout before the transition either: every flow is in the table from its first packet.
//! An aged slot settles when no live tracked flow disagrees with current; refusals do not delay that any more.
//!
//! Slots in transition are kept in cohorts that began together, so that a ring in which nothing moves costs nothing.

use std::time::Duration;

use lb_common::slot::{Owner, Slot};

use super::model::Tracking;
use super::sweep::SlotSet;

mod loss;
#[cfg(test)]
mod tests;

/// A CPU that has read a slot acts on it within this time: an RCU grace (8 ms measured) with room for a late store. What a
/// sweep saw counts only if it began so long after the last change.
pub const GRACE: Duration = Duration::from_millis(50);

/// Slots to store: (index, value).
pub type Stores = Vec<(u32, u32)>;

/// What the rules depend on in a service's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How much the flow table remembers.
    pub tracking: Tracking,
    /// The longest silence of a live flow.
    pub idle: Duration,
    /// round_robin, least_conn: the table routes and the ring serves untracked flows only, so that a tracked flow's owner
    /// need not be its slot's.
    pub owner_is_in_table: bool,
}

/// What a sweep tells about one ring.
#[derive(Clone, Copy, Debug)]
pub struct Swept<'a> {
    /// When it began. Refusals up to then are already noted.
    pub started: Duration,
    /// Slots in which a live tracked flow has an owner other than current.
    pub blocked: &'a SlotSet,
}

/// A service's ring and its transitions. All moments are `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub struct RingState {
    slots: Vec<Slot>,
    rules: Rules,
    /// Slots whose untracked flows are previous's, oldest transition first.
    young: Vec<Cohort>,
    /// Slots in transition whose untracked flows are current's.
    aged: Vec<u32>,
    /// The last moment at which a flow may have gone untracked; `None`: there was none since the service exists.
    last_refusal: Option<Duration>,
    /// The last moment at which any slot was changed.
    last_change: Duration,
    /// `minimal`: slots that have settled and whose entries are still in the table.
    forget: Forget,
}

/// Slots whose transition began together.
#[derive(Clone, Debug)]
struct Cohort {
    began: Duration,
    slots: Vec<u32>,
}

/// Slots on their way from settled to forgotten.
#[derive(Clone, Debug, Default)]
struct Forget {
    /// Settled since the last request.
    settled: SlotSet,
    /// When the latest of them did.
    at: Duration,
    /// Handed out, not yet reported as done.
    asked: Option<SlotSet>,
}

impl RingState {
    /// The ring of a service that is created at `now`; `owners` are all its slots. Whatever flows somebody else served until
    /// now, none of them has an owner here: the first packet of each brings it into the table.
    pub fn new(owners: &[Owner], rules: Rules, now: Duration) -> Self {
        Self::with_slots(owners.iter().map(|o| Slot::settled(*o)).collect(), rules, None, now)
    }

    /// The ring as it was found in its map at `now`: its transitions count from here, for nobody knows what was refused
    /// meanwhile. The second part is what must be stored at once (`none` has no transitions).
    ///
    /// `all_tracked`: nothing can have been refused, so that in `full` every flow is in the table.
    pub fn adopt(values: &[u32], rules: Rules, all_tracked: bool, now: Duration) -> (Self, Stores) {
        let mut ring =
            Self::with_slots(values.iter().map(|v| Slot(*v)).collect(), rules, (!all_tracked).then_some(now), now);
        ring.rank_all(now);
        if rules.tracking == Tracking::Minimal {
            ring.forget_all_settled(now);
        }
        let stores = ring.end_all_if_untracked(now);
        (ring, stores)
    }

    fn with_slots(slots: Vec<Slot>, rules: Rules, last_refusal: Option<Duration>, now: Duration) -> Self {
        Self {
            slots,
            rules,
            young: Vec::new(),
            aged: Vec::new(),
            last_refusal,
            last_change: now,
            forget: Forget::default(),
        }
    }

    /// The slots' values, as they lie in the map once every store is done.
    pub fn values(&self) -> Vec<u32> {
        self.slots.iter().map(|s| s.0).collect()
    }

    /// One slot; `None` beyond the ring's end.
    pub fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied()
    }

    /// Number of slots in transition.
    pub fn in_transition(&self) -> usize {
        self.aged.len() + self.young.iter().map(|c| c.slots.len()).sum::<usize>()
    }

    /// Whether any slot names this owner, as current or previous: while one does, its index may not be used again.
    pub fn is_named(&self, owner: Owner) -> bool {
        self.slots.iter().any(|s| s.current() == owner || s.previous() == owner)
    }

    /// Follows a changed configuration. A change of `tracking` counts as a refusal; where the table ceases to route, every
    /// slot is in transition from its owner to itself until tracked flows agree with the ring.
    pub fn set_rules(&mut self, rules: Rules, now: Duration) -> Stores {
        let old = std::mem::replace(&mut self.rules, rules);
        if old.tracking != rules.tracking {
            self.last_refusal = Some(now);
            if rules.tracking == Tracking::Minimal {
                self.forget_all_settled(now);
            }
        }
        let mut stores = self.end_all_if_untracked(now);
        if old.owner_is_in_table && !rules.owner_is_in_table {
            stores.extend(self.change(now, |_, slot| (!slot.in_transition()).then(|| slot.current())));
        }
        stores
    }

    /// A flow was refused or evicted at `now` or shortly before.
    pub fn note_refusals(&mut self, now: Duration) {
        self.last_refusal = self.last_refusal.max(Some(now));
    }

    /// Rules 2 and 3: every slot whose current owner is not the wanted one begins a transition or changes it. Slots
    /// beyond the end of `wanted` are left alone.
    ///
    /// Entries that a slot still waits to have forgotten ([`Self::to_forget`]) do no harm in its next transition: they name the
    /// owner on which it settled, which is now previous, as a flow without an entry would be. The sweep spares them, because
    /// by then it cannot tell them from new ones.
    pub fn retarget(&mut self, wanted: &[Owner], now: Duration) -> Stores {
        self.change(now, |i, slot| wanted.get(i).copied().filter(|w| *w != slot.current()))
    }

    /// Rule 4, after a sweep: aged slots settle where nothing live disagrees, young ones age where nothing live can be
    /// untracked. What has settled in `minimal` is to be forgotten.
    ///
    /// No slot does both at once: until it has aged, new flows may still go to previous (UDP's, and those that the table
    /// refuses), behind the sweep's back.
    pub fn settle(&mut self, swept: Swept<'_>, now: Duration) -> Stores {
        let mut stores = Stores::new();
        // Until then a CPU may have entered flows by an older slot.
        if self.in_transition() == 0 || swept.started < self.last_change + GRACE {
            return stores;
        }
        let may_settle = |slot: &mut u32| self.rules.owner_is_in_table || !swept.blocked.contains(*slot);
        let settled: Vec<u32> = self.aged.extract_if(.., may_settle).collect();
        let young = std::mem::take(&mut self.young);
        let may_age = |cohort: &Cohort| {
            let all_have_spoken = swept.started >= self.quiet_since(cohort.began) + self.rules.idle + GRACE;
            all_have_spoken || self.is_all_tracked(cohort.began)
        };
        let (ripe, young) = young.into_iter().partition(may_age);
        self.young = young;
        for i in &settled {
            self.store(*i, Slot::settle, &mut stores);
        }
        for i in ripe.into_iter().flat_map(|cohort: Cohort| cohort.slots) {
            self.store(i, Slot::age, &mut stores);
            self.aged.push(i);
        }
        self.note_changes(&stores, now);
        if self.rules.tracking == Tracking::Minimal && !settled.is_empty() {
            for i in settled {
                self.forget.settled.insert(i);
            }
            self.forget.at = now;
        }
        stores
    }

    /// `minimal`: slots whose entries the next sweep must delete; nothing keeps these entries true any more. The same set
    /// comes back until [`Self::forgotten`] says that a sweep with it has ended.
    pub fn to_forget(&mut self, now: Duration) -> Option<&SlotSet> {
        // A CPU that still sees the transition would miss an entry that is gone, and take its flow back to previous.
        if self.forget.asked.is_none() && !self.forget.settled.is_empty() && now >= self.forget.at + GRACE {
            self.forget.asked = Some(std::mem::take(&mut self.forget.settled));
        }
        self.forget.asked.as_ref()
    }

    /// The sweep that was given [`Self::to_forget`]'s set has ended.
    pub fn forgotten(&mut self, now: Duration) {
        if self.forget.asked.take().is_some() && self.rules.tracking == Tracking::Full {
            // The configuration has changed meanwhile: flows whose entries are gone are untracked until they speak.
            self.note_refusals(now);
        }
    }

    /// From when on a sweep may bring something forward; `None` where nothing is in transition or waits to be forgotten.
    /// A moment in the past means: something live still disagrees, sweep at the usual pace.
    pub fn next_deadline(&self) -> Option<Duration> {
        let young = self.young.iter().map(|cohort| {
            let idle = if self.is_all_tracked(cohort.began) { Duration::ZERO } else { self.rules.idle + GRACE };
            (self.quiet_since(cohort.began) + idle).max(self.last_change + GRACE)
        });
        let aged = (!self.aged.is_empty()).then(|| self.last_change + GRACE);
        let forget = (self.forget.asked.is_some() || !self.forget.settled.is_empty()).then(|| self.forget.at + GRACE);
        young.chain(aged).chain(forget).min()
    }

    /// `full`: nothing was refused for one idle timeout before a transition that began then, nor since: every flow that is
    /// older than it is in the table.
    pub fn is_all_tracked(&self, began: Duration) -> bool {
        let quiet = self.last_refusal.is_none_or(|last| last + self.rules.idle <= began);
        self.rules.tracking == Tracking::Full && quiet
    }

    /// `full`: from when on every live flow is in the table; `None` where none was refused.
    pub fn all_tracked_from(&self) -> Option<Duration> {
        self.last_refusal.map(|last| last + self.rules.idle)
    }

    /// The later of a transition's beginning and the last refusal.
    fn quiet_since(&self, began: Duration) -> Duration {
        self.last_refusal.map_or(began, |last| last.max(began))
    }

    /// Changes every slot for which `wanted` names an owner.
    fn change(&mut self, now: Duration, wanted: impl Fn(usize, Slot) -> Option<Owner>) -> Stores {
        // Counted first: growing step by step would cost more than all the rest.
        let count = self.slots.iter().enumerate().filter(|(n, slot)| wanted(*n, **slot).is_some()).count();
        let mut changes = Vec::with_capacity(count);
        let wishes = (0_u32..).zip(self.slots.iter().enumerate());
        changes.extend(wishes.filter_map(|(i, (n, slot))| Some((i, wanted(n, *slot)?))));
        self.change_slots(&changes, now)
    }

    /// Makes each of these owners the current one of the slot beside it. Slots come once each, and name another owner.
    fn change_slots(&mut self, changes: &[(u32, Owner)], now: Duration) -> Stores {
        let (mut stores, mut begun) = (Stores::with_capacity(changes.len()), Vec::with_capacity(changes.len()));
        let mut rejuvenated = false;
        for (i, owner) in changes {
            let slot = self.slots[*i as usize];
            let new = match self.rules.tracking {
                Tracking::None => Slot::settled(*owner),
                _ => slot.change_to(*owner),
            };
            if new.in_transition() {
                self.forget.recall(*i);
            }
            // A young slot stays in its cohort: previous is the same, and the idle timeout runs from the beginning.
            if new.in_transition() && (!slot.in_transition() || slot.aged()) {
                begun.push(*i);
                rejuvenated |= slot.aged();
            }
            self.slots[*i as usize] = new;
            stores.push((*i, new.0));
        }
        if rejuvenated {
            self.aged.retain(|i| self.slots[*i as usize].aged());
        }
        if !begun.is_empty() {
            self.young.push(Cohort { began: now, slots: begun });
        }
        self.note_changes(&stores, now);
        stores
    }

    fn store(&mut self, i: u32, change: impl Fn(Slot) -> Slot, stores: &mut Stores) {
        let slot = &mut self.slots[i as usize];
        *slot = change(*slot);
        stores.push((i, slot.0));
    }

    fn note_changes(&mut self, stores: &Stores, now: Duration) {
        if !stores.is_empty() {
            self.last_change = now;
        }
    }

    /// Sorts slots found in transition into young and aged ones.
    fn rank_all(&mut self, now: Duration) {
        let moving = (0_u32..).zip(&self.slots).filter(|(_, s)| s.in_transition());
        let (aged, young): (Vec<_>, Vec<_>) = moving.map(|(i, s)| (i, s.aged())).partition(|(_, aged)| *aged);
        self.aged = aged.into_iter().map(|(i, _)| i).collect();
        if !young.is_empty() {
            self.young.push(Cohort { began: now, slots: young.into_iter().map(|(i, _)| i).collect() });
        }
    }

    /// `none`: no flow is tracked, so that there is nothing to wait for.
    fn end_all_if_untracked(&mut self, now: Duration) -> Stores {
        let mut stores = Stores::new();
        if self.rules.tracking != Tracking::None {
            return stores;
        }
        let young = std::mem::take(&mut self.young).into_iter().flat_map(|c| c.slots);
        for i in young.chain(std::mem::take(&mut self.aged)).collect::<Vec<_>>() {
            self.store(i, Slot::settle, &mut stores);
        }
        self.forget = Forget::default();
        self.note_changes(&stores, now);
        stores
    }

    /// Entries of settled slots may date from before, when something else kept them true.
    fn forget_all_settled(&mut self, now: Duration) {
        for (i, _) in (0_u32..).zip(&self.slots).filter(|(_, s)| !s.in_transition()) {
            self.forget.settled.insert(i);
        }
        self.forget.at = now;
    }
}

impl Forget {
    /// The slot is in transition again: its entries count.
    fn recall(&mut self, slot: u32) {
        self.settled.remove(slot);
        if let Some(asked) = &mut self.asked {
            asked.remove(slot);
        }
    }
}
