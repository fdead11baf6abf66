//! Sweeps the flow table again and again, as often as somebody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Fact;
use crate::edge::dataplane::Sweeper;
use crate::pure::sweep::SweepRequest;

/// Ten times a second while somebody waits: a drain, a transition, least_conn.
const URGENT: Duration = Duration::from_millis(100);

/// Otherwise counts are this old at most, in urgent turns.
const CALM_TURNS: u32 = 4;

/// What the next sweep is to do.
#[derive(Clone, Debug, Default)]
pub struct SweepOrder {
    /// What it is asked.
    pub request: Arc<SweepRequest>,
    /// Whether somebody waits for it.
    pub is_urgent: bool,
}

/// Runs until `stop`. A sweep in progress is finished first.
pub async fn run(
    mut sweeper: impl Sweeper + 'static,
    orders: watch::Receiver<SweepOrder>,
    facts: mpsc::Sender<Fact>,
    hurry: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut turns = interval(URGENT);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calm = 0;
    let mut extra = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The next report may be of a moment before somebody asked; the one after it is not.
            () = hurry.notified() => extra = 1,
            () = std::future::ready(()), if extra > 0 => extra -= 1,
            _ = turns.tick() => {
                calm += 1;
                if !orders.borrow().is_urgent && calm < CALM_TURNS {
                    continue;
                }
                calm = 0;
            }
        }
        let order = orders.borrow().clone();
        // A million flows take milliseconds: not on a thread that others wait for.
        let swept = tokio::task::spawn_blocking(move || {
            let result = sweeper.sweep(&order.request);
            (sweeper, result)
        });
        let Ok((back, result)) = swept.await else { return };
        sweeper = back;
        let fact = match result {
            Ok(report) => Fact::Swept(Box::new(report)),
            Err(e) => Fact::SweepFailed(e.to_string()),
        };
        if facts.send(fact).await.is_err() {
            return;
        }
    }
}
