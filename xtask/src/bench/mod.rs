//! `cargo xtask bench WHAT`: set-up, a release build of the benchmark, and the benchmark.

mod datapath;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Cost of a packet in the packet path, beside a program that only swaps MAC addresses (root)
    Datapath(datapath::Arguments),
}

/// Builds and runs one benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Datapath(arguments) => datapath::run(arguments),
    }
}
