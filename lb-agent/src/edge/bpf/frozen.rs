//! The maps as the decision core's tables, for looking only: writes are accepted and forgotten.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap, MapData, PerCpuArray};
use lb_common::backend::BackendEntry;
use lb_common::clock::Ticks;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{Host, InterfaceEntry, VipEntry};
use lb_common::limits::{FLOW_BUCKET_ENTRIES, RING_SIZE};
use lb_common::maps;
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::service::ServiceEntry;
use lb_common::slot::{NOBODY, Owner, Slot};
use lb_common::tables::{Bucket, Route, RouteQuery, Tables};

use super::error::LoadError;
use super::maps::{hash, mapped};
use super::mmap::Mapped;
use super::pin::Pins;
use super::rings::Slots;
use crate::pure::tables::{Endpoint, ServiceId, Tables as Written};

/// What packets keep, opened once.
pub(super) struct PacketMaps {
    loads: Mapped<AtomicU64>,
    epochs: Mapped<AtomicU64>,
    cursors: PerCpuArray<MapData, u32>,
    snat_forward: HashMap<MapData, SnatForwardKey, SnatForwardEntry>,
    snat_reverse: HashMap<MapData, SnatReverseKey, SnatReverseEntry>,
}

impl fmt::Debug for PacketMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's per-CPU arrays cannot be shown.
        f.debug_struct("PacketMaps").finish_non_exhaustive()
    }
}

impl PacketMaps {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let cursors = pins.open(maps::CURSORS)?;
        let cursors = PerCpuArray::try_from(aya::maps::Map::PerCpuArray(cursors))
            .map_err(|e| LoadError::Map { path: pins.map(maps::CURSORS), what: e.to_string() })?;
        Ok(Self {
            loads: mapped(pins, maps::LOADS)?,
            epochs: mapped(pins, maps::EPOCHS)?,
            cursors,
            snat_forward: hash(pins, maps::SNAT_FORWARD)?,
            snat_reverse: hash(pins, maps::SNAT_REVERSE)?,
        })
    }
}

/// Everything that a client's packet may be decided by, as of one moment; what other packets change is read as it is asked for.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    pub(super) host: Host,
    pub(super) written: Written,
    pub(super) backends: Vec<BackendEntry>,
    pub(super) ring: Option<(ServiceId, Slots)>,
    pub(super) flows: &'a Mapped<AtomicU64>,
    pub(super) kept: &'a PacketMaps,
    pub(super) now: Ticks,
}

/// A bucket in mapped memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrozenBucket<'a>(&'a [AtomicU64]);

impl Bucket for FrozenBucket<'_> {
    fn load(self, i: usize) -> u64 {
        self.0.get(i).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn exchange(self, i: usize, old: u64, _new: u64) -> bool {
        self.load(i) == old
    }
}

impl<'a> Tables for Frozen<'a> {
    type Bucket = FrozenBucket<'a>;

    fn host(&self) -> Option<&Host> {
        Some(&self.host)
    }

    fn service_v4(&self, key: &EndpointV4) -> Option<&ServiceEntry> {
        self.written.services.get(&Endpoint::V4(*key))
    }

    fn service_v6(&self, key: &EndpointV6) -> Option<&ServiceEntry> {
        self.written.services.get(&Endpoint::V6(*key))
    }

    fn prefix_v4(&self, addr: &[u8; 4]) -> Option<&EndpointV4> {
        match self.written.longest_prefix(IpAddr::from(*addr))? {
            Endpoint::V4(key) => Some(key),
            Endpoint::V6(_) => None,
        }
    }

    fn prefix_v6(&self, addr: &[u8; 16]) -> Option<&EndpointV6> {
        match self.written.longest_prefix(IpAddr::from(*addr))? {
            Endpoint::V6(key) => Some(key),
            Endpoint::V4(_) => None,
        }
    }

    fn quic_config(&self, service: u16) -> QuicConfig {
        self.written.quic.get(&service).copied().unwrap_or_default()
    }

