//! Probes: one check of one backend, from the first packet to a verdict. No memory, no retries, no judgement of health.
//!
//! In: a [`Target`]. Out: a [`ProbeOutcome`], always within the target's timeout. Nothing outlives a probe: its socket and
//! everything that drives it belong to the future, so that a finished, timed out or dropped probe leaves no descriptor.
//!
//! Answered or silent ([`FailKind`](crate::pure::model::FailKind)) is the question of who can still speak for the backend's established flows:
//! - answered: its kernel or its server spoke. Refused, reset, wrong status, bad body, TLS failure; **and a server that
//!   accepted the connection and then hung**: its kernel is alive, acknowledges data and will reset what it does not know, so
//!   its flows are its own affair;
//! - silent: not even the handshake came back, or the network said that the host or its network cannot be reached.

mod failure;
mod grpc;
mod http;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use self::failure::Failure;
use crate::pure::model::{ProbeKind, ProbeOutcome};

/// What one probe checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the probe connects to: the backend's address with the port that is probed.
    pub addr: SocketAddr,
    /// What is sent and what passes.
    pub kind: ProbeKind,
    /// From the first packet to the verdict, connecting included; a probe without a verdict by then has failed.
    pub timeout: Duration,
}

/// Checks backends, one at a time or many at once. The seam between health's clockwork and the network.
pub trait Prober: Send + Sync {
    /// Runs one probe. Never fails to give an outcome, and gives it within `target.timeout` (scheduling delay aside).
    /// Dropping the future ends the probe.
    fn probe(&self, target: Target) -> impl Future<Output = ProbeOutcome> + Send;
}

/// The prober that uses the network of the process's own namespace.
#[derive(Debug, Default)]
pub struct NetProber {
    tls: tls::Tls,
}

impl NetProber {
    /// A prober; opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    async fn check(&self, target: &Target, deadline: Instant) -> Result<(), Failure> {
        if target.kind == ProbeKind::None {
            return Ok(());
        }
        let stream = match timeout_at(deadline, tcp::connect(target.addr, &target.kind)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::silent(format!("no answer within {}", text(target.timeout)))),
        };
        let exchange = async {
            match &target.kind {
                ProbeKind::None | ProbeKind::Tcp => Ok(()),
                ProbeKind::Http(wanted) => http::check(stream, target.addr, wanted).await,
                ProbeKind::Https(wanted) => {
                    let stream = self.tls.handshake(stream, target.addr, wanted).await?;
                    http::check(stream, target.addr, wanted).await
                }
                ProbeKind::Grpc { service } => grpc::check(stream, target.addr, service).await,
            }
        };
        match timeout_at(deadline, exchange).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Failure::answered(format!("connected, but no answer within {}", text(target.timeout)))),
        }
    }
}

impl Prober for NetProber {
    async fn probe(&self, target: Target) -> ProbeOutcome {
        let started = Instant::now();
        match self.check(&target, started + target.timeout).await {
            Ok(()) => ProbeOutcome::Pass { latency: started.elapsed() },
            Err(failure) => failure.into(),
        }
    }
}

/// A duration as the configuration writes it ("500ms").
fn text(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}
