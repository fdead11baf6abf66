//! `cargo xtask build`: the agent as it is installed.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{cargo, run, workspace};

/// Builds it and says where it is. The BPF programs are inside: the file is all there is to install.
pub(crate) fn run_release() -> Result<()> {
    run(cargo().args(["build", "--release", "--package=lb-agent", "--bin=lb-agent"]))?;
    let agent = target_dir().join("release/lb-agent");
    let bytes = agent.metadata().with_context(|| format!("cargo left no {}", agent.display()))?.len();
    println!("{} ({} KiB, the BPF programs inside; install this one file)", agent.display(), bytes / 1024);
    Ok(())
}

/// Builds the agent that the tests run; returns where it is.
pub(crate) fn agent_for_tests() -> Result<PathBuf> {
    run(cargo().args(["build", "--package=lb-agent", "--bin=lb-agent"]))?;
    Ok(target_dir().join("debug/lb-agent"))
}

/// Where cargo builds, with the caller's wish honoured.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |directory| workspace().join(directory))
}
