//! Access lists and limits in the kernel's tables, and what they have refused.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use lb_common::admission::{ACCESS_SERVICE_BITS, AccessV4, AccessV6, Limits, Refusals};
use lb_common::limits::{MAX_ACCESS_RULES, MAX_SERVICES};
use lb_common::maps;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{LoadError, errno};
use super::maps::{Failure, absent_is_fine, beyond, failed, io_error, mapped, words_of};
use super::mmap::Mapped;
use super::pin::Pins;
use crate::pure::tables::{ServiceId, Source};

type Trie<K> = LpmTrie<MapData, K, u32>;

/// The writer's handle.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Mapped<AtomicU64>,
    v4: Trie<AccessV4>,
    v6: Trie<AccessV6>,
}

impl Admission {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            limits: mapped(pins, maps::LIMITS)?,
            v4: trie(pins, maps::ACCESS_V4)?,
            v6: trie(pins, maps::ACCESS_V6)?,
        })
    }

    /// Writes a service's limits, word by word: whatever mixture a packet meets for a moment is a limit of either list.
    pub(super) fn set_limits(&self, service: ServiceId, limits: &Limits) -> Result<(), Failure> {
        let places = self.limits.value(usize::from(service)).ok_or_else(|| beyond(maps::LIMITS, MAX_SERVICES))?;
        for (place, word) in places.iter().zip(words_of(limits.as_bytes())).rev() {
            place.store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Writes a rule.
    pub(super) fn set(&mut self, source: &Source, rule: u32) -> Result<(), Failure> {
        match source {
            Source::V4 { bits, key } => insert(&mut self.v4, maps::ACCESS_V4, *bits, *key, rule),
            Source::V6 { bits, key } => insert(&mut self.v6, maps::ACCESS_V6, *bits, *key, rule),
        }
    }

    /// Removes a rule; it may be gone already.
    pub(super) fn remove(&mut self, source: &Source) -> Result<(), Failure> {
        let (map, removed) = match source {
            Source::V4 { bits, key } => (maps::ACCESS_V4, self.v4.remove(&rule_key(*bits, *key))),
            Source::V6 { bits, key } => (maps::ACCESS_V6, self.v6.remove(&rule_key(*bits, *key))),
        };
        absent_is_fine(removed).map_err(|e| failed(map, e))
    }

    /// Limits of every service that has any.
    pub(super) fn read_limits(&self) -> BTreeMap<ServiceId, Limits> {
        let limits = |n: usize| {
            let words: Vec<u64> = self.limits.value(n)?.iter().map(|word| word.load(Ordering::Acquire)).collect();
            Some((ServiceId::try_from(n).ok()?, Limits::read_from_bytes(words.as_bytes()).ok()?))
        };
        (0..MAX_SERVICES).filter_map(limits).filter(|(_, limits)| *limits != Limits::default()).collect()
    }

    /// Every rule.
    pub(super) fn read_access(&self) -> Result<BTreeMap<Source, u32>, Failure> {
        let mut rules = BTreeMap::new();
        for rule in &self.v4 {
            let (key, rule) = rule.map_err(|e| failed(maps::ACCESS_V4, io_error(&e)))?;
            let _new = rules.insert(Source::V4 { bits: bits_of(key.prefix_len()), key: key.data() }, rule);
        }
        for rule in &self.v6 {
            let (key, rule) = rule.map_err(|e| failed(maps::ACCESS_V6, io_error(&e)))?;
            let _new = rules.insert(Source::V6 { bits: bits_of(key.prefix_len()), key: key.data() }, rule);
        }
        Ok(rules)
    }
}

fn rule_key<K: Pod>(bits: u8, key: K) -> Key<K> {
    Key::new(ACCESS_SERVICE_BITS + u32::from(bits), key)
}

fn bits_of(prefix_len: u32) -> u8 {
    // No rule of ours is shorter than the service id.
    u8::try_from(prefix_len.saturating_sub(ACCESS_SERVICE_BITS)).unwrap_or(u8::MAX)
}

fn insert<K: Pod>(trie: &mut Trie<K>, name: &'static str, bits: u8, key: K, rule: u32) -> Result<(), Failure> {
    match trie.insert(&rule_key(bits, key), rule, 0) {
        Err(e) if errno(&e) == Some(libc::ENOSPC) => Err(beyond(name, MAX_ACCESS_RULES)),
        Err(e) => Err(failed(name, io_error(&e))),
        Ok(()) => Ok(()),
    }
}

fn trie<K: Pod>(pins: &Pins, name: &'static str) -> Result<Trie<K>, LoadError> {
    let told = |e: MapError| LoadError::Map { path: pins.map(name), what: e.to_string() };
    LpmTrie::try_from(Map::LpmTrie(pins.open(name)?)).map_err(told)
}

/// The sweep's handle: what limits have refused.
pub(super) struct RefusalCounters(PerCpuArray<MapData, Refusals>);

impl std::fmt::Debug for RefusalCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // aya's per-CPU arrays cannot be shown.
        f.debug_tuple("RefusalCounters").finish()
    }
}

impl RefusalCounters {
    /// Opens the pinned map.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let map = PerCpuArray::try_from(Map::PerCpuArray(pins.open(maps::REFUSALS)?));
        map.map(Self).map_err(|e| LoadError::Map { path: pins.map(maps::REFUSALS), what: e.to_string() })
    }

    /// Totals of one service since load. One system call.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn of(&self, service: ServiceId) -> io::Result<Refusals> {
        let per_cpu = self.0.get(&u32::from(service), 0).map_err(|e| io_error(&e))?;
        Ok(per_cpu.iter().fold(Refusals::default(), |sum, cpu| Refusals {
            denied: sum.denied.wrapping_add(cpu.denied),
            rate_limited: sum.rate_limited.wrapping_add(cpu.rate_limited),
            backend_full: sum.backend_full.wrapping_add(cpu.backend_full),
            over_budget: sum.over_budget.wrapping_add(cpu.over_budget),
        }))
    }
}
