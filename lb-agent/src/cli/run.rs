//! `run`: the agent itself, until SIGTERM or SIGINT.

use clap::Args;

use super::{Context, Failure, LogFormat};
use crate::config::{self, Environment};

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How the log is written; what is logged, the environment variable WEIR_LOG says (default: info).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

impl Arguments {
    pub(super) fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

pub(super) async fn execute(context: &Context) -> Result<(), Failure> {
    let environment = Environment::read();
    let (config, warnings) = config::load(&context.config, &environment)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // The one future that is large: it holds the whole agent.
    Box::pin(crate::run::run(config, environment)).await.map_err(|error| Failure::Agent(error.into()))
}
