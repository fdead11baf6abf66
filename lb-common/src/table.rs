//! The flow table's operations: find, enter, push out. Pure over [`Tables`], the same in the kernel and on the host.

use crate::clock::Ticks;
use crate::epoch::Place;
use crate::flow::{FlowEntry, FlowKey, FlowState};
use crate::host::Host;
use crate::limits::FLOW_BUCKET_ENTRIES;
use crate::service::ServiceEntry;
use crate::slot::{NOBODY, Owner, slot_of};
use crate::tables::{Bucket, Tables};

/// A bucket is filled to here before the second one is looked at: with 4 entries of room a flow, the emptier of two buckets
/// practically never overflows (Mitzenmacher, IEEE TPDS 12(10), 2001), and most flows lie in their first one.
const FIRST_BUCKET_FILL: usize = 6;

/// Races lost to other CPUs before a flow counts as refused.
const INSERT_ATTEMPTS: usize = 3;

/// Where a flow lies.
#[derive(Clone, Copy)]
pub struct Found<B> {
    bucket: B,
    index: usize,
    /// The entry as it was read.
    pub entry: FlowEntry,
}

/// How an insertion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in.
    Yes,
    /// It is in, and a flow of this owner is out.
    Evicted(Owner),
    /// There is no room, and nobody who may be pushed out.
    Refused,
}

/// Finds a flow of this service. An entry whose owner belongs to another service is not it.
#[inline(always)]
pub fn find<T: Tables>(t: &T, key: FlowKey, mask: u32, service: u16) -> Option<Found<T::Bucket>> {
    if let Some(found) = find_in(t, key.tag, t.bucket(key.first(mask))?, service) {
        return Some(found);
    }
    find_in(t, key.tag, t.bucket(key.second(mask))?, service)
}

#[inline(always)]
fn find_in<T: Tables>(t: &T, tag: u32, bucket: T::Bucket, service: u16) -> Option<Found<T::Bucket>> {
    let mut index = 0;
    while index < FLOW_BUCKET_ENTRIES {
        let entry = FlowEntry(bucket.load(index));
        if entry.tag() == tag && !entry.is_free() {
            match t.backend(entry.owner()) {
                Some(b) if b.service == service => return Some(Found { bucket, index, entry }),
                _ => {}
            }
        }
        index += 1;
    }
    None
}

/// Replaces an entry; whether nobody else had changed it.
#[inline(always)]
pub fn update<B: Bucket>(found: &Found<B>, new: FlowEntry) -> bool {
    found.bucket.exchange(found.index, found.entry.0, new.0)
}

/// Enters a flow: first bucket, else the emptier of both, else in place of somebody who may go.
#[inline(always)]
pub fn insert<T: Tables>(t: &T, key: FlowKey, mask: u32, service: &ServiceEntry, entry: FlowEntry) -> Inserted {
    let (Some(first), Some(second)) = (t.bucket(key.first(mask)), t.bucket(key.second(mask))) else {
        return Inserted::Refused;
    };
    let mut attempt = 0;
    while attempt < INSERT_ATTEMPTS {
        let (free_first, used_first) = room(first);
        if used_first < FIRST_BUCKET_FILL {
            if first.exchange(free_first, 0, entry.0) {
                return Inserted::Yes;
            }
        } else {
            let (free_second, used_second) = room(second);
            let (bucket, free, used) = if used_second < used_first {
                (second, free_second, used_second)
            } else {
                (first, free_first, used_first)
            };
            if used >= FLOW_BUCKET_ENTRIES {
                return push_out(t, first, second, service, entry);
            }
            if bucket.exchange(free, 0, entry.0) {
                return Inserted::Yes;
            }
        }
        attempt += 1;
    }
    Inserted::Refused
}

/// A free place (where there is one) and how many are taken.
#[inline(always)]
fn room<B: Bucket>(bucket: B) -> (usize, usize) {
    let (mut free, mut used, mut i) = (0, 0, 0);
    while i < FLOW_BUCKET_ENTRIES {
        if bucket.load(i) == 0 {
            free = i;
        } else {
            used += 1;
        }
        i += 1;
    }
    (free, used)
}

