//! The flow table's operations: find, enter, push out. Pure over [`Tables`], the same in the kernel and on the host.

use crate::clock::{AHEAD_TICKS, Ticks};
use crate::epoch::Place;
use crate::flow::{FlowEntry, FlowKey, FlowState};
use crate::host::Host;
use crate::limits::FLOW_BUCKET_ENTRIES;
use crate::slot::{NOBODY, Owner, slot_of};
use crate::tables::{Bucket, Tables};

/// A bucket is filled to here before the second one is looked at: with two buckets and 4 entries of room a flow, practically
/// nothing overflows (compare Mitzenmacher, IEEE TPDS 12(10), 2001), and most flows lie in their first one.
const FIRST_FILL: usize = 6;

/// A flow's entry, and the bucket that it lies in. Its place in there is found again by its value, never kept: the verifier would
/// follow every place on its own, through everything that comes after.
#[derive(Clone, Copy)]
pub struct Found<B> {
    bucket: B,
    /// The entry as it was read.
    pub entry: FlowEntry,
}

/// What is looked for: a flow of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// The flow.
    pub key: FlowKey,
    /// [`Host::flow_mask`].
    pub mask: u32,
    /// Service id.
    pub service: u16,
    /// Its idle timeout, ticks.
    pub idle_ticks: u16,
}

/// How an insertion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in.
    Yes,
    /// It is in, and a flow of this owner is out.
    Evicted(Owner),
    /// There is no room: somebody may have to go ([`push_out`]).
    Full,
    /// There is no room, and nobody who may be pushed out.
    Refused,
}

/// Finds a flow of this service. An entry whose owner belongs to another service is not it.
#[inline(never)]
pub fn find<T: Tables>(t: &T, what: &Lookup) -> Option<Found<T::Bucket>> {
    find_here(t, what)
}

/// The same in the caller's code, where a chain of calls has no stack left for one more.
#[inline(always)]
pub fn find_here<T: Tables>(t: &T, what: &Lookup) -> Option<Found<T::Bucket>> {
    let (key, mask) = (what.key, what.mask);
    let first = find_in(t, key.tag, t.bucket(key.first(mask))?, what.service);
    if first.is_some() { first } else { find_in(t, key.tag, t.bucket(key.second(mask))?, what.service) }
}

/// An entry with this flow's tag, its first bucket first, whichever service's it is; `FREE` where there is none.
#[inline(always)]
pub fn glance<T: Tables>(t: &T, key: FlowKey, mask: u32) -> Option<FlowEntry> {
    let (first, second) = (t.bucket(key.first(mask))?, t.bucket(key.second(mask))?);
    let entry = next_of(first, key.tag, FlowEntry::FREE);
    Some(if entry.is_free() { next_of(second, key.tag, FlowEntry::FREE) } else { entry })
}

/// A bucket with two entries of one tag that belong to other services is once in 2^60: the flow counts as unknown then.
#[inline(always)]
fn find_in<T: Tables>(t: &T, tag: u32, bucket: T::Bucket, service: u16) -> Option<Found<T::Bucket>> {
    let first = next_of(bucket, tag, FlowEntry::FREE);
    let entry = if first.is_free() || belongs(t, first, service) { first } else { next_of(bucket, tag, first) };
    if entry.is_free() || !belongs(t, entry, service) { None } else { Some(Found { bucket, entry }) }
}

/// An entry of this tag other than `not`; `FREE` where there is none.
#[inline(always)]
fn next_of<B: Bucket>(bucket: B, tag: u32, not: FlowEntry) -> FlowEntry {
    let mut i = 0;
    while i < FLOW_BUCKET_ENTRIES {
        let entry = FlowEntry(bucket.load(i));
        if entry.tag() == tag && entry.0 != not.0 && !entry.is_free() {
            return entry;
        }
        i += 1;
    }
    FlowEntry::FREE
}

#[inline(always)]
fn belongs<T: Tables>(t: &T, entry: FlowEntry, service: u16) -> bool {
    matches!(t.backend(entry.owner()), Some(b) if b.service == service)
}

/// Replaces an entry; whether nobody else had changed it.
#[inline(always)]
pub fn update<B: Bucket>(found: &Found<B>, new: FlowEntry) -> bool {
    replace(found.bucket, found.entry, new)
}

/// Puts `new` in the place of `old`, wherever in the bucket that is; whether it was there.
#[inline(always)]
fn replace<B: Bucket>(bucket: B, old: FlowEntry, new: FlowEntry) -> bool {
    let mut i = 0;
    while i < FLOW_BUCKET_ENTRIES {
        if bucket.load(i) == old.0 && bucket.exchange(i, old.0, new.0) {
            return true;
        }
        i += 1;
    }
    false
}

/// Enters a flow: its first bucket up to `FIRST_FILL`, then its second one up to there, then what is left of both. (Counting what
/// is taken would say the same, but the verifier would follow each of the 2^8 ways to add it up.)
#[inline(never)]
pub fn insert<T: Tables>(t: &T, what: &Lookup, entry: FlowEntry) -> Inserted {
    insert_here(t, what.key, what.mask, entry)
}

