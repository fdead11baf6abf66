//! Counters as mapped memory: one record per CPU and owner, one per CPU and verdict, added up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::limits::MAX_OWNERS;
use lb_common::maps;
use lb_common::slot::Owner;
use lb_common::stats::OwnerCounters;
use lb_common::verdict::VERDICTS;
use zerocopy::{FromBytes, IntoBytes};

use super::error::LoadError;
use super::maps::mapped;
use super::mmap::Mapped;
use super::pin::Pins;

const WORDS: usize = size_of::<OwnerCounters>() / size_of::<u64>();
const EXPIRED: usize = core::mem::offset_of!(OwnerCounters, expired) / size_of::<u64>();
const LINGERED: usize = core::mem::offset_of!(OwnerCounters, lingered) / size_of::<u64>();

/// Flows that have come and gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turnover {
    pub(super) come: i64,
    pub(super) gone: i64,
}

impl Turnover {
    /// What has come and gone since `earlier`; never negative.
    pub(super) fn since(self, earlier: Self) -> Self {
        let between = |now: i64, then: i64| now.wrapping_sub(then).max(0);
        Self { come: between(self.come, earlier.come), gone: between(self.gone, earlier.gone) }
    }
}

/// The counters.
#[derive(Debug)]
pub(super) struct Counters {
    owners: Mapped<AtomicU64>,
    verdicts: Mapped<AtomicU64>,
    cpus: usize,
    /// Whether an owner has counted anything or had a backend: the others' records, 4 MiB per CPU, need no reading.
    busy: Vec<bool>,
}

impl Counters {
    /// Opens them, and reads all of them once.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let (owners, verdicts) = (mapped(pins, maps::COUNTERS)?, mapped(pins, maps::VERDICTS)?);
        let cpus = owners.values() / MAX_OWNERS;
        let mut counters = Self { owners, verdicts, cpus, busy: Vec::new() };
        counters.busy = (0..MAX_OWNERS).map(|owner| counters.sum(owner) != [0; WORDS]).collect();
        Ok(counters)
    }

    /// A flow of this owner has ended by silence: in the middle, or after its client's FIN (`lingered`, DSR). Nobody else
    /// writes these words.
    pub(super) fn add_silent(&self, owner: Owner, lingered: bool) {
        let word = if lingered { LINGERED } else { EXPIRED };
        if let Some(word) = self.owners.value(usize::from(owner)).and_then(|record| record.get(word)) {
            let _before = word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Totals since load, of every owner that has counted anything. `in_use` are those that may have begun to.
    pub(super) fn per_owner(&mut self, in_use: &[Owner]) -> BTreeMap<Owner, OwnerCounters> {
        for owner in in_use {
            if let Some(busy) = self.busy.get_mut(usize::from(*owner)) {
                *busy = true;
            }
        }
        let busy = (0..).zip(&self.busy).filter(|(_, busy)| **busy).map(|(owner, _)| owner);
        let totals =
            busy.map(|owner: Owner| (owner, self.sum(usize::from(owner)))).filter(|(_, sum)| *sum != [0; WORDS]);
        totals.map(|(owner, sum)| (owner, OwnerCounters::read_from_bytes(sum.as_bytes()).unwrap_or_default())).collect()
    }

    /// Flows of an owner that have come and gone since load, by the packet path's own count.
    pub(super) fn turnover(&self, owner: Owner) -> Turnover {
        let total = OwnerCounters::read_from_bytes(self.sum(usize::from(owner)).as_bytes()).unwrap_or_default();
        let gone = total.closed.wrapping_add(total.reset).wrapping_add(total.evicted);
        Turnover { come: total.opened.cast_signed(), gone: gone.cast_signed() }
    }

    /// How packets ended, by verdict.
    pub(super) fn verdicts(&self) -> Vec<u64> {
        let mut totals = vec![0_u64; VERDICTS];
        for (word, total) in self.verdicts.iter().zip((0..VERDICTS).cycle()) {
            if let Some(total) = totals.get_mut(total) {
                *total = total.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        totals
    }

    fn sum(&self, owner: usize) -> [u64; WORDS] {
        let mut sum = [0_u64; WORDS];
        for record in (0..self.cpus).filter_map(|cpu| self.owners.value(cpu * MAX_OWNERS + owner)) {
            for (total, word) in sum.iter_mut().zip(record) {
                *total = total.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        sum
    }
}
