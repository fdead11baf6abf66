//! The panic threshold: when too few of a pool are up, better a share of failures everywhere than all flows on the rest.
//!
//! In: what the probes say of every backend that may serve (not drained, not disabled, weight above 0). Out: who serves.
//! Those that have never passed do not count and never serve: a launch of many is no reason to panic.

use super::health::Health;

/// One backend that may serve, as the threshold sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What its probes say.
    pub health: Health,
    /// Whether it has ever been up.
    pub ever_up: bool,
}

/// Whether fewer than `percent` of those that have ever been up are up; 0: never.
pub fn is_panic(percent: u8, candidates: impl IntoIterator<Item = Candidate>) -> bool {
    let (mut up, mut known) = (0_u64, 0_u64);
    for candidate in candidates {
        up += u64::from(candidate.health == Health::Up);
        known += u64::from(candidate.ever_up || candidate.health == Health::Up);
    }
    up * 100 < known * u64::from(percent)
}

/// Whether this one gets new flows.
pub fn serves(candidate: Candidate, is_panic: bool) -> bool {
    candidate.health == Health::Up || (is_panic && candidate.ever_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::model::FailKind;

    const UP: Candidate = Candidate { health: Health::Up, ever_up: true };
    const DOWN: Candidate = Candidate { health: Health::Down(FailKind::Silent), ever_up: true };
    const STARTING: Candidate = Candidate { health: Health::Starting, ever_up: false };

    #[test]
    fn the_threshold_is_kept_exactly() {
        assert!(!is_panic(50, [UP, UP, DOWN, DOWN]));
        assert!(is_panic(50, [UP, DOWN, DOWN]));
        assert!(is_panic(51, [UP, DOWN]));
        assert!(!is_panic(100, [UP, UP]));
    }

    #[test]
    fn zero_switches_it_off() {
        assert!(!is_panic(0, [DOWN, DOWN]));
    }

    #[test]
    fn in_panic_all_serve_that_have_ever_been_up() {
        assert!(is_panic(50, [DOWN, DOWN]));
        assert!(serves(DOWN, true) && serves(UP, true));
        assert!(!serves(STARTING, true), "nothing is served before the first pass");
        assert!(!serves(DOWN, false));
    }

    #[test]
    fn a_launch_of_many_is_no_reason_to_panic() {
        assert!(!is_panic(50, [UP, STARTING, STARTING, STARTING]));
        assert!(!is_panic(50, []));
    }
}
