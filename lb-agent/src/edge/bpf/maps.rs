//! The single writer's handle: one operation, one small function.

use std::borrow::Borrow;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{InterfaceEntry, VipEntry};
use lb_common::limits::{MAX_ADDRESSES, MAX_OWNERS, MAX_SERVICES, RING_SIZE, SCHEDULE_TURNS};
use lb_common::maps;
use lb_common::reply::ReplyEntry;
use lb_common::schedule::Schedule;
use lb_common::service::ServiceEntry;
use lb_common::slot::Owner;
use lb_common::trace::Tap;
use zerocopy::IntoBytes;

use super::access::Admission;
use super::error::{LoadError, errno};
use super::frozen::PacketMaps;
use super::host_record::HostRecord;
use super::lookup::LookupMaps;
use super::mmap::Mapped;
use super::pin::Pins;
use super::rings::Rings;
use crate::edge::dataplane::{DataPlane, DataPlaneError};
use crate::pure::snapshot::{Explanation, FlowQuery};
use crate::pure::tables::{Endpoint, Observed, Op, ServiceId, Source};

/// Turns packed into one 64-bit word of a schedule.
const TURNS_PER_WORD: usize = size_of::<u64>() / size_of::<Owner>();

/// The maps, open.
#[derive(Debug)]
pub struct BpfDataPlane {
    pub(super) adopted: bool,
    pub(super) host: HostRecord,
    pub(super) services_v4: HashMap<MapData, EndpointV4, ServiceEntry>,
    pub(super) services_v6: HashMap<MapData, EndpointV6, ServiceEntry>,
    pub(super) replies_v4: HashMap<MapData, EndpointV4, ReplyEntry>,
    pub(super) replies_v6: HashMap<MapData, EndpointV6, ReplyEntry>,
    pub(super) vips: HashMap<MapData, Address, VipEntry>,
    pub(super) locals: HashMap<MapData, Address, u32>,
    pub(super) interfaces: HashMap<MapData, u32, InterfaceEntry>,
    pub(super) lookup: LookupMaps,
    pub(super) rings: Rings,
    pub(super) backends: Mapped<AtomicU64>,
    pub(super) schedules: Mapped<AtomicU64>,
    pub(super) counters: Mapped<AtomicU64>,
    pub(super) flows: Mapped<AtomicU64>,
    pub(super) admission: Admission,
    pub(super) taps: Mapped<AtomicU64>,
    pub(super) kept: PacketMaps,
}

impl BpfDataPlane {
    /// Opens the pinned maps. `adopted`: they were there before this process.
    pub(super) fn open(pins: &Pins, adopted: bool) -> Result<Self, LoadError> {
        let unmapped =
            |e: io::Error| LoadError::Map { path: pins.map(maps::HOST), what: format!("cannot be mapped: {e}") };
        Ok(Self {
            adopted,
            host: HostRecord::map(&pins.open(maps::HOST)?).map_err(unmapped)?,
            services_v4: hash(pins, maps::SERVICES_V4)?,
            services_v6: hash(pins, maps::SERVICES_V6)?,
            replies_v4: hash(pins, maps::REPLIES_V4)?,
            replies_v6: hash(pins, maps::REPLIES_V6)?,
            vips: hash(pins, maps::VIPS)?,
            locals: hash(pins, maps::LOCALS)?,
            interfaces: hash(pins, maps::INTERFACES)?,
            lookup: LookupMaps::open(pins)?,
            rings: Rings::open(pins)?,
            backends: mapped(pins, maps::BACKENDS)?,
            schedules: mapped(pins, maps::SCHEDULES)?,
            counters: mapped(pins, maps::COUNTERS)?,
            flows: mapped(pins, maps::FLOWS)?,
            admission: Admission::open(pins)?,
            taps: mapped(pins, maps::TAPS)?,
            kept: PacketMaps::open(pins)?,
        })
    }

    fn set_service(&mut self, key: &Endpoint, entry: &ServiceEntry) -> Result<(), Failure> {
        match key {
            Endpoint::V4(key) => insert(&mut self.services_v4, maps::SERVICES_V4, MAX_SERVICES, key, entry),
            Endpoint::V6(key) => insert(&mut self.services_v6, maps::SERVICES_V6, MAX_SERVICES, key, entry),
        }?;
        self.host.services_changed();
        Ok(())
    }

