//! Why a verb failed, in words for whoever typed it, and the exit code that says so to a script.

use std::error::Error;

use crate::config::ConfigErrors;
use crate::edge::api::client::ClientError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong; nothing has changed.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// No agent answers, or it says no.
    #[error("{source}{}", hint(source))]
    Api {
        /// What happened.
        #[from]
        source: ClientError,
    },
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// The agent ended with an error.
    #[error("{}", chain(&**.0))]
    Agent(Box<dyn Error + Send + Sync>),
    /// Said already, in the form that was asked for.
    #[error("")]
    Told {
        /// How to end.
        exit_code: u8,
    },
}

impl Failure {
    /// How the process ends: 1 failed or refused, 2 wrong command line or configuration, 3 no agent answers.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Api { source: ClientError::Unreachable { .. } | ClientError::Denied { .. } } => 3,
            Self::Api { .. } | Self::Failed(_) | Self::Agent(_) => 1,
            Self::Told { exit_code } => *exit_code,
        }
    }
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => {
            ". Is it running? Start it with `systemctl start weir` or `lb-agent run --config FILE`; if it listens elsewhere, \
             name its socket with --api"
        }
        _ => "",
    }
}

/// An error with its causes, those that it has not said itself.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot load: {source}")]
        struct Outer {
            source: Inner,
        }
        #[derive(Debug, thiserror::Error)]
        #[error("no bpffs")]
        struct Inner(#[source] std::io::Error);
        let error = Outer { source: Inner(std::io::Error::other("broken")) };
        assert_eq!(chain(&error), "cannot load: no bpffs: broken");
    }

    #[test]
    fn nobody_there_says_how_to_start_it_and_ends_with_3() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let failure = Failure::from(ClientError::Unreachable { path: "/run/weir/agent.sock".into(), source });
        assert_eq!(failure.exit_code(), 3);
        let words = failure.to_string();
        assert!(words.contains("/run/weir/agent.sock") && words.contains("lb-agent run"), "{words}");
    }
}
