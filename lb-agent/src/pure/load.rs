//! Counters to rates. Missing is not zero: what was not read, or was read for the first time, is unknown, and whoever
//! decides on it holds.

use std::time::Duration;

/// A measured value and its age, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Reading {
    /// Measured.
    Known {
        /// The value, in the unit of whoever asks.
        value: f64,
        /// When it was true; `CLOCK_MONOTONIC`.
        at: Duration,
    },
    /// Not measured (yet), or no longer to be believed.
    #[default]
    Unknown,
}

impl Reading {
    /// The value, unless it is unknown or older than `max_age`.
    pub fn within(self, max_age: Duration, now: Duration) -> Option<f64> {
        match self {
            Self::Known { value, at } if now.saturating_sub(at) <= max_age => Some(value),
            _ => None,
        }
    }
}

/// Turns one counter's readings into a rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// The last reading.
    last: Option<(u64, Duration)>,
    rate: Reading,
}

impl Meter {
    /// Takes a reading; `None`: there was none. The rate per second since the last one, unknown where the counter was read
    /// for the first time, not read, or has begun anew. Two readings of one moment leave the rate as it was.
    pub fn observe(&mut self, counter: Option<u64>, at: Duration) -> Reading {
        let Some(counter) = counter else {
            // The last reading stays: the next one tells the mean over the gap.
            self.rate = Reading::Unknown;
            return self.rate;
        };
        if let Some((last, last_at)) = self.last
            && at <= last_at
            && counter >= last
        {
            return self.rate;
        }
        self.rate = match self.last {
            Some((last, last_at)) => rate(last, counter, at.saturating_sub(last_at), at),
            None => Reading::Unknown,
        };
        self.last = Some((counter, at));
        self.rate
    }

    /// The last rate.
    pub const fn rate(&self) -> Reading {
        self.rate
    }
}

/// A counter that goes back by less than half of its range has begun anew; one that goes back by more has wrapped.
#[expect(clippy::cast_precision_loss, reason = "a rate that is true to 53 bits is true enough")]
fn rate(from: u64, to: u64, elapsed: Duration, at: Duration) -> Reading {
    let grown = to.wrapping_sub(from);
    if elapsed.is_zero() || grown > u64::MAX / 2 {
        return Reading::Unknown;
    }
    Reading::Known { value: grown as f64 / elapsed.as_secs_f64(), at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn known(value: f64, at: Duration) -> Reading {
        Reading::Known { value, at }
    }

    #[test]
    fn two_readings_make_a_rate() {
        let mut meter = Meter::default();
        assert_eq!(meter.observe(Some(100), S), Reading::Unknown);
        assert_eq!(meter.observe(Some(150), 3 * S), known(25.0, 3 * S));
        assert_eq!(meter.observe(Some(150), 4 * S), known(0.0, 4 * S), "this zero was measured");
    }

    #[test]
    fn a_counter_that_begins_anew_is_unknown_for_one_reading() {
        let mut meter = Meter::default();
        let _ = meter.observe(Some(1_000), S);
        assert_eq!(meter.observe(Some(5), 2 * S), Reading::Unknown);
        assert_eq!(meter.observe(Some(15), 3 * S), known(10.0, 3 * S));
    }

    #[test]
    fn a_counter_that_wraps_goes_on() {
        let mut meter = Meter::default();
        let _ = meter.observe(Some(u64::MAX - 9), S);
        assert_eq!(meter.observe(Some(10), 2 * S), known(20.0, 2 * S));
    }

    #[test]
    fn a_missing_reading_is_unknown_and_the_next_one_tells_the_mean() {
        let mut meter = Meter::default();
        let _ = meter.observe(Some(0), S);
        let _ = meter.observe(Some(10), 2 * S);
        assert_eq!(meter.observe(None, 3 * S), Reading::Unknown);
        assert_eq!(meter.observe(Some(50), 4 * S), known(20.0, 4 * S));
    }

    #[test]
    fn two_readings_of_one_moment_leave_the_rate_as_it_was() {
        let mut meter = Meter::default();
        let _ = meter.observe(Some(0), S);
        let _ = meter.observe(Some(10), 2 * S);
        assert_eq!(meter.observe(Some(12), 2 * S), known(10.0, 2 * S));
        assert_eq!(meter.observe(Some(30), 3 * S), known(20.0, 3 * S), "and count from the first");
    }

    #[test]
    fn large_steps_keep_their_size() {
        let mut meter = Meter::default();
        let _ = meter.observe(Some(0), S);
        assert_eq!(meter.observe(Some(3 << 33), 2 * S), known(25_769_803_776.0, 2 * S));
    }

    #[test]
    fn an_old_reading_is_as_good_as_none() {
        assert_eq!(known(7.0, 10 * S).within(5 * S, 15 * S), Some(7.0));
        assert_eq!(known(7.0, 10 * S).within(5 * S, 16 * S), None);
        assert_eq!(Reading::Unknown.within(5 * S, 16 * S), None);
    }
}
