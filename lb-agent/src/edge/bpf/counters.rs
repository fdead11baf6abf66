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

/// The counters.
#[derive(Debug)]
pub(super) struct Counters {
    owners: Mapped<AtomicU64>,
    verdicts: Mapped<AtomicU64>,
    cpus: usize,
    /// Owners that have ever counted anything: the others' records, 4 MiB per CPU, need no reading.
    busy: Vec<bool>,
}

impl Counters {
    /// Opens them, and reads all of them once.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let (owners, verdicts) = (mapped(pins, maps::COUNTERS)?, mapped(pins, maps::VERDICTS)?);
        let cpus = owners.values() / MAX_OWNERS;
        let mut counters = Self { owners, verdicts, cpus, busy: vec![false; MAX_OWNERS] };
        counters.busy = (0..MAX_OWNERS).map(|owner| counters.sum(owner) != [0; WORDS]).collect();
        Ok(counters)
    }

    /// A flow of this owner has ended by silence. Nobody else writes this word.
    pub(super) fn add_expired(&self, owner: Owner) {
        if let Some(word) = self.owners.value(usize::from(owner)).and_then(|record| record.get(EXPIRED)) {
            let _before = word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Totals since load, of every owner that has counted anything. `backends` says which may have begun to.
    pub(super) fn per_owner(&mut self, backends: &Mapped<AtomicU64>) -> BTreeMap<Owner, OwnerCounters> {
        let mut totals = BTreeMap::new();
        for owner in 0..MAX_OWNERS {
            let in_use = backends.value(owner).is_some_and(|w| w.iter().any(|w| w.load(Ordering::Relaxed) != 0));
            if !in_use && !self.busy.get(owner).is_some_and(|busy| *busy) {
                continue;
            }
            let sum = self.sum(owner);
            let total = OwnerCounters::read_from_bytes(sum.as_bytes()).unwrap_or_default();
            if total == OwnerCounters::default() {
                continue;
            }
            if let (Some(busy), Ok(owner)) = (self.busy.get_mut(owner), Owner::try_from(owner)) {
                *busy = true;
                let _first = totals.insert(owner, total);
            }
        }
        totals
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
