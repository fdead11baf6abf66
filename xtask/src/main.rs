//! Weir's developer commands: `cargo xtask COMMAND`. No logic of the product, and none of its crates: this runs on a fresh machine,
//! before anything else builds.
#![expect(clippy::print_stdout, reason = "a command-line program speaks by printing")]

mod process;
mod toolchain;
mod setup;
mod build;
mod test;
mod ci;
mod tidy;
mod verify;
mod demo;
mod bench;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Weir's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building and testing take; does nothing when all is there
    Setup,
    /// Build the agent for use, the BPF programs inside it, and say where the one file is
    Build,
    /// See Weir at work: builds it, lays a small network inside this machine, and tells a story with it (root)
    Demo(demo::Arguments),
    /// Measure: the packet path alone, or Weir beside others
    Bench(bench::Arguments),
    /// Set up and run the tests: all of them, or one level
    Test(test::Arguments),
    /// What CI runs: lint, then test
    Ci,
    /// Formatting, clippy on every crate, documentation, tidy
    Lint,
    /// Check the rules of the house that no compiler checks
    Tidy,
    /// Load the programs through the kernel's verifier and print what it counted (root)
    Verify,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::run(),
        Command::Build => build::run_release(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Ci => ci::run(),
        Command::Lint => ci::lint(),
        Command::Tidy => tidy::run(),
        Command::Verify => verify::run(),
    }
}
