//! One random story, and the oracle that follows it.

use std::time::Duration;

use lb_common::flow::Segment;
use lb_common::service::SELECT_MAGLEV;
use lb_common::slot::{NOBODY, Owner, Slot, slot_of};
use lb_common::stats::Tally;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::agent::Agent;
use crate::packet::{Client, Frame};
use crate::world::{BACKENDS, IDLE, SLOTS, SYN, World, fold};

/// Events of one story.
const STEPS: usize = 400;

/// Events that the report of a fault ends with.
const TOLD: usize = 120;

/// What kind of service the story is about, and how hard its life is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) is_udp: bool,
    /// `tracking = "full"`, else minimal.
    pub(crate) is_full: bool,
    /// `SELECT_*`.
    pub(crate) select: u8,
    /// Share of new flows for which the table claims to have no room.
    pub(crate) refused_percent: u32,
    /// Buckets of the flow table; 2 are far too few.
    pub(crate) buckets: u32,
    /// Some packets are routed by slots that a CPU has read up to 8 ms ago. A flow that is refused in that very moment may
    /// move, so the mode is without refusals.
    pub(crate) sees_the_past: bool,
}

impl Mode {
    pub(crate) const FULL: Self = Self {
        is_udp: false,
        is_full: true,
        select: SELECT_MAGLEV,
        refused_percent: 0,
        buckets: 64,
        sees_the_past: false,
    };
}

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Rule 4 without asking for tracked flows of other owners.
    SettlesBlindly,
    /// Rule 4 without the idle timeout.
    SettlesEarly,
    /// Rule 4 without asking for refusals.
    IgnoresRefusals,
    /// Rule 2 without previous: misses go to current.
    ForgetsPrevious,
    /// Entries count as idle by their age alone, though a live flow's may be an epoch older than its silence.
    ExpiresEarly,
    /// A silent owner that returns while entries name it.
    KeepsTheDead,
}

/// A live flow, as its client knows it.
struct Flow {
    client: Client,
    owner: Owner,
    last: Duration,
    /// It has answered the server's SYN.
    is_confirmed: bool,
}

struct Story {
    rng: StdRng,
    mode: Mode,
    broken: Option<Broken>,
    world: World,
    agent: Agent,
    /// Backends that get new flows.
    serving: Vec<Owner>,
    flows: Vec<Flow>,
    /// Tuples whose flows are over.
    used: Vec<Client>,
    /// What happened, where somebody will read it.
    journal: Option<Vec<String>>,
}

/// Plays one story; an error says which flow moved, and how it came to that.
pub(crate) fn explore(seed: u64, mode: Mode, broken: Option<Broken>) -> Result<(), String> {
    Story::new(seed, mode, broken, None).play().map_err(|(fault, _)| {
        let (_, told) =
            Story::new(seed, mode, broken, Some(Vec::new())).play().expect_err("the same seed, the same story");
        format!("{fault}\n{}", told[told.len().saturating_sub(TOLD)..].join("\n"))
    })
}

impl Story {
    fn new(seed: u64, mode: Mode, broken: Option<Broken>, journal: Option<Vec<String>>) -> Self {
        let mut world = World::new(mode, broken);
        let agent = Agent::start(&mut world, mode, broken, Vec::new());
        let rng = StdRng::seed_from_u64(seed);
        let serving = (1..=BACKENDS).collect();
        Self { rng, mode, broken, world, agent, serving, flows: Vec::new(), used: Vec::new(), journal }
    }

