//! Chooses a flow's owner: the slot rules and the flow table's events.

use super::limits::{FULL, opens};
use super::policy::{is_alive, newcomer, untracked};
use crate::clock::Ticks;
use crate::flow::{FlowEntry, FlowKey, FlowState, Segment, after_client, first_state, syn_opens_anew};
use crate::host::Host;
use crate::service::{FORWARD_NAT, SERVICE_CAPPED, SERVICE_LIMITED, ServiceEntry, TRACKING_FULL, TRACKING_NONE};
use crate::slot::{NOBODY, Owner, Slot, slot_of};
use crate::stats::Tally;
use crate::table::{
    Found, Inserted, Lookup, find, forget_in_epoch, insert, is_first_in_epoch, is_fresh, push_out, update,
};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Whose the flow is, and what that did to the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The owner; `NOBODY` where the pool is empty.
    pub(super) owner: Owner,
    /// What happened to the flow.
    pub(super) tally: Tally,
    /// Why the flow may not begin, where it may not.
    pub(super) refused: Option<Verdict>,
}

impl Choice {
    #[inline(always)]
    pub(super) const fn plain(owner: Owner) -> Self {
        Self::new(owner, Tally(0))
    }

    #[inline(always)]
    const fn new(owner: Owner, tally: Tally) -> Self {
        Self { owner, tally, refused: None }
    }

    #[inline(always)]
    const fn refused(verdict: Verdict) -> Self {
        Self { owner: NOBODY, tally: Tally(0), refused: Some(verdict) }
    }
}

/// One packet's question to the flow table.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what a packet asks for, no state machine")]
pub(super) struct Question {
    /// The flow.
    pub(super) what: Lookup,
    /// What the packet says about it.
    pub(super) segment: Segment,
    /// Its slot, as it was when the question was put.
    pub(super) slot: Slot,
    pub(super) now: Ticks,
    pub(super) epoch_shift: u32,
    pub(super) select: u8,
    pub(super) is_nat: bool,
    /// The packet itself names its owner (QUIC): no ring and no table says otherwise. `NOBODY`: it does not.
    pub(super) named: Owner,
    /// Where the table knows the flow, the ring is not asked.
    pub(super) table_first: bool,
    /// The service counts its owners' flows.
    pub(super) counts_load: bool,
    /// Backends of the service have a most number of flows.
    pub(super) is_capped: bool,
    /// The service limits new flows, and this packet may open one.
    pub(super) is_limited: bool,
    /// Whose budget that is charged to, where it is limited.
    pub(super) source: FlowKey,
    /// Whether the answer may change the table.
    pub(super) keeps_books: bool,
}

/// The owner of the flow that a client's packet belongs to; `None` where the flow table must be asked, and then what to ask is in
/// `question`. Rule 1 of the slots: settled, the ring routes, and the table is touched by events alone.
#[inline(always)]
pub(super) fn choose<T: Tables>(
    t: &T,
    host: &Host,
    service: &ServiceEntry,
    key: FlowKey,
    (segment, keeps_books): (Segment, bool),
    question: &mut Question,
) -> Option<Owner> {
    let Some(slot) = t.slot(service.id, slot_of(key.tag, service.slot_by_source())) else {
        return Some(NOBODY);
    };
    if service.tracking == TRACKING_NONE {
        return Some(slot.current());
    }
    let now = t.now();
    let table_first = service.owner_is_in_table();
    if !table_first && !slot.in_transition() {
        let quiet = service.tracking != TRACKING_FULL
            || !keeps_books
            || !(segment.is_event() || is_first_in_epoch(t, host, key, now) || is_limited_datagram(service, segment));
        if quiet {
            return Some(slot.current());
        }
    }
    *question = Question {
        what: lookup(host, service, key),
        segment,
        slot,
        now,
        epoch_shift: host.epoch_shift,
        select: service.select,
        is_nat: service.forward == FORWARD_NAT,
        named: NOBODY,
        table_first,
        counts_load: service.counts_load(),
        is_capped: service.flags & SERVICE_CAPPED != 0,
        is_limited: false,
        source: FlowKey { bucket: 0, tag: 0 },
        keeps_books,
    };
    None
}

