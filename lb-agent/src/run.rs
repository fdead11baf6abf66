//! The composition root: names every concrete edge once, starts the tasks, ends them in order.
//!
//! Order of the end: no more probes and sweeps → the single writer finishes its round → API and metrics give their last
//! answers → netlink gives its neighbours up. Maps, programs and links stay: the packet path does not need the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use lb_common::slot::Owner;
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, AgentConfig, Config, Environment};
use crate::edge::api::{self, Request};
use crate::edge::bpf::{self, Build, PacketPath};
use crate::edge::dataplane::{DataPlane, Sweeper};
use crate::edge::journal::{FileJournal, Journal};
use crate::edge::{netlink, probe};
use crate::pure::command::{Command, Refusal, Reply};
use crate::pure::ledger::{Ledger, ProbeTarget};
use crate::pure::snapshot::{AgentStatus, Snapshot};
use crate::pure::sweep::SweepRequest;
use crate::task::clock::Clock;
use crate::task::reconcile::{Exit, Identity, Inputs, Outputs, Reconcile};
use crate::task::{FACTS_DEPTH, Fact, announce, health, sweep, trace};

/// Runs the agent until it is told to end (SIGTERM, SIGINT) or an operator unloads.
///
/// # Errors
/// Whatever keeps it from starting; each says what to do. A packet path that ran before goes on as it was.
pub async fn run(config: Config, environment: Environment) -> anyhow::Result<()> {
    // Everything that can refuse comes first, the packet path before the rest: it is what runs without us.
    let loaded = bpf::open(&config.agent, &config.interfaces, &Build::embedded())?;
    let mut journal = FileJournal::open(&config.agent.state_dir)?;
    let changes = journal.load()?;
    let sockets = Sockets::bind(&config.agent).await?;
    let ends = Ends::default();

    let clock = Clock::new(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into());
    let (mut dataplane, mut sweeper) = (PacketPath::new(loaded.dataplane, loaded.links), loaded.sweeper);
    let observed = dataplane.observe()?;
    let first = sweeper.sweep(&SweepRequest::default())?;
    let mut ledger = Ledger::adopt(config.services.clone(), changes, &observed, &first, clock.now())?;
    ledger.set_interfaces(config.interfaces.iter().map(|i| i.name.clone()).collect());
    let (outputs, taps) = channels(&ledger);
    let network = netlink::start(taps.watched.clone(), ends.late.clone()).await?;
    ledger.set_network(network.view.borrow().as_ref().clone());

    let identity = identity(&config, loaded.interfaces, loaded.problems, loaded.adopted);
    let path = config.path.clone();
    let reload = Box::new(move || reload(&path, &environment));
    let observed = observed.tables;
    let mut reconcile =
        Reconcile::new(dataplane, journal, reload, config.clone(), ledger, observed, identity, clock, outputs);
    reconcile.begin();

    let (facts_tx, facts) = mpsc::channel(FACTS_DEPTH);
    let (commands_tx, commands) = mpsc::channel(api::COMMANDS_DEPTH);
    let hurry = Arc::new(Notify::new());
    ends.spawn(signals(commands_tx.clone(), ends.stop.clone())?);
    ends.spawn(health(&taps, facts_tx.clone(), clock, ends.stop.clone()));
    ends.spawn(sweep::run(sweeper, taps.sweeps.clone(), facts_tx, Arc::clone(&hurry), ends.stop.clone()));
    ends.spawn(announce::run(taps.announced.clone(), bpf::announce, ends.stop.clone()));
    let (watches_tx, watches) = mpsc::channel(api::WATCHES_DEPTH);
    ends.spawn(trace::run(loaded.sights, watches, commands_tx.clone(), monotonic_ns, ends.stop.clone()));
    if let Some(log) = loaded.log {
        let stop = ends.stop.clone();
        ends.spawn(async move { stop.run_until_cancelled(log.run()).await });
    }
    sockets.serve(
        api::server::Api {
            snapshots: taps.snapshots,
            commands: commands_tx,
            hurry,
            watches: watches_tx,
            flows: Arc::new(loaded.flows),
        },
        &ends,
    );

    tracing::info!("{} services on {}", config.services.len(), interfaces(&config));
    let inputs = Inputs { facts, commands, network: network.view };
    let exit = reconcile.run(inputs, ends.stop.clone()).await;
    ends.stop.cancel();
    let is_unloaded = finish(exit, &config, loaded.holds);
    ends.wait().await;
    network.task.await??;
    tracing::info!("ended; the packet path {}", if is_unloaded { "is unloaded" } else { "goes on" });
    Ok(())
}

