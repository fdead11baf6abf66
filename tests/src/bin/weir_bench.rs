//! The benchmarks from the command line. `cargo xtask bench` builds this for speed and runs it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_tests::{control, datapath, peers};

#[derive(Debug, Parser)]
#[command(name = "weir-bench", about = "Weir's benchmarks")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Cost of a packet in the packet path, beside a program that only swaps MAC addresses (root)
    Datapath(datapath::Options),
    /// How fast the agent is at scale (root)
    Control(control::Options),
    /// Weir beside what an operator would otherwise run (root)
    Peers(peers::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().what {
        What::Datapath(options) => datapath::run(&options),
        What::Control(options) => control::run(&options),
        What::Peers(options) => peers::run(&options),
    }
}