    fn remove_service(&mut self, key: &Endpoint) -> Result<(), Failure> {
        match key {
            Endpoint::V4(key) => delete(&mut self.services_v4, maps::SERVICES_V4, key),
            Endpoint::V6(key) => delete(&mut self.services_v6, maps::SERVICES_V6, key),
        }?;
        self.host.services_changed();
        Ok(())
    }

    fn set_reply(&mut self, key: &Endpoint, entry: &ReplyEntry) -> Result<(), Failure> {
        match key {
            Endpoint::V4(key) => insert(&mut self.replies_v4, maps::REPLIES_V4, MAX_OWNERS, key, entry),
            Endpoint::V6(key) => insert(&mut self.replies_v6, maps::REPLIES_V6, MAX_OWNERS, key, entry),
        }
    }

    fn remove_reply(&mut self, key: &Endpoint) -> Result<(), Failure> {
        match key {
            Endpoint::V4(key) => delete(&mut self.replies_v4, maps::REPLIES_V4, key),
            Endpoint::V6(key) => delete(&mut self.replies_v6, maps::REPLIES_V6, key),
        }
    }

    /// Word by word. The first one holds `BACKEND_ALIVE`: stored last when an owner comes to life, so that nobody goes to a
    /// half-written one.
    fn set_backend(&self, owner: Owner, entry: &BackendEntry) -> Result<(), Failure> {
        let words = words_of(entry.as_bytes());
        let places = self.backends.value(usize::from(owner)).ok_or_else(|| beyond(maps::BACKENDS, MAX_OWNERS))?;
        for (place, word) in places.iter().zip(words).rev() {
            place.store(word, Ordering::Release);
        }
        Ok(())
    }

