//! The kernel's side in memory: a ring, a flow table, the epoch bitmap; and one packet's view of it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BackendEntry};
use lb_common::clock::{TICK_NS, Ticks, ticks_for_ns};
use lb_common::decide::{Outcome, Work, ingress};
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::FlowEntry;
use lb_common::hash::flow_v4;
use lb_common::host::{HOST_REPLIES, Host, InterfaceEntry, VipEntry};
use lb_common::limits::FLOW_BUCKET_ENTRIES;
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, REPLY_TRACKED, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry,
    SnatReverseKey,
};
use lb_common::service::ServiceEntry;
use lb_common::slot::{NOBODY, Owner, Slot};
use lb_common::stats::Tally;
use lb_common::tables::{Bucket, Route, RouteQuery, Tables};

use crate::packet::{BACKEND_PORT, Client, Frame, VIP, VIP_PORT, backend_address};
use crate::story::{Broken, Mode};

/// The longest silence of a live flow.
pub(crate) const IDLE: Duration = Duration::from_secs(20);
/// The longest time from a SYN to the handshake's ACK.
pub(crate) const SYN: Duration = Duration::from_secs(5);
/// Backends 1..=BACKENDS.
pub(crate) const BACKENDS: Owner = 4;
/// Slots of the model's ring; the packet path's 65,537 fold onto them.
pub(crate) const SLOTS: usize = 3;
/// A CPU acts on what it has read within this time.
const CPU_DELAY: Duration = Duration::from_millis(8);
/// 16 ticks, 4.3 s: more than 4 epochs in an idle timeout.
const EPOCH_SHIFT: u32 = 4;
/// Far more bits than flows: two that share one hide each other's packets for an epoch, and a live flow may be taken for
/// idle. That is the bitmap's price, not the slots'.
const EPOCH_MASK: u32 = 0xffff;
const EPOCH_WORDS: usize = 0x1_0000;

/// Everything the kernel remembers.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) slots: Vec<Slot>,
    /// Slots as they were until some moment, latest last.
    past: Vec<(Duration, Vec<Slot>)>,
    pub(crate) backends: Vec<BackendEntry>,
    pub(crate) service: ServiceEntry,
    replies: Vec<ReplyEntry>,
    host: Host,
    table: Vec<[Cell<u64>; FLOW_BUCKET_ENTRIES]>,
    epochs: RefCell<Vec<u64>>,
    loads: Vec<Cell<i64>>,
    turns: Cell<u16>,
    /// Flows refused or evicted, as the counters say.
    pub(crate) refusals: Cell<u64>,
}

