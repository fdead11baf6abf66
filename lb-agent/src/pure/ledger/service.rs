//! One service as the agent knows it: its pool, its ring, and how the one follows the other.

use std::time::Duration;

use lb_common::admission::Refusals;
use lb_common::slot::Owner;

use super::event::Event;
use super::member::{Member, Phase};
use crate::pure::health::{Health, HealthChange};
use crate::pure::limits;
use crate::pure::maglev;
use crate::pure::model::{ProbeKind, Select, ServiceSpec, Tracking};
use crate::pure::panic;
use crate::pure::slow_start;
use crate::pure::sweep::SweepReport;
use crate::pure::tables::ServiceId;
use crate::pure::transition::{RingState, Rules, Stores, Swept};
use crate::pure::wanted::WantedBackend;

/// No packet that began before a change of the maps is still under way after this long.
pub(super) const PACKETS_DONE: Duration = Duration::from_millis(50);

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Index of its ring, schedule and cursor.
    pub id: ServiceId,
    /// What the operator wants.
    pub spec: ServiceSpec,
    /// Its pool, departing backends included.
    pub members: Vec<Member>,
    /// Its ring.
    pub ring: RingState,
    /// Turns of round_robin.
    pub turns: Vec<Owner>,
    /// Whether too few are up and flows go to all that have ever been.
    pub panic: bool,
    /// What its limits have refused since load.
    pub refusals: Refusals,
    /// Who has slots, with which weight: what the ring was last made for.
    pub(super) serving: Vec<maglev::Member>,
    /// When slots that a failure has left uneven are evened out.
    pub(super) rebalance_at: Option<Duration>,
    /// The ring and the turns are to be made anew, by [`Service::rebuild`].
    pub(super) is_stale: bool,
    /// The map has no ring yet: it is made with all slots as they are then.
    is_unmade: bool,
    /// Slots that the map does not have yet, in the order in which they changed.
    stores: Stores,
}

impl Service {
    /// A service whose ring is as given, in or out of transition.
    pub(super) fn new(id: ServiceId, spec: ServiceSpec, members: Vec<Member>, ring: RingState, stores: Stores) -> Self {
        Self {
            id,
            spec,
            members,
            ring,
            turns: Vec::new(),
            panic: false,
            refusals: Refusals::default(),
            serving: Vec::new(),
            rebalance_at: None,
            is_stale: false,
            is_unmade: false,
            stores,
        }
    }

    /// The same where the maps have never had a ring for it.
    pub(super) fn unmade(id: ServiceId, spec: ServiceSpec, ring: RingState) -> Self {
        Self { is_unmade: true, ..Self::new(id, spec, Vec::new(), ring, Stores::new()) }
    }

    /// The member with this owner.
    pub fn member(&self, owner: Owner) -> Option<&Member> {
        self.members.iter().find(|m| m.owner == owner)
    }

    /// Takes the operator's wishes in, all but the pool.
    pub(super) fn set_spec(&mut self, spec: &ServiceSpec, now: Duration) {
        if rules(&self.spec) != rules(spec) {
            let stores = self.ring.set_rules(rules(spec), now);
            self.store(stores);
        }
        if self.spec.health.kind != spec.health.kind {
            self.members.iter_mut().for_each(|m| m.round += 1);
        }
        if self.spec.select != spec.select || limits::is_capped(&self.spec) != limits::is_capped(spec) {
            // Turns are made together with the ring.
            self.rebalance_at = Some(now);
        }
        self.spec.clone_from(spec);
    }

    /// Continues where the maps are: who has slots serves.
    pub(super) fn resume(&mut self, now: Duration) {
        self.serving = self.shares(now);
        // The ring may be one that a failure has left uneven, and turns are not read back.
        self.rebalance_at = Some(now);
    }

    /// Whoever is in the pool but not wanted starts to leave.
    pub(super) fn depart_all_but(&mut self, wanted: &[WantedBackend], now: Duration, events: &mut Vec<Event>) {
        let timeout = self.spec.drain_timeout;
        for m in self.members.iter_mut().filter(|m| !wanted.iter().any(|w| w.addr == m.addr)) {
            if !matches!(m.phase, Phase::Draining { remove: true, .. }) {
                m.drain(now, timeout, true);
                events.push(Event::info(format!(
                    "backend {} draining, then removed (service {})",
                    m.addr, self.spec.name
                )));
            }
        }
    }

