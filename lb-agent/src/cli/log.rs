//! The agent's log: on standard error, one line per event.

use std::io::{Stderr, Write};

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How the agent logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people; under systemd without the time (the journal has its own), with the journal's priorities.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. `WEIR_LOG` chooses what (`info` when it is absent): `debug`, `lb_agent::task=debug,info`, …
///
/// # Errors
/// When `WEIR_LOG` cannot be understood, or logging has been started before.
pub fn start_logging(format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wanted = std::env::var("WEIR_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| format!("WEIR_LOG is {wanted:?}: {error}. Try \"info\" or \"lb_agent=debug\""))?;
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let in_journal =
        nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|file| names(&journal, file.st_dev, file.st_ino));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false);
    match format {
        LogFormat::Json => builder.with_writer(std::io::stderr).json().try_init(),
        LogFormat::Text if in_journal => builder.with_level(false).without_time().with_writer(Journal).try_init(),
        LogFormat::Text => builder.with_writer(std::io::stderr).try_init(),
    }
}

/// Whether `JOURNAL_STREAM` names the file: children inherit the variable even where their standard error goes elsewhere
/// (systemd.exec(5)).
fn names(journal: &str, device: u64, inode: u64) -> bool {
    journal.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// Puts the journal's priority before each line (sd-daemon(3)).
struct Journal;

/// One event's line.
struct Prioritised {
    stderr: Stderr,
    prefix: Option<&'static str>,
}

impl<'w> MakeWriter<'w> for Journal {
    type Writer = Prioritised;

    fn make_writer(&'w self) -> Prioritised {
        Prioritised { stderr: std::io::stderr(), prefix: None }
    }

    fn make_writer_for(&'w self, event: &Metadata<'_>) -> Prioritised {
        Prioritised { stderr: std::io::stderr(), prefix: Some(priority(*event.level())) }
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

impl Write for Prioritised {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if let Some(prefix) = self.prefix.take() {
            self.stderr.write_all(prefix.as_bytes())?;
        }
        self.stderr.write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stderr.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names("9:4242", 9, 4242));
        assert!(!names("9:4242", 9, 4243), "a child whose standard error was redirected");
        assert!(!names("", 0, 0));
    }
}