    fn quic_server(&self, key: &QuicServerKey) -> Owner {
        self.written.quic_servers.get(key).copied().unwrap_or(NOBODY)
    }

    fn slot(&self, service: u16, slot: u32) -> Option<Slot> {
        let (_, ring) = self.ring.as_ref().filter(|(of, _)| *of == service)?;
        let place = ring.get(..RING_SIZE)?.get(slot as usize)?;
        Some(Slot(place.load(Ordering::Acquire)))
    }

    fn backend(&self, owner: Owner) -> Option<&BackendEntry> {
        self.backends.get(usize::from(owner))
    }

    /// The next turn of the first CPU: which one a packet meets depends on the network card.
    fn turn(&self, service: u16) -> Owner {
        let turns = self.written.schedules.get(&service).map_or(&[][..], Vec::as_slice);
        let cursor = self.kept.cursors.get(&u32::from(service), 0).ok().and_then(|cpus| cpus.first().copied());
        let turn = cursor.and_then(|turn| turns.get(turn as usize)).or(turns.first());
        turn.copied().unwrap_or(NOBODY)
    }

    fn load(&self, owner: Owner) -> u64 {
        self.kept.loads.get(usize::from(owner)).map_or(0, |load| load.load(Ordering::Relaxed))
    }

    fn add_load(&self, _owner: Owner, _delta: i64) {}

    fn bucket(&self, index: u32) -> Option<FrozenBucket<'a>> {
        let start = (index as usize).checked_mul(FLOW_BUCKET_ENTRIES)?;
        Some(FrozenBucket(self.flows.get(start..start.checked_add(FLOW_BUCKET_ENTRIES)?)?))
    }

    fn epoch_word(&self, index: u32) -> Option<u64> {
        self.kept.epochs.get(index as usize).map(|word| word.load(Ordering::Relaxed))
    }

    fn set_epoch_word(&self, _index: u32, _word: u64) {}

    fn now(&self) -> Ticks {
        self.now
    }

    fn count_evicted(&self, _owner: Owner) {}

    fn vip(&self, addr: &Address) -> Option<&VipEntry> {
        self.written.vips.get(addr)
    }

    fn is_local(&self, addr: &Address) -> bool {
        self.written.locals.contains(addr)
    }

    fn interface(&self, ifindex: u32) -> Option<&InterfaceEntry> {
        self.written.interfaces.get(&ifindex)
    }

    fn reply_v4(&self, key: &EndpointV4) -> Option<&ReplyEntry> {
        self.written.replies.get(&Endpoint::V4(*key))
    }

    fn reply_v6(&self, key: &EndpointV6) -> Option<&ReplyEntry> {
        self.written.replies.get(&Endpoint::V6(*key))
    }

    fn snat_forward(&self, key: &SnatForwardKey) -> Option<SnatForwardEntry> {
        self.kept.snat_forward.get(key, 0).ok()
    }

    fn set_snat_forward(&self, _key: &SnatForwardKey, _entry: &SnatForwardEntry) -> bool {
        true
    }

    /// Not to be had by reference. Only a backend's packet needs it; a client's, in search of a port, then tries the next.
    fn snat_reverse(&self, _key: &SnatReverseKey) -> Option<&SnatReverseEntry> {
        None
    }

    fn claim_snat_reverse(&self, key: &SnatReverseKey, _entry: &SnatReverseEntry) -> bool {
        self.kept.snat_reverse.get(key, 0).is_err()
    }

    fn release_snat_reverse(&self, _key: &SnatReverseKey) {}

    fn release_snat_forward(&self, _key: &SnatForwardKey) {}

    fn fragment(&self, _key: &FragmentKey) -> Option<&FragmentEntry> {
        None
    }

    fn set_fragment(&self, _key: &FragmentKey, _entry: &FragmentEntry) -> bool {
        true
    }

    /// Only replies are routed by the host's table.
    fn route(&self, _query: &RouteQuery) -> Route {
        Route::None
    }
}
