//! DOOR: what waits. Tasks own time, channels and order; they compute nothing.
//!
//! | channel | kind, depth | from → to | when full |
//! |---|---|---|---|
//! | facts | mpsc, 1,024 | health, sweep → reconcile | the sender waits; a fact is never dropped |
//! | commands | mpsc + oneshot, 32 | api, signals → reconcile | refused with "busy, retry" |
//! | network | watch | netlink → reconcile | latest wins: every view is complete |
//! | snapshot | watch | reconcile → api | latest wins |
//! | targets | watch | reconcile → health | latest wins |
//! | sweeps | watch | reconcile → sweep | latest wins |
//! | watched | watch | reconcile → netlink | latest wins |
//! | announced | watch | reconcile → announce | latest wins |
//! | watches | mpsc + oneshot, 8 | api → trace | the asker waits |
//! | seen | mpsc, 2,048 each | trace → one who looks | the record is lost, and counted |

pub mod clock;
pub mod reconcile;
mod publish;
pub mod health;
pub mod sweep;
pub mod announce;
pub mod trace;

use std::time::Duration;

use crate::pure::health::HealthChange;
use crate::pure::sweep::SweepReport;
use lb_common::slot::Owner;

/// One probe round of the largest pool that we test; beyond it probing should slow down.
pub const FACTS_DEPTH: usize = 1_024;

/// More operators than this at once are asked to retry.
pub const COMMANDS_DEPTH: usize = 32;

/// Something that happened.
#[derive(Debug)]
pub enum Fact {
    /// A probe has changed the judgement of a backend.
    Health {
        /// Whose.
        owner: Owner,
        /// The judgement's round, as [`crate::pure::ledger::ProbeTarget::round`] had it.
        round: u64,
        /// What changed, and why.
        change: HealthChange,
        /// When the probe's result was there, `CLOCK_MONOTONIC`.
        at: Duration,
    },
    /// A sweep has ended.
    Swept(Box<SweepReport>),
    /// A sweep has failed; another follows.
    SweepFailed(String),
}
