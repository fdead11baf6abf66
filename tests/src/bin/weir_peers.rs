//! Weir beside what an operator would otherwise run.

use std::process::ExitCode;

use clap::Parser as _;
use weir_tests::peers::{Options, run};

fn main() -> ExitCode {
    run(&Options::parse())
}
