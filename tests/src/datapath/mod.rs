//! `weir-bench datapath`: what a packet costs in the packet path, beside a program that only swaps MAC addresses.
//!
//! Live frames (BPF_PROG_TEST_RUN) go through a veth pair into native XDP and back, in namespaces of their own. Reading order:
//! [`case`] (what is measured), [`wire`] (the ground), [`generator`] (what sends and receives), [`device`] (Weir under test),
//! [`peer`] (somebody else's, beside it), [`measure`] (rounds), [`report`] (how it is told).

pub mod case;
pub mod wire;
pub mod generator;
pub mod device;
pub mod peer;
pub mod measure;
pub mod report;

/// The programs' side of the words that they and we exchange.
#[path = "../../../lb-ebpf/src/bench/control.rs"]
mod control;

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use nix::unistd::geteuid;

use crate::demo::interrupt::Interrupt;
use measure::{Plan, Stopped};

/// Something failed.
const FAILED: u8 = 1;

/// It was asked for wrongly.
const USAGE: u8 = 2;

/// Ended by a signal, as shells number it.
const INTERRUPTED: u8 = 130;

/// What is to be measured.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only cases whose name is or contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// How long each case is measured, over all rounds, the floor beside it included
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// In how many rounds, over all cases in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Measure this peer's object beside ours: the ELF that Katran builds from `balancer.bpf.c`
    #[arg(long, value_name = "OBJECT")]
    peer: Option<PathBuf>,
    /// Name the cases and measure nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// An array of objects, one a case
    Json,
}

/// Measures and prints. Exit codes: 0 done, 1 something failed, 2 asked for wrongly, 130 interrupted.
pub fn run(options: &Options) -> ExitCode {
    let cases = match case::choose(case::all(options.peer.is_some()), &options.case) {
        Ok(cases) => cases,
        Err(e) => return refuse(&e),
    };
    if options.list {
        let names: Vec<String> = cases.into_iter().map(|case| case.name + "\n").collect();
        return print(&names.concat());
    }
    if !geteuid().is_root() {
        return refuse(
            "the benchmark makes network namespaces and loads programs into the kernel, which takes root. \
             Run `sudo -E env PATH=\"$PATH\" cargo xtask bench datapath`",
        );
    }
    match measured(options, &cases) {
        Ok(text) => print(&text),
        Err(e) if e.is::<Stopped>() => {
            eprintln!("interrupted; everything is taken down again");
            ExitCode::from(INTERRUPTED)
        }
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn measured(options: &Options, cases: &[case::Case]) -> Result<String> {
    let interrupt = Interrupt::listen()?;
    device::remove_leftovers();
    let plan =
        Plan { time: options.seconds, rounds: options.rounds, capacity: case::MOST_FLOWS, peer: options.peer.clone() };
    // Harness code panics where the machine does not do what it needs; what it built is taken down all the same.
    let rows = catch_unwind(AssertUnwindSafe(|| measure::run(cases, &plan, &|| interrupt.has_come())))
        .map_err(|_| anyhow!("the benchmark's ground could not be laid (said above)"))??;
    Ok(match options.output {
        Output::Table => report::table(&rows),
        Output::Json => report::json(&rows)? + "\n",
    })
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(USAGE)
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: cannot write what was measured: {e}");
            ExitCode::from(FAILED)
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    if (0.01..=3_600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} is not between 0.01 and 3600"))
    }
}
