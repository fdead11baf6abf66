//! The two-generation slot of a ring: who owns it, who owned it before, and whether flows are still moving over.
//!
//! A slot is the atomic unit of every ring change: one 32-bit store, right by itself. The rules that go with it are numbered
//! as in the design: (1) settled: the ring routes; (2) in transition: the flow table first, then previous for what is not
//! tracked, current for what is new; (3) a further change replaces current and keeps previous; (4) settling waits until
//! nothing live disagrees; (5) a dead owner's slots change at once. Previous owners are Beamer's idea (Olteanu et al., NSDI 2018).

use crate::limits::{MAX_OWNERS, RING_LEN, RING_SIZE};

/// Host-wide index of one (service, backend) pair, `1..MAX_OWNERS`; 0 is nobody.
pub type Owner = u16;

/// Nobody: a slot of an empty pool.
pub const NOBODY: Owner = 0;

/// A service's ring as it lies in its map.
pub type Ring = [u32; RING_LEN];

const OWNER_MASK: u32 = 0x7fff;
const PREVIOUS_SHIFT: u32 = 15;
const IN_TRANSITION: u32 = 1 << 30;
const AGED: u32 = 1 << 31;

/// One slot: current owner (bits 0-14), previous owner (15-29), in transition (30), aged (31).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slot(pub u32);

impl Slot {
    /// A slot that nothing moves in: `owner` owns it and owned it before.
    #[inline(always)]
    pub const fn settled(owner: Owner) -> Self {
        let o = owner as u32 & OWNER_MASK;
        Self(o | o << PREVIOUS_SHIFT)
    }

    /// Who gets new flows.
    #[inline(always)]
    pub const fn current(self) -> Owner {
        (self.0 & OWNER_MASK) as Owner
    }

    /// Who had the slot when the transition began: the owner of every flow that is not tracked.
    #[inline(always)]
    pub const fn previous(self) -> Owner {
        (self.0 >> PREVIOUS_SHIFT & OWNER_MASK) as Owner
    }

    /// Explicit, so that A→B→A can be said.
    #[inline(always)]
    pub const fn in_transition(self) -> bool {
        self.0 & IN_TRANSITION != 0
    }

    /// In transition for at least one idle timeout of its service in which no flow was refused: every live flow of previous
    /// has been seen since and is tracked, so that what is not tracked is new.
    #[inline(always)]
    pub const fn aged(self) -> bool {
        self.0 & AGED != 0
    }

    /// Who has every live flow that is not tracked: previous until the slot has aged, current from then on (for UDP too,
    /// which has no SYN to tell a new flow by). A miss goes there while that owner lives, and so does a new flow for which
    /// the table has no room: it stays where its later misses will go.
    #[inline(always)]
    pub const fn untracked(self) -> Owner {
        if self.in_transition() && !self.aged() { self.previous() } else { self.current() }
    }

    /// Rule 3: `owner` becomes current, and previous is who has the untracked flows: the owner when the transition began. A
    /// slot that had aged begins anew. Where nobody has any, those that come will be `owner`'s.
    #[inline(always)]
    pub const fn change_to(self, owner: Owner) -> Self {
        let previous = if self.untracked() == NOBODY { owner } else { self.untracked() };
        Self(owner as u32 & OWNER_MASK | (previous as u32) << PREVIOUS_SHIFT | IN_TRANSITION)
    }

    /// One idle timeout has passed since the transition began.
    #[inline(always)]
    pub const fn age(self) -> Self {
        Self(self.0 | AGED)
    }

    /// Rule 4: nothing live disagrees any more.
    #[inline(always)]
    pub const fn settle(self) -> Self {
        Self::settled(self.current())
    }

    /// Rule 5: `dead` is gone for good and `heir` takes its place: at once where it was current; a previous owner that is
    /// gone becomes current.
    #[inline(always)]
    pub const fn bereave(self, dead: Owner, heir: Owner) -> Self {
        if !self.in_transition() {
            return if self.current() == dead { Self::settled(heir) } else { self };
        }
        let current = if self.current() == dead { heir } else { self.current() };
        let previous = if self.previous() == dead { current } else { self.previous() };
        Self(current as u32 & OWNER_MASK | (previous as u32) << PREVIOUS_SHIFT | self.0 & (IN_TRANSITION | AGED))
    }
}

/// Slot of a flow by its tag: `tag × 65537 >> 32`, in `0..RING_SIZE`. `source_hash` puts the client's 16 bits on top of the
/// tag and takes those alone, so that all flows of one client share a slot and still differ in their tags.
#[inline(always)]
pub const fn slot_of(tag: u32, by_source: bool) -> u32 {
    if by_source { tag >> 16 } else { ((tag as u64 * RING_SIZE as u64) >> 32) as u32 }
}

const _: () = assert!(MAX_OWNERS - 1 == OWNER_MASK as usize);
const _: () =
    assert!((slot_of(u32::MAX, false) as usize) < RING_SIZE && (slot_of(u32::MAX, true) as usize) < RING_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_change_keeps_the_first_previous_owner() {
        let s = Slot::settled(3).change_to(4).change_to(5);
        assert_eq!((s.current(), s.previous(), s.in_transition(), s.untracked()), (5, 3, true, 3));
    }

    #[test]
    fn untracked_flows_of_an_aged_slot_are_its_current_owners() {
        let s = Slot::settled(3).change_to(4).age();
        assert_eq!((s.previous(), s.untracked()), (3, 4));
        let s = s.change_to(5);
        assert_eq!((s.current(), s.previous(), s.in_transition(), s.aged()), (5, 4, true, false));
    }

    #[test]
    fn an_empty_pools_first_owner_keeps_its_untracked_flows_when_another_comes() {
        let s = Slot::settled(NOBODY).change_to(3).change_to(4);
        assert_eq!((s.current(), s.untracked()), (4, 3));
    }

    #[test]
    fn there_and_back_again_is_still_a_transition() {
        let s = Slot::settled(3).change_to(4).change_to(3);
        assert_eq!((s.current(), s.previous(), s.in_transition()), (3, 3, true));
        assert_eq!(s.settle(), Slot::settled(3));
    }

    #[test]
    fn a_dead_previous_owner_becomes_current() {
        let s = Slot::settled(3).change_to(4).bereave(3, 9);
        assert_eq!((s.current(), s.previous(), s.in_transition()), (4, 4, true));
        let s = Slot::settled(3).change_to(4).bereave(4, 9);
        assert_eq!((s.current(), s.previous(), s.in_transition()), (9, 3, true));
        assert_eq!(Slot::settled(3).bereave(3, 9), Slot::settled(9));
    }

    #[test]
    fn the_largest_owner_fits() {
        let top = 32_767;
        let s = Slot::settled(top).change_to(top);
        assert_eq!((s.current(), s.previous()), (top, top));
    }
}
