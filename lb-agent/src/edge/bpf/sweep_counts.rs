//! What a sweep counts per owner.

use lb_common::sweep::Judgement;

use crate::pure::sweep::FlowCounts;

/// What the walk counts per owner: entries of active, half-open, adopted and ended flows. Each entry is one of them, so that the walk
/// adds to one number an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts(pub(super) [u32; 4]);

const ACTIVE: usize = 0;
const HALF_OPEN: usize = 1;
const ADOPTED: usize = 2;
const ENDED: usize = 3;

impl Counts {
    /// Counts an entry; whether its flow is over.
    #[inline]
    pub(super) fn add(&mut self, judgement: Judgement) -> bool {
        let kind = match judgement {
            Judgement::Active => ACTIVE,
            Judgement::HalfOpen => HALF_OPEN,
            Judgement::Adopted => ADOPTED,
            Judgement::Ended | Judgement::Expire => ENDED,
        };
        self.0[kind] += 1;
        kind == ENDED
    }
}

impl From<Counts> for FlowCounts {
    fn from(counts: Counts) -> Self {
        let [active, half_open, adopted, ended] = counts.0.map(u64::from);
        Self { active, half_open, adopted, named: active + half_open + adopted + ended }
    }
}
