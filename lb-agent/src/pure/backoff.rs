//! How long to wait before the next attempt: twice as long each time, up to a bound, spread so that hosts do not retry as one.

use std::time::Duration;

use super::jitter::Jitter;

/// Share of a wait that is left to chance, per cent.
const SPREAD_PERCENT: u32 = 20;

/// Waits after failures in a row.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Waits of `first`, twice `first`, ... and never more than `most`, each ± 20 %.
    pub const fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, next: first, jitter: Jitter::new(seed) }
    }

    /// An attempt has failed: wait so long before the next.
    pub fn failed(&mut self) -> Duration {
        let wait = self.next.min(self.most);
        self.next = wait.saturating_mul(2).min(self.most);
        self.jitter.around(wait, SPREAD_PERCENT)
    }

    /// An attempt has succeeded: the next failure waits `first` again.
    pub const fn succeeded(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_bound_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(100 * MS, 350 * MS, 3);
        for wait_ms in [100, 200, 350, 350] {
            let wait = backoff.failed();
            assert!(wait.abs_diff(wait_ms * MS) <= wait_ms * MS / 5, "{wait:?}, wanted about {wait_ms} ms");
        }
        backoff.succeeded();
        assert!(backoff.failed() <= 120 * MS);
    }
}
