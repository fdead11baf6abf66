//! Whom a service admits: access lists on every packet, rates and places on new flows alone.
//!
//! What has a limit refuses in this order: the access list (`drop_denied`), the source's rate (`drop_rate_limited`), the service's
//! budget (stateless, by the ring, counted as refused), the backends' places (`drop_backend_full`). Drops are silent: a client
//! tries again, and no RST tells it to give up.
//!
//! What a packet asks on its way goes through [`Tables`], so that the kernel's shell can put the answers into functions that the
//! verifier checks once, and not on every path that leads to them.

use super::Outcome;
use super::select::Question;
use super::work::SheetOf;
use crate::admission::{ACCESS_DENY, Refusal, SOURCE_UNIT_SHIFT, SOURCE_WINDOW, SourceEntry, WINDOW_NS, spend};
use crate::family::Family;
use crate::flow::{FlowKey, Segment};
use crate::limits::{FLOW_BUCKET_ENTRIES, PLACE_TURNS, SOURCE_BUCKETS};
use crate::slot::{NOBODY, Owner};
use crate::tables::{Bucket, Tables};
use crate::verdict::Verdict;

/// Times that a word which others change meanwhile is tried again.
const ATTEMPTS: u32 = 3;

/// A bucket for every bit pattern below it: their number is a power of two.
#[expect(clippy::cast_possible_truncation, reason = "there are some thousands of them")]
const LAST_SOURCE_BUCKET: u32 = SOURCE_BUCKETS as u32 - 1;

/// No owner: every backend has as many flows as it may have.
pub const FULL: Owner = Owner::MAX;

/// Whether the access list of the service on the sheet keeps the packet's source out; counts it then.
#[inline(never)]
pub(super) fn is_denied<F: Family, T: Tables>(t: &T, sheet: &SheetOf<F>, out: &mut Outcome) -> bool {
    let service = sheet.service.id;
    if F::access(t, service, &sheet.ip.src) != Some(ACCESS_DENY) {
        return false;
    }
    t.count_refusal(service, Refusal::Denied);
    out.verdict = Verdict::DropDenied;
    true
}

/// Writes down who asks a service that limits new flows, where this packet may open one; whether it may.
#[inline(never)]
pub(super) fn ask<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    let q = &mut sheet.question;
    if !opens(q.segment) {
        return false;
    }
    let (Some(host), Some(limits)) = (t.host(), t.limits(sheet.service.id)) else {
        return false;
    };
    q.source = F::source_key(&host.seed, &sheet.ip.src, sheet.service.id, limits);
    q.is_limited = true;
    true
}

/// Whether a packet that the table does not know opens a flow. Others are of flows that it has not met, or lost.
#[inline(always)]
pub(super) const fn opens(segment: Segment) -> bool {
    matches!(segment, Segment::Syn | Segment::Datagram)
}

/// Whether the source in question has opened too many flows; one more is noted where not.
#[inline(always)]
pub fn is_source_spent<T: Tables>(t: &T, service: u16, source: FlowKey) -> bool {
    let Some(limits) = t.limits(service) else {
        return false;
    };
    if limits.source_cost == 0 {
        return false;
    }
    let cost = u64::from(limits.source_cost);
    let index = source.bucket & LAST_SOURCE_BUCKET;
    let (now, Some(bucket)) = (t.now_ns() >> SOURCE_UNIT_SHIFT, t.source_bucket(index)) else {
        return false;
    };
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let old = nearest(bucket, source, now);
        let ahead = if old.is_of(source.tag) { old.ahead(now) } else { 0 };
        let Some(next) = spend(ahead, cost, SOURCE_WINDOW) else {
            t.count_refusal(service, Refusal::RateLimited);
            return true;
        };
        if replace(bucket, old, SourceEntry::new(source.tag, now.wrapping_add(next))) {
            return false;
        }
        attempt += 1;
    }
    // Somebody else was quicker three times: to drop an honest flow for it would be worse than to let one through.
    false
}

/// The source's own entry; else a free one; else the one that is least ahead.
#[inline(always)]
fn nearest<B: Bucket>(bucket: B, source: FlowKey, now: u64) -> SourceEntry {
    let (mut best, mut score) = (SourceEntry::default(), 0);
    let mut i = 0;
    while i < FLOW_BUCKET_ENTRIES {
        let entry = SourceEntry(bucket.load(i));
        let own = if entry.is_of(source.tag) { SOURCE_WINDOW + 2 } else { 0 };
        let this = own + SOURCE_WINDOW + 1 - entry.ahead(now);
        if this > score {
            (best, score) = (entry, this);
        }
        i += 1;
    }
    best
}

#[inline(always)]
fn replace<B: Bucket>(bucket: B, old: SourceEntry, new: SourceEntry) -> bool {
    let mut i = 0;
    while i < FLOW_BUCKET_ENTRIES {
        if bucket.load(i) == old.0 && bucket.exchange(i, old.0, new.0) {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether the service's budget of new flows is spent; one more is noted where not.
#[inline(always)]
pub fn is_budget_spent<T: Tables>(t: &T, service: u16) -> bool {
    let cost = match t.limits(service) {
        Some(limits) if limits.flow_cost_ns != 0 => u64::from(limits.flow_cost_ns),
        _ => return false,
    };
    let now = t.now_ns();
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let until = t.budget(service);
        let Some(next) = spend(until.saturating_sub(now), cost, WINDOW_NS) else {
            break;
        };
        if t.exchange_budget(service, until, now.wrapping_add(next)) {
            return false;
        }
        attempt += 1;
    }
    // Spent, or so hotly contended that it soon is: beyond the budget nobody suffers but the table's knowledge.
    t.count_refusal(service, Refusal::OverBudget);
    true
}

/// Takes a place at `first`, else at the next backend in turn that has one; `FULL` where none has.
///
/// `draw` says where the search begins: elsewhere for every flow, and for its next SYN.
#[inline(always)]
pub fn place<T: Tables>(t: &T, service: u16, first: Owner, draw: u32) -> Owner {
    if first == NOBODY || take(t, first) {
        return first;
    }
    let turns = t.turns(service);
    let mut looked = 0;
    while looked < PLACE_TURNS && looked < turns {
        // Divided anew each time: a turn that is carried over is another state for the verifier in every round.
        let owner = t.nth_turn(service, draw.wrapping_add(looked) % turns);
        if owner != first && owner != NOBODY && take(t, owner) {
            return owner;
        }
        looked += 1;
    }
    t.count_refusal(service, Refusal::BackendFull);
    FULL
}

/// The draw of a flow's packet.
#[inline(always)]
pub(super) fn draw(q: &Question) -> u32 {
    (q.what.key.bucket ^ u32::from(q.now.0)).wrapping_mul(0x9e37_79b1)
}

#[inline(always)]
fn take<T: Tables>(t: &T, owner: Owner) -> bool {
    match t.backend(owner) {
        Some(b) if b.is_alive() => {
            let most = if b.max_flows == 0 { u32::MAX } else { b.max_flows };
            t.take_place(owner, most)
        }
        _ => false,
    }
}
