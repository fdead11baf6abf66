//! Rounds over cases: the kernel's own statistics of a program's runs, and frames that came back.
//!
//! Each case is measured in several short rounds, all cases in turn, and each time beside the floor, so that what disturbs the
//! machine disturbs both. Costs are measured with the statistics on, rates with them off: reading the clock twice a run costs
//! more than the floor itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::programs::ProgramInfo;
use aya::sys::{Stats, enable_stats};
use lb_agent::pure::sweep::SweepReport;
use lb_common::stats::OwnerCounters;
use nix::time::{ClockId, clock_gettime};

use super::case::{Case, Kind, MOST_FLOWS, Service};
use super::control::{DATA_FRAMES, FRAMES, MOVED};
use super::device::{Device, EPOCH_SHIFT, total};
use super::generator::{Check, Generator, Sent, Traffic, cpu_time};
use super::peer::Peer;
use super::report::{Flood, Program, Round, Row, Syns};
use super::wire::Wires;

/// How long, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Over all rounds of a case, the floor beside it included.
    pub time: Duration,
    /// Rounds.
    pub rounds: u32,
    /// Flows that the tables are made for.
    pub capacity: u32,
    /// The peer's object, where its cases are measured.
    pub peer: Option<PathBuf>,
}

/// A round of a case is a cost and a rate, of the device and of the floor.
const PARTS: u32 = 4;

/// A service's flows, as far as its device has seen them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Warm {
    /// Flows that were opened.
    opened: u32,
    /// Flows that have been seen in `epoch`, slots settled, and in transition.
    seen: [u32; 2],
    epoch: u64,
}

/// What is measured.
enum Subject<'a> {
    Weir { device: Device<'a>, warm: Warm },
    Peer(Peer),
}

impl Subject<'_> {
    /// Interface that frames go out by.
    const fn near(&self) -> u32 {
        match self {
            Self::Weir { device, .. } => device.pair.near,
            Self::Peer(peer) => peer.pair.near,
        }
    }

    /// What the kernel knows of the program.
    fn info(&self) -> Result<ProgramInfo> {
        match self {
            Self::Weir { device, .. } => device.info(),
            Self::Peer(peer) => peer.info(),
        }
    }

    /// Data segments so far whose flow the peer's LRU did not know.
    fn lru_misses(&self) -> Result<Option<u64>> {
        match self {
            Self::Weir { .. } => Ok(None),
            Self::Peer(peer) => peer.misses().map(Some),
        }
    }
}

/// Cases that may share a table: a flood and SYNs leave theirs full of others' flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Steady,
    Syn,
    Flood,
}

/// Measures the cases, in rounds. `stopped` is asked between cases.
///
/// # Errors
/// [`Stopped`], or what the machine refused. Everything is taken down in either case.
pub fn run(cases: &[Case], plan: &Plan, stopped: &dyn Fn() -> bool) -> Result<Vec<Row>> {
    let wires = Wires::lay()?;
    let mut generator = Generator::load(&wires)?;
    let mut subjects = BTreeMap::new();
    let mut rows: Vec<Row> = Vec::new();
    for case in cases {
        let subject = match subjects.entry(key(case)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                if stopped() {
                    bail!(Stopped);
                }
                let subject = open(&wires, case, plan)?;
                generator.receive_on(subject.near())?;
                place.insert(subject)
            }
        };
        rows.push(Row::new(case.clone(), described(&subject.info()?)));
    }
    let part = plan.time / plan.rounds / PARTS;
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}: {} cases", plan.rounds, cases.len());
        for ((notes, case), row) in (0..).zip(cases).zip(&mut rows) {
            if stopped() {
                bail!(Stopped);
            }
            let subject = subjects.get_mut(&key(case)).context("opened above")?;
            Measurement { generator: &mut generator, subject, case, part, plan, notes, stopped }.round(row)?;
        }
    }
    Ok(rows)
}

fn open<'a>(wires: &'a Wires, case: &Case, plan: &Plan) -> Result<Subject<'a>> {
    match case.service {
        Some(service) => {
            let device = Device::open(wires, service, plan.capacity)?;
            Ok(Subject::Weir { device, warm: Warm::default() })
        }
        None => Ok(Subject::Peer(Peer::open(wires, plan.peer.as_deref().context("there is no peer's object")?)?)),
    }
}

/// A signal has come.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Stopped {}

fn key(case: &Case) -> (Option<Service>, Use) {
    let what = match case.kind {
        Kind::Syn => Use::Syn,
        Kind::Flood => Use::Flood,
        Kind::Data | Kind::Push | Kind::Transition | Kind::Sweep => Use::Steady,
    };
    (case.service, what)
}