    /// The first word first: nobody goes there while the rest fades.
    fn clear_backend(&self, owner: Owner) -> Result<(), Failure> {
        let places = self.backends.value(usize::from(owner)).ok_or_else(|| beyond(maps::BACKENDS, MAX_OWNERS))?;
        for place in places {
            place.store(0, Ordering::Release);
        }
        // Nobody names the owner any more; who gets the index next counts from zero.
        for cpu in 0..self.counters.values() / MAX_OWNERS {
            for word in self.counters.value(cpu * MAX_OWNERS + usize::from(owner)).into_iter().flatten() {
                word.store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Every turn that the kernel can see on the way is an old one or a new one: a schedule that shrinks has its length stored
    /// first, one that grows last.
    fn set_schedule(&self, service: ServiceId, turns: &[Owner]) -> Result<(), Failure> {
        let full = || beyond(maps::SCHEDULES, SCHEDULE_TURNS);
        if turns.len() > SCHEDULE_TURNS {
            return Err(full());
        }
        let length = turns.len() as u64;
        let value = self.schedules.value(usize::from(service)).ok_or_else(|| beyond(maps::SCHEDULES, MAX_SERVICES))?;
        let (length_word, places) = value.split_first().ok_or_else(full)?;
        if length < length_word.load(Ordering::Acquire) {
            length_word.store(length, Ordering::Release);
        }
        for (place, turns) in places.iter().zip(turns.chunks(TURNS_PER_WORD)) {
            let word = turns.iter().rev().fold(0, |word, turn| word << Owner::BITS | u64::from(*turn));
            place.store(word, Ordering::Release);
        }
        length_word.store(length, Ordering::Release);
        Ok(())
    }

    fn create_ring(&mut self, service: ServiceId, slots: &[u32]) -> Result<(), Failure> {
        self.rings.create(&[(service, slots)]).map_err(|e| failed(maps::RINGS, e))
    }

    /// Makes several rings, side by side.
    pub(super) fn create_rings(&mut self, rings: &[(ServiceId, &[u32])]) -> Result<(), DataPlaneError> {
        let told = |e| failed(maps::RINGS, e).told(format!("create the rings of {} services", rings.len()));
        self.rings.create(rings).map_err(told)
    }

    fn remove_ring(&mut self, service: ServiceId) -> Result<(), Failure> {
        self.rings.remove(service).map_err(|e| failed(maps::RINGS, e))
    }

    fn store_slots(&mut self, service: ServiceId, slots: &[(u32, u32)]) -> Result<(), Failure> {
        let ring = self.rings.get(service).map_err(|e| failed(maps::RINGS, e))?;
        let ring = ring.ok_or_else(|| failed(maps::RINGS, io::ErrorKind::NotFound.into()))?;
        for (index, slot) in slots {
            let place = ring.get(..RING_SIZE).and_then(|ring| ring.get(*index as usize));
            place.ok_or_else(|| beyond(maps::RINGS, RING_SIZE))?.store(*slot, Ordering::Release);
        }
        Ok(())
    }
}

impl DataPlane for BpfDataPlane {
    fn observe(&mut self) -> Result<Observed, DataPlaneError> {
        self.read_all()
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataPlaneError> {
        let done = match op {
            Op::SetHost { flags, epoch_shift } => {
                self.host.set(*flags, *epoch_shift);
                Ok(())
            }
            Op::SetLocal(address) => insert(&mut self.locals, maps::LOCALS, MAX_ADDRESSES, address, 0),
            Op::RemoveLocal(address) => delete(&mut self.locals, maps::LOCALS, address),
            Op::SetInterface(ifindex, entry) => {
                insert(&mut self.interfaces, maps::INTERFACES, MAX_ADDRESSES, ifindex, entry)
            }
            Op::RemoveInterface(ifindex) => delete(&mut self.interfaces, maps::INTERFACES, ifindex),
            Op::SetVip(address, entry) => insert(&mut self.vips, maps::VIPS, MAX_ADDRESSES, address, entry),
            Op::RemoveVip(address) => delete(&mut self.vips, maps::VIPS, address),
            Op::SetBackend(owner, entry) => self.set_backend(*owner, entry),
            Op::ClearBackend(owner) => self.clear_backend(*owner),
            Op::SetReply(key, entry) => self.set_reply(key, entry),
            Op::RemoveReply(key) => self.remove_reply(key),
            Op::SetSchedule(service, turns) => self.set_schedule(*service, turns),
            Op::CreateRing(service, slots) => self.create_ring(*service, slots),
            Op::StoreSlots(service, slots) => self.store_slots(*service, slots),
            Op::RemoveRing(service) => self.remove_ring(*service),
            Op::SetService(key, entry) => self.set_service(key, entry),
            Op::RemoveService(key) => self.remove_service(key),
            Op::SetLimits(service, limits) => self.admission.set_limits(*service, limits),
            Op::SetAccess(source, rule) => self.admission.set(source, *rule),
            Op::RemoveAccess(source) => self.admission.remove(source),
            Op::SetTap(number, tap) => self.set_tap(*number, tap),
            Op::ClearTap(number) => self.set_tap(*number, &Tap::default()),
            Op::SetPrefix(prefix) => self.lookup.set_prefix(prefix),
            Op::RemovePrefix(prefix) => self.lookup.remove_prefix(prefix),
            Op::SetQuic(service, config) => self.lookup.set_quic(*service, *config),
            Op::SetQuicServer(key, owner) => self.lookup.set_quic_server(key, *owner),
            Op::RemoveQuicServer(key) => self.lookup.remove_quic_server(key),
        };
        done.map_err(|failure| failure.told(describe(op)))
    }

    fn explain(&mut self, query: &FlowQuery) -> Result<Explanation, DataPlaneError> {
        self.explain_flow(query)
    }
}

/// What went wrong, before it is known on what.
pub(super) enum Failure {
    Map { map: &'static str, source: io::Error },
    Full { map: &'static str, limit: usize },
}

impl Failure {
    pub(super) fn told(self, operation: String) -> DataPlaneError {
        match self {
            Self::Map { map, source } => DataPlaneError::Map { operation, map, source },
            Self::Full { map, limit } => DataPlaneError::Full { operation, map, limit },
        }
    }
}

pub(super) fn failed(map: &'static str, source: io::Error) -> Failure {
    Failure::Map { map, source }
}

pub(super) fn beyond(map: &'static str, limit: usize) -> Failure {
    Failure::Full { map, limit }
}

/// What an operation does, on what: the middle of an error message.
fn describe(op: &Op) -> String {
    match op {
        Op::SetHost { .. } => "set the host's flags".to_owned(),
        Op::SetLocal(a) => format!("enter local address {}", address(a)),
        Op::RemoveLocal(a) => format!("remove local address {}", address(a)),
        Op::SetInterface(i, _) => format!("enter interface {i}"),
        Op::RemoveInterface(i) => format!("remove interface {i}"),
        Op::SetVip(a, _) => format!("enter VIP {}", address(a)),
        Op::RemoveVip(a) => format!("remove VIP {}", address(a)),
        Op::SetBackend(o, b) => format!("write backend {} (owner {o})", address(&b.addr)),
        Op::ClearBackend(o) => format!("clear owner {o}"),
        Op::SetReply(e, _) => format!("enter replies of {}", endpoint(e)),
        Op::RemoveReply(e) => format!("remove replies of {}", endpoint(e)),
        Op::SetSchedule(s, turns) => format!("write {} turns of service {s}", turns.len()),
        Op::CreateRing(s, _) => format!("create the ring of service {s}"),
        Op::StoreSlots(s, slots) => format!("store {} slots of service {s}", slots.len()),
        Op::RemoveRing(s) => format!("remove the ring of service {s}"),
        Op::SetService(e, s) => format!("enter service {} ({})", s.id, endpoint(e)),
        Op::RemoveService(e) => format!("remove service {}", endpoint(e)),
        Op::SetLimits(s, _) => format!("write the limits of service {s}"),
        Op::SetAccess(s, _) => format!("enter {} into an access list", rule(s)),
        Op::RemoveAccess(s) => format!("remove {} from an access list", rule(s)),
        Op::SetTap(n, _) => format!("open tap {n}"),
        Op::ClearTap(n) => format!("close tap {n}"),
        Op::SetPrefix(e) => format!("enter prefix of {}", endpoint(e)),
        Op::RemovePrefix(e) => format!("remove prefix of {}", endpoint(e)),
        Op::SetQuic(s, _) => format!("write how connection IDs of service {s} are read"),
        Op::SetQuicServer(k, o) => format!("enter a server ID of service {} (owner {o})", k.service),
        Op::RemoveQuicServer(k) => format!("remove a server ID of service {}", k.service),
    }
}

pub(super) fn address(address: &Address) -> std::net::IpAddr {
    std::net::Ipv6Addr::from(address.0).to_canonical()
}

fn rule(source: &Source) -> String {
    source.parts().map_or_else(String::new, |(service, net)| format!("{net} of service {service}"))
}

fn endpoint(endpoint: &Endpoint) -> String {
    let (address, port, protocol, prefix) = match endpoint {
        Endpoint::V4(e) => (std::net::IpAddr::from(e.addr), e.port, e.protocol, e.zero),
        Endpoint::V6(e) => (std::net::IpAddr::from(e.addr), e.port, e.protocol, e.zero),
    };
    let prefix = if prefix == 0 { String::new() } else { format!(" prefix /{prefix}") };
    format!("{}{prefix} protocol {protocol}", std::net::SocketAddr::new(address, u16::from_be_bytes(port)))
}

pub(super) fn hash<K: Pod, V: Pod>(pins: &Pins, name: &'static str) -> Result<HashMap<MapData, K, V>, LoadError> {
    let map = aya::maps::Map::from_map_data(pins.open(name)?)
        .map_err(|e| LoadError::Map { path: pins.map(name), what: e.to_string() })?;
    HashMap::try_from(map).map_err(|e| LoadError::Map { path: pins.map(name), what: e.to_string() })
}

pub(super) fn mapped(pins: &Pins, name: &'static str) -> Result<Mapped<AtomicU64>, LoadError> {
    let map = pins.open(name)?;
    Mapped::new(&map).map_err(|e| LoadError::Map { path: pins.map(name), what: format!("cannot be mapped: {e}") })
}

fn insert<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    limit: usize,
    key: impl Borrow<K>,
    value: impl Borrow<V>,
) -> Result<(), Failure> {
    match map.insert(key, value, 0) {
        Err(e) if errno(&e) == Some(libc::E2BIG) => Err(beyond(name, limit)),
        Err(e) => Err(failed(name, io_error(&e))),
        Ok(()) => Ok(()),
    }
}

fn delete<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, name: &'static str, key: &K) -> Result<(), Failure> {
    absent_is_fine(map.remove(key)).map_err(|e| failed(name, e))
}

/// Removing twice changes nothing.
pub(super) fn absent_is_fine(removed: Result<(), MapError>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(e) if errno(&e) == Some(libc::ENOENT) => Ok(()),
        Err(e) => Err(io_error(&e)),
    }
}

pub(super) fn io_error(error: &MapError) -> io::Error {
    errno(error).map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

pub(super) fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(size_of::<u64>()).map(|b| b.try_into().map_or(0, u64::from_ne_bytes)).collect()
}

const _: () = assert!(core::mem::offset_of!(Schedule, turns) == size_of::<u64>(), "length and turns share no word");
const _: () = assert!(core::mem::offset_of!(BackendEntry, flags) < size_of::<u64>(), "flags lie in the first word");
