//! THE single writer. Facts → ledger → desired → plan → apply → snapshot; and a full read-back from time to time.
//!
//! Nobody else calls `DataPlane::apply`. An operation that fails ends the round: the maps are read back and the next round
//! plans from what is there.

mod command;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::edge::dataplane::{DataPlane, DataPlaneError};
use crate::edge::journal::Journal;
use crate::pure::backoff::Backoff;
use crate::pure::command::{Command, Refusal, Reply};
use crate::pure::desired::{announced, desired};
use crate::pure::health::Health;
use crate::pure::ledger::{Ledger, Level, ProbeTarget};
use crate::pure::network::NetworkView;
use crate::pure::part::desired_part;
use crate::pure::plan::{note, plan, plan_part};
use crate::pure::report;
use crate::pure::snapshot::{AgentStatus, InterfaceStatus, LatencyStatus, ServiceStatus, Snapshot};
use crate::pure::tables::{Op, Tables};
use crate::pure::watch::Watches;
use crate::task::Fact;
use crate::task::announce::Announced;
use crate::task::clock::Clock;
use crate::task::publish::Publication;
use crate::task::sweep::SweepOrder;
use lb_common::slot::Owner;

/// Maps are compared with what they should contain this often: somebody else may have touched them.
const FULL_SYNC_EVERY: Duration = Duration::from_secs(60);

/// A map that refuses a write is tried again after this.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// And at least so often.
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Facts taken in at once.
const FACTS_AT_ONCE: usize = 1_024;

/// Facts taken in before the maps are written, at most: one round serves a whole burst, that of a start with as many backends as
/// fit on a host included.
const FACTS_A_ROUND: usize = 32_768;

/// A command and where its answer goes.
pub type Request = (Command, oneshot::Sender<Result<Reply, Refusal>>);

/// How the task ended.
#[derive(Debug)]
pub enum Exit {
    /// It was asked to stop; the packet path goes on.
    Stopped,
    /// It was asked to take everything away; whoever asked waits for the answer.
    Unload(oneshot::Sender<Result<Reply, Refusal>>),
}

/// Where the outcome goes.
#[derive(Debug)]
pub struct Outputs {
    /// To the API.
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    /// To the health task.
    pub targets: watch::Sender<BTreeMap<Owner, ProbeTarget>>,
    /// To the sweep task.
    pub sweeps: watch::Sender<SweepOrder>,
    /// To the netlink edge.
    pub watched: watch::Sender<std::collections::BTreeSet<IpAddr>>,
    /// To the announce task.
    pub announced: watch::Sender<Announced>,
}

/// Where everything comes from.
#[derive(Debug)]
pub struct Inputs {
    /// What happened.
    pub facts: mpsc::Receiver<Fact>,
    /// What operators ask.
    pub commands: mpsc::Receiver<Request>,
    /// This host's network.
    pub network: watch::Receiver<Arc<NetworkView>>,
}

/// What the status says of the agent and does not change by itself.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Version, process, program.
    pub agent: AgentStatus,
    /// How each interface is attached.
    pub interfaces: Vec<InterfaceStatus>,
}

/// The task's state.
pub struct Reconcile<D, J> {
    dataplane: D,
    journal: J,
    /// Reads the configuration file again.
    reload: Box<dyn Fn() -> Result<Config, String> + Send>,
    config: Config,
    ledger: Ledger,
    observed: Tables,
    identity: Identity,
    clock: Clock,
    outputs: Outputs,
    reconciles: u64,
    /// What is wrong now, by what was tried.
    problems: BTreeMap<&'static str, String>,
    backoff: Backoff,
    retry_at: Option<Duration>,
    synced_at: Duration,
    /// Everything is compared in the next round: one has failed, or the maps were read back.
    is_unsure: bool,
    /// Pools or the network have changed since others were told what to probe, watch and announce.
    is_news: bool,
    /// Judgements that a backend is down and whose slots are not stored yet: the earliest.
    down_since: Option<Duration>,
    reprogram: LatencyStatus,
    /// What is being shown next.
    publication: Option<Publication>,
    /// Something has changed since that was begun.
    is_outdated: bool,
}

