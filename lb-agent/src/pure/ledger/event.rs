//! What there is to tell the operator: one event per change of state, with its reason and its consequence. Tasks print it.

use std::time::Duration;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A state has changed.
    Info,
    /// Degraded, but handled.
    Warn,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How much it matters.
    pub level: Level,
    /// State change, reason, consequence.
    pub text: String,
}

impl Event {
    /// A state has changed.
    pub fn info(text: String) -> Self {
        Self { level: Level::Info, text }
    }

    /// Degraded, but handled.
    pub fn warn(text: String) -> Self {
        Self { level: Level::Warn, text }
    }

    pub(super) fn seconds(d: Duration) -> String {
        format!("{:.1} s", d.as_secs_f64())
    }
}
