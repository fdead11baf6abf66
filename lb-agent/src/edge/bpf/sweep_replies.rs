//! The sweep of what names flows outside the flow table: snat's mappings in both directions, fragments' heads.
//!
//! Hash maps, a few system calls an entry: walked every few seconds only.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::io;

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use lb_common::clock::Ticks;
use lb_common::decide::{FRAGMENT_TICKS, SNAT_PAUSE_TICKS, forward_key};
use lb_common::limits::{MAX_FRAGMENTS, MAX_SNAT_FLOWS};
use lb_common::maps;
use lb_common::reply::{
    FragmentEntry, FragmentKey, SNAT_ENDED, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::slot::Owner;

use super::error::LoadError;
use super::maps::{absent_is_fine, hash, io_error};
use super::pin::Pins;
use crate::pure::sweep::{FlowCounts, SweepRequest};

/// The maps, and what looked lost last time.
#[derive(Debug)]
pub(super) struct ReplyMaps {
    forward: HashMap<MapData, SnatForwardKey, SnatForwardEntry>,
    reverse: HashMap<MapData, SnatReverseKey, SnatReverseEntry>,
    fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    /// Halves of mappings without their other half. A packet may just be making it: they go when they are met again.
    lost_reverse: HashSet<SnatReverseKey>,
    lost_forward: HashSet<SnatForwardKey>,
}

impl ReplyMaps {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            forward: hash(pins, maps::SNAT_FORWARD)?,
            reverse: hash(pins, maps::SNAT_REVERSE)?,
            fragments: hash(pins, maps::FRAGMENTS)?,
            lost_reverse: HashSet::new(),
            lost_forward: HashSet::new(),
        })
    }

    /// Removes what has ended and what belongs to purged owners; counts the rest as naming its owner.
    pub(super) fn sweep(
        &mut self,
        request: &SweepRequest,
        now: Ticks,
        flows: &mut BTreeMap<Owner, FlowCounts>,
    ) -> io::Result<()> {
        let whole = self.sweep_reverse(request, now, flows)?;
        self.sweep_forward(request, &whole)?;
        self.sweep_fragments(request, now, flows)
    }

    /// Every mapping by its reverse half. Returns the forward halves that have one.
    fn sweep_reverse(
        &mut self,
        request: &SweepRequest,
        now: Ticks,
        flows: &mut BTreeMap<Owner, FlowCounts>,
    ) -> io::Result<HashSet<SnatForwardKey>> {
        let mut whole = HashSet::new();
        let mut lost = HashSet::new();
        for key in keys(&self.reverse, MAX_SNAT_FLOWS)? {
            let Some(entry) = get(&self.reverse, &key)? else {
                continue;
            };
            let forward = forward_key(&entry);
            let found = get(&self.forward, &forward)?.filter(|f| f.port == key.snat_port);
            let purge = request.purge.contains(&entry.owner);
            let service = request.services.get(&entry.service);
            let ended = found.is_some_and(|f| service.is_some_and(|service| is_free(f, now, service.idle_ticks)));
            let gone = match found {
                Some(_) if purge || ended => self.remove_pair(&key, &forward, now, request, purge)?,
                None if purge || self.lost_reverse.contains(&key) => {
                    absent_is_fine(self.reverse.remove(&key))?;
                    true
                }
                None => {
                    let _new = lost.insert(key);
                    false
                }
                Some(_) => false,
            };
            if !gone {
                flows.entry(entry.owner).or_default().named += 1;
                if found.is_some() {
                    let _new = whole.insert(forward);
                }
            }
        }
        self.lost_reverse = lost;
        Ok(whole)
    }

    /// Forward half first: without it the reverse half is an orphan, which packets know how to take over. A packet that was on
    /// its way may have put the forward half back; then the mapping stays. Whether it is gone.
    fn remove_pair(
        &mut self,
        key: &SnatReverseKey,
        forward: &SnatForwardKey,
        now: Ticks,
        request: &SweepRequest,
        purge: bool,
    ) -> io::Result<bool> {
        let over = |entry: &SnatForwardEntry| {
            purge
                || request
                    .services
                    .get(&forward.service)
                    .is_some_and(|service| is_free(*entry, now, service.idle_ticks))
        };
        if get(&self.forward, forward)?.is_some_and(|entry| !over(&entry)) {
            return Ok(false);
        }
        absent_is_fine(self.forward.remove(forward))?;
        if get(&self.forward, forward)?.is_some() {
            return Ok(false);
        }
        absent_is_fine(self.reverse.remove(key))?;
        Ok(true)
    }

    fn sweep_forward(&mut self, request: &SweepRequest, whole: &HashSet<SnatForwardKey>) -> io::Result<()> {
        let mut lost = HashSet::new();
        for key in keys(&self.forward, MAX_SNAT_FLOWS)? {
            if whole.contains(&key) {
                continue;
            }
            if request.purge.contains(&key.owner) || self.lost_forward.contains(&key) {
                absent_is_fine(self.forward.remove(&key))?;
            } else {
                let _new = lost.insert(key);
            }
        }
        self.lost_forward = lost;
        Ok(())
    }

    fn sweep_fragments(
        &mut self,
        request: &SweepRequest,
        now: Ticks,
        flows: &mut BTreeMap<Owner, FlowCounts>,
    ) -> io::Result<()> {
        for key in keys(&self.fragments, MAX_FRAGMENTS)? {
            let Some(entry) = get(&self.fragments, &key)? else {
                continue;
            };
            if now.since(Ticks(entry.time)) > FRAGMENT_TICKS || request.purge.contains(&entry.owner) {
                absent_is_fine(self.fragments.remove(&key))?;
            } else if entry.owner != lb_common::slot::NOBODY {
                flows.entry(entry.owner).or_default().named += 1;
            }
        }
        Ok(())
    }
}

/// Whether a mapping's port is free again: its flow has ended and the port has rested, or it has been silent for longer than the
/// idle timeout. As packets in search of a port judge it.
fn is_free(entry: SnatForwardEntry, now: Ticks, idle_ticks: u16) -> bool {
    let rest = if entry.time & SNAT_ENDED != 0 { SNAT_PAUSE_TICKS } else { idle_ticks };
    now.since(Ticks(entry.time & !SNAT_ENDED)) > rest
}

/// Every key, first of all: a walk begins anew when the key that it stands on is removed. For the same reason it ends at twice
/// the map's size, packets being removers too.
fn keys<K: Pod + Eq + Hash, V: Pod>(map: &HashMap<MapData, K, V>, size: usize) -> io::Result<HashSet<K>> {
    map.keys().take(2 * size).collect::<Result<_, MapError>>().map_err(|e| io_error(&e))
}

fn get<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, key: &K) -> io::Result<Option<V>> {
    match map.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(e) => Err(io_error(&e)),
    }
}
