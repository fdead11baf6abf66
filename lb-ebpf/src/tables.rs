//! [unsafe room 2] The maps as `lb_common`'s tables.
//!
//! Map memory is shared with other CPUs and with the agent. What changes under us is a word that is right by itself (a slot, a
//! flow entry, a word of a backend entry), read and written as one; the rest is written before the entry that names it.

use core::ptr::addr_of;

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use lb_common::admission::{ACCESS_SERVICE_BITS, AccessV4, AccessV6, Limits, Refusal};
use lb_common::backend::BackendEntry;
use lb_common::clock::Ticks;
use lb_common::decide::Work;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::FlowKey;
use lb_common::host::{Host, InterfaceEntry, VipEntry};
use lb_common::limits::SCHEDULE_TURNS;
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::service::ServiceEntry;
use lb_common::slot::{NOBODY, Owner, Slot};
use lb_common::tables::{Route, RouteQuery, Tables};

use crate::bucket::MapBucket;
use crate::maps::{
    ACCESS_V4, ACCESS_V6, BACKENDS, BUDGETS, CURSORS, EPOCHS, FLOWS, FRAGMENTS, HOST, INTERFACES, LIMITS, LOADS,
    LOCALS, PREFIXES_V4, PREFIXES_V6, QUIC_CONFIGS, QUIC_SERVERS, REFUSALS, REPLIES_V4, REPLIES_V6, RINGS, SCHEDULES,
    SERVICES_V4, SERVICES_V6, SNAT_FORWARD, SNAT_REVERSE, SOURCES, TOKENS, VIPS, WORK,
};
use crate::near::Hand;
use crate::{apart, atomic, counters, route};

/// A fixed time, ns, for tests that must be repeatable; 0: the clock. The loader sets it, the verifier removes the branch.
#[unsafe(no_mangle)]
static FIXED_CLOCK_NS: Global<u64> = Global::new(0);

/// The real maps, and the context that the routing table is asked with.
pub(crate) struct Maps<H = ()> {
    /// The program's own context.
    pub(crate) ctx: *mut c_void,
    /// Whether a route must take the packet as it is. Not in TC: a packet may be many that GRO has joined.
    pub(crate) check_mtu: bool,
    /// What this CPU has at hand, if anything.
    pub(crate) hand: H,
}

impl<H: Hand> Tables for Maps<H> {
    type Bucket = MapBucket;

    #[inline(always)]
    fn host(&self) -> Option<&Host> {
        HOST.get(0)
    }

    #[inline(always)]
    fn service_v4(&self, key: &EndpointV4) -> Option<&ServiceEntry> {
        // SAFETY: the agent replaces entries of hash maps as a whole; the kernel keeps a replaced one until we are done (RCU).
        unsafe { SERVICES_V4.get(key) }
    }

