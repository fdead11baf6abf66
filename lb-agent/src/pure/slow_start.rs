//! Slow start: a backend that came up grows to its weight in ten steps, because caches and JITs warm up under load.

use std::time::Duration;

/// First share, and size of a step, per cent.
const STEP_PERCENT: u8 = 10;
/// Steps from the first share to all of it.
const STEPS: u32 = 9;

/// Share of its weight that a backend gets which has been up since `up_since`: 10, 20, ... 100 per cent, all of it after
/// `slow_start`.
pub fn percent(up_since: Duration, slow_start: Duration, now: Duration) -> u8 {
    (0..STEPS).rev().find(|n| now >= step_at(up_since, slow_start, n + 1)).map_or(STEP_PERCENT, |n| {
        let steps = u8::try_from(n + 1).unwrap_or(u8::MAX);
        STEP_PERCENT.saturating_add(steps.saturating_mul(STEP_PERCENT))
    })
}

/// When the share grows next; `None` once it is whole.
pub fn next_step(up_since: Duration, slow_start: Duration, now: Duration) -> Option<Duration> {
    (1..=STEPS).map(|n| step_at(up_since, slow_start, n)).find(|at| *at > now)
}

/// A weight in hundredths, so that a tenth of the weight 1 can be told from 1. All members of a ring must be given so.
pub fn scaled_weight(weight: u16, percent: u8) -> u32 {
    u32::from(weight) * u32::from(percent)
}

fn step_at(up_since: Duration, slow_start: Duration, step: u32) -> Duration {
    up_since + slow_start.saturating_mul(step) / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_share_grows_in_tens_and_is_whole_at_the_end() {
        let shares: Vec<u8> = (0..=10).map(|n| percent(100 * S, 9 * S, (100 + n) * S)).collect();
        assert_eq!(shares, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]);
    }

    #[test]
    fn every_step_is_announced() {
        let (mut now, mut shares) = (100 * S, vec![percent(100 * S, 30 * S, 100 * S)]);
        while let Some(next) = next_step(100 * S, 30 * S, now) {
            now = next;
            shares.push(percent(100 * S, 30 * S, now));
        }
        assert_eq!((now, shares), (130 * S, vec![10, 20, 30, 40, 50, 60, 70, 80, 90, 100]));
    }

    #[test]
    fn without_slow_start_the_share_is_whole_at_once() {
        assert_eq!(percent(100 * S, Duration::ZERO, 100 * S), 100);
        assert_eq!(next_step(100 * S, Duration::ZERO, 100 * S), None);
    }

    #[test]
    fn even_the_smallest_weight_starts_slowly() {
        assert_eq!((scaled_weight(1, 10), scaled_weight(1, 100)), (10, 100));
        assert_eq!((scaled_weight(0, 100), scaled_weight(u16::MAX, 100)), (0, 6_553_500));
    }
}
