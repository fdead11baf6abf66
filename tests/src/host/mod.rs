//! The host twin: the same decision core over tables in plain memory, and the shell around it said again in a few lines.

mod shell;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::admission::{AccessV4, AccessV6, Limits, Refusal, Refusals};
use lb_common::backend::BackendEntry;
use lb_common::clock::Ticks;
use lb_common::decide::Outcome;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{Host as HostRecord, INTERFACE_LOCAL, InterfaceEntry, VipEntry};
use lb_common::limits::{FLOW_BUCKET_ENTRIES, MAX_FRAGMENTS, MAX_OWNERS, MAX_SNAT_FLOWS, RING_SIZE, SOURCE_BUCKETS};
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::service::ServiceEntry;
use lb_common::slot::{NOBODY, Owner, Slot};
use lb_common::stats::OwnerCounters;
use lb_common::tables::{Bucket, Route, RouteQuery, Tables};

use crate::ground::{self, Asker};
use crate::world::{NOW_NS, World};
pub use shell::action;

/// Tables in plain memory. One CPU, so a cell does where the kernel needs an atomic.
pub struct Host {
    /// What the agent has written.
    pub world: World,
    /// The flow table.
    pub flows: Vec<Cell<u64>>,
    /// The epoch bitmap.
    pub epochs: Vec<Cell<u64>>,
    /// snat, towards backends.
    pub snat_forward: RefCell<HashMap<SnatForwardKey, SnatForwardEntry>>,
    /// snat, back from backends. Entries are leaked: [`Tables`] lends them out, and a test's memory is its process's.
    pub snat_reverse: RefCell<HashMap<SnatReverseKey, &'static SnatReverseEntry>>,
    /// Datagrams in pieces; leaked likewise.
    pub fragments: RefCell<HashMap<FragmentKey, &'static FragmentEntry>>,
    /// Flows per owner.
    pub loads: RefCell<HashMap<Owner, u64>>,
    /// Until when budgets of services are spent.
    pub budgets: RefCell<HashMap<u16, u64>>,
    /// Budgets of sources.
    pub sources: Vec<Cell<u64>>,
    /// What limits have refused.
    pub refusals: RefCell<HashMap<u16, Refusals>>,
    /// Counters per owner.
    pub counters: RefCell<HashMap<Owner, OwnerCounters>>,
    /// Whether the XDP program glances at packets before it looks at them in full, as it does.
    pub glances: bool,
    /// Packets that a glance was enough for.
    pub glanced: Cell<u32>,
    /// ICMP errors that may still be sent.
    pub tokens: Cell<u64>,
    cursors: RefCell<HashMap<u16, u32>>,
    asker: Cell<Asker>,
}

static NO_BACKEND: BackendEntry = BackendEntry {
    dst_mac: [0; 6],
    flags: 0,
    src_mac: [0; 6],
    service: 0,
    addr: Address([0; 16]),
    ifindex: 0,
    port: [0; 2],
    link_prefix: 0,
    source_bits: 0,
    snat_addr: Address([0; 16]),
    weight: 0,
    mtu: 0,
    max_flows: 0,
};

impl Host {
    /// A host whose tables are the world's and whose flow table is empty.
    pub fn new(world: World) -> Self {
        let buckets = world.host.flow_mask as usize + 1;
        let words = world.host.epoch_mask as usize + 1;
        Self {
            world,
            flows: vec![Cell::new(0); buckets * FLOW_BUCKET_ENTRIES],
            epochs: vec![Cell::new(0); words],
            snat_forward: RefCell::default(),
            snat_reverse: RefCell::default(),
            fragments: RefCell::default(),
            loads: RefCell::default(),
            budgets: RefCell::default(),
            sources: vec![Cell::new(0); SOURCE_BUCKETS * FLOW_BUCKET_ENTRIES],
            refusals: RefCell::default(),
            counters: RefCell::default(),
            glances: true,
            glanced: Cell::default(),
            tokens: Cell::new(0),
            cursors: RefCell::default(),
            asker: Cell::new(Asker::Xdp),
        }
    }

    /// The rule of the longest network.
    fn access(&self, service: [u8; 4], source: IpAddr) -> Option<u32> {
        let rules = self
            .world
            .access
            .iter()
            .filter(|((id, net), _)| u32::from(*id).to_be_bytes() == service && net.contains(&source));
        rules.max_by_key(|((_, net), _)| net.prefix_len()).map(|(_, rule)| *rule)
    }

