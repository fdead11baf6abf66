//! `cargo xtask bench control`: builds the agent and the test crate's `weir-bench`, and becomes it.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use super::{Output, become_benchmark};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each case is measured
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// How many deaths each loaded agent sees
    #[arg(long, value_name = "N")]
    deaths: Option<u32>,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Builds and measures. Does not return when it could be started.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    become_benchmark("control", words(arguments))
}

/// The benchmark's own arguments.
fn words(arguments: &Arguments) -> Vec<OsString> {
    let mut words = Vec::new();
    for (flag, value) in [("--repeat", arguments.repeat), ("--deaths", arguments.deaths)] {
        if let Some(value) = value {
            words.extend([flag.into(), value.to_string().into()]);
        }
    }
    words.extend(arguments.output.words());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_gets_the_arguments_that_we_got() {
        let arguments = Arguments { repeat: Some(3), deaths: None, output: Output::Json };
        assert_eq!(words(&arguments), ["--repeat", "3", "--output", "json"]);
    }
}