/// `CLOCK_MONOTONIC`, as the packet programs note it.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, Into::into);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What ends the tasks, and waits for them.
#[derive(Default)]
struct Ends {
    /// Ends whatever states facts.
    stop: CancellationToken,
    /// Ends whatever answers, once the last command is done.
    late: CancellationToken,
    tasks: TaskTracker,
}

impl Ends {
    fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }

    async fn wait(&self) {
        self.late.cancel();
        let _ = self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Where the agent is asked.
struct Sockets {
    api: api::socket::ApiSocket,
    metrics: Option<TcpListener>,
}

impl Sockets {
    async fn bind(agent: &AgentConfig) -> anyhow::Result<Self> {
        let api = api::socket::ApiSocket::bind(&agent.api)?;
        let metrics = match agent.metrics {
            None => None,
            Some(addr) => {
                let listener = TcpListener::bind(addr).await;
                Some(listener.with_context(|| {
                    format!(
                        "cannot serve metrics on {addr}. Is it taken? `metrics` in [agent] names another, or \"off\""
                    )
                })?)
            }
        };
        Ok(Self { api, metrics })
    }

    fn serve(self, api: api::server::Api, ends: &Ends) {
        let snapshots = api.snapshots.clone();
        ends.spawn(api::server::serve(self.api, api, ends.late.clone().cancelled_owned()));
        if let Some(listener) = self.metrics {
            ends.spawn(api::metrics::serve(listener, snapshots, ends.late.clone().cancelled_owned()));
        }
    }
}

/// The other ends of the single writer's outputs.
struct Taps {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    targets: watch::Receiver<BTreeMap<Owner, ProbeTarget>>,
    sweeps: watch::Receiver<sweep::SweepOrder>,
    watched: watch::Receiver<BTreeSet<IpAddr>>,
    announced: watch::Receiver<announce::Announced>,
}

fn channels(ledger: &Ledger) -> (Outputs, Taps) {
    let (snapshot, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let (targets_tx, targets) = watch::channel(BTreeMap::new());
    let (sweeps_tx, sweeps) = watch::channel(sweep::SweepOrder::default());
    let (watched_tx, watched) = watch::channel(ledger.watched_addresses());
    let (announced_tx, announced) = watch::channel(announce::Announced::new());
    let outputs =
        Outputs { snapshot, targets: targets_tx, sweeps: sweeps_tx, watched: watched_tx, announced: announced_tx };
    (outputs, Taps { snapshots, targets, sweeps, watched, announced })
}

fn health(
    taps: &Taps,
    facts: mpsc::Sender<Fact>,
    clock: Clock,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    health::run(probe::NetProber::new(), taps.targets.clone(), facts, clock, rand::random(), stop)
}

/// Takes away what an agent that has ended left behind.
///
/// # Errors
/// While an agent runs on the pins; else where something cannot be removed.
pub fn unload(agent: &AgentConfig) -> anyhow::Result<()> {
    Ok(bpf::unload(agent)?)
}

fn identity(
    config: &Config,
    interfaces: Vec<crate::pure::snapshot::InterfaceStatus>,
    problems: Vec<String>,
    adopted: bool,
) -> Identity {
    let agent = AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: lb_common::ABI_VERSION,
        pid: std::process::id(),
        adopted,
        config: config.path.display().to_string(),
        program: crate::object::OBJECT_ID.to_owned(),
        problems,
        ..AgentStatus::default()
    };
    Identity { agent, interfaces }
}

fn interfaces(config: &Config) -> String {
    config.interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn reload(path: &Path, environment: &Environment) -> Result<Config, String> {
    let (config, warnings) = config::load(path, environment).map_err(|e| e.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Takes the packet path away where that was asked for; whether it was.
fn finish(exit: Exit, config: &Config, holds: [bpf::Hold; 2]) -> bool {
    drop(holds);
    let Exit::Unload(reply) = exit else { return false };
    let done = bpf::unload(&config.agent);
    let answer = match &done {
        Ok(()) => Ok(Reply::Done("unloaded: programs, maps and links are gone; the agent ends".to_owned())),
        Err(e) => Err(Refusal::Failed(e.to_string())),
    };
    // Whoever asked may have gone.
    let _ = reply.send(answer);
    done.is_ok()
}

/// SIGTERM and SIGINT end the agent, SIGHUP reloads. The handlers are there before the first packet is ours.
fn signals(
    commands: mpsc::Sender<Request>,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = terminate.recv() => return stop.cancel(),
                _ = interrupt.recv() => return stop.cancel(),
                _ = hangup.recv() => {
                    let (reply, answer) = oneshot::channel();
                    if commands.send((Command::Reload, reply)).await.is_err() {
                        return;
                    }
                    if let Ok(Err(refusal)) = answer.await {
                        tracing::error!("not reloaded, nothing was changed: {refusal}");
                    }
                }
            }
        }
    })
}