struct Measurement<'m, 'w> {
    generator: &'m mut Generator,
    subject: &'m mut Subject<'w>,
    case: &'m Case,
    part: Duration,
    plan: &'m Plan,
    /// Which part of the receiver's notes is this case's.
    notes: u8,
    stopped: &'m dyn Fn() -> bool,
}

impl<'w> Measurement<'_, 'w> {
    fn round(&mut self, row: &mut Row) -> Result<()> {
        match self.case.kind {
            Kind::Data | Kind::Push => self.steady(row, false),
            Kind::Transition => self.steady(row, true),
            Kind::Syn => self.syns(row),
            Kind::Flood => self.flood(row),
            Kind::Sweep => self.sweep(row),
        }
    }

    fn steady(&mut self, row: &mut Row, in_transition: bool) -> Result<()> {
        self.warm_up(in_transition)?;
        let traffic = self.case.traffic().unwrap_or(Traffic::Data(1));
        let (part, near) = (self.part, self.subject.near());
        let floor_ns = self.floor_cost(traffic)?;
        let missed = self.subject.lru_misses()?;
        let (ns, _) = self.cost(|generator| generator.send_for(traffic, Check::Off, near, part))?;
        if let Some((before, now)) = missed.zip(self.subject.lru_misses()?) {
            *row.lru_misses.get_or_insert_default() += now - before;
        }
        let floor_mpps = self.floor_rate(traffic)?;
        let mpps = self.rate(|generator| generator.send_for(traffic, Check::Off, near, part))?.0;
        row.rounds.push(Round { ns, floor_ns, mpps, floor_mpps });
        Ok(())
    }

    /// SYNs into an empty table, as many as it was made for: once for the cost, once for the rate.
    fn syns(&mut self, row: &mut Row) -> Result<()> {
        let (near, frames) = (self.subject.near(), self.plan.capacity);
        let send = |generator: &mut Generator| generator.send(Traffic::Syn, Check::Off, near, frames);
        let floor_ns = self.floor_cost(Traffic::Syn)?;
        let before = self.emptied()?;
        let (ns, sent) = self.cost(send)?;
        if let Some(before) = before {
            let report = self.device()?.sweep()?;
            let after = total(&report);
            let table_bytes = report.table.room * PLACE_BYTES;
            let syn = row.syn.get_or_insert(Syns { capacity: self.plan.capacity, table_bytes, ..Syns::default() });
            syn.sent += sent.syns;
            syn.opened += after.opened - before.opened;
            syn.refused += after.refused - before.refused;
            syn.evicted += after.evicted - before.evicted;
        }
        let floor_mpps = self.floor_rate(Traffic::Syn)?;
        let _before = self.emptied()?;
        let mpps = self.rate(send)?.0;
        row.rounds.push(Round { ns, floor_ns, mpps, floor_mpps });
        Ok(())
    }

    /// Counters of our own table, which is empty now; `None`: the peer's cannot be emptied, and it drops what it has not used.
    fn emptied(&mut self) -> Result<Option<OwnerCounters>> {
        let Subject::Weir { device, .. } = &mut *self.subject else { return Ok(None) };
        device.clear()?;
        Ok(Some(total(&device.sweep()?)))
    }

    /// Established flows among SYNs: what came back of them, where they went, and how many the table still knows.
    fn flood(&mut self, row: &mut Row) -> Result<()> {
        self.warm_up(false)?;
        let (part, near, flows) = (self.part, self.subject.near(), self.case.flows);
        let (calm, flood) = (Traffic::Data(flows), Traffic::Flood(flows));
        if row.flood.is_none() {
            // Where they go at rest; then more SYNs than the table has places.
            let _noted = self.generator.send(Traffic::Refresh(flows), Check::Note(self.notes), near, flows)?;
            let active_before = active(&self.device()?.sweep()?);
            let full = self.generator.send(Traffic::Syn, Check::Off, near, self.plan.capacity * 3)?;
            row.flood = Some(Flood { active_before, syns: full.syns, ..Flood::default() });
        }
        let floor_ns = self.floor_cost(flood)?;
        let floor_mpps = self.floor_rate(flood)?;
        let came = self.generator.received()?;
        let compare = Check::Compare(self.notes);
        let (ordinary_mpps, ordinary) = self.rate(|generator| generator.send_for(calm, compare, near, part))?;
        let (mpps, flooded) = self.rate(|generator| generator.send_for(flood, compare, near, part))?;
        let (ns, measured) = self.cost(|generator| generator.send_for(flood, compare, near, part))?;
        let now = self.generator.received()?;
        let active_after = active(&self.device()?.sweep()?);
        row.rounds.push(Round { ns, floor_ns, mpps, floor_mpps });
        let sum = row.flood.get_or_insert_default();
        let established_packets = now[DATA_FRAMES] - came[DATA_FRAMES];
        sum.syns += flooded.syns + measured.syns;
        sum.established_packets += established_packets;
        sum.moved += now[MOVED] - came[MOVED];
        sum.lost += (ordinary.data + flooded.data + measured.data).saturating_sub(established_packets);
        sum.active_after = active_after;
        sum.ordinary_mpps.push(ordinary_mpps);
        Ok(())
    }

    fn sweep(&mut self, row: &mut Row) -> Result<()> {
        self.warm_up(false)?;
        let began = cpu_time()?;
        let report = self.device()?.sweep()?;
        let took = cpu_time()?.saturating_sub(began);
        let sweep = row.sweep.get_or_insert_default();
        sweep.ms.push(took.as_secs_f64() * 1e3);
        sweep.active_flows = active(&report);
        sweep.places = report.table.room;
        Ok(())
    }

    fn device(&mut self) -> Result<&mut Device<'w>> {
        match self.subject {
            Subject::Weir { device, .. } => Ok(device),
            Subject::Peer(_) => bail!("{} has no table of ours", self.case.name),
        }
    }

    /// Opens the case's flows, and lets each be seen twice in the present epoch: what is measured then is a flow's usual packet.
    /// (At the rates measured here a flow's first packet of an epoch is one in thousands.)
    fn warm_up(&mut self, in_transition: bool) -> Result<()> {
        let (near, flows) = (self.subject.near(), self.case.flows);
        let (device, warm) = match self.subject {
            Subject::Weir { device, warm } => (device, warm),
            Subject::Peer(peer) => return peer.warm_up(self.generator, flows, self.stopped),
        };
        let epoch = epoch()?;
        if warm.epoch != epoch {
            *warm = Warm { seen: [0; 2], epoch, ..*warm };
        }
        if warm.opened < flows {
            device.set_transition(false)?;
            let _opened = self.generator.send(Traffic::Open(flows), Check::Off, near, flows)?;
            warm.opened = flows;
        }
        device.set_transition(in_transition)?;
        if warm.seen[usize::from(in_transition)] < flows {
            let _seen = self.generator.send(Traffic::Refresh(flows), Check::Off, near, 2 * flows)?;
            warm.seen[usize::from(in_transition)] = flows;
        }
        Ok(())
    }

    fn floor_cost(&mut self, traffic: Traffic) -> Result<f64> {
        let (near, part) = (self.generator.floor().near, self.part);
        let _while_on = enable_stats(Stats::RunTime)?;
        let before = self.generator.floor_info()?;
        let _sent = self.generator.send_for(traffic, Check::Off, near, part)?;
        Ok(ns_between(&before, &self.generator.floor_info()?))
    }

    fn cost(&mut self, send: impl FnOnce(&mut Generator) -> Result<Sent>) -> Result<(f64, Sent)> {
        let _while_on = enable_stats(Stats::RunTime)?;
        let before = self.subject.info()?;
        let sent = send(self.generator)?;
        Ok((ns_between(&before, &self.subject.info()?), sent))
    }

    fn floor_rate(&mut self, traffic: Traffic) -> Result<f64> {
        let (near, part) = (self.generator.floor().near, self.part);
        Ok(self.rate(|generator| generator.send_for(traffic, Check::Off, near, part))?.0)
    }

    /// Frames that came back, millions a second.
    fn rate(&mut self, send: impl FnOnce(&mut Generator) -> Result<Sent>) -> Result<(f64, Sent)> {
        let before = self.generator.received()?[FRAMES];
        let sent = send(self.generator)?;
        let millions = as_f64(self.generator.received()?[FRAMES] - before) / 1e6;
        Ok((millions / sent.took.as_secs_f64(), sent))
    }
}

fn active(report: &SweepReport) -> u64 {
    report.flows.values().map(|flows| flows.active).sum()
}

fn described(info: &ProgramInfo) -> Program {
    Program {
        instructions: info.size_translated().unwrap_or_default() / BYTES_PER_INSTRUCTION,
        jited_bytes: info.size_jitted(),
        verified: info.verified_instruction_count().unwrap_or_default(),
    }
}

const BYTES_PER_INSTRUCTION: u32 = 8;

/// Of one flow.
const PLACE_BYTES: u64 = 8;

/// Time of a run, ns; 0 where nothing ran.
fn ns_between(before: &ProgramInfo, after: &ProgramInfo) -> f64 {
    let runs = after.run_count() - before.run_count();
    let time = after.run_time() - before.run_time();
    time.as_secs_f64() * 1e9 / as_f64(runs.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^52")]
const fn as_f64(n: u64) -> f64 {
    n as f64
}

/// Number of the present epoch, as the packet path sees it.
fn epoch() -> Result<u64> {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    Ok((now.as_nanos() >> (lb_common::clock::TICK_SHIFT + EPOCH_SHIFT)).try_into()?)
}

const _: () = assert!(MOST_FLOWS <= super::control::MOST_FLOWS);
