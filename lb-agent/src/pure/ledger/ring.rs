//! How a service's ring follows its pool: at once where somebody has failed, made anew in its own time otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::slot::{NOBODY, Owner};

use super::member::{Member, Phase};
use super::service::{PACKETS_DONE, Service};
use crate::pure::health::Health;
use crate::pure::limits;
use crate::pure::maglev;
use crate::pure::model::{OnDown, Protocol, Select};
use crate::pure::schedule;

/// After a failure the ring returns to the canonical one no sooner than this: a rack that fails together is redistributed
/// once, and a backend that is restarted quickly finds its slots' neighbours where it left them.
const REBALANCE_AFTER: Duration = Duration::from_secs(5);

impl Service {
    /// Lets the ring follow at once what cannot wait: whoever has failed loses its slots to those who serve. The rest waits for
    /// [`Self::rebuild`]. Cheap when nothing has changed. Owners whose backend entry may have changed.
    pub(super) fn look(&mut self, now: Duration, swept: Duration) -> Vec<Owner> {
        let mut touched = self.follow_pool(now, swept);
        // Up again and not alive yet: its weight grows before it has any slot.
        let grows = |m: &&Member| m.up_since.is_some() && !m.is_alive();
        touched.extend(self.members.iter().filter(grows).map(|m| m.owner));
        touched
    }

    fn follow_pool(&mut self, now: Duration, swept: Duration) -> Vec<Owner> {
        let mut touched = self.settle_lives(now, swept);
        let next = self.shares(now);
        self.is_stale |= self.rebalance_at.is_some_and(|at| now >= at);
        if next == self.serving && touched.is_empty() {
            return touched;
        }
        let before = std::mem::take(&mut self.serving);
        let weights: BTreeMap<Owner, u32> = next.iter().map(|m| (m.owner, m.weight)).collect();
        touched.extend(before.iter().filter(|m| weights.get(&m.owner) != Some(&m.weight)).map(|m| m.owner));
        touched.sort_unstable();
        touched.dedup();
        let lost: Vec<Owner> = touched.iter().copied().filter(|o| self.is_lost(*o, &weights)).collect();
        for owner in &lost {
            self.hand_over(*owner, &next, now);
        }
        self.serving = before;
        if !lost.is_empty() {
            self.serving.retain(|m| !lost.contains(&m.owner));
            self.turns = self.turns_of(&self.serving);
            self.rebalance_at = Some(now + REBALANCE_AFTER);
        }
        let have_failed = lost.iter().all(|o| self.member(*o).is_some_and(has_failed));
        if self.serving != next || !have_failed {
            let served: BTreeSet<Owner> = self.serving.iter().map(|m| m.owner).collect();
            touched.extend(next.iter().filter(|m| !served.contains(&m.owner)).map(|m| m.owner));
            self.is_stale = true;
        }
        touched
    }

    /// Whether an owner has slots that it must lose at once.
    fn is_lost(&self, owner: Owner, serving: &BTreeMap<Owner, u32>) -> bool {
        !serving.contains_key(&owner) && self.member(owner).is_some_and(|m| !m.is_alive() || has_failed(m))
    }

    /// Gives a failed member's slots to those who serve.
    fn hand_over(&mut self, owner: Owner, to: &[maglev::Member], now: Duration) {
        let Some(member) = self.member(owner) else { return };
        let (key, is_dead) = (maglev::identity(&member.addr), !member.is_alive());
        let stores = self.ring.hand_over(owner, is_dead, |slots| maglev::stand_ins(to, slots, key), now);
        self.store(stores);
    }

    /// Whether the ring waits to be made anew.
    pub(super) const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Makes the ring and the turns anew for who serves now: a millisecond or two.
    pub(super) fn rebuild(&mut self, now: Duration) {
        let next = self.shares(now);
        let wanted = maglev::build(&next);
        // Slots of an empty pool have no flows to wait for.
        let dead = self.members.iter().filter(|m| !m.is_alive()).map(|m| m.owner);
        for owner in [NOBODY].into_iter().chain(dead).collect::<Vec<_>>() {
            let stores = self.ring.bereave(owner, &wanted, now);
            self.store(stores);
        }
        let stores = self.ring.retarget(&wanted, now);
        self.store(stores);
        self.turns = self.turns_of(&next);
        self.serving = next;
        self.rebalance_at = None;
        self.is_stale = false;
    }

    fn turns_of(&self, members: &[maglev::Member]) -> Vec<Owner> {
        match self.spec.select {
            Select::RoundRobin => schedule::build(members),
            // Where a new flow looks for a place when its own backend has none.
            _ if limits::is_capped(&self.spec) => schedule::build(&alike(members)),
            _ => Vec::new(),
        }
    }

    /// Decides whose flows are let go, and who may have flows again: after a death only when a sweep has removed every entry
    /// that names it, else flows that have moved on would be called back.
    /// Owners for which that has changed.
    fn settle_lives(&mut self, now: Duration, swept: Duration) -> Vec<Owner> {
        let on_down = match (self.spec.health.on_down, self.spec.key.protocol) {
            // No kernel answers for established flows of UDP: whatever the probes met, nobody is there for them.
            (OnDown::Auto, Protocol::Udp) => OnDown::Move,
            (on_down, _) => on_down,
        };
        let panic = self.is_panic();
        self.panic = panic;
        let mut changed = Vec::new();
        for m in &mut self.members {
            let gone = match m.phase {
                Phase::Disabled | Phase::Drained { .. } => true,
                Phase::Serving => m.lets_flows_go(on_down) && !(panic && m.ever_up),
                Phase::Draining { .. } => m.lets_flows_go(on_down),
            };
            match (gone, m.dead_since) {
                (true, None) => m.dead_since = Some(now),
                (false, Some(since)) if swept > since + PACKETS_DONE => m.dead_since = None,
                _ => continue,
            }
            changed.push(m.owner);
        }
        changed
    }
}

/// The same members, each with one turn.
fn alike(members: &[maglev::Member]) -> Vec<maglev::Member> {
    members.iter().map(|m| maglev::Member { weight: 1, ..*m }).collect()
}

fn has_failed(m: &Member) -> bool {
    m.phase == Phase::Serving && matches!(m.health, Health::Down(_))
}
