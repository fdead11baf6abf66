//! Why a probe failed: errors of the network, told as an operator reads them.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::pure::model::{FailKind, ProbeOutcome};

/// A failed probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `None`: it could not even be sent.
    kind: Option<FailKind>,
    reason: String,
}

impl Failure {
    /// The backend's kernel or server spoke.
    pub(super) fn answered(reason: impl Into<String>) -> Self {
        Self { kind: Some(FailKind::Answered), reason: reason.into() }
    }

    /// Nothing came back.
    pub(super) fn silent(reason: impl Into<String>) -> Self {
        Self { kind: Some(FailKind::Silent), reason: reason.into() }
    }

    /// An error of the socket, while connecting or later.
    ///
    /// Trouble of our own (no descriptor, no free port, a local firewall) says nothing about the backend: the probe was not
    /// run.
    pub(super) fn io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::answered("connection refused"),
            ErrorKind::ConnectionReset => Self::answered("connection reset"),
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted => {
                Self::answered("connection closed before the answer was complete")
            }
            ErrorKind::HostUnreachable => Self::silent("host unreachable"),
            ErrorKind::NetworkUnreachable => Self::silent("network unreachable"),
            ErrorKind::NetworkDown => Self::silent("network down"),
            // The kernel gave up on retransmissions before our timeout did.
            ErrorKind::TimedOut => Self::silent("connection timed out"),
            _ => Self { kind: None, reason: error.to_string() },
        }
    }

    /// An error of a protocol library: the socket's own error if one is its cause, else `protocol` with what it says.
    pub(super) fn caused_by(error: &(dyn Error + 'static), protocol: &str) -> Self {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<io::Error>()
                && io.kind() != ErrorKind::InvalidData
                && io.kind() != ErrorKind::Other
            {
                return Self::io(io);
            }
            cause = current.source();
        }
        Self::answered(format!("{protocol}: {error}"))
    }
}

impl From<Failure> for ProbeOutcome {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Some(kind) => Self::Fail { kind, reason: failure.reason },
            None => Self::NotRun { reason: failure.reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_is_silent_and_refused_is_answered() {
        let kind_of = |kind: ErrorKind| Failure::io(&kind.into()).kind;
        assert_eq!(kind_of(ErrorKind::HostUnreachable), Some(FailKind::Silent));
        assert_eq!(kind_of(ErrorKind::NetworkUnreachable), Some(FailKind::Silent));
        assert_eq!(kind_of(ErrorKind::TimedOut), Some(FailKind::Silent));
        assert_eq!(kind_of(ErrorKind::ConnectionRefused), Some(FailKind::Answered));
        assert_eq!(kind_of(ErrorKind::ConnectionReset), Some(FailKind::Answered));
    }

    #[test]
    fn our_own_trouble_says_nothing_about_the_backend() {
        let failure = Failure::io(&io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(failure.into(), ProbeOutcome::NotRun { .. }));
    }
}