/// The owner of a flow that an ICMP error speaks of. Changes nothing.
#[inline(always)]
pub(super) fn owner_of_quoted<T: Tables>(
    t: &T,
    host: &Host,
    service: &ServiceEntry,
    key: FlowKey,
    question: &mut Question,
) -> Owner {
    let Some(slot) = t.slot(service.id, slot_of(key.tag, service.slot_by_source())) else {
        return NOBODY;
    };
    if service.tracking == TRACKING_NONE || (!service.asks_table_first() && !slot.in_transition()) {
        return slot.current();
    }
    question.what = lookup(host, service, key);
    match find(t, &question.what) {
        Some(found) if is_alive(t, found.entry.owner()) => found.entry.owner(),
        _ => untracked(t, slot),
    }
}

#[inline(always)]
pub(super) const fn lookup(host: &Host, service: &ServiceEntry, key: FlowKey) -> Lookup {
    Lookup { key, mask: host.flow_mask, service: service.id, idle_ticks: service.idle_ticks }
}

/// The owner of the flow in question, and what its packet changes.
#[inline(never)]
pub(super) fn by_table<T: Tables>(t: &T, q: &Question) -> Choice {
    match find(t, &q.what) {
        Some(found) => known(t, q, &found),
        None => unknown(t, q),
    }
}

/// A flow that the table knows: rule 1 corrects a settled slot's entry to the ring; rule 2 follows the entry while it lives.
#[inline(always)]
fn known<T: Tables>(t: &T, q: &Question, found: &Found<T::Bucket>) -> Choice {
    let entry = found.entry;
    let old = entry.state().unwrap_or(FlowState::Ended);
    if !q.keeps_books {
        return Choice::plain(if ring_routes(q) { q.slot.current() } else { entry.owner() });
    }
    if matches!(q.segment, Segment::Syn) && syn_opens_anew(old, q.is_nat) {
        if q.is_limited && t.is_source_spent(q.what.service, q.source) {
            return Choice::refused(Verdict::DropRateLimited);
        }
        return rewrite(t, q, found, newcomer(t, q));
    }
    let mut owner = entry.owner();
    if q.named != NOBODY {
        owner = q.named;
    } else if ring_routes(q) {
        owner = q.slot.current();
    } else if !is_alive(t, owner) {
        let heir = newcomer(t, q);
        if heir != owner {
            let mut choice = rewrite(t, q, found, heir);
            if choice.tally.has(Tally::OPENED) {
                choice.tally.add(Tally::MOVED);
            }
            return choice;
        }
    }
    let state = after_client(old, q.segment);
    let mut tally = Tally(0);
    if is_left_alone(q, entry, owner, state) {
        return Choice::new(owner, tally);
    }
    if !update(found, FlowEntry::new(q.what.key.tag, owner, state, q.now)) {
        return Choice::new(owner, tally);
    }
    if owner != entry.owner() {
        tally.add(Tally::MOVED);
    }
    let ends = matches!(state, FlowState::Ended) && !matches!(old, FlowState::Ended);
    if ends {
        tally.add(if matches!(q.segment, Segment::Rst) { Tally::RESET } else { Tally::CLOSED });
    } else if entry.is_unconfirmed() && !matches!(state, FlowState::HalfOpen | FlowState::Adopted) {
        tally.add(Tally::CONFIRMED);
    }
    move_load(t, q, entry, if matches!(state, FlowState::Ended) { NOBODY } else { owner });
    if is_lingering(q, state) {
        let _done = forget(t, q);
    }
    Choice::new(owner, tally)
}

/// Nothing worth a write: the state is what it was and the time is of this epoch, or the flow is over.
#[inline(always)]
fn is_left_alone(q: &Question, entry: FlowEntry, owner: Owner, state: FlowState) -> bool {
    if entry.is_ended() && entry.owner() == owner {
        return true;
    }
    // A half-open flow ends after a few seconds and an epoch may last minutes: every repeated SYN counts.
    if is_lingering(q, state) || matches!(state, FlowState::HalfOpen) {
        return is_fresh(entry, owner, state, q.now, 0);
    }
    is_fresh(entry, owner, state, q.now, q.epoch_shift)
}

/// DSR after the client's FIN: the flow ends by a short silence, so every packet must be seen.
#[inline(always)]
const fn is_lingering(q: &Question, state: FlowState) -> bool {
    matches!(state, FlowState::FinClient) && !q.is_nat
}

