//! [unsafe room 2] A bucket of the flow table, or of sources' budgets, in map memory.

use core::ptr::addr_of_mut;

use lb_common::flow::FlowBucket;
use lb_common::limits::FLOW_BUCKET_ENTRIES;
use lb_common::tables::Bucket;

use crate::atomic;

/// Eight flow entries in map memory.
#[derive(Clone, Copy)]
pub(crate) struct MapBucket(pub(crate) *mut FlowBucket);

impl MapBucket {
    #[inline(always)]
    fn word(self, i: usize) -> *mut u64 {
        // SAFETY: the pointer comes from a lookup in FLOWS or SOURCES and is valid for the program run; the index is reduced below the
        // bucket's length.
        unsafe { addr_of_mut!((*self.0)[i & (FLOW_BUCKET_ENTRIES - 1)]) }
    }
}

impl Bucket for MapBucket {
    #[inline(always)]
    fn load(self, i: usize) -> u64 {
        // SAFETY: `word` is a valid, aligned pointer; volatile, because other CPUs and the agent change the word.
        unsafe { self.word(i).read_volatile() }
    }

    #[inline(always)]
    fn exchange(self, i: usize, old: u64, new: u64) -> bool {
        // SAFETY: `word` is a valid, aligned pointer to a word that everybody changes atomically.
        unsafe { atomic::compare_exchange(self.word(i), old, new) }
    }
}
