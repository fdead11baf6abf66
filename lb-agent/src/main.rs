//! `lb-agent`: arguments, logging, exit code. The only place for `anyhow`.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use lb_agent::cli::{Cli, Failure, start_logging};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let Err(error) = execute(Cli::parse()) else { return ExitCode::SUCCESS };
    let failure = error.downcast_ref::<Failure>();
    match failure {
        Some(Failure::Told { .. }) => {}
        // It has its causes in its own words.
        Some(failure) => eprintln!("lb-agent: {failure}"),
        None => eprintln!("lb-agent: {error:#}"),
    }
    ExitCode::from(failure.map_or(1, Failure::exit_code))
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let mut builder = if let Some(format) = cli.log_format() {
        start_logging(format).map_err(|error| anyhow!("cannot start logging: {error}"))?;
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    let runtime =
        builder.enable_all().build().context("cannot start the runtime; are threads or files used up (ulimit)?")?;
    Ok(runtime.block_on(cli.execute())?)
}