impl World {
    pub(crate) fn new(mode: Mode, broken: Option<Broken>) -> Self {
        let epoch = if broken == Some(Broken::ExpiresEarly) { 0 } else { 1 << EPOCH_SHIFT };
        let ticks = |time: Duration| ticks_for_ns(u64::try_from(time.as_nanos()).expect("seconds"));
        let service = ServiceEntry {
            select: mode.select,
            tracking: u8::from(!mode.is_full),
            syn_ticks: ticks(SYN),
            // An entry's time may be an epoch old.
            idle_ticks: ticks(IDLE) + epoch,
            ..ServiceEntry::default()
        };
        let reply = |owner| ReplyEntry {
            vip: Address::v4(VIP),
            vip_port: VIP_PORT,
            owner,
            flags: if mode.is_full { REPLY_TRACKED } else { 0 },
            ..ReplyEntry::default()
        };
        Self {
            now: Duration::from_secs(1_000),
            slots: vec![Slot::settled(1); SLOTS],
            past: Vec::new(),
            backends: (0..=BACKENDS).map(backend).collect(),
            service,
            replies: (0..=BACKENDS).map(reply).collect(),
            host: Host {
                flags: HOST_REPLIES,
                flow_mask: mode.buckets - 1,
                epoch_mask: EPOCH_MASK,
                epoch_shift: EPOCH_SHIFT,
                seed: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211, 0x0f1e_2d3c_4b5a_6978, 0x1357_9bdf_0246_8ace],
                ..Host::default()
            },
            table: (0..mode.buckets).map(|_| Default::default()).collect(),
            epochs: RefCell::new(vec![0; EPOCH_WORDS]),
            loads: vec![Cell::new(0); usize::from(BACKENDS) + 1],
            turns: Cell::new(0),
            refusals: Cell::new(0),
        }
    }

    /// Half of a flow's hash: its tag.
    pub(crate) fn tag(&self, client: Client) -> u32 {
        flow_v4(&self.host.seed, client.addr, client.port.to_be_bytes(), VIP_PORT, self.service.id, false).tag
    }

    pub(crate) fn ticks(&self) -> Ticks {
        Ticks::from_ns(u64::try_from(self.now.as_nanos()).expect("minutes"))
    }

    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        self.backends[usize::from(owner)].is_alive()
    }

    pub(crate) fn set_alive(&mut self, owner: Owner, alive: bool) {
        let flags = &mut self.backends[usize::from(owner)].flags;
        *flags = if alive { *flags | BACKEND_ALIVE } else { *flags & !BACKEND_ALIVE };
    }

    /// Stores slots, as the agent asks.
    pub(crate) fn store(&mut self, stores: &[(u32, u32)]) {
        if !stores.is_empty() {
            self.past.push((self.now, self.slots.clone()));
            let recent = self.past.len().saturating_sub(8);
            let _ = self.past.drain(..recent);
        }
        for &(slot, value) in stores {
            self.slots[slot as usize] = Slot(value);
        }
    }

    /// One packet's view: the slots as they are, or as a slow CPU still sees them (always the same lag, because what a flow
    /// has seen never goes back: its packets go to one CPU).
    pub(crate) fn view(&self, is_slow: bool, refuses: bool) -> View<'_> {
        let since = self.now.saturating_sub(CPU_DELAY);
        let old = self.past.iter().find(|(until, _)| is_slow && *until >= since);
        View { world: self, slots: old.map_or(&self.slots, |(_, slots)| slots), refuses }
    }

    /// Every place of the table, for the sweep.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Cell<u64>> {
        self.table.iter().flatten()
    }

    /// The entry of a flow, by its tag.
    pub(crate) fn entry(&self, tag: u32) -> Option<FlowEntry> {
        self.entries().map(|cell| FlowEntry(cell.get())).find(|e| !e.is_free() && e.tag() == tag)
    }
}

/// Nobody's entry belongs to no service of ours.
fn backend(owner: Owner) -> BackendEntry {
    if owner == NOBODY {
        return BackendEntry { service: u16::MAX, ..BackendEntry::default() };
    }
    BackendEntry {
        flags: BACKEND_ALIVE | BACKEND_REACHABLE,
        addr: Address::v4(backend_address(owner)),
        port: BACKEND_PORT,
        weight: 1,
        mtu: 1_500,
        ifindex: 2,
        ..BackendEntry::default()
    }
}

/// The slot of the model's ring that a slot of the packet path folds onto.
pub(crate) const fn fold(slot: u32) -> usize {
    slot as usize % SLOTS
}

/// What one packet sees.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    world: &'a World,
    slots: &'a [Slot],
    refuses: bool,
}

impl View<'_> {
    /// The same, with slots changed.
    pub(crate) fn with_slots<'b>(&'b self, slots: &'b [Slot]) -> View<'b> {
        View { slots, ..*self }
    }

    pub(crate) const fn slots(&self) -> &[Slot] {
        self.slots
    }

    /// What the packet path does with a frame.
    pub(crate) fn receive(&self, mut frame: Frame) -> Outcome {
        let outcome = ingress(&mut frame, self, &mut Work::default());
        let refused = u64::from(outcome.tally.has(Tally::REFUSED));
        self.world.refusals.set(self.world.refusals.get() + refused);
        outcome
    }
}

/// One bucket; `refuses`: newcomers find no room.
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a> {
    cells: &'a [Cell<u64>; FLOW_BUCKET_ENTRIES],
    refuses: bool,
}

impl Bucket for Handle<'_> {
    fn load(self, i: usize) -> u64 {
        self.cells[i].get()
    }

    fn exchange(self, i: usize, old: u64, new: u64) -> bool {
        let is_newcomer = FlowEntry(old).is_free() || FlowEntry(old).tag() != FlowEntry(new).tag();
        if self.cells[i].get() != old || (self.refuses && is_newcomer) {
            return false;
        }
        self.cells[i].set(new);
        true
    }
}