    /// A new backend: it serves after its first passed probe.
    pub(super) fn join(&mut self, member: Member, events: &mut Vec<Event>) {
        events.push(Event::info(format!(
            "backend {} added with weight {} (service {})",
            member.addr, member.weight, self.spec.name
        )));
        self.members.push(member);
    }

    /// Moves a backend towards what is wanted of it.
    pub(super) fn steer(&mut self, wanted: &WantedBackend, now: Duration, events: &mut Vec<Event>) {
        let unprobed = self.needs_no_probe();
        let Some(m) = self.members.iter_mut().find(|m| m.addr == wanted.addr) else { return };
        m.origin = wanted.origin;
        m.server_id = self.spec.quic.as_ref().map(|quic| quic.server_id(wanted.addr));
        if m.weight != wanted.weight {
            events.push(Event::info(format!(
                "backend {} weight {} -> {} (service {})",
                m.addr, m.weight, wanted.weight, self.spec.name
            )));
            m.weight = wanted.weight;
        }
        if let Some(text) = m.intend(wanted.intent, now, self.spec.drain_timeout) {
            events.push(Event::info(format!("backend {} {text} (service {})", m.addr, self.spec.name)));
        }
        if unprobed && m.phase == Phase::Serving && !m.is_up() {
            m.health = Health::Up;
            m.ever_up = true;
            "not probed (health kind none)".clone_into(&mut m.reason);
        }
    }

    /// Lists the pool as it is wanted, then whoever is leaving.
    pub(super) fn order_by(&mut self, wanted: &[WantedBackend]) {
        let place = |m: &Member| wanted.iter().position(|w| w.addr == m.addr).unwrap_or(usize::MAX);
        self.members.sort_by_cached_key(place);
    }

    /// Takes a probe's judgement in; what there is to tell.
    pub(super) fn health(&mut self, owner: Owner, change: &HealthChange, now: Duration) -> Option<Event> {
        let name = self.spec.name.clone();
        let member = self.members.iter_mut().find(|m| m.owner == owner)?;
        if !member.is_probed() {
            return None;
        }
        member.judge(change, now);
        let (addr, up) = (member.addr, member.is_up());
        let left = self.members.iter().filter(|m| m.is_up()).count();
        let of = self.members.iter().filter(|m| m.is_probed()).count();
        let text = format!(
            "backend {addr} {}: {} (service {name}, {left} of {of} up)",
            if up { "up" } else { "down" },
            change.reason
        );
        Some(if up { Event::info(text) } else { Event::warn(text) })
    }

    pub(super) fn store(&mut self, stores: Stores) {
        if self.is_unmade {
            return;
        }
        if self.stores.is_empty() {
            self.stores = stores;
        } else {
            self.stores.extend(stores);
        }
    }

    pub(super) fn is_panic(&self) -> bool {
        let candidates = self.members.iter().filter(|m| m.phase == Phase::Serving && m.weight > 0);
        panic::is_panic(self.spec.health.panic_percent, candidates.map(candidate))
    }

    /// Who takes new flows now, and how much, in hundredths of a weight: up (in panic: has ever been up), not draining,
    /// alive.
    pub(super) fn shares(&self, now: Duration) -> Vec<maglev::Member> {
        let serves = |m: &&Member| m.phase == Phase::Serving && m.is_alive() && panic::serves(candidate(m), self.panic);
        self.members
            .iter()
            .filter(serves)
            .map(|m| maglev::Member {
                key: maglev::identity(&m.addr),
                owner: m.owner,
                weight: slow_start::scaled_weight(m.weight, self.share_percent(m, now)),
            })
            .filter(|m| m.weight > 0)
            .collect()
    }

    /// Per cent of its weight that a member is given now: all of it, or less while it starts slowly.
    pub fn share_percent(&self, m: &Member, now: Duration) -> u8 {
        match m.up_since {
            Some(since) if !self.panic => slow_start::percent(since, self.spec.health.slow_start, now),
            _ => 100,
        }
    }

    /// Whether a member takes new flows now.
    pub fn is_serving(&self, m: &Member) -> bool {
        self.serving.iter().any(|s| s.owner == m.owner)
    }

