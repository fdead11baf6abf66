//! Reads the maps back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use lb_common::backend::BackendEntry;
use lb_common::clock::Ticks;
use lb_common::limits::{MAX_OWNERS, MAX_SERVICES, RING_SIZE};
use lb_common::maps;
use lb_common::slot::Owner;
use nix::time::{ClockId, clock_gettime};
use zerocopy::{FromBytes, IntoBytes};

use super::maps::{BpfDataPlane, Failure, failed, io_error};
use super::mmap::Mapped;
use crate::edge::dataplane::DataPlaneError;
use crate::pure::tables::{Endpoint, Observed, ServiceId, Tables};

impl BpfDataPlane {
    pub(super) fn read_all(&mut self) -> Result<Observed, DataPlaneError> {
        let tables = self.read_tables().map_err(|failure| failure.told("read back".to_owned()))?;
        let rings = self.rings.all().map_err(|e| failed(maps::RINGS, e).told("read back".to_owned()))?;
        let slots: BTreeMap<ServiceId, Vec<u32>> = rings
            .into_iter()
            .map(|(id, ring)| (id, ring.iter().take(RING_SIZE).map(|slot| slot.load(Ordering::Acquire)).collect()))
            .collect();
        let rings = slots.keys().copied().collect();
        Ok(Observed { tables: Tables { rings, ..tables }, slots, adopted: self.adopted })
    }

    pub(super) fn read_tables(&self) -> Result<Tables, Failure> {
        let host = self.host.read().unwrap_or_default();
        let mut services: BTreeMap<_, _> = read(&self.services_v4, maps::SERVICES_V4, Endpoint::V4)?;
        services.extend(read(&self.services_v6, maps::SERVICES_V6, Endpoint::V6)?);
        let mut replies: BTreeMap<_, _> = read(&self.replies_v4, maps::REPLIES_V4, Endpoint::V4)?;
        replies.extend(read(&self.replies_v6, maps::REPLIES_V6, Endpoint::V6)?);
        Ok(Tables {
            host_flags: host.flags,
            epoch_shift: host.epoch_shift,
            services,
            prefixes: self.lookup.prefixes()?,
            quic: self.lookup.quic(),
            quic_servers: self.lookup.quic_servers()?,
            rings: BTreeSet::new(),
            schedules: self.read_schedules(),
            backends: self.read_backends(),
            replies,
            vips: read(&self.vips, maps::VIPS, |key| key)?,
            locals: read(&self.locals, maps::LOCALS, |key| key)?.into_keys().collect(),
            interfaces: read(&self.interfaces, maps::INTERFACES, |key| key)?,
            taps: self.read_taps(),
        })
    }

    fn read_backends(&self) -> BTreeMap<Owner, BackendEntry> {
        (0..MAX_OWNERS)
            .filter_map(|n| Some((Owner::try_from(n).ok()?, backend(&self.backends, n)?)))
            .filter(|(_, entry)| *entry != BackendEntry::default())
            .collect()
    }

    fn read_schedules(&self) -> BTreeMap<ServiceId, Vec<Owner>> {
        let turns = |n: usize| {
            let (length, words) = self.schedules.value(n)?.split_first()?;
            let length = usize::try_from(length.load(Ordering::Acquire)).ok()?;
            let bytes: Vec<u64> = words.iter().map(|word| word.load(Ordering::Acquire)).collect();
            let turns = <[Owner]>::ref_from_bytes(bytes.as_bytes()).ok()?;
            Some(turns.iter().take(length).copied().collect::<Vec<_>>())
        };
        (0..MAX_SERVICES)
            .filter_map(|n| Some((ServiceId::try_from(n).ok()?, turns(n)?)))
            .filter(|(_, turns)| !turns.is_empty())
            .collect()
    }
}

/// Now, as flow entries keep it.
pub(super) fn now() -> std::io::Result<Ticks> {
    Ok(Ticks::from_ns(u64::try_from(monotonic()?.as_nanos()).unwrap_or(u64::MAX)))
}

/// `CLOCK_MONOTONIC`, which the packet programs read too.
pub(super) fn monotonic() -> std::io::Result<std::time::Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// An owner's backend; `None` beyond the table.
pub(super) fn backend(backends: &Mapped<AtomicU64>, owner: usize) -> Option<BackendEntry> {
    let mut words = [0_u64; size_of::<BackendEntry>() / size_of::<u64>()];
    for (word, place) in words.iter_mut().zip(backends.value(owner)?) {
        *word = place.load(Ordering::Acquire);
    }
    BackendEntry::read_from_bytes(words.as_bytes()).ok()
}

fn read<K: Pod, V: Pod, E: Ord>(
    map: &HashMap<MapData, K, V>,
    name: &'static str,
    wrap: impl Fn(K) -> E,
) -> Result<BTreeMap<E, V>, Failure> {
    map.iter()
        .map(|item| item.map(|(key, value)| (wrap(key), value)))
        .collect::<Result<_, MapError>>()
        .map_err(|e| failed(name, io_error(&e)))
}
