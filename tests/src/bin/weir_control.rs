//! How fast the control side is, at scale.

use std::process::ExitCode;

use clap::Parser as _;
use weir_tests::control::{Options, run};

fn main() -> ExitCode {
    run(&Options::parse())
}