impl<'a> Tables for View<'a> {
    type Bucket = Handle<'a>;

    fn host(&self) -> Option<&Host> {
        Some(&self.world.host)
    }
    fn prefix_v4(&self, _: &[u8; 4]) -> Option<&EndpointV4> {
        None
    }
    fn prefix_v6(&self, _: &[u8; 16]) -> Option<&EndpointV6> {
        None
    }
    fn quic_config(&self, _: u16) -> QuicConfig {
        QuicConfig::default()
    }
    fn quic_server(&self, _: &QuicServerKey) -> Owner {
        NOBODY
    }
    fn slot(&self, _: u16, slot: u32) -> Option<Slot> {
        Some(self.slots[fold(slot)])
    }
    fn backend(&self, owner: Owner) -> Option<&BackendEntry> {
        self.world.backends.get(usize::from(owner))
    }
    fn turn(&self, _: u16) -> Owner {
        self.world.turns.set(self.world.turns.get().wrapping_add(1));
        self.slots[usize::from(self.world.turns.get()) % SLOTS].current()
    }
    fn load(&self, owner: Owner) -> u64 {
        self.world.loads[usize::from(owner)].get().unsigned_abs()
    }
    fn add_load(&self, owner: Owner, delta: i64) {
        let load = &self.world.loads[usize::from(owner)];
        load.set(load.get() + delta);
    }
    fn bucket(&self, index: u32) -> Option<Handle<'a>> {
        Some(Handle { cells: self.world.table.get(index as usize)?, refuses: self.refuses })
    }
    fn epoch_word(&self, index: u32) -> Option<u64> {
        self.world.epochs.borrow().get(index as usize).copied()
    }
    fn set_epoch_word(&self, index: u32, word: u64) {
        self.world.epochs.borrow_mut()[index as usize] = word;
    }
    fn now(&self) -> Ticks {
        self.world.ticks()
    }
    fn count_evicted(&self, _: Owner) {
        self.world.refusals.set(self.world.refusals.get() + 1);
    }

    fn service_v4(&self, key: &EndpointV4) -> Option<&ServiceEntry> {
        (key.addr == VIP && key.port == VIP_PORT).then_some(&self.world.service)
    }
    fn reply_v4(&self, key: &EndpointV4) -> Option<&ReplyEntry> {
        (1..=BACKENDS).find(|o| backend_address(*o) == key.addr).map(|o| &self.world.replies[usize::from(o)])
    }
    fn route(&self, _: &RouteQuery) -> Route {
        Route::Known { ifindex: 3, dst_mac: [2; 6], src_mac: [4; 6] }
    }

    // The rest of the packet path is not asked here.
    fn service_v6(&self, _: &EndpointV6) -> Option<&ServiceEntry> {
        None
    }
    fn vip(&self, _: &Address) -> Option<&VipEntry> {
        None
    }
    fn is_local(&self, _: &Address) -> bool {
        false
    }
    fn interface(&self, _: u32) -> Option<&InterfaceEntry> {
        None
    }
    fn reply_v6(&self, _: &EndpointV6) -> Option<&ReplyEntry> {
        None
    }
    fn snat_forward(&self, _: &SnatForwardKey) -> Option<SnatForwardEntry> {
        None
    }
    fn set_snat_forward(&self, _: &SnatForwardKey, _: &SnatForwardEntry) -> bool {
        false
    }
    fn release_snat_forward(&self, _: &SnatForwardKey) {}
    fn snat_reverse(&self, _: &SnatReverseKey) -> Option<&SnatReverseEntry> {
        None
    }
    fn claim_snat_reverse(&self, _: &SnatReverseKey, _: &SnatReverseEntry) -> bool {
        false
    }
    fn release_snat_reverse(&self, _: &SnatReverseKey) {}
    fn fragment(&self, _: &FragmentKey) -> Option<&FragmentEntry> {
        None
    }
    fn set_fragment(&self, _: &FragmentKey, _: &FragmentEntry) -> bool {
        false
    }
}

const _: () = assert!(TICK_NS < 1_000_000_000, "the model's steps are about as coarse as the clock");
