//! `cargo xtask bench WHAT`: set-up, a release build of the benchmark, and the benchmark.

mod control;
mod datapath;
mod peers;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Error, Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::process::{cargo, is_root, run as run_command};
use crate::{build, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Cost of a packet in the packet path, beside a program that only swaps MAC addresses (root)
    Datapath(datapath::Arguments),
    /// How fast the agent is at scale: 32 x 1,000 and 512 x 60 backends loaded, a machine of 100 services lost (root)
    Control(control::Arguments),
    /// Connections and requests a second through Weir, nftables, HAProxy and nginx, with real clients and servers (root)
    Peers(peers::Arguments),
}

/// Form of a benchmark's result.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Output {
    /// The argument that asks for it; none for what is usual.
    fn words(self) -> Vec<OsString> {
        if self == Self::Json { vec!["--output".into(), "json".into()] } else { Vec::new() }
    }
}

/// Builds and runs one benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Datapath(arguments) => datapath::run(arguments),
        What::Control(arguments) => control::run(arguments),
        What::Peers(arguments) => peers::run(arguments),
    }
}

/// Sets up, builds the agent as it is installed and the test crate's benchmarks, and becomes the one called `what`, so that its exit
/// code and its answer to Ctrl-C are its own.
fn become_benchmark(what: &str, words: Vec<OsString>) -> Result<()> {
    if !is_root() {
        bail!(
            "the benchmark makes network namespaces and loads programs into the kernel, which takes root. \
             Run it with `sudo -E env PATH=\"$PATH\" cargo xtask bench {what}`"
        );
    }
    setup::run()?;
    // The agent alone first: built together with the benchmark, it would get the tests' features.
    build::run_release()?;
    run_command(cargo().args(["build", "--release", "--package=weir-tests", "--bin=weir-lab", "--bin=weir-bench"]))?;
    let release = build::target_dir().join("release");
    let program = release.join("weir-bench");
    let failure = Command::new(&program)
        .arg(what)
        .args(words)
        .env("WEIR_AGENT", release.join("lb-agent"))
        .env("WEIR_LAB", release.join("weir-lab"))
        .exec();
    Err(Error::new(failure).context(format!("cannot run {}", program.display())))
}
