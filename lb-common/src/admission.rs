//! Whom a service admits, and how fast: limits of new flows, prefixes of sources, what was refused.
//!
//! Rates are kept as the theoretical arrival time of a cell (GCRA, ITU-T I.371, annex A): one word that says until when the
//! budget is spent, so that asking an exhausted budget writes nothing. A quiet second fills a budget; so `n` flows a second means
//! `n` at once after a quiet second, `n` a second for as long as it lasts, and never more than `2n` within one second.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How far a budget may be ahead of the clock, ns: what a budget saves up in silence.
pub const WINDOW_NS: u64 = 1_000_000_000;

/// Sources' times are kept in units of 2^6 ns.
pub const SOURCE_UNIT_SHIFT: u32 = 6;

/// [`WINDOW_NS`] in units of sources' times; exact.
pub const SOURCE_WINDOW: u64 = WINDOW_NS >> SOURCE_UNIT_SHIFT;

/// Most new flows a second that a service's budget can say: 100 ns a flow.
pub const MAX_NEW_FLOWS: u32 = 10_000_000;

/// Most new flows a second that a source's budget can say: 156 units a flow, which is true to 0.2 %.
pub const MAX_NEW_FLOWS_PER_SOURCE: u32 = 100_000;

/// One service's limits; all zeroes where it has none. The agent changes it by aligned 64-bit stores, each right by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Limits {
    /// What one new flow takes from the service's budget, ns; 0: no limit.
    pub flow_cost_ns: u32,
    /// What one new flow takes from its source's budget, units of 2^[`SOURCE_UNIT_SHIFT`] ns; 0: no limit.
    pub source_cost: u32,
    /// Bits of an IPv4 address that make a source.
    pub prefix_v4: u8,
    /// Bits of an IPv6 address that make a source.
    pub prefix_v6: u8,
    /// Always zero.
    pub zero: [u8; 6],
}

impl Limits {
    /// Flows a second of a service and of one source; 0: no limit. Bounded by [`MAX_NEW_FLOWS`] and
    /// [`MAX_NEW_FLOWS_PER_SOURCE`].
    pub const fn per_second(flows: u32, per_source: u32, prefix_v4: u8, prefix_v6: u8) -> Self {
        Self {
            flow_cost_ns: cost(WINDOW_NS, flows, MAX_NEW_FLOWS),
            source_cost: cost(SOURCE_WINDOW, per_source, MAX_NEW_FLOWS_PER_SOURCE),
            prefix_v4,
            prefix_v6,
            zero: [0; 6],
        }
    }
}

/// What one of `flows` in a second takes, where at most `most` can be said; 0 of none.
#[expect(clippy::cast_possible_truncation, reason = "a second has less than 2^32 ns")]
const fn cost(second: u64, flows: u32, most: u32) -> u32 {
    match flows {
        0 => 0,
        n if n > most => second as u32 / most,
        n => second as u32 / n,
    }
}

/// What an access list says of a source. The longest prefix decides.
pub const ACCESS_DENY: u32 = 0;
/// See [`ACCESS_DENY`].
pub const ACCESS_ALLOW: u32 = 1;

/// Bits of an access key in front of the address.
pub const ACCESS_SERVICE_BITS: u32 = 32;

/// A source of a service, IPv4; in the map behind the number of bits that count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AccessV4 {
    /// Service id, big-endian.
    pub service: [u8; 4],
    /// Address or network.
    pub addr: [u8; 4],
}

/// A source of a service, IPv6; in the map behind the number of bits that count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AccessV6 {
    /// Service id, big-endian.
    pub service: [u8; 4],
    /// Address or network.
    pub addr: [u8; 16],
}

/// What limits of a service have refused, by one CPU's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Refusals {
    /// Packets of sources that the access list denies.
    pub denied: u64,
    /// New flows of a source that has opened too many.
    pub rate_limited: u64,
    /// New flows for which no backend had a place.
    pub backend_full: u64,
    /// New flows beyond the service's budget: forwarded by the ring, not entered.
    pub over_budget: u64,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// [`Refusals::denied`].
    Denied,
    /// [`Refusals::rate_limited`].
    RateLimited,
    /// [`Refusals::backend_full`].
    BackendFull,
    /// [`Refusals::over_budget`].
    OverBudget,
}

