//! `cargo xtask bench peers`: what the peers are made of, builds of the agent and of the test crate's `weir-bench`, and becomes it.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::{Output, become_benchmark};
use crate::process::find_program;
use crate::setup;

/// What has to be on this machine, and the Debian package that brings it.
const TOOLS: [(&str, &str); 5] =
    [("wrk", "wrk"), ("nginx", "nginx"), ("haproxy", "haproxy"), ("nft", "nftables"), ("taskset", "util-linux")];

/// nginx's stream module: a file, not a program.
const STREAM_MODULE: (&str, &str) = ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream");

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each peer is measured
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each measurement takes, in seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// Only peers whose name contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Installs what is missing, builds and measures. Does not return when it could be started.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let tools = TOOLS.into_iter().filter(|(tool, _)| find_program(tool).is_none());
    let module = [STREAM_MODULE].into_iter().filter(|(file, _)| !Path::new(file).exists());
    setup::install_packages(&tools.chain(module).map(|(_, package)| package).collect::<Vec<_>>())?;
    become_benchmark("peers", words(arguments))
}

/// The benchmark's own arguments.
fn words(arguments: &Arguments) -> Vec<OsString> {
    let mut words = Vec::new();
    for (flag, value) in [("--rounds", arguments.rounds), ("--seconds", arguments.seconds)] {
        if let Some(value) = value {
            words.extend([flag.into(), value.to_string().into()]);
        }
    }
    for peer in &arguments.peer {
        words.extend(["--peer".into(), peer.into()]);
    }
    words.extend(arguments.output.words());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_gets_the_arguments_that_we_got() {
        let arguments =
            Arguments { rounds: Some(3), seconds: Some(2), peer: vec!["Weir".to_owned()], output: Output::Json };
        let expected = "--rounds 3 --seconds 2 --peer Weir --output json";
        assert_eq!(words(&arguments), expected.split(' ').collect::<Vec<_>>());
    }
}