    fn play(mut self) -> Result<(), (String, Vec<String>)> {
        for step in 0..STEPS {
            self.pass_time();
            if let Err(fault) = self.happen() {
                return Err((format!("step {step}: {fault}"), self.journal.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// From nothing (another CPU, the same moment) to a third of an idle timeout.
    fn pass_time(&mut self) {
        let up_to_ms = *[0, 8, 400, 400, 2_000, 7_000].choose(&mut self.rng).expect("not empty");
        self.world.now += Duration::from_millis(self.rng.random_range(0..=up_to_ms));
        let now = self.world.now;
        let is_over = |f: &Flow| now.saturating_sub(f.last) > if f.is_confirmed { IDLE } else { SYN };
        self.used.extend(self.flows.extract_if(.., |f| is_over(f)).map(|f| f.client));
    }

    fn happen(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..25 => self.open(),
            25..55 => return self.speak(),
            55..59 => return self.repeat_syn(),
            59..66 => self.end(),
            66..74 => self.change_ring(),
            74..90 => self.sweep(),
            90..92 => self.fall_silent(),
            92..94 => self.leave(),
            94..97 => self.come_back(),
            97..98 => self.crash(),
            _ => self.flood(),
        }
        Ok(())
    }

    /// Notes what happened, where somebody will read it.
    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            let slots = self.world.slots.iter().map(|s| match (s.in_transition(), s.aged()) {
                (false, _) => format!("{}", s.current()),
                (true, false) => format!("{}>{}", s.previous(), s.current()),
                (true, true) => format!("({}){}", s.previous(), s.current()),
            });
            let slots: Vec<String> = slots.collect();
            journal.push(format!("{:>10.3?} [{}] {}", self.world.now, slots.join(" "), what()));
        }
    }

    /// The owner that the packet path picks.
    fn packet(&mut self, client: Client, segment: Segment) -> Owner {
        let refuses = self.rng.random_ratio(self.mode.refused_percent, 100);
        let is_slow = self.mode.sees_the_past && client.port & 1 == 1;
        let view = self.world.view(is_slow, refuses);
        let forgetful: Vec<Slot>;
        let view = if self.broken == Some(Broken::ForgetsPrevious) {
            let forget =
                |s: &Slot| if s.in_transition() { Slot::settled(s.current()).change_to(s.current()) } else { *s };
            forgetful = view.slots().iter().map(forget).collect();
            view.with_slots(&forgetful)
        } else {
            view
        };
        let tag = self.world.tag(client);
        let entry = self.world.entry(tag);
        let outcome = view.receive(Frame::from_client(client, segment));
        self.tell(|| {
            let slot = fold(slot_of(tag, false));
            let entry = entry.map_or("no entry".into(), |e| format!("{:?} on {}", e.state(), e.owner()));
            let note = if outcome.tally.has(Tally::REFUSED) { ", refused" } else { "" };
            format!("slot {slot} flow {tag:08x} ({entry}): {segment:?} to {}{note}", outcome.owner)
        });
        outcome.owner
    }

    fn some_client(&mut self) -> Client {
        let is_again = self.rng.random_bool(0.3);
        if self.used.is_empty() || !is_again {
            return self.new_client();
        }
        self.used.swap_remove(self.rng.random_range(0..self.used.len()))
    }

    fn new_client(&mut self) -> Client {
        Client { addr: self.rng.random(), port: self.rng.random() }
    }

    /// A client opens a flow; where nobody serves, it gives up.
    fn open(&mut self) {
        let client = self.some_client();
        let segment = if self.mode.is_udp { Segment::Datagram } else { Segment::Syn };
        let owner = self.packet(client, segment);
        if owner == NOBODY || !self.world.is_alive(owner) {
            return self.used.push(client);
        }
        self.flows.push(Flow { client, owner, last: self.world.now, is_confirmed: self.mode.is_udp });
    }

    /// One of the live flows sends: it must reach its own backend.
    fn speak(&mut self) -> Result<(), String> {
        if self.flows.is_empty() {
            return Ok(());
        }
        let i = self.rng.random_range(0..self.flows.len());
        let segment = match (self.mode.is_udp, self.rng.random_ratio(1, 10)) {
            (true, _) => Segment::Datagram,
            (false, true) if self.flows[i].is_confirmed => Segment::Fin,
            _ => Segment::Data,
        };
        let client = self.flows[i].client;
        let owner = self.packet(client, segment);
        if self.mode.sees_the_past && !self.world.is_alive(owner) {
            return Ok(()); // Lost on its way to a backend that has just died: the client will repeat it.
        }
        let flow = &mut self.flows[i];
        if owner != flow.owner {
            let silence = self.world.now.saturating_sub(flow.last);
            let (was, tag) = (flow.owner, self.world.tag(client));
            return Err(format!("flow {tag:08x}, last heard {silence:?} ago, moved from {was} to {owner}"));
        }
        flow.last = self.world.now;
        flow.is_confirmed = true;
        Ok(())
    }

    /// A SYN is lost and sent again. A tracked flow keeps its owner; one that the table does not know may begin anew
    /// (`minimal`: across a ring change; `full`: it was refused).
    fn repeat_syn(&mut self) -> Result<(), String> {
        let Some(i) = self.flows.iter().position(|f| !f.is_confirmed) else { return Ok(()) };
        let client = self.flows[i].client;
        let tag = self.world.tag(client);
        let is_tracked = self.world.entry(tag).is_some();
        let owner = self.packet(client, Segment::Syn);
        if self.mode.sees_the_past && !self.world.is_alive(owner) {
            return Ok(());
        }
        let flow = &mut self.flows[i];
        if owner != flow.owner && is_tracked && self.mode.is_full {
            return Err(format!("a repeated SYN of flow {tag:08x} moved it from {} to {owner}", flow.owner));
        }
        if owner == NOBODY || !self.world.is_alive(owner) {
            let _ = self.flows.swap_remove(i);
            return Ok(());
        }
        (flow.owner, flow.last) = (owner, self.world.now);
        Ok(())
    }

    /// A flow ends: by RST, by both FINs in either order, or because its client vanishes.
    fn end(&mut self) {
        if self.flows.is_empty() {
            return;
        }
        let flow = self.flows.swap_remove(self.rng.random_range(0..self.flows.len()));
        match self.rng.random_range(0..4) {
            _ if self.mode.is_udp => {}
            0 => {
                let _ = self.packet(flow.client, Segment::Rst);
            }
            1 => {
                self.server_fin(&flow);
                let _ = self.packet(flow.client, Segment::Fin);
            }
            2 => {
                let _ = self.packet(flow.client, Segment::Fin);
                self.server_fin(&flow);
            }
            _ => {}
        }
        self.used.push(flow.client);
    }

    fn server_fin(&self, flow: &Flow) {
        let _ = self.world.view(false, false).receive(Frame::from_backend(flow.owner, flow.client, Segment::Fin));
    }

    /// A ring without anybody who does not serve; each slot's owner is drawn anew with some chance.
    fn some_ring(&mut self) -> Vec<Owner> {
        let owners: Vec<Owner> = self.agent_owners();
        let draw = |owner: Owner| match self.serving.choose(&mut self.rng) {
            None => NOBODY,
            Some(new) if !self.serving.contains(&owner) || self.rng.random_bool(0.5) => *new,
            Some(_) => owner,
        };
        owners.into_iter().map(draw).collect()
    }

    fn agent_owners(&self) -> Vec<Owner> {
        (0..SLOTS).map(|i| self.world.slots[i].current()).collect()
    }

    fn change_ring(&mut self) {
        let wanted = self.some_ring();
        let stores = self.agent.ring.retarget(&wanted, self.world.now);
        self.world.store(&stores);
        self.tell(|| format!("ring {wanted:?} wanted, {} slots stored", stores.len()));
    }

    fn sweep(&mut self) {
        let stage = self.agent.sweep_on(&mut self.world);
        self.tell(|| format!("sweep {stage}"));
    }

    /// A backend's host dies: its flows are lost, its slots go over at once.
    fn fall_silent(&mut self) {
        let living: Vec<Owner> = (1..=BACKENDS).filter(|o| self.world.is_alive(*o)).collect();
        let Some(&dead) = living.choose(&mut self.rng) else { return };
        self.world.set_alive(dead, false);
        self.serving.retain(|o| *o != dead);
        self.used.extend(self.flows.extract_if(.., |f| f.owner == dead).map(|f| f.client));
        let heirs = self.some_ring();
        let stores = self.agent.ring.bereave(dead, &heirs, self.world.now);
        self.world.store(&stores);
        self.agent.purge.push((dead, self.world.now));
        self.tell(|| format!("{dead} fell silent"));
    }

    /// A backend is drained, or refuses new flows while its kernel keeps the old ones.
    fn leave(&mut self) {
        let Some(&leaver) = self.serving.choose(&mut self.rng) else { return };
        self.serving.retain(|o| *o != leaver);
        let heirs = self.some_ring();
        let stores = self.agent.ring.move_off(leaver, &heirs, self.world.now);
        self.world.store(&stores);
        self.tell(|| format!("{leaver} leaves"));
    }

    /// A backend that was down or drained serves again; its slots come back by the next ring change.
    fn come_back(&mut self) {
        let keeps_the_dead = self.broken == Some(Broken::KeepsTheDead);
        let is_purged = |o: &Owner| keeps_the_dead || self.agent.purge.iter().all(|(dead, _)| dead != o);
        let away: Vec<Owner> = (1..=BACKENDS).filter(|o| !self.serving.contains(o) && is_purged(o)).collect();
        if let Some(&owner) = away.choose(&mut self.rng) {
            self.world.set_alive(owner, true);
            self.serving.push(owner);
            self.tell(|| format!("{owner} is back"));
        }
    }

    /// The agent is killed, perhaps half-way through storing a new ring, and its successor adopts what it finds.
    fn crash(&mut self) {
        let wanted = self.some_ring();
        let stores = self.agent.ring.retarget(&wanted, self.world.now);
        let done = self.rng.random_range(0..=stores.len());
        self.world.store(&stores[..done]);
        let purge = std::mem::take(&mut self.agent.purge);
        self.agent = Agent::start(&mut self.world, self.mode, self.broken, purge);
        self.tell(|| format!("crash, {done} of {} slots stored", stores.len()));
    }

    /// Clients that will never answer.
    fn flood(&mut self) {
        let segment = if self.mode.is_udp { Segment::Datagram } else { Segment::Syn };
        for _ in 0..6 {
            let client = self.new_client();
            let _ = self.packet(client, segment);
        }
    }
}
