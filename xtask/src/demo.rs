//! `cargo xtask demo`: set-up, a release build of the agent and of the lab, and the story that the lab tells with them.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Error, Result, bail};
use clap::Args;

use crate::process::{cargo, is_root, run as run_command};
use crate::{build, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long each of the six acts takes, at least, in seconds (5 to 600)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(5..=600))]
    seconds_per_act: u16,
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
}

/// Builds and plays. Does not return when it could be started: this process becomes the demo, so that its exit code and its
/// answer to Ctrl-C are the demo's own.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !is_root() {
        bail!(
            "the demo makes network namespaces and loads programs into the kernel, which takes root. \
             Run `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
        );
    }
    setup::run()?;
    // The agent alone first, as it is installed: built together with the lab, it would get the tests' features.
    build::run_release()?;
    run_command(cargo().args(["build", "--release", "--package=weir-tests", "--bin=weir-lab"]))?;
    let release = build::target_dir().join("release");
    let failure = Command::new(release.join("weir-lab"))
        .arg("demo")
        .args(words(arguments))
        .env("WEIR_AGENT", release.join("lb-agent"))
        .env("WEIR_LAB", release.join("weir-lab"))
        .exec();
    Err(Error::new(failure).context(format!("cannot run {}", release.join("weir-lab").display())))
}

/// The demo's own arguments.
fn words(arguments: &Arguments) -> Vec<std::ffi::OsString> {
    let mut words = vec!["--seconds-per-act".into(), arguments.seconds_per_act.to_string().into()];
    if let Some(report) = &arguments.report {
        words.extend(["--report".into(), report.clone().into()]);
    }
    if arguments.plain {
        words.push("--plain".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_gets_the_arguments_that_we_got() {
        let arguments = Arguments { report: Some("out.json".into()), seconds_per_act: 7, plain: true };
        assert_eq!(words(&arguments), ["--seconds-per-act", "7", "--report", "out.json", "--plain"]);
    }
}
