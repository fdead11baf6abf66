//! Spreads moments, so that a thousand timers do not tick as one. Deterministic: all randomness is the seed's.

use std::time::Duration;

use super::maglev::{GOLDEN, mix};

/// A stream of spreads (splitmix64, Steele et al., OOPSLA 2014).
#[derive(Clone, Copy, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `mean` ± at most `percent` of it, evenly spread; `percent` is at most 100.
    pub fn around(&mut self, mean: Duration, percent: u32) -> Duration {
        let low = mean * (100 - percent.min(100)) / 100;
        low + self.within(mean * percent.min(100) / 50)
    }

    /// Between zero and `whole`, evenly spread.
    pub fn within(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_add(GOLDEN);
        // 16 bits of chance: a 65,536th of a probe interval is below any timer's resolution.
        let chance = u32::from(u16::try_from(mix(self.0) >> 48).unwrap_or(u16::MAX));
        whole * chance / 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn spreads_stay_in_bounds_and_use_them() {
        let mut jitter = Jitter::new(7);
        let spreads: Vec<Duration> = (0..1_000).map(|_| jitter.around(S, 10)).collect();
        let (least, most) =
            (spreads.iter().min().expect("1,000 of them"), spreads.iter().max().expect("1,000 of them"));
        assert!(*least >= S * 9 / 10 && *least < S * 91 / 100, "{least:?}");
        assert!(*most <= S * 11 / 10 && *most > S * 109 / 100, "{most:?}");
        let mean = spreads.iter().sum::<Duration>() / 1_000;
        assert!(mean.abs_diff(S) < S / 100, "{mean:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_spreads() {
        let spreads = |seed| [(); 5].map(|()| seed).map(|s| Jitter::new(s).around(S, 10));
        assert_eq!(spreads(1), spreads(1));
        assert_ne!(spreads(1), spreads(2));
    }
}
