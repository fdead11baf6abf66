//! Writes and reads back what operators look for.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use lb_common::maps;
use lb_common::trace::{TAPS, Tap};
use zerocopy::{FromBytes, IntoBytes};

use super::maps::{BpfDataPlane, Failure, beyond, words_of};

const WORDS: usize = size_of::<Tap>() / size_of::<u64>();

impl BpfDataPlane {
    /// The last word holds `TAP_ON`: cleared before and stored after all others, so that nobody looks by halves.
    pub(super) fn set_tap(&mut self, number: u8, tap: &Tap) -> Result<(), Failure> {
        let start = usize::from(number) * WORDS;
        let places = self.taps.get(start..start + WORDS).ok_or_else(|| beyond(maps::TAPS, TAPS))?;
        let words = words_of(tap.as_bytes());
        if let Some(last) = places.last() {
            last.store(0, Ordering::Release);
        }
        for (place, word) in places.iter().zip(words) {
            place.store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Those that are open.
    pub(super) fn read_taps(&self) -> BTreeMap<u8, Tap> {
        let tap = |words: &[std::sync::atomic::AtomicU64]| {
            let words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Acquire)).collect();
            Tap::read_from_bytes(words.as_bytes()).ok()
        };
        (0..)
            .zip(self.taps.chunks_exact(WORDS))
            .filter_map(|(n, words)| Some((n, Tap { lost: 0, ..tap(words)? })))
            .filter(|(_, tap)| tap.is_on())
            .collect()
    }
}
