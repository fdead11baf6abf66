//! Runs the probes of every backend on time and states what changed. One task a backend: a slow one delays nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    task: AbortHandle,
}

/// Runs until `stop`. `seed` gives each backend's jitter its start.
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
                p.task.abort();
            }
            stays
        });
        for (owner, target) in wanted {
            let _ = under_way.entry(owner).or_insert_with(|| Probed {
                task: tasks.spawn(probe(
                    Arc::clone(&prober),
                    owner,
                    target.clone(),
                    facts.clone(),
                    clock,
                    seed ^ u64::from(owner).rotate_left(32),
                )),
                target,
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = targets.changed() => if changed.is_err() { return },
            // Ended tasks are taken in, so that the set does not grow.
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Probes one backend until it is aborted, or nobody listens.
async fn probe(
    prober: Arc<impl Prober>,
    owner: Owner,
    target: ProbeTarget,
    facts: mpsc::Sender<Fact>,
    clock: Clock,
    seed: u64,
) {
    let begin = if target.is_up { Begin::AdoptedUp } else { Begin::Fresh };
    let mut machine = HealthMachine::new(&target.check, begin, clock.now(), seed);
    let at = Target { addr: target.address(), kind: target.check.kind.clone(), timeout: target.check.timeout };
    while let Some(due) = machine.next_due() {
        sleep_until(clock.instant(due)).await;
        if !machine.begin_if_due(clock.now()) {
            continue;
        }
        let outcome = prober.probe(at.clone()).await;
        if let ProbeOutcome::NotRun { reason } = &outcome {
            tracing::warn!("cannot probe {} from this host: {reason}. Its state stays as it is", target.addr);
        }
        if let Some(change) = machine.observe(&outcome, clock.now()) {
            let fact = Fact::Health { owner, round: target.round, change, at: clock.now() };
            if facts.send(fact).await.is_err() {
                return;
            }
        }
    }
}
