//! Waits until a drain has ended. Whoever gives up waiting changes nothing: the agent drains on.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::{Context, Failure};
use crate::pure::model::BackendState;

/// Between two looks: the agent sweeps ten times a second.
const POLL: Duration = Duration::from_millis(100);
/// The agent answers a change before its next snapshot is out; so long a backend may still look as it did.
const SNAPSHOT_LAG: Duration = Duration::from_secs(3);

/// Whether, and for how long, to wait.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Wait until it has drained.
    #[arg(long)]
    wait: bool,
    /// Wait at most so long [default: until the agent's own drain timeout has cut it].
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// How a wait ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last flow has ended: the backend is `disabled`, or gone.
    Drained,
    /// The backend has left the pool.
    Gone,
}

/// What one look at the pool means.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Done,
    Wait {
        active_flows: u64,
    },
    /// Somebody else has changed its mind.
    TakenBack(BackendState),
}

fn judge(end: End, seen: Option<(BackendState, u64)>) -> Look {
    match seen {
        None => Look::Done,
        Some((BackendState::Disabled, _)) if end == End::Drained => Look::Done,
        Some((BackendState::Draining | BackendState::Disabled, active_flows)) => Look::Wait { active_flows },
        Some((state, _)) => Look::TakenBack(state),
    }
}

/// Waits, if that was asked for.
pub(super) async fn until(
    context: &Context,
    service: &str,
    backend: SocketAddr,
    end: End,
    arguments: &Arguments,
) -> Result<(), Failure> {
    if !arguments.wait {
        return Ok(());
    }
    let started = Instant::now();
    let deadline = arguments.timeout.map(|timeout| started + timeout);
    loop {
        let pool = context.client.backends(service).await?.backends;
        let found = pool.iter().find(|b| b.address == backend.ip() && b.port == backend.port());
        match judge(end, found.map(|b| (b.state, b.active_flows))) {
            Look::Done => return Ok(()),
            Look::TakenBack(state) if started.elapsed() > SNAPSHOT_LAG => {
                return Err(Failure::Failed(format!("{backend} is {} again: the drain was taken back", state.name())));
            }
            Look::Wait { active_flows } if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(Failure::Failed(format!(
                    "{backend} still has {active_flows} active flows after {}; it drains on (`backend remove --force` cuts them)",
                    humantime::format_duration(arguments.timeout.unwrap_or_default())
                )));
            }
            Look::TakenBack(_) | Look::Wait { .. } => tokio::time::sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_disabled_and_a_removal_ends_gone() {
        assert_eq!(judge(End::Drained, Some((BackendState::Disabled, 0))), Look::Done);
        assert_eq!(judge(End::Gone, Some((BackendState::Disabled, 0))), Look::Wait { active_flows: 0 });
        assert_eq!(judge(End::Gone, None), Look::Done);
        assert_eq!(judge(End::Drained, None), Look::Done);
        assert_eq!(judge(End::Drained, Some((BackendState::Draining, 7))), Look::Wait { active_flows: 7 });
    }

    #[test]
    fn a_drain_that_was_taken_back_is_noticed() {
        assert_eq!(judge(End::Drained, Some((BackendState::Up, 7))), Look::TakenBack(BackendState::Up));
    }
}
