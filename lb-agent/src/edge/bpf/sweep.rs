//! The sweep: one walk over the flow table as mapped memory, then over what else names flows.
//!
//! A million flows in two million entries are 16 MiB: the walk is as fast as memory, so that nothing in it may hash, allocate or
//! make a system call per entry. Everything it asks about an owner lies in arrays indexed by owner.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::admission::Refusals;
use lb_common::backend::{BACKEND_ALIVE, BackendEntry};
use lb_common::clock::Ticks;
use lb_common::flow::{FlowEntry, FlowState};
use lb_common::limits::{FLOW_BUCKET_ENTRIES, MAX_OWNERS, MAX_SERVICES};
use lb_common::maps;
use lb_common::service::{FORWARD_NAT, SERVICE_ACCESS, SERVICE_CAPPED, SERVICE_LIMITED, ServiceEntry};
use lb_common::slot::{Owner, Slot, slot_of};
use lb_common::sweep::{Judgement, judge};
use zerocopy::{FromBytes, IntoBytes};

use super::access::RefusalCounters;
use super::counters::{Counters, Turnover};
use super::error::LoadError;
use super::maps::{failed, mapped};
use super::mmap::Mapped;
use super::observe::monotonic;
use super::pin::Pins;
use super::rings::{Rings, Slots};
use super::sweep_counts::Counts;
use super::sweep_replies::ReplyMaps;
use crate::edge::dataplane::{DataPlaneError, Sweeper};
use crate::pure::sweep::{FlowCounts, SlotSet, SweepReport, SweepRequest, TableUse};
use crate::pure::tables::ServiceId;

const BACKEND_WORDS: usize = size_of::<BackendEntry>() / size_of::<u64>();

/// An entry that the kernel changes under us is read again this often; then it is alive, whatever it says.
const ATTEMPTS: usize = 3;

/// A service that the request does not name: its flows are counted and never expire.
const UNKNOWN: ServiceEntry = ServiceEntry {
    id: u16::MAX,
    forward: FORWARD_NAT,
    select: 0,
    tracking: 0,
    flags: 0,
    syn_ticks: u16::MAX,
    idle_ticks: u16::MAX,
    fin_ticks: u16::MAX,
    snat_port_first: 0,
    snat_port_count: 0,
};

/// The sweep's own handle on the maps.
#[derive(Debug)]
pub struct BpfSweeper {
    flows: Mapped<AtomicU64>,
    backends: Mapped<AtomicU64>,
    loads: Mapped<AtomicU64>,
    counters: Counters,
    refusals: RefusalCounters,
    rings: Rings,
    replies: ReplyMaps,
    owners: Vec<OwnerInfo>,
    counts: Vec<Counts>,
    /// Owners that have a backend.
    in_use: Vec<Owner>,
}

