//! The first packet of a flow in each epoch: a small bitmap that cleans itself, so that a settled flow touches the flow
//! table a few times per idle timeout and not on every packet.
//!
//! A word holds the low 8 bits of the epoch it was last used in and 56 bits, one per flow that hashes there. A word of
//! another epoch counts as empty. The epoch also salts the place, so that two flows that share a bit in one epoch do not in
//! the next. Plain loads and stores: a lost race costs one more look at the table, never one less for long.

use crate::flow::FlowKey;

/// Flags in one word.
pub const FLAGS_PER_WORD: u32 = 56;

/// Word and flag of a flow in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the word.
    pub word: u32,
    stamp: u64,
    flag: u64,
}

impl Place {
    /// `mask`: words in the bitmap less one. Their number need be no power of two: the smaller the bitmap, the more of it is in
    /// the cache.
    #[inline(always)]
    pub const fn of(key: FlowKey, epoch: u32, mask: u32) -> Self {
        let salted = (key.bucket as u64 | (key.tag as u64) << 32) ^ (epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (salted ^ salted >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (((mixed >> 32) * (mask as u64 + 1)) >> 32) as u32;
        let flag = ((mixed >> 8 & 0xff_ffff) * FLAGS_PER_WORD as u64) >> 24;
        Self { word, stamp: (epoch as u64 & 0xff) << FLAGS_PER_WORD, flag: 1 << flag }
    }

    /// The word with this flow marked as seen, or `None` if it already was.
    #[inline(always)]
    pub const fn mark(self, word: u64) -> Option<u64> {
        let clean = if word >> FLAGS_PER_WORD << FLAGS_PER_WORD == self.stamp { word } else { self.stamp };
        if clean & self.flag != 0 { None } else { Some(clean | self.flag) }
    }

    /// Whether the word has this flow marked as seen.
    #[inline(always)]
    pub const fn is_marked(self, word: u64) -> bool {
        // The stamp's bits and the flag's alone can differ from a word of this epoch that has the flag.
        (word ^ (self.stamp | self.flag)) & (0xff << FLAGS_PER_WORD | self.flag) == 0
    }

    /// The word with this flow unmarked: its next packet is a first one again.
    #[inline(always)]
    pub const fn unmark(self, word: u64) -> u64 {
        word & !self.flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_packet_of_an_epoch_is_an_event() {
        let key = FlowKey { bucket: 7, tag: 9 };
        let place = Place::of(key, 5, 0xff);
        let word = place.mark(0).expect("an empty word knows nobody");
        assert_eq!(place.mark(word), None);
        assert!(place.is_marked(word) && !place.is_marked(0) && !place.is_marked(place.unmark(word)));
        assert!(place.mark(place.unmark(word)).is_some());
    }

    #[test]
    fn a_word_of_an_older_epoch_counts_as_empty() {
        let place = Place::of(FlowKey { bucket: 7, tag: 9 }, 6, 0xff);
        let older = (5 << FLAGS_PER_WORD) | ((1 << FLAGS_PER_WORD) - 1);
        assert!(place.mark(older).is_some() && !place.is_marked(older));
    }
}