impl<D: DataPlane, J: Journal> Reconcile<D, J> {
    /// A task that continues `ledger` on maps that contain `observed`.
    #[expect(clippy::too_many_arguments, reason = "the composition root names each part once")]
    pub fn new(
        dataplane: D,
        journal: J,
        reload: Box<dyn Fn() -> Result<Config, String> + Send>,
        config: Config,
        ledger: Ledger,
        observed: Tables,
        identity: Identity,
        clock: Clock,
        outputs: Outputs,
    ) -> Self {
        let synced_at = clock.now();
        Self {
            dataplane,
            journal,
            reload,
            config,
            ledger,
            observed,
            identity,
            clock,
            outputs,
            reconciles: 0,
            problems: BTreeMap::new(),
            backoff: Backoff::new(RETRY_FIRST, RETRY_MOST, u64::from(std::process::id())),
            retry_at: None,
            synced_at,
            is_unsure: true,
            is_news: true,
            down_since: None,
            reprogram: LatencyStatus::default(),
            publication: None,
            is_outdated: false,
        }
    }

    /// The first round: the maps are as they should be, and there is something to show, before anybody can ask.
    pub fn begin(&mut self) {
        self.round();
    }

    /// Runs until `stop`, or until an operator unloads. A round in progress is finished first.
    ///
    /// Facts come first. What takes long (rings made anew, the next snapshot) is done in pieces between them, so that a failure
    /// waits for one piece at most.
    pub async fn run(mut self, mut inputs: Inputs, stop: CancellationToken) -> Exit {
        let mut facts = Vec::with_capacity(FACTS_AT_ONCE);
        loop {
            let is_busy = self.publication.is_some() || self.is_outdated || self.ledger.is_stale();
            let wake = self.clock.instant(if is_busy { Duration::ZERO } else { self.next_wake() });
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // Nobody is left to whom anything could be told.
                    self.ledger.watches = Watches::default();
                    self.is_unsure = true;
                    self.round();
                    return Exit::Stopped;
                }
                n = inputs.facts.recv_many(&mut facts, FACTS_AT_ONCE) => {
                    if n == 0 {
                        return Exit::Stopped;
                    }
                    facts.drain(..).for_each(|fact| self.take(fact));
                    for _ in n..FACTS_A_ROUND {
                        let Ok(fact) = inputs.facts.try_recv() else { break };
                        self.take(fact);
                    }
                    self.follow();
                }
                request = inputs.commands.recv() => match request {
                    None => return Exit::Stopped,
                    Some((Command::Unload, reply)) => return Exit::Unload(reply),
                    Some((command, reply)) => {
                        let answer = self.command(command);
                        // The answer acknowledges: what it says is in the maps, and in the snapshot.
                        self.round();
                        let answer = answer.and_then(|a| self.carried_out(a));
                        // Whoever asked may have gone; the change stands.
                        let _ = reply.send(answer);
                    }
                },
                changed = inputs.network.changed() => {
                    if changed.is_err() {
                        return Exit::Stopped;
                    }
                    let view = inputs.network.borrow_and_update().as_ref().clone();
                    self.ledger.set_network(view);
                    self.follow();
                }
                () = std::future::ready(()), if is_busy => self.go_on(),
                () = sleep_until(wake), if !is_busy => {
                    self.ledger.look_at_all(self.clock.now());
                    self.follow();
                }
            }
        }
    }

    fn next_wake(&self) -> Duration {
        let now = self.clock.now();
        let deadline = self.ledger.next_deadline(now).unwrap_or(now + FULL_SYNC_EVERY);
        deadline.min(self.synced_at + FULL_SYNC_EVERY).min(self.retry_at.unwrap_or(Duration::MAX))
    }

    fn take(&mut self, fact: Fact) {
        let now = self.clock.now();
        match fact {
            Fact::Health { owner, round, change, at } => {
                if self.ledger.probe_round(owner) == Some(round) {
                    if matches!(change.to, Health::Down(_)) {
                        self.down_since = Some(self.down_since.map_or(at, |earlier| earlier.min(at)));
                    }
                    self.ledger.health(owner, &change, now);
                }
            }
            Fact::Swept(report) => {
                let _ = self.problems.remove("sweep");
                self.ledger.swept(&report, now);
            }
            Fact::SweepFailed(e) => drop(self.problems.insert("sweep", e)),
        }
    }

    /// One piece of what can wait.
    fn go_on(&mut self) {
        let now = self.clock.now();
        if self.ledger.is_stale() {
            self.ledger.rebuild_next(now);
            self.follow();
        } else if self.is_outdated && self.publication.is_none() {
            self.is_outdated = false;
            self.tell(now);
            self.publication = Some(Publication::begin(&self.ledger));
        } else if let Some(publication) = &mut self.publication
            && let Some(services) = publication.go_on(&self.ledger, now)
        {
            self.publication = None;
            self.publish(services);
        }
    }

    /// A whole round: nothing waits any more, and what is shown is what is.
    fn round(&mut self) {
        let now = self.clock.now();
        self.ledger.tick(now);
        self.follow();
        self.is_outdated = false;
        self.tell(now);
        let mut publication = Publication::begin(&self.ledger);
        let services = loop {
            if let Some(services) = publication.go_on(&self.ledger, now) {
                break services;
            }
        };
        self.publication = None;
        self.publish(services);
    }

    /// The maps follow the ledger, as far as that cannot wait.
    fn follow(&mut self) {
        let now = self.clock.now();
        if now >= self.synced_at + FULL_SYNC_EVERY {
            self.read_back(now);
        }
        self.ledger.look(now);
        if self.retry_at.is_none_or(|at| now >= at) {
            self.write(now);
        }
        for event in self.ledger.take_events() {
            match event.level {
                Level::Info => tracing::info!("{}", event.text),
                Level::Warn => tracing::warn!("{}", event.text),
            }
        }
        self.reconciles += 1;
        self.is_outdated = true;
    }

    fn write(&mut self, now: Duration) {
        let changed = self.ledger.take_changed();
        let is_whole = changed.everything || self.is_unsure;
        self.is_news |= is_whole;
        let slots = self.ledger.take_ring_changes();
        let stored: usize = slots.values().map(Vec::len).sum();
        let ops = if is_whole {
            plan(&self.observed, &desired(&self.ledger, now), slots, |id| self.ledger.ring(id))
        } else {
            let part = desired_part(&self.ledger, &changed, self.observed.epoch_shift, now);
            plan_part(&self.observed, part, slots)
        };
        if let Err(e) = self.apply(&ops) {
            tracing::error!("{e}");
            let _ = self.problems.insert("maps", e.to_string());
            self.retry_at = Some(now + self.backoff.failed());
            self.read_back(now);
            return;
        }
        self.is_unsure = false;
        self.backoff.succeeded();
        self.retry_at = None;
        let _ = self.problems.remove("maps");
        if let Some(since) = self.down_since.take() {
            let took = self.clock.now().saturating_sub(since);
            self.reprogram.add(took);
            tracing::debug!("{stored} slots stored {took:?} after the judgement that a backend is down");
        }
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataPlaneError> {
        let done = self.dataplane.apply_all(ops);
        let (count, result) = match done {
            Ok(()) => (ops.len(), Ok(())),
            Err((count, e)) => (count, Err(e)),
        };
        ops.iter().take(count).for_each(|op| note(op, &mut self.observed));
        result
    }

    /// Reads the maps back, so that the next plan starts from what is really there.
    fn read_back(&mut self, now: Duration) {
        self.synced_at = now;
        self.is_unsure = true;
        match self.dataplane.observe() {
            Ok(observed) => {
                if observed.tables != self.observed {
                    tracing::warn!("the maps differ from what was written: put right");
                }
                self.ledger.reconcile_rings(&observed.slots);
                self.observed = observed.tables;
            }
            Err(e) => drop(self.problems.insert("maps", e.to_string())),
        }
    }

    /// Tells the other tasks what to probe, watch, announce and sweep.
    fn tell(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_news) {
            let _ = self.outputs.targets.send_if_modified(|t| replace(t, self.ledger.probe_targets()));
            let _ = self.outputs.watched.send_if_modified(|w| replace(w, self.ledger.watched_addresses()));
            let _ = self.outputs.announced.send_if_modified(|a| replace(a, announced(&self.ledger)));
        }
        let request = Arc::new(self.ledger.sweep_request(now));
        let _ = self.outputs.sweeps.send_replace(SweepOrder { request, is_urgent: self.ledger.is_sweep_urgent() });
    }

    fn publish(&mut self, services: Vec<ServiceStatus>) {
        let mut agent = self.identity.agent.clone();
        agent.reconciles = self.reconciles;
        agent.watches = self.ledger.watches.iter().map(|_| 1).sum();
        agent.uptime_s = self.clock.uptime().as_secs();
        agent.problems.extend(self.problems.values().cloned());
        agent.reprogram = self.reprogram.clone();
        let shown = report::snapshot(&self.ledger, services, agent, self.identity.interfaces.clone());
        let _ = self.outputs.snapshot.send_replace(Arc::new(shown));
    }
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let differs = *old != new;
    *old = new;
    differs
}
