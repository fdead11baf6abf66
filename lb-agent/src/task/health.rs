//! Runs the probes of every backend on time and states what changed. One task a probe: a slow one delays nobody. Backends of
//! several services that begin to be probed together, by the same check of the same address and port, share one: a machine
//! that serves a hundred services is asked once, and when it dies all of them learn it at the same moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use lb_common::slot::Owner;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::Fact;
use super::clock::Clock;
use crate::edge::probe::{Prober, Target};
use crate::pure::health::{Begin, HealthMachine};
use crate::pure::ledger::ProbeTarget;
use crate::pure::model::ProbeOutcome;

/// One backend that is being probed.
struct Probed {
    target: ProbeTarget,
    probe: Arc<Probe>,
}

/// One probe, and the backends that it is for, each with the round in which it is judged.
struct Probe {
    target: ProbeTarget,
    rounds: Mutex<BTreeMap<Owner, u64>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Probe {
    fn new(target: ProbeTarget) -> Self {
        Self { target, rounds: Mutex::default(), task: Mutex::default() }
    }

    /// Whether a backend that is to be probed from now on can share it.
    fn suits(&self, other: &ProbeTarget) -> bool {
        self.target.check == other.check && self.target.is_up == other.is_up
    }

    fn join(&self, owner: Owner, round: u64) {
        let _ = self.rounds.lock().unwrap_or_else(PoisonError::into_inner).insert(owner, round);
    }

    /// The last one to leave ends it.
    fn leave(&self, owner: Owner) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rounds.remove(&owner);
        if rounds.is_empty()
            && let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            task.abort();
        }
    }

    fn rounds(&self) -> BTreeMap<Owner, u64> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs until `stop`. `seed` gives each probe's jitter its start.
pub async fn run(
    prober: impl Prober + 'static,
    mut targets: watch::Receiver<BTreeMap<Owner, ProbeTarget>>,
    facts: mpsc::Sender<Fact>,
    clock: Clock,
    seed: u64,
    stop: CancellationToken,
) {
    let prober = Arc::new(prober);
    let mut under_way: BTreeMap<Owner, Probed> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = targets.borrow_and_update().clone();
        under_way.retain(|owner, p| {
            let stays = wanted.get(owner).is_some_and(|w| w.is_same_check(&p.target));
            if !stays {
                p.probe.leave(*owner);
            }
            stays
        });
        for (owner, probe) in begin(wanted, &mut under_way) {
            let seed = seed ^ u64::from(owner).rotate_left(32);
            let task = tasks.spawn(run_probe(Arc::clone(&prober), Arc::clone(&probe), facts.clone(), clock, seed));
            let _ = probe.task.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = targets.changed() => if changed.is_err() { return },
            // Ended tasks are taken in, so that the set does not grow.
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Finds a probe for everybody who is wanted and has none; the new ones, each with its first owner.
fn begin(wanted: BTreeMap<Owner, ProbeTarget>, under_way: &mut BTreeMap<Owner, Probed>) -> Vec<(Owner, Arc<Probe>)> {
    let mut new = Vec::new();
    let mut by_address: BTreeMap<SocketAddr, Vec<Arc<Probe>>> = BTreeMap::new();
    for (owner, target) in wanted {
        if under_way.contains_key(&owner) {
            continue;
        }
        let begun = by_address.entry(target.address()).or_default();
        let probe = begun.iter().find(|probe| probe.suits(&target)).cloned().unwrap_or_else(|| {
            let probe = Arc::new(Probe::new(target.clone()));
            begun.push(Arc::clone(&probe));
            new.push((owner, Arc::clone(&probe)));
            probe
        });
        probe.join(owner, target.round);
        let _ = under_way.insert(owner, Probed { target, probe });
    }
    new
}

/// Probes until it is aborted, or nobody listens.
async fn run_probe(prober: Arc<impl Prober>, probe: Arc<Probe>, facts: mpsc::Sender<Fact>, clock: Clock, seed: u64) {
    let target = &probe.target;
    let begin = if target.is_up { Begin::AdoptedUp } else { Begin::Fresh };
    let mut machine = HealthMachine::new(&target.check, begin, clock.now(), seed);
    let at = Target { addr: target.address(), kind: target.check.kind.clone(), timeout: target.check.timeout };
    while let Some(due) = machine.next_due() {
        sleep_until(clock.instant(due)).await;
        if !machine.begin_if_due(clock.now()) {
            continue;
        }
        let outcome = prober.probe(at.clone()).await;
        let now = clock.now();
        if let ProbeOutcome::NotRun { reason } = &outcome {
            tracing::warn!("cannot probe {} from this host: {reason}. Its state stays as it is", target.addr);
        }
        if let Some(change) = machine.observe(&outcome, now) {
            for (owner, round) in probe.rounds() {
                let fact = Fact::Health { owner, round, change: change.clone(), at: now };
                if facts.send(fact).await.is_err() {
                    return;
                }
            }
        }
    }
}
