//! Coarse time as the flow table keeps it: ticks of 2^28 ns (0.268 s) of `CLOCK_MONOTONIC`, 14 bits, compared modulo 2^14.
//!
//! One turn lasts 4,398 s. The longest idle timeout is 3,600 s, so that an age is never ambiguous while somebody sweeps.

/// Bits of a time in a flow entry.
pub const TIME_BITS: u32 = 14;

/// Nanoseconds to ticks: a shift.
pub const TICK_SHIFT: u32 = 28;

/// Length of a tick, ns.
pub const TICK_NS: u64 = 1 << TICK_SHIFT;

/// One CPU's clock may run this far ahead of another's.
pub const AHEAD_TICKS: u16 = 4;

const TIME_MASK: u16 = (1 << TIME_BITS) - 1;

/// A moment modulo 2^14 ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks(pub u16);

impl Ticks {
    /// The moment of a `CLOCK_MONOTONIC` reading in ns.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 14 bits")]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> TICK_SHIFT) as u16 & TIME_MASK)
    }

    /// Ticks from `earlier` to `self`, modulo 2^14. A moment that lies a little ahead (another CPU's clock) has age 0.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u16 {
        let age = self.0.wrapping_sub(earlier.0) & TIME_MASK;
        if age > TIME_MASK - AHEAD_TICKS { 0 } else { age }
    }

    /// The same plus [`AHEAD_TICKS`], without a branch: for comparing ages with each other.
    #[inline(always)]
    pub const fn since_with_slack(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0).wrapping_add(AHEAD_TICKS) & TIME_MASK
    }

    /// Whether both moments lie in one epoch of `2^shift` ticks.
    #[inline(always)]
    pub const fn same_epoch(self, other: Self, shift: u32) -> bool {
        self.0 >> (shift & 15) == other.0 >> (shift & 15)
    }
}

/// Whole ticks that are at least `ns` long, at most what an entry can hold.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the line above the cast")]
pub const fn ticks_for_ns(ns: u64) -> u16 {
    let ticks = ns.div_ceil(TICK_NS);
    if ticks > (TIME_MASK - 64) as u64 { TIME_MASK - 64 } else { ticks as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_survive_the_turn_of_the_clock() {
        assert_eq!(Ticks(3).since(Ticks(TIME_MASK - 1)), 5);
        assert_eq!(Ticks(3).since(Ticks(4)), 0, "a neighbour CPU's clock may run a tick ahead");
        assert_eq!(Ticks(9).since(Ticks(2)), 7);
    }

    #[test]
    fn an_hour_fits_into_one_turn() {
        assert!(u64::from(ticks_for_ns(3_600_000_000_000)) * TICK_NS >= 3_600_000_000_000);
        assert!(ticks_for_ns(3_600_000_000_000) < TIME_MASK - 1_000);
    }
}
