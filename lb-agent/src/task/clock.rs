//! The agent's clock: `CLOCK_MONOTONIC` as the kernel side counts it, on tokio's time so that tests can stop it.

use std::time::Duration;

use tokio::time::Instant;

/// Maps tokio's instants to `CLOCK_MONOTONIC` readings.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    reading: Duration,
}

impl Clock {
    /// `reading`: what `CLOCK_MONOTONIC` says now.
    pub fn new(reading: Duration) -> Self {
        Self { origin: Instant::now(), reading }
    }

    /// `CLOCK_MONOTONIC` now.
    pub fn now(&self) -> Duration {
        self.reading + self.origin.elapsed()
    }

    /// Time since the clock was made.
    pub fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When the clock will read `at`; now, where that has passed.
    pub fn instant(&self, at: Duration) -> Instant {
        self.origin + at.saturating_sub(self.reading)
    }
}