impl BpfSweeper {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            flows: mapped(pins, maps::FLOWS)?,
            backends: mapped(pins, maps::BACKENDS)?,
            loads: mapped(pins, maps::LOADS)?,
            counters: Counters::open(pins)?,
            refusals: RefusalCounters::open(pins)?,
            rings: Rings::open(pins)?,
            replies: ReplyMaps::open(pins)?,
            owners: vec![OwnerInfo::default(); MAX_OWNERS],
            counts: vec![Counts::default(); MAX_OWNERS],
            in_use: Vec::new(),
        })
    }

    /// Prepares what the walk looks up: per owner in an array, per service in a list of its own numbering.
    fn prepare(&mut self, request: &SweepRequest) -> io::Result<Vec<ServiceInfo>> {
        let mut services = vec![ServiceInfo::unknown()];
        let mut numbers = vec![0_usize; MAX_SERVICES];
        for (id, entry) in &request.services {
            let in_transition = request.in_transition.contains(id);
            let forget = request.forget.get(id).cloned();
            let ring = if in_transition || forget.is_some() { self.rings.get(*id)? } else { None };
            if let Some(number) = numbers.get_mut(usize::from(*id)) {
                *number = services.len();
            }
            services.push(ServiceInfo { entry: *entry, in_transition, ring, forget, blocked: SlotSet::default() });
        }
        self.in_use.clear();
        self.counts.fill(Counts::default());
        let (entries, _) = self.backends.as_chunks::<BACKEND_WORDS>();
        for ((owner, info), words) in (0..).zip(&mut self.owners).zip(entries) {
            let words = words.each_ref().map(|word| word.load(Ordering::Acquire));
            *info = OwnerInfo { service: 0, flags: MAYBE_DEAD };
            if words == [0; BACKEND_WORDS] {
                continue;
            }
            self.in_use.push(owner);
            let entry = BackendEntry::read_from_bytes(words.as_bytes()).unwrap_or_default();
            let number = numbers.get(usize::from(entry.service)).copied().unwrap_or(0);
            let service = services.get(number).map_or(0, ServiceInfo::flags);
            let by_source = if entry.slot_by_source() { BY_SOURCE } else { 0 };
            let dead = if entry.is_alive() { 0 } else { MAYBE_DEAD };
            // At most MAX_SERVICES services have ids, so their number fits.
            *info = OwnerInfo { service: u16::try_from(number).unwrap_or(0), flags: service | by_source | dead };
        }
        for owner in &request.purge {
            if let Some(info) = self.owners.get_mut(usize::from(*owner)) {
                info.flags |= PURGE;
            }
        }
        Ok(services)
    }

    fn walk(&mut self, services: &mut [ServiceInfo], now: Ticks) -> u64 {
        let mut used = 0;
        let Self { flows, backends, owners, counts, counters, .. } = self;
        // Close together: every entry asks for its service's.
        let entries: Vec<ServiceEntry> = services.iter().map(|service| service.entry).collect();
        let mut walk = Walk { backends, owners, counts, counters, entries: &entries, services, now };
        let (buckets, _) = flows.as_chunks::<FLOW_BUCKET_ENTRIES>();
        for bucket in buckets {
            let words = bucket.each_ref().map(|place| place.load(Ordering::Relaxed));
            // Half of the places are free, in no order: asking each would cost a branch that is guessed wrong every other time.
            let mut taken = words.iter().rev().fold(0_u8, |taken, word| taken << 1 | u8::from(*word != 0));
            while taken != 0 {
                let n = taken.trailing_zeros() as usize % FLOW_BUCKET_ENTRIES;
                taken &= taken - 1;
                used += u64::from(walk.entry(&bucket[n], FlowEntry(words[n])));
            }
        }
        used
    }

    /// Owners whose flows are counted as they come and go.
    fn counted(&self, services: &[ServiceInfo]) -> Vec<Owner> {
        let is_counted =
            |info: &OwnerInfo| services.get(usize::from(info.service)).is_some_and(|s| s.entry.counts_load());
        (0..).zip(&self.owners).filter(|(_, info)| is_counted(info)).map(|(owner, _)| owner).collect()
    }

    /// Sets right what least_conn and backends with a most number of flows count by: flows that are not over. Packets add and
    /// subtract while the walk counts, so that a load is right if it lies within what came and went meanwhile of what was
    /// counted; what does not is set to the nearest that does. A plain store would give places away twice.
    fn set_loads(&self, before: &[(Owner, Turnover)]) {
        let loads = before.iter().filter_map(|(owner, _)| self.loads.get(usize::from(*owner)));
        let loads: Vec<_> = loads.map(|load| (load, load.load(Ordering::Relaxed))).collect();
        for ((owner, before), (load, now)) in before.iter().zip(loads) {
            let Some(counts) = self.counts.get(usize::from(*owner)) else { continue };
            let meanwhile = self.counters.turnover(*owner).since(*before);
            let [active, half_open, adopted, _ended] = counts.0;
            let counted = i64::from(active) + i64::from(half_open) + i64::from(adopted);
            let right = now.cast_signed().clamp(counted - meanwhile.gone, counted + meanwhile.come);
            let difference = right - now.cast_signed();
            if difference != 0 {
                let _before = load.fetch_add(difference.cast_unsigned(), Ordering::Relaxed);
            }
        }
    }

    /// What limits have refused. Services without any need no system call.
    fn refusals(&self, request: &SweepRequest) -> io::Result<BTreeMap<ServiceId, Refusals>> {
        let has_limits = |entry: &ServiceEntry| entry.flags & (SERVICE_ACCESS | SERVICE_LIMITED | SERVICE_CAPPED) != 0;
        let services = request.services.iter().filter(|(_, entry)| has_limits(entry));
        services.map(|(id, _)| Ok((*id, self.refusals.of(*id)?))).collect()
    }

    fn flow_counts(&self) -> BTreeMap<Owner, FlowCounts> {
        (0..)
            .zip(&self.counts)
            .filter(|(_, counts)| counts.0 != [0; 4])
            .map(|(owner, counts)| (owner, FlowCounts::from(*counts)))
            .collect()
    }
}

