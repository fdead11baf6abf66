//! The composition root: names every concrete edge once, starts the tasks, ends them in order.
//!
//! Order of the end: no more probes and sweeps → the single writer finishes its round → API and metrics give their last
//! answers → netlink gives its neighbours up. Maps, programs and links stay: the packet path does not need the agent.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, AgentConfig, Config, Environment};
use crate::edge::api::{self, Request};
use crate::edge::bpf::{self, Build};
use crate::edge::dataplane::{DataPlane, Sweeper};
use crate::edge::journal::{FileJournal, Journal};
use crate::edge::{netlink, probe};
use crate::pure::command::{Command, Refusal, Reply};
use crate::pure::ledger::Ledger;
use crate::pure::snapshot::{AgentStatus, Snapshot};
use crate::pure::sweep::SweepRequest;
use crate::task::clock::Clock;
use crate::task::reconcile::{Exit, Identity, Inputs, Outputs, Reconcile};
use crate::task::{FACTS_DEPTH, announce, health, sweep};

/// Runs the agent until it is told to end (SIGTERM, SIGINT) or an operator unloads.
///
/// # Errors
/// Whatever keeps it from starting; each says what to do. A packet path that ran before goes on as it was.
pub async fn run(config: Config, environment: Environment) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let late_stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    // Everything that can refuse comes first, the packet path before the rest: it is what runs without us.
    let loaded = bpf::open(&config.agent, &config.interfaces, &Build::embedded())?;
    let mut journal = FileJournal::open(&config.agent.state_dir)?;
    let changes = journal.load()?;
    let socket = api::socket::ApiSocket::bind(&config.agent.api)?;
    let metrics = match config.agent.metrics {
        Some(addr) => Some(
            tokio::net::TcpListener::bind(addr)
                .await
                .with_context(|| format!("cannot serve metrics on {addr} ([agent] metrics)"))?,
        ),
        None => None,
    };

    let clock = Clock::new(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into());
    let mut dataplane = loaded.dataplane;
    let observed = dataplane.observe()?;
    let mut sweeper = loaded.sweeper;
    let first = sweeper.sweep(&SweepRequest::default())?;
    let mut ledger = Ledger::adopt(config.services.clone(), changes, &observed, &first, clock.now())?;
    ledger.set_interfaces(config.interfaces.iter().map(|i| i.name.clone()).collect());

    let (watched_tx, watched) = watch::channel(ledger.watched_addresses());
    let network = netlink::start(watched, late_stop.clone()).await?;
    ledger.set_network(network.view.borrow().as_ref().clone());
    let identity = identity(&config, loaded.interfaces, loaded.problems, loaded.adopted);

    let (facts_tx, facts) = mpsc::channel(FACTS_DEPTH);
    let (commands_tx, commands) = mpsc::channel(api::COMMANDS_DEPTH);
    let (snapshot_tx, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let (targets_tx, targets) = watch::channel(std::collections::BTreeMap::new());
    let (sweeps_tx, sweeps) = watch::channel(sweep::SweepOrder::default());
    let (announced_tx, announced) = watch::channel(announce::Announced::new());
    let outputs = Outputs {
        snapshot: snapshot_tx,
        targets: targets_tx,
        sweeps: sweeps_tx,
        watched: watched_tx,
        announced: announced_tx,
    };
    let path = config.path.clone();
    let reload = Box::new(move || reload(&path, &environment));
    let mut reconcile =
        Reconcile::new(dataplane, journal, reload, config.clone(), ledger, observed.tables, identity, clock, outputs);
    reconcile.begin();
    let inputs = Inputs { facts, commands, network: network.view };

    let seed = rand::random();
    let _ = tasks.spawn(health::run(probe::NetProber::new(), targets, facts_tx.clone(), clock, seed, stop.clone()));
    let _ = tasks.spawn(sweep::run(sweeper, sweeps, facts_tx, stop.clone()));
    let _ = tasks.spawn(announce::run(announced, bpf::announce, stop.clone()));
    if let Some(log) = loaded.log {
        let stop = stop.clone();
        let _ = tasks.spawn(async move {
            let _ended = stop.run_until_cancelled(log.run()).await;
        });
    }
    let api = api::server::Api { snapshots: snapshots.clone(), commands: commands_tx.clone() };
    let _ = tasks.spawn(api::server::serve(socket, api, late_stop.clone().cancelled_owned()));
    if let Some(listener) = metrics {
        let _ = tasks.spawn(api::metrics::serve(listener, snapshots, late_stop.clone().cancelled_owned()));
    }
    let _ = tasks.spawn(signals(commands_tx, stop.clone())?);

    tracing::info!("{} services on {}", config.services.len(), interfaces(&config));
    let exit = reconcile.run(inputs, stop.clone()).await;
    stop.cancel();
    let answer = finish(exit, &config, loaded.holds);
    late_stop.cancel();
    let _ = tasks.close();
    tasks.wait().await;
    network.task.await??;
    tracing::info!("ended; the packet path {}", if answer { "is unloaded" } else { "goes on" });
    Ok(())
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
    warnings.iter().for_each(|w| tracing::warn!("{w}"));
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
