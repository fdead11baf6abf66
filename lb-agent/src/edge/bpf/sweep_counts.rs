//! What a sweep counts per owner.

use crate::pure::sweep::FlowCounts;

/// What the walk counts per owner: entries of active, half-open, adopted and ended flows. Each entry is one of them, so that the walk
/// adds to one number an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts(pub(super) [u32; 4]);

pub(super) const ACTIVE: usize = 0;
pub(super) const HALF_OPEN: usize = 1;
pub(super) const ADOPTED: usize = 2;
pub(super) const ENDED: usize = 3;

impl From<Counts> for FlowCounts {
    fn from(counts: Counts) -> Self {
        let [active, half_open, adopted, ended] = counts.0.map(u64::from);
        Self { active, half_open, adopted, named: active + half_open + adopted + ended }
    }
}