impl Sweeper for BpfSweeper {
    fn sweep(&mut self, request: &SweepRequest) -> Result<SweepReport, DataPlaneError> {
        let told = |map| move |e| failed(map, e).told("sweep".to_owned());
        let started = monotonic().map_err(told(maps::FLOWS))?;
        let now = Ticks::from_ns(u64::try_from(started.as_nanos()).unwrap_or(u64::MAX));
        let mut services = self.prepare(request).map_err(told(maps::RINGS))?;
        let before: Vec<_> =
            self.counted(&services).into_iter().map(|owner| (owner, self.counters.turnover(owner))).collect();
        let used = self.walk(&mut services, now);
        self.set_loads(&before);
        let mut flows = self.flow_counts();
        if request.walk_reply_maps {
            self.replies.sweep(request, now, &mut flows).map_err(told(maps::SNAT_REVERSE))?;
        }
        let blocked = services
            .into_iter()
            .filter(|service| service.in_transition)
            .map(|service| (service.entry.id, service.blocked))
            .collect();
        let forgot = request.forget.keys().filter(|id| request.services.contains_key(id)).copied().collect();
        let counters = self.counters.per_owner(&self.in_use);
        let verdicts = self.counters.verdicts();
        let refusals = self.refusals(request).map_err(told(maps::REFUSALS))?;
        let took = monotonic().map_err(told(maps::FLOWS))?.saturating_sub(started);
        let table = TableUse { used, room: self.flows.len() as u64 };
        let walked_reply_maps = request.walk_reply_maps;
        Ok(SweepReport {
            started,
            took,
            flows,
            blocked,
            counters,
            refusals,
            verdicts,
            walked_reply_maps,
            forgot,
            table,
        })
    }
}

/// Its entries and mappings are deleted.
const PURGE: u16 = 1 << 0;
/// Was not alive when the sweep began. Asked again before anything is deleted for it: it may have come to life since.
const MAYBE_DEAD: u16 = 1 << 1;
/// Its service has slots in transition.
const IN_TRANSITION: u16 = 1 << 2;
/// Its service has slots to forget.
const FORGET: u16 = 1 << 3;
/// Its service finds slots by the client's address.
const BY_SOURCE: u16 = 1 << 4;

/// What the walk must know of an owner; four bytes, so that all of them stay in the cache.
#[derive(Clone, Copy, Debug, Default)]
struct OwnerInfo {
    /// Place in the walk's list of services; 0: unknown.
    service: u16,
    flags: u16,
}

struct ServiceInfo {
    entry: ServiceEntry,
    in_transition: bool,
    ring: Option<Slots>,
    forget: Option<SlotSet>,
    blocked: SlotSet,
}

impl ServiceInfo {
    fn unknown() -> Self {
        Self { entry: UNKNOWN, in_transition: false, ring: None, forget: None, blocked: SlotSet::default() }
    }

    /// A slot of its ring now; a settled one where it has no ring any more.
    fn slot(&self, number: u32) -> Slot {
        let slot = self.ring.as_ref().and_then(|ring| ring.get(number as usize));
        Slot(slot.map_or(0, |slot| slot.load(Ordering::Acquire)))
    }

    fn flags(&self) -> u16 {
        (if self.in_transition { IN_TRANSITION } else { 0 }) | (if self.forget.is_some() { FORGET } else { 0 })
    }
}

struct Walk<'a> {
    backends: &'a Mapped<AtomicU64>,
    owners: &'a [OwnerInfo],
    counts: &'a mut [Counts],
    counters: &'a Counters,
    entries: &'a [ServiceEntry],
    services: &'a mut [ServiceInfo],
    now: Ticks,
}

/// What is to be done with an entry.
enum Fate {
    Keep(Judgement),
    /// Silence has ended it.
    Expire {
        /// Behind DSR, after the client's FIN.
        lingered: bool,
    },
    /// Over, or to be deleted for another reason than silence.
    Delete,
}