/// A flow that the table does not know.
#[inline(always)]
fn unknown<T: Tables>(t: &T, q: &Question) -> Choice {
    let stateless = if q.named == NOBODY { untracked(t, q.slot) } else { q.named };
    if !q.keeps_books {
        return Choice::plain(stateless);
    }
    if q.is_limited && q.named == NOBODY {
        if t.is_source_spent(q.what.service, q.source) {
            return Choice::refused(Verdict::DropRateLimited);
        }
        if t.is_budget_spent(q.what.service) {
            // A flow that nobody counts would take a place that is another's.
            return if q.is_capped { Choice::refused(Verdict::DropRateLimited) } else { untold(stateless) };
        }
    }
    let owner = if q.named == NOBODY { newcomer(t, q) } else { q.named };
    if owner == FULL {
        return Choice::refused(Verdict::DropBackendFull);
    }
    // The last words of a flow that is over, or was never entered: where the ring routes they need no entry, and an entry
    // would count a flow that nobody will end.
    let last_words = matches!(q.segment, Segment::Rst) || (ring_routes(q) && matches!(q.segment, Segment::Fin));
    if owner == NOBODY || last_words {
        return Choice::plain(owner);
    }
    let mut tally = Tally(0);
    let entry = FlowEntry::new(q.what.key.tag, owner, first_state(q.segment), q.now);
    let mut inserted = insert(t, &q.what, entry);
    if matches!(inserted, Inserted::Full) {
        inserted = push_out(t, &q.what, entry);
    }
    match inserted {
        Inserted::Yes => {}
        Inserted::Evicted(victim) => {
            tally.add(Tally::EVICTED);
            t.count_evicted(victim);
            t.add_load(victim, -1);
        }
        Inserted::Full | Inserted::Refused => {
            if has_place(q) {
                t.add_load(owner, -1);
            }
            return untold(stateless);
        }
    }
    tally.add(Tally::OPENED);
    opened(t, q, owner);
    Choice::new(owner, tally)
}

/// A flow that is not entered goes where its later packets will.
#[inline(always)]
const fn untold(stateless: Owner) -> Choice {
    Choice::new(stateless, Tally(Tally::REFUSED))
}

/// A datagram whose flow's budget must be asked for if it is new: another flow's flag in the epoch bitmap must not hide it.
#[inline(always)]
const fn is_limited_datagram(service: &ServiceEntry, segment: Segment) -> bool {
    service.flags & SERVICE_LIMITED != 0 && matches!(segment, Segment::Datagram)
}

/// Gives an entry to a new flow, or to its flow's new owner.
#[inline(always)]
fn rewrite<T: Tables>(t: &T, q: &Question, found: &Found<T::Bucket>, owner: Owner) -> Choice {
    let mut tally = Tally(0);
    if owner == NOBODY {
        return Choice::new(owner, tally);
    }
    if owner == FULL {
        return Choice::refused(Verdict::DropBackendFull);
    }
    if update(found, FlowEntry::new(q.what.key.tag, owner, first_state(q.segment), q.now)) {
        if !found.entry.is_ended() {
            move_load(t, q, found.entry, NOBODY);
        }
        tally.add(Tally::OPENED);
        opened(t, q, owner);
    } else if has_place(q) {
        t.add_load(owner, -1);
    }
    Choice::new(owner, tally)
}

/// The next packet of the client confirms the flow, so it must be an event.
#[inline(always)]
fn opened<T: Tables>(t: &T, q: &Question, owner: Owner) {
    let _done = forget(t, q);
    if q.counts_load && !has_place(q) {
        t.add_load(owner, 1);
    }
}

/// The flow's place was taken when its owner was chosen.
#[inline(always)]
const fn has_place(q: &Question) -> bool {
    q.is_capped && q.named == NOBODY && opens(q.segment)
}

/// An entry's flow has gone from its owner to `to`.
#[inline(always)]
fn move_load<T: Tables>(t: &T, q: &Question, entry: FlowEntry, to: Owner) {
    if !q.counts_load || entry.owner() == to || entry.is_ended() {
        return;
    }
    t.add_load(entry.owner(), -1);
    if to != NOBODY {
        t.add_load(to, 1);
    }
}

/// Makes the flow's next packet an event. (What a BPF call returns must be a number, not whatever the register held.)
#[inline(never)]
fn forget<T: Tables>(t: &T, q: &Question) -> bool {
    let Some(host) = t.host() else {
        return false;
    };
    forget_in_epoch(t, host, q.what.key, q.now);
    true
}

/// Rule 1: a settled slot of a ring policy routes, whatever the table says.
#[inline(always)]
const fn ring_routes(q: &Question) -> bool {
    !q.table_first && !q.slot.in_transition()
}
