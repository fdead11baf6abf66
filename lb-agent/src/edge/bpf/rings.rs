//! Rings: one mapped array per service, named by an array of maps and by a pin.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use aya::maps::{HashMap, Map, MapData, MapError};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};
use lb_common::limits::{MAX_SERVICES, RING_SIZE};
use lb_common::maps;
use lb_common::slot::Ring;

use super::error::LoadError;
use super::maps::{absent_is_fine, io_error};
use super::mmap::Mapped;
use super::pin::{Pins, remove};
use crate::pure::tables::ServiceId;

/// Rings that are put in place side by side.
const AT_ONCE: usize = 16;

/// A ring's slots.
pub(super) type Slots = Arc<Mapped<AtomicU32>>;

/// The rings, as one reader or writer sees them.
#[derive(Debug)]
pub(super) struct Rings {
    /// Service id → id of the inner map. aya's `ArrayOfMaps` can neither delete nor read an id; the system calls are those of
    /// a hash with 32-bit keys and values.
    outer: HashMap<MapData, u32, u32>,
    pins: Pins,
    open: BTreeMap<ServiceId, (u32, Slots)>,
}

impl Rings {
    /// Opens the array of maps.
    ///
    /// # Errors
    /// Where it is not pinned.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let outer = open_outer(pins)?;
        Ok(Self { outer, pins: pins.clone(), open: BTreeMap::new() })
    }

    /// A service's ring as it is now; `None` where it has none. One system call, after the first.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn get(&mut self, service: ServiceId) -> io::Result<Option<Slots>> {
        let id = match self.outer.get(&u32::from(service), 0) {
            Ok(id) => id,
            Err(MapError::KeyNotFound) => {
                let _closed = self.open.remove(&service);
                return Ok(None);
            }
            Err(e) => return Err(io_error(&e)),
        };
        if let Some((known, slots)) = self.open.get(&service)
            && *known == id
        {
            return Ok(Some(Arc::clone(slots)));
        }
        let slots: Slots = Arc::new(Mapped::new(&self.inner(service, id)?)?);
        let _older = self.open.insert(service, (id, Arc::clone(&slots)));
        Ok(Some(slots))
    }

    /// Every service that has a ring.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn all(&mut self) -> io::Result<Vec<(ServiceId, Slots)>> {
        let mut found = Vec::new();
        for service in (0..MAX_SERVICES).filter_map(|n| ServiceId::try_from(n).ok()) {
            if let Some(slots) = self.get(service)? {
                found.push((service, slots));
            }
        }
        Ok(found)
    }

    /// Makes rings with these slots and puts them in place. Filled before anybody can see them, pinned before they are in use: a
    /// crash in between leaves a pin that the next ring of the service replaces.
    ///
    /// Each that is put in place waits for an RCU grace of the kernel's (milliseconds): hundreds wait side by side.
    ///
    /// # Errors
    /// What the kernel said; some of them may be in place.
    pub(super) fn create(&mut self, rings: &[(ServiceId, &[u32])]) -> io::Result<()> {
        let share = rings.len().div_ceil(AT_ONCE).max(1);
        let (pins, outer) = (&self.pins, &mut self.outer);
        let made: Vec<io::Result<Vec<Made>>> = match rings {
            [] => return Ok(()),
            [(service, slots)] => vec![make(pins, outer, *service, slots).map(|made| vec![made])],
            _ => thread::scope(|scope| {
                let begun: Vec<_> = rings.chunks(share).map(|rings| scope.spawn(|| make_all(pins, rings))).collect();
                let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
                ended.map(|made| made.unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))).collect()
            }),
        };
        let mut result = Ok(());
        for made in made {
            match made {
                Ok(made) => self.open.extend(made.into_iter().map(|m| (m.service, (m.id, Arc::new(m.mapped))))),
                Err(e) => result = Err(e),
            }
        }
        result
    }

    /// Takes a ring away; it may be gone already.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn remove(&mut self, service: ServiceId) -> io::Result<()> {
        let _closed = self.open.remove(&service);
        absent_is_fine(self.outer.remove(&u32::from(service)))?;
        remove(&self.pins.ring(service)).map_err(io::Error::other)
    }

    /// The inner map with this id: by its pin, else (the pin is another's, after a crash) by the id, which takes CAP_SYS_ADMIN.
    fn inner(&self, service: ServiceId, id: u32) -> io::Result<MapData> {
        let pin = self.pins.ring(service);
        if let Ok(map) = MapData::from_pin(&pin)
            && map.info().is_ok_and(|info| info.id() == id)
        {
            return Ok(map);
        }
        MapData::from_id(id).map_err(|e| io_error(&e))
    }
}

/// A ring that is in place.
struct Made {
    service: ServiceId,
    id: u32,
    mapped: Mapped<AtomicU32>,
}

fn open_outer(pins: &Pins) -> Result<HashMap<MapData, u32, u32>, LoadError> {
    let outer = pins.open(maps::RINGS)?;
    HashMap::try_from(Map::HashMap(outer))
        .map_err(|e| LoadError::Map { path: pins.map(maps::RINGS), what: e.to_string() })
}

/// One thread's share, by a handle of its own.
fn make_all(pins: &Pins, rings: &[(ServiceId, &[u32])]) -> io::Result<Vec<Made>> {
    let mut outer = open_outer(pins).map_err(io::Error::other)?;
    rings.iter().map(|(service, slots)| make(pins, &mut outer, *service, slots)).collect()
}

fn make(pins: &Pins, outer: &mut HashMap<MapData, u32, u32>, service: ServiceId, slots: &[u32]) -> io::Result<Made> {
    let value = u32::try_from(size_of::<Ring>()).map_err(io::Error::other)?;
    let key = u32::try_from(size_of::<u32>()).map_err(io::Error::other)?;
    let shape = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, key, value, 1, BPF_F_MMAPABLE);
    let map = MapData::create(shape, "weir_ring", None).map_err(|e| io_error(&e))?;
    let mapped: Mapped<AtomicU32> = Mapped::new(&map)?;
    for (place, slot) in mapped.iter().zip(slots.iter().take(RING_SIZE)) {
        place.store(*slot, Ordering::Relaxed);
    }
    let pin = pins.ring(service);
    remove(&pin).map_err(io::Error::other)?;
    map.pin(&pin).map_err(io::Error::other)?;
    let id = map.info().map_err(|e| io_error(&e))?.id();
    let fd = u32::try_from(map.fd().as_fd().as_raw_fd()).map_err(io::Error::other)?;
    outer.insert(u32::from(service), fd, 0).map_err(|e| io_error(&e))?;
    Ok(Made { service, id, mapped })
}
