//! `cargo xtask bench datapath`: builds the test crate's `weir-bench` for speed and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Error, Result, bail};
use clap::{Args, ValueEnum};

use crate::process::{cargo, is_root, run as run_command};
use crate::{build, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only cases whose name is or contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// How long each case is measured, in seconds, over all rounds
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// In how many rounds, over all cases in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Measure this peer's object beside ours: an ELF with Katran's maps
    #[arg(long, value_name = "OBJECT")]
    peer: Option<PathBuf>,
    /// Name the cases and measure nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// An array of objects, one a case
    Json,
}

/// Builds and measures. Does not return when it could be started: this process becomes the benchmark, so that its exit code and
/// its answer to Ctrl-C are the benchmark's own.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !is_root() && !arguments.list {
        bail!(
            "the benchmark makes network namespaces and loads programs into the kernel, which takes root. \
             Run `sudo -E env PATH=\"$PATH\" cargo xtask bench datapath`"
        );
    }
    setup::run()?;
    run_command(cargo().args(["build", "--release", "--package=weir-tests", "--bin=weir-bench"]))?;
    let program = build::target_dir().join("release/weir-bench");
    let failure = Command::new(&program).arg("datapath").args(words(arguments)).exec();
    Err(Error::new(failure).context(format!("cannot run {}", program.display())))
}

/// The benchmark's own arguments.
fn words(arguments: &Arguments) -> Vec<OsString> {
    let mut words = Vec::new();
    for case in &arguments.case {
        words.extend(["--case".into(), case.into()]);
    }
    if let Some(seconds) = arguments.seconds {
        words.extend(["--seconds".into(), seconds.to_string().into()]);
    }
    if let Some(rounds) = arguments.rounds {
        words.extend(["--rounds".into(), rounds.to_string().into()]);
    }
    if arguments.output == Output::Json {
        words.extend(["--output".into(), "json".into()]);
    }
    if let Some(peer) = &arguments.peer {
        words.extend(["--peer".into(), peer.into()]);
    }
    if arguments.list {
        words.push("--list".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_gets_the_arguments_that_we_got() {
        let arguments = Arguments {
            case: vec!["nat".to_owned(), "sweep".to_owned()],
            seconds: Some(0.5),
            rounds: Some(3),
            output: Output::Json,
            peer: Some("katran.o".into()),
            list: true,
        };
        let expected = "--case nat --case sweep --seconds 0.5 --rounds 3 --output json --peer katran.o --list";
        assert_eq!(words(&arguments), expected.split(' ').collect::<Vec<_>>());
    }
}