impl Refusals {
    /// One more.
    #[inline(always)]
    pub const fn add(&mut self, what: Refusal) {
        let count = match what {
            Refusal::Denied => &mut self.denied,
            Refusal::RateLimited => &mut self.rate_limited,
            Refusal::BackendFull => &mut self.backend_full,
            Refusal::OverBudget => &mut self.over_budget,
        };
        *count = count.wrapping_add(1);
    }
}

/// A source's budget in its bucket: tag (bits 40-63, odd), time until which it is spent (0-39, units of
/// 2^[`SOURCE_UNIT_SHIFT`] ns, modulo 2^40, which is 19.5 hours). Zero: free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceEntry(pub u64);

/// Bits of a source's time.
pub const SOURCE_TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << SOURCE_TIME_BITS) - 1;

impl SourceEntry {
    /// `until`: a time in sources' units.
    #[inline(always)]
    pub const fn new(tag: u32, until: u64) -> Self {
        Self((tag as u64 >> 8 | 1) << SOURCE_TIME_BITS | until & TIME_MASK)
    }

    /// Whether it is this source's, up to 23 bits of its hash.
    #[inline(always)]
    pub const fn is_of(self, tag: u32) -> bool {
        self.0 >> SOURCE_TIME_BITS == (tag as u64 >> 8 | 1)
    }

    /// How far it is ahead of `now`, at most [`SOURCE_WINDOW`]. What is further ahead has been silent for hours.
    #[inline(always)]
    pub const fn ahead(self, now: u64) -> u64 {
        let ahead = (self.0 & TIME_MASK).wrapping_sub(now) & TIME_MASK;
        if ahead > SOURCE_WINDOW { 0 } else { ahead }
    }
}

/// What a budget is ahead by after one more flow that costs `cost`, where it is `ahead` by now; `None`: it is spent.
#[inline(always)]
pub const fn spend(ahead: u64, cost: u64, window: u64) -> Option<u64> {
    let next = ahead.wrapping_add(cost);
    if next > window { None } else { Some(next) }
}

const _: () = assert!(size_of::<Limits>() == 16 && size_of::<Refusals>() == 32);
const _: () = assert!(size_of::<AccessV4>() == 8 && size_of::<AccessV6>() == 20);
const _: () = assert!(WINDOW_NS.trailing_zeros() >= SOURCE_UNIT_SHIFT, "a second is a whole number of units");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_holds_as_many_flows_as_it_says() {
        for n in [1, 2, 3, 7, 10, 100, 999, 1_000, 12_345, 100_000] {
            let limits = Limits::per_second(n, n, 32, 64);
            for (cost, window) in
                [(u64::from(limits.flow_cost_ns), WINDOW_NS), (u64::from(limits.source_cost), SOURCE_WINDOW)]
            {
                let (mut ahead, mut flows) = (0, 0);
                while let Some(next) = spend(ahead, cost, window) {
                    (ahead, flows) = (next, flows + 1);
                }
                let excess = flows - n;
                assert!(excess <= n / 500, "{n} a second, {flows} at once");
            }
        }
    }

    #[test]
    fn rates_beyond_what_can_be_said_are_the_highest_that_can() {
        let most = Limits::per_second(MAX_NEW_FLOWS, MAX_NEW_FLOWS_PER_SOURCE, 24, 64);
        assert_eq!(Limits::per_second(u32::MAX, u32::MAX, 24, 64), most);
        assert_eq!((most.flow_cost_ns, most.source_cost), (100, 156));
        assert_eq!(Limits::per_second(0, 0, 24, 64).flow_cost_ns, 0);
    }

    #[test]
    fn a_sources_time_survives_the_turn_and_hours_of_silence() {
        let near_the_turn = TIME_MASK - 5;
        let entry = SourceEntry::new(0xabcd_ef01, near_the_turn.wrapping_add(20));
        assert_eq!(entry.ahead(near_the_turn), 20);
        assert_eq!(entry.ahead(near_the_turn + 20), 0);
        assert_eq!(entry.ahead(near_the_turn + (TIME_MASK >> 1)), 0);
        assert!(entry.is_of(0xabcd_ef02) && !entry.is_of(0xabce_ef01));
        assert!(!SourceEntry::default().is_of(0));
    }
}