    #[inline(always)]
    fn service_v6(&self, key: &EndpointV6) -> Option<&ServiceEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { SERVICES_V6.get(key) }
    }

    #[inline(always)]
    fn service_v4_at_hand(&self, host: &Host, key: &EndpointV4) -> Option<&ServiceEntry> {
        self.hand.service_v4(host.generation, key, || self.service_v4(key))
    }

    #[inline(always)]
    fn service_v6_at_hand(&self, host: &Host, key: &EndpointV6) -> Option<&ServiceEntry> {
        self.hand.service_v6(host.generation, key, || self.service_v6(key))
    }

    #[inline(always)]
    fn prefix_v4(&self, addr: &[u8; 4]) -> Option<&EndpointV4> {
        PREFIXES_V4.get(&Key::new(32, *addr))
    }

    #[inline(always)]
    fn prefix_v6(&self, addr: &[u8; 16]) -> Option<&EndpointV6> {
        PREFIXES_V6.get(&Key::new(128, *addr))
    }

    #[inline(always)]
    fn quic_config(&self, service: u16) -> QuicConfig {
        match QUIC_CONFIGS.get_ptr(u32::from(service)) {
            // SAFETY: valid for the program run; volatile, because the agent changes it, one word at once.
            Some(config) => unsafe { config.read_volatile() },
            None => QuicConfig::default(),
        }
    }

    #[inline(always)]
    fn quic_server(&self, key: &QuicServerKey) -> Owner {
        // SAFETY: as for `service_v4`; the value is copied.
        let owner = unsafe { QUIC_SERVERS.get(key) }.copied().unwrap_or(0);
        Owner::try_from(owner).unwrap_or(NOBODY)
    }

    #[inline(always)]
    fn slot(&self, service: u16, slot: u32) -> Option<Slot> {
        let ring = RINGS.get_value_ptr_mut(u32::from(service), &0)?;
        if slot as usize >= lb_common::limits::RING_SIZE {
            return None;
        }
        // SAFETY: the ring is valid for the program run and `slot` is below its length.
        let word = unsafe { addr_of!((*ring)[slot as usize]) };
        // SAFETY: as above; volatile, because the agent changes slots by 32-bit stores.
        Some(Slot(unsafe { word.read_volatile() }))
    }

    #[inline(always)]
    fn backend(&self, owner: Owner) -> Option<&BackendEntry> {
        BACKENDS.get(u32::from(owner))
    }

    #[inline(always)]
    fn turn(&self, service: u16) -> Owner {
        let (Some(cursor), Some(schedule)) =
            (CURSORS.get_ptr_mut(u32::from(service)), SCHEDULES.get(u32::from(service)))
        else {
            return NOBODY;
        };
        // SAFETY: a per-CPU value, valid for the program run; nothing else on this CPU runs the program meanwhile.
        let mut turn = unsafe { cursor.read() };
        if turn >= schedule.len {
            turn = 0;
        }
        // SAFETY: as above.
        unsafe { cursor.write(turn + 1) };
        if schedule.len == 0 || turn as usize >= SCHEDULE_TURNS {
            return NOBODY;
        }
        schedule.turns[turn as usize]
    }

    #[inline(always)]
    fn load(&self, owner: Owner) -> u64 {
        let Some(load) = LOADS.get_ptr(u32::from(owner)) else {
            return 0;
        };
        // SAFETY: valid for the program run; volatile, because other CPUs add to it.
        let load = unsafe { load.read_volatile() };
        // A flow's end may be counted on one CPU before its beginning is on another.
        if load >> 63 == 0 { load } else { 0 }
    }

    #[inline(always)]
    fn add_load(&self, owner: Owner, delta: i64) {
        if let Some(load) = LOADS.get_ptr_mut(u32::from(owner)) {
            // SAFETY: valid for the program run, aligned, changed atomically by everybody.
            unsafe { atomic::add(load, delta.cast_unsigned()) };
        }
    }

    #[inline(always)]
    fn turns(&self, service: u16) -> u32 {
        SCHEDULES.get(u32::from(service)).map_or(0, |schedule| schedule.len)
    }

    #[inline(always)]
    fn nth_turn(&self, service: u16, n: u32) -> Owner {
        let n = atomic::opaque(n as usize);
        match SCHEDULES.get(u32::from(service)) {
            Some(schedule) if n < SCHEDULE_TURNS => schedule.turns[n],
            _ => NOBODY,
        }
    }

    #[inline(always)]
    fn take_place(&self, owner: Owner, most: u32) -> bool {
        // Most of the time that says it all, and costs nobody a cache line.
        if self.load(owner) >= u64::from(most) {
            return false;
        }
        let Some(load) = LOADS.get_ptr_mut(u32::from(owner)) else {
            return false;
        };
        // SAFETY: valid for the program run, aligned, changed atomically by everybody.
        let before = unsafe { atomic::fetch_add(load, 1) };
        if before >> 63 != 0 || before < u64::from(most) {
            return true;
        }
        // SAFETY: as above. Another CPU was quicker.
        unsafe { atomic::add(load, u64::MAX) };
        false
    }

    #[inline(always)]
    fn limits(&self, service: u16) -> Option<&Limits> {
        LIMITS.get(u32::from(service))
    }

    #[inline(always)]
    fn budget(&self, service: u16) -> u64 {
        // SAFETY: valid for the program run; volatile, because other CPUs change it.
        BUDGETS.get_ptr(u32::from(service)).map_or(0, |budget| unsafe { budget.read_volatile() })
    }

    #[inline(always)]
    fn exchange_budget(&self, service: u16, old: u64, new: u64) -> bool {
        let Some(budget) = BUDGETS.get_ptr_mut(u32::from(service)) else {
            return false;
        };
        // SAFETY: valid for the program run, aligned, changed atomically by everybody.
        unsafe { atomic::compare_exchange(budget, old, new) }
    }

    #[inline(always)]
    fn source_bucket(&self, index: u32) -> Option<MapBucket> {
        SOURCES.get_ptr_mut(index).map(MapBucket)
    }

    #[inline(always)]
    fn access_v4(&self, key: &AccessV4) -> Option<u32> {
        ACCESS_V4.get(&Key::new(ACCESS_SERVICE_BITS + 32, *key)).copied()
    }

    #[inline(always)]
    fn access_v6(&self, key: &AccessV6) -> Option<u32> {
        ACCESS_V6.get(&Key::new(ACCESS_SERVICE_BITS + 128, *key)).copied()
    }

    #[inline(always)]
    fn is_source_spent(&self, service: u16, source: FlowKey) -> bool {
        apart::is_source_spent(service, source)
    }

    #[inline(always)]
    fn is_budget_spent(&self, service: u16) -> bool {
        apart::is_budget_spent(service)
    }

    #[inline(always)]
    fn place(&self, service: u16, first: Owner, draw: u32) -> Owner {
        apart::place(service, first, draw)
    }

    #[inline(always)]
    fn count_refusal(&self, service: u16, what: Refusal) {
        if let Some(record) = REFUSALS.get_ptr_mut(u32::from(service)) {
            // SAFETY: per-CPU memory, valid for the program run; programs on one CPU do not interrupt each other.
            unsafe { (*record).add(what) };
        }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<MapBucket> {
        FLOWS.get_ptr_mut(index).map(MapBucket)
    }

    #[inline(always)]
    fn epoch_word(&self, index: u32) -> Option<u64> {
        // SAFETY: valid for the program run; volatile, because other CPUs write it.
        EPOCHS.get_ptr(index).map(|word| unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn set_epoch_word(&self, index: u32, word: u64) {
        if let Some(place) = EPOCHS.get_ptr_mut(index) {
            // SAFETY: valid for the program run; a lost race costs one more look at the table (lb_common::epoch).
            unsafe { place.write_volatile(word) };
        }
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        let fixed = FIXED_CLOCK_NS.load();
        if fixed != 0 {
            return Ticks::from_ns(fixed);
        }
        self.hand.now()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        let fixed = FIXED_CLOCK_NS.load();
        if fixed != 0 {
            return fixed;
        }
        // SAFETY: the helper takes nothing.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn count_evicted(&self, owner: Owner) {
        counters::count_evicted(owner);
    }

    #[inline(always)]
    fn vip(&self, addr: &Address) -> Option<&VipEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { VIPS.get(addr) }
    }

    #[inline(always)]
    fn is_local(&self, addr: &Address) -> bool {
        LOCALS.get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32) -> Option<&InterfaceEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { INTERFACES.get(ifindex) }
    }

    #[inline(always)]
    fn reply_v4(&self, key: &EndpointV4) -> Option<&ReplyEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { REPLIES_V4.get(key) }
    }

    #[inline(always)]
    fn reply_v6(&self, key: &EndpointV6) -> Option<&ReplyEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { REPLIES_V6.get(key) }
    }

    #[inline(always)]
    fn snat_forward(&self, key: &SnatForwardKey) -> Option<SnatForwardEntry> {
        // SAFETY: as for `service_v4`; the entry is one word and is copied.
        unsafe { SNAT_FORWARD.get(key) }.copied()
    }

    #[inline(always)]
    fn set_snat_forward(&self, key: &SnatForwardKey, entry: &SnatForwardEntry) -> bool {
        SNAT_FORWARD.insert(key, entry, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn release_snat_forward(&self, key: &SnatForwardKey) {
        // Somebody else may have been quicker; then there is nothing to do.
        let _removed = SNAT_FORWARD.remove(key);
    }

    #[inline(always)]
    fn snat_reverse(&self, key: &SnatReverseKey) -> Option<&SnatReverseEntry> {
        // SAFETY: as for `service_v4`; entries of this map are never changed, only entered and removed.
        unsafe { SNAT_REVERSE.get(key) }
    }

    #[inline(always)]
    fn claim_snat_reverse(&self, key: &SnatReverseKey, entry: &SnatReverseEntry) -> bool {
        SNAT_REVERSE.insert(key, entry, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn release_snat_reverse(&self, key: &SnatReverseKey) {
        // Somebody else may have been quicker; then there is nothing to do.
        let _removed = SNAT_REVERSE.remove(key);
    }

    #[inline(always)]
    fn tokens(&self) -> Option<u64> {
        // SAFETY: a per-CPU value, valid for the program run; nothing else on this CPU runs the program meanwhile.
        TOKENS.get_ptr(0).map(|tokens| unsafe { tokens.read() })
    }

    #[inline(always)]
    fn set_tokens(&self, left: u64) {
        if let Some(tokens) = TOKENS.get_ptr_mut(0) {
            // SAFETY: as in `tokens`.
            unsafe { tokens.write(left) };
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<&FragmentEntry> {
        // SAFETY: as for `service_v4`.
        unsafe { FRAGMENTS.get(key) }
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool {
        FRAGMENTS.insert(key, entry, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        self.host().map_or(Route::None, |host| route::look_up(self.ctx, host.route_from, self.check_mtu, query))
    }
}

/// This CPU's working memory, for one decision.
#[inline(always)]
pub(crate) fn work<'a>() -> Option<&'a mut Work> {
    // SAFETY: per-CPU memory, valid for the program run; all zeroes, and everything that we have written since, is a valid
    // `Work`; programs on one CPU do not interrupt each other, and each asks once for a decision; `tap` asks before and after it.
    WORK.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}
