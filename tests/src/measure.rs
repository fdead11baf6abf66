//! Times that were measured: the median and the 95th percentile, which is what a noisy machine lets one say.

use std::fmt;
use std::time::Duration;

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
        self.0.sort_unstable();
    }

    /// The middle one; zero of none.
    pub fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// Only one in twenty is longer; zero of none.
    pub fn p95(&self) -> Duration {
        self.quantile(95)
    }

    fn quantile(&self, per_cent: usize) -> Duration {
        let index = (self.0.len().saturating_sub(1) * per_cent).div_ceil(100);
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median {:?}, p95 {:?} of {}", self.median(), self.p95(), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_p95_is_near_the_end() {
        let mut sample = Sample::default();
        for ms in (1..=21).rev() {
            sample.add(Duration::from_millis(ms));
        }
        assert_eq!(sample.median(), Duration::from_millis(11));
        assert_eq!(sample.p95(), Duration::from_millis(20));
        assert_eq!(Sample::default().median(), Duration::ZERO);
    }
}
