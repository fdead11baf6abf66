//! `completions`: a script for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::output::print;
use super::{Cli, Context, Failure};

/// For which shell.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell: `lb-agent completions bash > /etc/bash_completion.d/lb-agent`.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn execute(_: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "lb-agent", &mut script);
    print(&String::from_utf8_lossy(&script))
}
