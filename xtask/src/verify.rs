//! `cargo xtask verify`: the programs through the kernel's verifier, and what it counted.
//!
//! The test crate's `weir-verify` loads them, with aya as the agent does: libbpf refuses the map section of aya-log.

use anyhow::{Result, bail};

use crate::process::{cargo, is_root, run as run_command};
use crate::setup;

/// Builds, loads, prints one line a program. Leaves nothing loaded.
pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("loading BPF programs takes root. Run `sudo -E env PATH=\"$PATH\" cargo xtask verify`");
    }
    setup::run()?;
    run_command(cargo().args(["run", "--quiet", "--package=weir-tests", "--bin=weir-verify"]))
}
