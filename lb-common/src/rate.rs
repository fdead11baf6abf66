//! How often we speak up ourselves: a token bucket in one 64-bit word.
//!
//! ICMP errors must be limited (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)): whoever can make us send them could aim
//! them at others.

use crate::clock::Ticks;

/// Tokens that come with every tick of 268 ms: about 120 a second, on each CPU.
pub const TOKENS_PER_TICK: u64 = 32;

/// Most tokens at once: what a CPU may say in one burst after a silence.
pub const MOST_TOKENS: u64 = 128;

/// A bucket: tokens (bits 0-31), when they were counted (32-63). Zero is a bucket that has never been asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens(pub u64);

impl Tokens {
    /// The bucket after one token was taken; `None` where there is none. (After 73 minutes of silence the clock has come round,
    /// and the bucket may be as empty as it was left, for a tick.)
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "ticks have 16 bits, and `take` wrote them")]
    pub const fn take(self, now: Ticks) -> Option<Self> {
        let then = Ticks((self.0 >> 32) as u16);
        let saved = (self.0 & 0xffff_ffff) + now.since(then) as u64 * TOKENS_PER_TICK;
        let tokens = if saved > MOST_TOKENS { MOST_TOKENS } else { saved };
        if tokens == 0 { None } else { Some(Self((now.0 as u64) << 32 | (tokens - 1))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut bucket = Tokens::default();
        let mut taken = |now: u16| {
            let mut n = 0;
            while let Some(next) = bucket.take(Ticks(now)) {
                bucket = next;
                n += 1;
            }
            n
        };
        assert_eq!(taken(9_000), MOST_TOKENS);
        assert_eq!(taken(9_000), 0);
        assert_eq!(taken(9_001), TOKENS_PER_TICK);
        assert_eq!(taken(9_003), 2 * TOKENS_PER_TICK);
        assert_eq!(taken(100), MOST_TOKENS, "the clock has come round");
    }
}