    /// Takes a sweep in: counts, settled slots, drains that have ended. Members that are to go, and what there is to tell.
    pub(super) fn swept(&mut self, report: &SweepReport, now: Duration) -> (Vec<Owner>, Vec<Event>) {
        let mut is_untracked = false;
        for m in &mut self.members {
            m.flows = report.flows.get(&m.owner).copied().unwrap_or_default();
            let before = std::mem::replace(&mut m.counters, report.counters.get(&m.owner).copied().unwrap_or_default());
            is_untracked |= before.refused < m.counters.refused || before.evicted < m.counters.evicted;
        }
        if let Some(refusals) = report.refusals.get(&self.id) {
            self.refusals = *refusals;
        }
        if is_untracked {
            self.ring.note_refusals(now);
        }
        if let Some(blocked) = report.blocked.get(&self.id) {
            let stores = self.ring.settle(Swept { started: report.started, blocked }, now);
            self.store(stores);
        }
        if report.forgot.contains(&self.id) {
            self.ring.forgotten(now);
        }
        self.end_drains(report.started, now)
    }

    fn end_drains(&mut self, swept: Duration, now: Duration) -> (Vec<Owner>, Vec<Event>) {
        let (mut gone, mut events) = (Vec::new(), Vec::new());
        let idle = self.spec.idle_timeout();
        let all_tracked = self.ring.is_all_tracked(now);
        for m in &mut self.members {
            let Phase::Draining { since, deadline, remove } = m.phase else {
                continue;
            };
            let seen = swept > since + PACKETS_DONE;
            let empty = seen && m.flows.active + m.flows.half_open + m.flows.adopted == 0;
            // Where some flow may be untracked, only its silence for one idle timeout shows that it has ended.
            let ended = m.dead_since.is_some() || empty && (all_tracked || now >= since + idle);
            if !ended && now < deadline {
                continue;
            }
            let cut = if ended { 0 } else { m.flows_at_stake() };
            let took = now.saturating_sub(since);
            let end = format!("{} after {}", if cut > 0 { "cut" } else { "drained" }, Event::seconds(took));
            let text = format!("backend {} {end}, {cut} flows cut (service {})", m.addr, self.spec.name);
            events.push(if cut > 0 { Event::warn(text) } else { Event::info(text) });
            if remove {
                gone.push(m.owner);
            } else {
                m.phase = Phase::Drained { took, cut };
                m.reason = end;
            }
        }
        (gone, events)
    }

    /// Takes a member out for good: its slots go at once, its flows are let go. Its owner must be retired.
    pub(super) fn remove(&mut self, owner: Owner, now: Duration) {
        self.members.retain(|m| m.owner != owner);
        self.serving.retain(|s| s.owner != owner);
        let wanted = maglev::build(&self.serving);
        let stores = self.ring.bereave(owner, &wanted, now);
        self.store(stores);
        let stores = self.ring.retarget(&wanted, now);
        self.store(stores);
    }

    /// Slots that the map does not have yet. From here on it has a ring: one that was unmade is made by the plan that asks.
    pub(super) fn take_stores(&mut self) -> Stores {
        self.is_unmade = false;
        std::mem::take(&mut self.stores)
    }

    /// The map's slots as read back; whatever differs is stored again.
    pub(super) fn compare(&mut self, slots: &[u32]) {
        self.is_unmade = false;
        let differ = (0_u32..).zip(self.ring.values()).filter(|(i, v)| slots.get(*i as usize) != Some(v));
        self.stores = differ.collect();
    }

    /// Whether members of this service count as up without probes.
    pub(super) fn needs_no_probe(&self) -> bool {
        matches!(self.spec.health.kind, ProbeKind::None)
    }

    /// When something changes by itself, if nothing else happens.
    pub(super) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let serving = self.members.iter().filter(|m| m.phase == Phase::Serving);
        let ramps = serving
            .filter_map(|m| m.up_since)
            .filter_map(|since| slow_start::next_step(since, self.spec.health.slow_start, now));
        let tracked = self.ring.all_tracked_from().filter(|at| *at > now);
        self.rebalance_at.into_iter().chain(ramps).chain(tracked).min()
    }
}

const fn candidate(m: &Member) -> panic::Candidate {
    panic::Candidate { health: m.health, ever_up: m.ever_up }
}

/// What the ring's rules depend on in a service's specification.
pub(super) fn rules(spec: &ServiceSpec) -> Rules {
    Rules {
        tracking: spec.tracking,
        idle: spec.idle_timeout(),
        owner_is_in_table: matches!(spec.select, Select::RoundRobin | Select::LeastConn)
            || limits::is_capped(spec)
            || (spec.quic.is_some() && spec.tracking == Tracking::Full),
    }
}
