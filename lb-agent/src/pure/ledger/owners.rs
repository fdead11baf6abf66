//! Which owner indices are taken. An index comes back only when a sweep has shown that nothing names it, so that a new
//! backend never inherits a dead one's flows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::limits::MAX_OWNERS;
use lb_common::slot::Owner;

/// A sweep that began this long after an index was let go has seen every packet that could still name it: no packet is under
/// way in the packet path for that long.
const SETTLED_AFTER: Duration = Duration::from_millis(50);

/// Owner indices, `1..MAX_OWNERS`.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    taken: BTreeSet<Owner>,
    retired: BTreeMap<Owner, Duration>,
    /// Every index below it is taken, so that thirty thousand are dealt out without asking for each again and again.
    lowest: Owner,
}

impl Owners {
    /// Marks an index that the maps already use.
    pub(super) fn claim(&mut self, owner: Owner) {
        let _ = self.taken.insert(owner);
    }

    /// The lowest free index; `None`: all 32,767 are in use.
    pub(super) fn allocate(&mut self) -> Option<Owner> {
        let highest = Owner::try_from(MAX_OWNERS - 1).ok()?;
        let owner = (self.lowest.max(1)..=highest).find(|o| !self.taken.contains(o))?;
        let _ = self.taken.insert(owner);
        self.lowest = owner;
        Some(owner)
    }

    /// The backend behind an index is gone for good.
    pub(super) fn retire(&mut self, owner: Owner, now: Duration) {
        let _ = self.retired.insert(owner, now);
    }

    /// Indices whose backend is gone, and which something may still name.
    pub(super) fn retired(&self) -> impl Iterator<Item = Owner> + '_ {
        self.retired.keys().copied()
    }

    /// Frees what a sweep of every map, begun at `started`, has not met. `is_named` answers for entries and rings.
    pub(super) fn free_unnamed(&mut self, started: Duration, is_named: impl Fn(Owner) -> bool) {
        let free: Vec<Owner> = self
            .retired
            .iter()
            .filter(|(owner, since)| started >= **since + SETTLED_AFTER && !is_named(**owner))
            .map(|(owner, _)| *owner)
            .collect();
        for owner in free {
            let _ = self.retired.remove(&owner);
            let _ = self.taken.remove(&owner);
            self.lowest = self.lowest.min(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_only_after_a_sweep_that_met_it_nowhere() {
        let mut owners = Owners::default();
        assert_eq!((owners.allocate(), owners.allocate()), (Some(1), Some(2)));
        owners.retire(1, Duration::from_secs(10));
        owners.free_unnamed(Duration::from_secs(10), |_| false);
        assert_eq!(owners.allocate(), Some(3), "that sweep may have begun before the last packet left");
        owners.free_unnamed(Duration::from_secs(11), |o| o == 1);
        assert_eq!(owners.allocate(), Some(4), "an entry names it");
        owners.free_unnamed(Duration::from_secs(12), |_| false);
        assert_eq!(owners.allocate(), Some(1));
    }
}
