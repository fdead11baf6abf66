//! What a sweep of the flow table is asked and what it answers. Nouns only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::service::ServiceEntry;
use lb_common::slot::Owner;
use lb_common::stats::OwnerCounters;

use super::tables::ServiceId;

/// A set of slots of one ring: bit `n % 64` of word `n / 64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet(Vec<u64>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(vec![0; lb_common::limits::RING_SIZE.div_ceil(64)])
    }
}

impl SlotSet {
    /// Adds a slot, `slot < RING_SIZE`; others are ignored.
    pub fn insert(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// Whether no slot is.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// Number of slots in the set.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }
}

/// What a sweep must know and do beyond counting.
#[derive(Clone, Debug, Default)]
pub struct SweepRequest {
    /// Services by id: they say when a flow has ended.
    pub services: BTreeMap<ServiceId, ServiceEntry>,
    /// Services with slots in transition: for these the sweep says which slots may not settle yet.
    pub in_transition: BTreeSet<ServiceId>,
    /// `minimal`: entries of these slots are deleted, the slots have settled. A slot that is found in transition again is
    /// spared: read the entry first, then the slot, then delete.
    pub forget: BTreeMap<ServiceId, SlotSet>,
    /// Entries and reply mappings of these owners are deleted: they are gone for good. (Entries of owners that are not alive
    /// are deleted unasked.)
    pub purge: BTreeSet<Owner>,
    /// Also walk the snat and fragment maps (dearer; every few seconds is enough).
    pub walk_reply_maps: bool,
}

/// Flows of one owner, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Confirmed and not ended.
    pub active: u64,
    /// Only their SYN has been seen.
    pub half_open: u64,
    /// Met in mid-stream, or a datagram without a second: routed, not counted as active.
    pub adopted: u64,
    /// Entries of any state, those of flows that have ended included, plus reply mappings: while it is not 0, the owner's
    /// index may not be used again.
    pub named: u64,
}

/// What a sweep saw.
#[derive(Clone, Debug, Default)]
pub struct SweepReport {
    /// When it began, `CLOCK_MONOTONIC`.
    pub started: Duration,
    /// How long it took.
    pub took: Duration,
    /// Flows per owner; an owner without any is absent.
    pub flows: BTreeMap<Owner, FlowCounts>,
    /// Slots in which a live tracked flow has an owner other than current, per service asked for.
    pub blocked: BTreeMap<ServiceId, SlotSet>,
    /// Counters per owner since load, added up over CPUs; an owner that has counted nothing is absent.
    pub counters: BTreeMap<Owner, OwnerCounters>,
    /// How packets ended, since load, by `Verdict` number.
    pub verdicts: Vec<u64>,
    /// Whether the snat and fragment maps were walked, so that `named` covers them.
    pub walked_reply_maps: bool,
    /// Services whose `forget` slots were dealt with.
    pub forgot: BTreeSet<ServiceId>,
    /// Entries in use and room for them.
    pub table: TableUse,
}

/// One entry of the flow table. The table holds hashes, no addresses; snat flows know their client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedFlow {
    /// Whose it is.
    pub owner: Owner,
    /// `FlowState` number.
    pub state: u8,
    /// Half of the flow's hash.
    pub tag: u32,
    /// Slot of its service's ring.
    pub slot: u32,
    /// Silence, seconds (to an epoch's length).
    pub silent_s: u64,
    /// Between whom it is, where that is known (snat).
    pub known: Option<KnownTuple>,
}

/// Between whom a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTuple {
    /// The client.
    pub client: SocketAddr,
    /// VIP and port that it talks to.
    pub vip: SocketAddr,
    /// Address and port of ours by which the backend knows it.
    pub source: SocketAddr,
}

/// How full the flow table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableUse {
    /// Entries in use, those of ended flows included.
    pub used: u64,
    /// Entries there are.
    pub room: u64,
}