    fn is_local_interface(&self, ifindex: u32) -> Option<bool> {
        self.world.interfaces.get(&ifindex).map(|i| i.flags & INTERFACE_LOCAL != 0)
    }

    fn count(&self, out: &Outcome) {
        if out.owner != NOBODY {
            self.counters.borrow_mut().entry(out.owner).or_default().add(out);
        }
    }
}

/// A bucket in plain memory.
#[derive(Clone, Copy)]
pub struct Cells<'a>(&'a [Cell<u64>]);

impl Bucket for Cells<'_> {
    fn load(self, i: usize) -> u64 {
        self.0[i].get()
    }

    fn exchange(self, i: usize, old: u64, new: u64) -> bool {
        let is_old = self.0[i].get() == old;
        if is_old {
            self.0[i].set(new);
        }
        is_old
    }
}

/// `Bucket` borrows from the tables, which a trait without lifetimes cannot say of the owner: so the tables are a reference.
impl<'a> Tables for &'a Host {
    type Bucket = Cells<'a>;

    fn host(&self) -> Option<&HostRecord> {
        Some(&self.world.host)
    }

    fn service_v4(&self, key: &EndpointV4) -> Option<&ServiceEntry> {
        self.world.services_v4.get(key)
    }

    fn service_v6(&self, key: &EndpointV6) -> Option<&ServiceEntry> {
        self.world.services_v6.get(key)
    }

    fn prefix_v4(&self, addr: &[u8; 4]) -> Option<&EndpointV4> {
        self.world.longest_prefix_v4(*addr)
    }

    fn prefix_v6(&self, addr: &[u8; 16]) -> Option<&EndpointV6> {
        self.world.longest_prefix_v6(addr)
    }

    fn quic_config(&self, service: u16) -> QuicConfig {
        self.world.quic.get(&service).copied().unwrap_or_default()
    }

    fn quic_server(&self, key: &QuicServerKey) -> Owner {
        self.world.quic_servers.get(key).copied().unwrap_or(NOBODY)
    }

    fn slot(&self, service: u16, slot: u32) -> Option<Slot> {
        self.world.rings.get(&service)?.get(..RING_SIZE)?.get(slot as usize).copied().map(Slot)
    }

    fn backend(&self, owner: Owner) -> Option<&BackendEntry> {
        let is_known = usize::from(owner) < MAX_OWNERS;
        is_known.then(|| self.world.backends.get(&owner).unwrap_or(&NO_BACKEND))
    }

    fn turn(&self, service: u16) -> Owner {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = cursors.entry(service).or_default();
        let schedule = self.world.schedules.get(&service);
        let len = schedule.map_or(0, |s| s.len);
        let turn = if *cursor >= len { 0 } else { *cursor };
        *cursor = turn + 1;
        schedule.filter(|s| s.len > 0).map_or(NOBODY, |s| s.turns[turn as usize])
    }

    fn load(&self, owner: Owner) -> u64 {
        let load = self.loads.borrow().get(&owner).copied().unwrap_or(0);
        if load >> 63 == 0 { load } else { 0 }
    }

    fn add_load(&self, owner: Owner, delta: i64) {
        let mut loads = self.loads.borrow_mut();
        let load = loads.entry(owner).or_default();
        *load = load.wrapping_add_signed(delta);
    }

    fn turns(&self, service: u16) -> u32 {
        self.world.schedules.get(&service).map_or(0, |s| s.len)
    }

    fn nth_turn(&self, service: u16, n: u32) -> Owner {
        self.world.schedules.get(&service).and_then(|s| s.turns.get(n as usize)).copied().unwrap_or(NOBODY)
    }

    fn take_place(&self, owner: Owner, most: u32) -> bool {
        let has_one = self.load(owner) < u64::from(most);
        if has_one {
            self.add_load(owner, 1);
        }
        has_one
    }

    fn limits(&self, service: u16) -> Option<&Limits> {
        self.world.limits.get(&service)
    }

    fn budget(&self, service: u16) -> u64 {
        self.budgets.borrow().get(&service).copied().unwrap_or(0)
    }