/// The same in the caller's code.
#[inline(always)]
pub fn insert_here<T: Tables>(t: &T, key: FlowKey, mask: u32, entry: FlowEntry) -> Inserted {
    let (Some(first), Some(second)) = (t.bucket(key.first(mask)), t.bucket(key.second(mask))) else {
        return Inserted::Refused;
    };
    let done = enter(first, 0, FIRST_FILL, entry)
        || enter(second, 0, FIRST_FILL, entry)
        || enter(first, FIRST_FILL, FLOW_BUCKET_ENTRIES, entry)
        || enter(second, FIRST_FILL, FLOW_BUCKET_ENTRIES, entry);
    if done { Inserted::Yes } else { Inserted::Full }
}

/// Takes a free place from `from` on and below `end`; whether there was one.
#[inline(always)]
fn enter<B: Bucket>(bucket: B, from: usize, end: usize, entry: FlowEntry) -> bool {
    let mut i = from;
    while i < end {
        if bucket.load(i) == 0 && bucket.exchange(i, 0, entry.0) {
            return true;
        }
        i += 1;
    }
    false
}

/// Enters a flow in place of another: ended flows first, then the oldest unconfirmed, then the oldest confirmed one that has been
/// silent for longer than the idle timeout, if it is of the same service. A flow that lives in a slot in transition and is not
/// where untracked ones are is no victim: it could not be told from them.
#[inline(never)]
pub fn push_out<T: Tables>(t: &T, what: &Lookup, entry: FlowEntry) -> Inserted {
    let (key, mask) = (what.key, what.mask);
    let (Some(first), Some(second)) = (t.bucket(key.first(mask)), t.bucket(key.second(mask))) else {
        return Inserted::Refused;
    };
    let (in_first, in_second) = (most_expendable(first, entry.time()), most_expendable(second, entry.time()));
    let use_second = in_second.score > in_first.score;
    let Victim { score, entry: victim } = if use_second { in_second } else { in_first };
    if score < SCORE_UNCONFIRMED {
        let idle = SCORE_CONFIRMED + u32::from(AHEAD_TICKS) + u32::from(what.idle_ticks);
        if score <= idle || !belongs(t, victim, what.service) {
            return Inserted::Refused;
        }
    }
    if score < SCORE_ENDED && is_needed(t, victim) {
        return Inserted::Refused;
    }
    let done = if use_second { replace(second, victim, entry) } else { replace(first, victim, entry) };
    if !done {
        return Inserted::Refused;
    }
    if victim.is_ended() { Inserted::Yes } else { Inserted::Evicted(victim.owner()) }
}

/// The entry of a bucket that is missed least; the higher the score, the less.
struct Victim {
    score: u32,
    entry: FlowEntry,
}

#[inline(always)]
fn most_expendable<B: Bucket>(bucket: B, now: Ticks) -> Victim {
    let mut victim = Victim { score: 0, entry: FlowEntry::FREE };
    let mut i = 0;
    while i < FLOW_BUCKET_ENTRIES {
        let entry = FlowEntry(bucket.load(i));
        let score = expendability(entry, now);
        if score > victim.score {
            victim = Victim { score, entry };
        }
        i += 1;
    }
    victim
}

const SCORE_CONFIRMED: u32 = 1 << 16;
const SCORE_UNCONFIRMED: u32 = 2 << 16;
const SCORE_ENDED: u32 = 3 << 16;

/// The class of each state, two bits a state from free to ended: 0, unconfirmed (2) twice, confirmed (1) thrice, ended (3).
const CLASSES: u32 = 0b11_01_01_01_10_10_00;

/// The higher, the sooner it may go; the class first, then the age (from [`AHEAD_TICKS`] up). No branch: the verifier would follow
/// each way of each entry.
#[inline(always)]
fn expendability(e: FlowEntry, now: Ticks) -> u32 {
    let class = CLASSES >> (u32::from(e.state_number()) * 2) & 3;
    class << 16 | u32::from(now.since_with_slack(e.time()))
}

#[inline(always)]
fn is_needed<T: Tables>(t: &T, e: FlowEntry) -> bool {
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

/// Whether the flow has had a packet in this epoch. Notes nothing.
#[inline(always)]
pub fn is_seen_in_epoch<T: Tables>(t: &T, host: &Host, key: FlowKey, now: Ticks) -> bool {
    let place = place(host, key, now);
    matches!(t.epoch_word(place.word), Some(word) if place.is_marked(word))
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
const _: () = assert!(CLASSES >> (FlowState::Ended as u32 * 2) == 3);
const _: () = assert!(CLASSES >> (FlowState::Adopted as u32 * 2) & 3 == 2);
const _: () = assert!(CLASSES >> (FlowState::Established as u32 * 2) & 3 == 1);
