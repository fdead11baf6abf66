//! `cargo xtask lint` and `cargo xtask ci`: what must be clean before a change is merged. `.ci/run` is the same.

use std::env::consts::ARCH;

use anyhow::Result;

use crate::process::{cargo, run as run_command};
use crate::{build, setup, test, tidy};

/// Lint, then every test.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    lint()?;
    test::run(&test::Arguments::default())
}

/// Formatting, clippy, documentation, the house. Warnings are errors here and nowhere in the source: a new compiler must not break
/// a user's build.
pub(crate) fn lint() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run_command(cargo().args(["clippy", "--workspace", "--exclude=lb-ebpf", "--all-targets", "--", "-Dwarnings"]))?;
    // The kernel's side is linted as host code, in a directory of its own: the flag would rebuild everything in the common one.
    run_command(
        cargo()
            .args(["clippy", "--package=lb-ebpf", "--target-dir"])
            .arg(build::target_dir().join("lint-ebpf"))
            .args(["--", "-Dwarnings"])
            .env("RUSTFLAGS", format!("--cfg bpf_target_arch=\"{ARCH}\"")),
    )?;
    run_command(
        cargo().args(["doc", "--workspace", "--exclude=lb-ebpf", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"),
    )
}