    fn exchange_budget(&self, service: u16, old: u64, new: u64) -> bool {
        assert_eq!(self.budget(service), old, "nobody else changes it");
        let _old = self.budgets.borrow_mut().insert(service, new);
        true
    }

    fn source_bucket(&self, index: u32) -> Option<Cells<'a>> {
        let start = index as usize * FLOW_BUCKET_ENTRIES;
        self.sources.get(start..start + FLOW_BUCKET_ENTRIES).map(Cells)
    }

    fn access_v4(&self, key: &AccessV4) -> Option<u32> {
        self.access(key.service, key.addr.into())
    }

    fn access_v6(&self, key: &AccessV6) -> Option<u32> {
        self.access(key.service, key.addr.into())
    }

    fn count_refusal(&self, service: u16, what: Refusal) {
        self.refusals.borrow_mut().entry(service).or_default().add(what);
    }

    fn bucket(&self, index: u32) -> Option<Cells<'a>> {
        let start = index as usize * FLOW_BUCKET_ENTRIES;
        self.flows.get(start..start + FLOW_BUCKET_ENTRIES).map(Cells)
    }

    fn epoch_word(&self, index: u32) -> Option<u64> {
        self.epochs.get(index as usize).map(Cell::get)
    }

    fn set_epoch_word(&self, index: u32, word: u64) {
        self.epochs[index as usize].set(word);
    }

    fn now(&self) -> Ticks {
        Ticks::from_ns(NOW_NS)
    }

    fn now_ns(&self) -> u64 {
        NOW_NS
    }

    fn count_evicted(&self, owner: Owner) {
        self.counters.borrow_mut().entry(owner).or_default().evicted += 1;
    }

    fn vip(&self, addr: &Address) -> Option<&VipEntry> {
        self.world.vips.get(addr)
    }

    fn is_local(&self, addr: &Address) -> bool {
        self.world.locals.contains(addr)
    }

    fn interface(&self, ifindex: u32) -> Option<&InterfaceEntry> {
        self.world.interfaces.get(&ifindex)
    }

    fn reply_v4(&self, key: &EndpointV4) -> Option<&ReplyEntry> {
        self.world.replies_v4.get(key)
    }

    fn reply_v6(&self, key: &EndpointV6) -> Option<&ReplyEntry> {
        self.world.replies_v6.get(key)
    }

    fn snat_forward(&self, key: &SnatForwardKey) -> Option<SnatForwardEntry> {
        self.snat_forward.borrow().get(key).copied()
    }

    fn set_snat_forward(&self, key: &SnatForwardKey, entry: &SnatForwardEntry) -> bool {
        let mut map = self.snat_forward.borrow_mut();
        let has_room = map.len() < MAX_SNAT_FLOWS || map.contains_key(key);
        if has_room {
            let _old = map.insert(*key, *entry);
        }
        has_room
    }

    fn release_snat_forward(&self, key: &SnatForwardKey) {
        let _old = self.snat_forward.borrow_mut().remove(key);
    }

    fn snat_reverse(&self, key: &SnatReverseKey) -> Option<&SnatReverseEntry> {
        self.snat_reverse.borrow().get(key).copied()
    }

    fn claim_snat_reverse(&self, key: &SnatReverseKey, entry: &SnatReverseEntry) -> bool {
        let mut map = self.snat_reverse.borrow_mut();
        let is_free = map.len() < MAX_SNAT_FLOWS && !map.contains_key(key);
        if is_free {
            let _none = map.insert(*key, Box::leak(Box::new(*entry)));
        }
        is_free
    }

    fn release_snat_reverse(&self, key: &SnatReverseKey) {
        let _old = self.snat_reverse.borrow_mut().remove(key);
    }

    fn tokens(&self) -> Option<u64> {
        Some(self.tokens.get())
    }

    fn set_tokens(&self, tokens: u64) {
        self.tokens.set(tokens);
    }

    fn fragment(&self, key: &FragmentKey) -> Option<&FragmentEntry> {
        self.fragments.borrow().get(key).copied()
    }

    fn set_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool {
        let mut map = self.fragments.borrow_mut();
        let has_room = map.len() < MAX_FRAGMENTS || map.contains_key(key);
        if has_room {
            let _old = map.insert(*key, Box::leak(Box::new(*entry)));
        }
        has_room
    }

    fn route(&self, query: &RouteQuery) -> Route {
        ground::route(query, self.asker.get())
    }
}
