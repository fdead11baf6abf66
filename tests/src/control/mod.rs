//! How fast the control side is, at scale: the real agent, real servers, a real death. `cargo xtask bench control`.
//!
//! - *load*: from the start of the process until every service is in force and every ring names every backend, as the pinned
//!   maps say; and the most memory that the process has held (`VmHWM`).
//! - *sweep*: the time that counting a million live flows takes, by the agent's own clock.
//! - *failure*: a machine that serves 100 services dies. From the judgement of its last failed probe until its last slot is
//!   stored, by the agent's own clock; and from outside, how far apart the first and the last of the rings changed.

mod config;
mod ground;
mod maps;
mod report;
mod sweep;

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lb_agent::pure::snapshot::LatencyStatus;
use lb_common::slot::Owner;

use self::config::{FAILING_SERVICES, Scale};
use self::ground::Ground;
use self::maps::{OpenRing, Pins};
use self::report::{Failure, Load, Report};
use crate::agent::Agent;

/// A load that has not ended by then never will.
const LOADED_WITHIN: Duration = Duration::from_secs(120);

/// A death that nobody has noticed by then is none.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at the maps while something is expected.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What the bench can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// How often each case is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: u32,
    /// How many deaths each loaded agent sees
    #[arg(long, value_name = "N", default_value_t = 3)]
    deaths: u32,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// One object
    Json,
}

/// Measures and prints.
pub fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    for _ in 0..options.repeat {
        for scale in Scale::ALL {
            let mut ground = Ground::lay();
            let (mut agent, load) = load(&ground, scale);
            report.loads.push(load);
            if scale.has_failing_machine() {
                for death in 0..options.deaths {
                    let is_silent = death % 2 == 1;
                    report.failures.push(die(&mut ground, &agent, is_silent));
                }
            }
            report.sweeps.extend(sweep::measure(&agent, scale));
            agent.terminate();
        }
    }
    report.print(options.output)
}

/// Starts an agent and waits until everything is in force.
fn load(ground: &Ground, scale: Scale) -> (Agent, Load) {
    let mut agent = Agent::prepare(&ground.balancer, config::settings(scale));
    let pins = Pins(agent.pin_dir().to_owned());
    let began = Instant::now();
    agent.launch_without_waiting();
    wait("the services", &agent, LOADED_WITHIN, || pins.services().len() == scale.services());
    let in_force = began.elapsed();
    for service in pins.services() {
        wait("a ring", &agent, LOADED_WITHIN, || {
            pins.ring(service).is_some_and(|ring| ring.owners() == scale.backends())
        });
    }
    let loaded = began.elapsed();
    let memory = peak_memory(&agent);
    (agent, Load { scale: scale.name(), in_force, loaded, peak_kib: memory })
}

/// Kills the failing machine's server or pulls its cable, waits until all its slots are others', and brings it back.
fn die(ground: &mut Ground, agent: &Agent, is_silent: bool) -> Failure {
    let pins = Pins(agent.pin_dir().to_owned());
    let owners = pins.owners_at(ground::FAILING);
    assert_eq!(owners.len(), FAILING_SERVICES, "it serves so many services");
    let rings: Vec<OpenRing> = pins.services().into_iter().filter_map(|service| pins.ring(service)).collect();
    let rings: Vec<&OpenRing> = rings.iter().filter(|ring| ring.slots_of(&owners) > 0).collect();
    assert_eq!(rings.len(), FAILING_SERVICES, "it has slots in all of them");
    let slots = rings.iter().map(|ring| ring.slots_of(&owners)).sum();
    let before = latency(agent);
    let began = Instant::now();
    if is_silent {
        ground.unplug();
    } else {
        ground.kill();
    }
    let (first, last) = watch(agent, &rings, &owners, began);
    let after = latency(agent);
    assert!(after.count > before.count, "the agent has measured it");
    if is_silent {
        ground.plug();
    } else {
        ground.revive();
    }
    wait("its return", agent, LOADED_WITHIN, || rings.iter().all(|ring| ring.slots_of(&owners) > 0));
    Failure { silent: is_silent, slots, noticed: first, spread: last.saturating_sub(first), inside: after.last() }
}

/// When, after `began`, the first and the last of the rings were rid of these owners.
fn watch(agent: &Agent, rings: &[&OpenRing], owners: &BTreeSet<Owner>, began: Instant) -> (Duration, Duration) {
    let mut first = None;
    let mut left: Vec<&&OpenRing> = rings.iter().collect();
    wait("the last slot", agent, NOTICED_WITHIN, || {
        // One ring a look until it happens: looking costs time that the agent needs.
        while let Some(ring) = left.last() {
            if ring.slots_of(owners) > 0 {
                return false;
            }
            let _ = first.get_or_insert_with(|| began.elapsed());
            let _ = left.pop();
        }
        true
    });
    (first.expect("there was a ring"), began.elapsed())
}

fn latency(agent: &Agent) -> LatencyStatus {
    agent.status().agent.reprogram
}

fn peak_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("the agent lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

fn wait(what: &str, agent: &Agent, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}; the agent's log ends\n{}", agent.log_tail());
        thread::sleep(LOOK_AGAIN);
    }
}
