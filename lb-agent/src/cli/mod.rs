//! The command line: one verb per file. Reads arguments, asks the agent through its API, prints what it says.
//!
//! Exit codes: 0 done, 1 it failed or was refused, 2 the command line or the configuration is wrong, 3 no agent answers.

mod backend;
mod capture;
mod check;
mod completions;
mod decap;
mod doctor;
mod explain;
mod failure;
mod flow;
mod log;
mod output;
mod reload;
mod run;
mod service;
mod status;
mod table;
mod target;
mod trace;
mod unload;
mod wait;
mod watching;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub use failure::Failure;
pub use log::{LogFormat, start_logging};

use crate::config::{DEFAULT_PATH, api_socket};
use crate::edge::api::client::Client;
use output::{Output, Paint};

const AFTER_HELP: &str =
    "Exit codes: 0 done; 1 failed or refused; 2 wrong command line or configuration; 3 no agent answers.";

/// Heading of the options that every verb has.
const GLOBAL: &str = "Global options";

/// Weir: an L4 load balancer in the kernel, and the agent that keeps it true.
#[derive(Debug, Parser)]
#[command(name = "lb-agent", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Configuration file [default: /etc/weir/weir.toml].
    #[arg(long, global = true, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true, help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// The agent's socket [default: what the configuration says].
    #[arg(long, global = true, value_name = "SOCKET", env = "WEIR_API", hide_env_values = true, help_heading = GLOBAL)]
    api: Option<PathBuf>,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = GLOBAL)]
    output: Format,
    #[command(subcommand)]
    verb: Verb,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: the API's own JSON.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent in the foreground.
    Run(run::Arguments),
    /// Check the configuration and change nothing.
    Check,
    /// Show services, backends, interfaces and what is wrong.
    Status,
    /// Show services.
    #[command(subcommand)]
    Service(service::Verb),
    /// Show and change backends.
    #[command(subcommand)]
    Backend(backend::Verb),
    /// Show flows.
    #[command(subcommand)]
    Flow(flow::Verb),
    /// Show what happens to flows, as it happens.
    Trace(trace::Arguments),
    /// Keep packets before and after rewriting in a pcapng file.
    Capture(capture::Arguments),
    /// Say what would become of a packet, and why.
    Explain(explain::Arguments),
    /// Read the configuration again; all of it or, when anything is wrong, nothing.
    Reload,
    /// Take programs, maps and links away; the host is as it was.
    Unload,
    /// Find out what on this host stands in Weir's way.
    Doctor,
    /// On a backend whose kernel has no decapsulation: take ipip's and gue's outer headers off, in the foreground.
    Decap(decap::Arguments),
    /// Print a completion script.
    Completions(completions::Arguments),
}

/// What every verb is given.
struct Context {
    config: PathBuf,
    client: Client,
    output: Output,
}

impl Cli {
    /// The log format of `run`; the other verbs log nothing.
    pub fn log_format(&self) -> Option<LogFormat> {
        match &self.verb {
            Verb::Run(arguments) => Some(arguments.log_format()),
            _ => None,
        }
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// With what failed and what to do; [`Failure::exit_code`] says how to end.
    pub async fn execute(self) -> Result<(), Failure> {
        let config = self.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let asks_agent = !matches!(self.verb, Verb::Run(_) | Verb::Check | Verb::Decap(_) | Verb::Completions(_));
        if asks_agent && self.api.is_none() && self.config.is_some() && !config.exists() {
            return Err(Failure::Usage(format!(
                "there is no {}: name the agent's file with --config",
                config.display()
            )));
        }
        let socket = self.api.unwrap_or_else(|| api_socket(&config));
        let output = Output::new(self.output == Format::Json, Paint::for_stdout());
        let context = Context { config, client: Client::new(socket), output };
        match self.verb {
            Verb::Run(_) => run::execute(&context).await,
            Verb::Check => check::execute(&context),
            Verb::Status => status::execute(&context).await,
            Verb::Service(verb) => service::execute(&context, verb).await,
            Verb::Backend(verb) => backend::execute(&context, verb).await,
            Verb::Flow(verb) => flow::execute(&context, verb).await,
            Verb::Trace(arguments) => trace::execute(&context, arguments).await,
            Verb::Capture(arguments) => capture::execute(&context, arguments).await,
            Verb::Explain(arguments) => explain::execute(&context, arguments).await,
            Verb::Reload => reload::execute(&context).await,
            Verb::Unload => unload::execute(&context).await,
            Verb::Doctor => doctor::execute(&context).await,
            Verb::Decap(arguments) => decap::execute(&context, arguments).await,
            Verb::Completions(arguments) => completions::execute(&context, &arguments),
        }
    }
}