impl Walk<'_> {
    /// Counts an entry or frees its place; whether it is still taken.
    #[inline]
    fn entry(&mut self, place: &AtomicU64, mut entry: FlowEntry) -> bool {
        for _ in 0..ATTEMPTS {
            let fate = self.fate(entry);
            let Fate::Keep(judgement) = fate else {
                match place.compare_exchange(entry.0, 0, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        if let Fate::Expire { lingered } = fate {
                            self.counters.add_silent(entry.owner(), lingered);
                        }
                        return false;
                    }
                    Err(0) => return false,
                    Err(now) => entry = FlowEntry(now),
                }
                continue;
            };
            self.count(entry, judgement);
            return true;
        }
        self.count(entry, Judgement::Active);
        true
    }

    #[inline]
    fn fate(&self, entry: FlowEntry) -> Fate {
        let info = self.info(entry.owner());
        if info.flags & (PURGE | MAYBE_DEAD | FORGET) != 0 && self.is_unwanted(entry, info) {
            return Fate::Delete;
        }
        let service = self.entries.get(usize::from(info.service)).unwrap_or(&UNKNOWN);
        match judge(entry, self.now, service) {
            Judgement::Expire if entry.is_ended() => Fate::Delete,
            Judgement::Expire => {
                Fate::Expire { lingered: entry.state() == Some(FlowState::FinClient) && service.forward != FORWARD_NAT }
            }
            judgement => Fate::Keep(judgement),
        }
    }

    /// Whether it must go although it may be alive: its owner is gone, or its slot has settled under `minimal`.
    #[cold]
    fn is_unwanted(&self, entry: FlowEntry, info: OwnerInfo) -> bool {
        if info.flags & PURGE != 0 {
            return true;
        }
        if info.flags & MAYBE_DEAD != 0 && !self.is_alive(entry.owner()) {
            return true;
        }
        let number = slot_of(entry.tag(), info.flags & BY_SOURCE != 0);
        self.services.get(usize::from(info.service)).is_some_and(|service| {
            let forget = service.forget.as_ref().is_some_and(|slots| slots.contains(number));
            // The entry was read before the slot is: one that belongs to a new transition is never taken for an old one's.
            forget && !service.slot(number).in_transition()
        })
    }

    fn is_alive(&self, owner: Owner) -> bool {
        let flags = |word: &AtomicU64| word.load(Ordering::Acquire) & FLAGS_MASK;
        self.backends.value(usize::from(owner)).and_then(|words| words.first()).is_some_and(|w| flags(w) != 0)
    }

    #[inline]
    fn count(&mut self, entry: FlowEntry, judgement: Judgement) {
        let info = self.info(entry.owner());
        let Some(counts) = self.counts.get_mut(usize::from(entry.owner())) else {
            return;
        };
        let is_over = counts.add(judgement);
        if !is_over && info.flags & IN_TRANSITION != 0 {
            self.note_blocked(entry, info);
        }
    }

    /// Its slot may not settle while the flow's owner is not the slot's current one.
    #[cold]
    fn note_blocked(&mut self, entry: FlowEntry, info: OwnerInfo) {
        let Some(service) = self.services.get_mut(usize::from(info.service)) else {
            return;
        };
        let number = slot_of(entry.tag(), info.flags & BY_SOURCE != 0);
        let slot = service.slot(number);
        if slot.in_transition() && slot.current() != entry.owner() {
            service.blocked.insert(number);
        }
    }

    #[inline]
    fn info(&self, owner: Owner) -> OwnerInfo {
        self.owners.get(usize::from(owner)).copied().unwrap_or_default()
    }
}

const _: () = assert!(FLOW_BUCKET_ENTRIES == u8::BITS as usize, "a bucket's places fit a byte's bits");

/// `BACKEND_ALIVE` in the first word of an entry, whatever the byte order.
const FLAGS_MASK: u64 = {
    let [low, high] = BACKEND_ALIVE.to_ne_bytes();
    u64::from_ne_bytes([0, 0, 0, 0, 0, 0, low, high])
};

const _: () = assert!(core::mem::offset_of!(BackendEntry, flags) == 6);