/// Ended flows first, then the oldest unconfirmed, then the oldest idle of the same service. A flow that lives in a slot in
/// transition and is not where untracked ones are is no victim: it could not be told from them.
#[inline(always)]
fn push_out<T: Tables>(
    t: &T,
    first: T::Bucket,
    second: T::Bucket,
    service: &ServiceEntry,
    entry: FlowEntry,
) -> Inserted {
    let mut best = 0_u32;
    let mut victim = FlowEntry::FREE;
    let mut place = 0;
    let mut i = 0;
    while i < 2 * FLOW_BUCKET_ENTRIES {
        let candidate =
            FlowEntry(if i < FLOW_BUCKET_ENTRIES { first.load(i) } else { second.load(i - FLOW_BUCKET_ENTRIES) });
        let score = expendability(t, candidate, service, entry.time());
        if score > best {
            (best, victim, place) = (score, candidate, i);
        }
        i += 1;
    }
    if best == 0 || is_needed(t, victim) {
        return Inserted::Refused;
    }
    let done = if place < FLOW_BUCKET_ENTRIES {
        first.exchange(place, victim.0, entry.0)
    } else {
        second.exchange(place - FLOW_BUCKET_ENTRIES, victim.0, entry.0)
    };
    match (done, victim.is_ended()) {
        (true, true) => Inserted::Yes,
        (true, false) => Inserted::Evicted(victim.owner()),
        _ => Inserted::Refused,
    }
}

/// 0: may not go; otherwise the higher, the sooner.
#[inline(always)]
fn expendability<T: Tables>(t: &T, e: FlowEntry, service: &ServiceEntry, now: Ticks) -> u32 {
    let age = u32::from(now.since(e.time()));
    if e.is_ended() {
        return 3 << 16 | age;
    }
    if e.is_unconfirmed() {
        return 2 << 16 | age;
    }
    match t.backend(e.owner()) {
        Some(b) if b.service == service.id && age > u32::from(service.idle_ticks) => 1 << 16 | age,
        _ => 0,
    }
}

#[inline(always)]
fn is_needed<T: Tables>(t: &T, e: FlowEntry) -> bool {
    if e.is_ended() {
        return false;
    }
    let Some(backend) = t.backend(e.owner()) else {
        return false;
    };
    match t.slot(backend.service, slot_of(e.tag(), backend.slot_by_source())) {
        Some(slot) => slot.in_transition() && slot.untracked() != e.owner(),
        None => false,
    }
}

/// Whether this is the flow's first packet in this epoch; notes it.
#[inline(always)]
pub fn is_first_in_epoch<T: Tables>(t: &T, host: &Host, key: FlowKey, now: Ticks) -> bool {
    let place = place(host, key, now);
    let Some(word) = t.epoch_word(place.word) else {
        return true;
    };
    match place.mark(word) {
        Some(marked) => {
            t.set_epoch_word(place.word, marked);
            true
        }
        None => false,
    }
}

/// Makes the flow's next packet a first one again, so that it confirms the flow.
#[inline(always)]
pub fn forget_in_epoch<T: Tables>(t: &T, host: &Host, key: FlowKey, now: Ticks) {
    let place = place(host, key, now);
    if let Some(word) = t.epoch_word(place.word) {
        t.set_epoch_word(place.word, place.unmark(word));
    }
}

#[inline(always)]
fn place(host: &Host, key: FlowKey, now: Ticks) -> Place {
    Place::of(key, u32::from(now.0) >> (host.epoch_shift & 15), host.epoch_mask)
}

/// Whether an entry may be left as it is: nothing changed but the time, and that within one epoch.
#[inline(always)]
pub fn is_fresh(old: FlowEntry, owner: Owner, state: FlowState, now: Ticks, epoch_shift: u32) -> bool {
    old.owner() == owner && old.state_number() == state as u8 && old.time().same_epoch(now, epoch_shift)
}

const _: () = assert!(NOBODY == 0, "a free entry has no owner");
