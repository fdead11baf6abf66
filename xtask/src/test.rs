//! `cargo xtask test`: set-up, then the three levels. A level that cannot run is an error with its remedy, never a silent skip.
//!
//! Level 1 (fast) needs nothing. Level 2 (kernel) loads the real programs, level 3 (net) lays real networks of namespaces; both need
//! root. They share the crate `weir-tests`; files named `net_*.rs` are level 3. Its tests find the agent to run in `WEIR_AGENT`.

use std::env;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::process::{cargo, is_root, run as run_command, workspace};
use crate::{build, setup};

/// Networks under load at once: more would measure each other on two cores.
const NET_THREADS: usize = 2;

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// One level alone
    level: Option<Level>,
    /// Run only the tests whose name contains this
    filter: Option<String>,
    /// Only the tests that need no privilege: the same as `fast`
    #[arg(long, conflicts_with = "level")]
    fast: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Pure code; needs nothing
    Fast,
    /// The programs in the kernel; needs root
    Kernel,
    /// Clients, balancer and servers in namespaces; needs root
    Net,
}

/// Runs every level that was asked for, also after one has failed, and then says which failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let wanted = match (arguments.fast, arguments.level) {
        (true, _) => vec![Level::Fast],
        (false, Some(level)) => vec![level],
        (false, None) => vec![Level::Fast, Level::Kernel, Level::Net],
    };
    let (refused, allowed): (Vec<Level>, Vec<Level>) =
        wanted.into_iter().partition(|level| *level != Level::Fast && !is_root());
    if allowed.is_empty() {
        bail!(without_root(&refused));
    }
    setup::run()?;
    let mut failed = Vec::new();
    for level in allowed {
        eprintln!("\n== tests: {level:?}");
        if let Err(error) = run_level(level, arguments.filter.as_deref()) {
            eprintln!("{error:#}");
            failed.push(format!("{level:?}"));
        }
    }
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join(", "));
    }
    if !refused.is_empty() {
        bail!(without_root(&refused));
    }
    Ok(())
}

fn run_level(level: Level, filter: Option<&str>) -> Result<()> {
    let mut command = cargo();
    let _ = command.args(["test", "--no-fail-fast"]);
    if level != Level::Fast {
        let targets = targets_of(level, &test_files()?);
        if targets.is_empty() {
            bail!("no tests of this level in tests/tests");
        }
        let _ = command.env("WEIR_AGENT", build::agent_for_tests()?).arg("--package=weir-tests").args(targets);
        limit_threads(&mut command, level);
    }
    run_command(command.args(filter))
}

/// The caller's own `RUST_TEST_THREADS` wins.
fn limit_threads(command: &mut Command, level: Level) {
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let cpus = available_parallelism().map_or(1, usize::from);
        let threads = if level == Level::Net { cpus.min(NET_THREADS) } else { cpus };
        let _ = command.env("RUST_TEST_THREADS", threads.to_string());
    }
}

/// Names of the test files of `weir-tests`, in order.
fn test_files() -> Result<Vec<String>> {
    let directory = workspace().join("tests/tests");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(ToOwned::to_owned))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Cargo's arguments that select the files of a level; the harness's own tests are of the second.
fn targets_of(level: Level, files: &[String]) -> Vec<String> {
    let is_net = |name: &&String| name.starts_with("net_");
    let chosen = files.iter().filter(|name| is_net(name) == (level == Level::Net)).map(|name| format!("--test={name}"));
    let harness = (level == Level::Kernel).then(|| "--lib".to_owned());
    harness.into_iter().chain(chosen).collect()
}

fn without_root(levels: &[Level]) -> String {
    let names = levels.iter().map(|level| format!("{level:?}").to_lowercase()).collect::<Vec<_>>().join(" and ");
    format!(
        "the {names} tests did not run: they load BPF programs and make network namespaces, which takes root. \
         Run `sudo -E env PATH=\"$PATH\" cargo xtask test`, or `cargo xtask test --fast` for those that need nothing"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_file_belongs_to_exactly_one_level() {
        let files = ["abi", "forward_nat", "net_drain"].map(str::to_owned);
        assert_eq!(targets_of(Level::Kernel, &files), ["--lib", "--test=abi", "--test=forward_nat"]);
        assert_eq!(targets_of(Level::Net, &files), ["--test=net_drain"]);
    }

    #[test]
    fn a_refusal_without_root_names_the_command_to_run() {
        let message = without_root(&[Level::Kernel, Level::Net]);
        assert!(message.starts_with("the kernel and net tests did not run"));
        assert!(message.contains("cargo xtask test --fast"));
    }
}
