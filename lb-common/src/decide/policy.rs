//! Whom a flow goes to that the table does not know, or knows with an owner that is gone: the ring's owner, or the policy's.

use super::limits;
use super::select::Question;
use crate::flow::Segment;
use crate::limits::RING_SIZE;
use crate::service::{SELECT_LEAST_CONN, SELECT_ROUND_ROBIN};
use crate::slot::{NOBODY, Owner, Slot, slot_of};
use crate::tables::Tables;

/// Slots that least_conn looks at for a second candidate that differs from the first.
const LEAST_CONN_DRAWS: u32 = 3;

/// As `ServiceEntry::owner_is_in_table`, but for places.
#[inline(always)]
const fn owner_is_in_table(q: &Question) -> bool {
    q.select >= SELECT_ROUND_ROBIN
}

/// The owner of a flow that is entered now.
#[inline(always)]
pub(super) fn newcomer<T: Tables>(t: &T, q: &Question) -> Owner {
    match q.segment {
        Segment::Syn | Segment::Datagram if q.is_capped => t.place(q.what.service, by_policy(t, q), limits::draw(q)),
        Segment::Syn | Segment::Datagram if owner_is_in_table(q) => by_policy(t, q),
        Segment::Syn => q.slot.current(),
        Segment::Datagram | Segment::Data | Segment::Fin | Segment::Rst => untracked(t, q.slot),
    }
}

/// Rule 2: where flows are that the table does not know, while that owner lives.
#[inline(always)]
pub(super) fn untracked<T: Tables>(t: &T, slot: Slot) -> Owner {
    let owner = slot.untracked();
    if is_alive(t, owner) { owner } else { slot.current() }
}

/// round_robin takes the next turn, least_conn the less loaded of two, the others the ring's owner; that one too where the
/// policy's is gone.
#[inline(always)]
fn by_policy<T: Tables>(t: &T, q: &Question) -> Owner {
    let owner = match q.select {
        SELECT_LEAST_CONN => less_loaded(t, q),
        SELECT_ROUND_ROBIN => t.turn(q.what.service),
        _ => q.slot.current(),
    };
    if is_alive(t, owner) { owner } else { q.slot.current() }
}

/// Two choices, load per weight (Mitzenmacher, IEEE TPDS 12(10), 2001). The ring is weighted, so the draws are too.
#[inline(always)]
fn less_loaded<T: Tables>(t: &T, q: &Question) -> Owner {
    let first = q.slot.current();
    let mut second = first;
    let mut draw = 0;
    while draw < LEAST_CONN_DRAWS {
        let mixed = (q.what.key.bucket ^ u32::from(q.now.0)).wrapping_add(draw).wrapping_mul(0x9e37_79b1);
        if let Some(slot) = t.slot(q.what.service, slot_of(mixed, false))
            && second == first
        {
            second = slot.current();
        }
        draw += 1;
    }
    if second == first {
        return first;
    }
    match (t.backend(first), t.backend(second)) {
        (Some(a), Some(b)) => {
            let heavier = load_per(t, first, b.weight) > load_per(t, second, a.weight);
            if (heavier || !a.is_alive()) && b.is_alive() { second } else { first }
        }
        _ => first,
    }
}

/// Load times the other's weight: dividing would cost more and say less. Bounded, so that nothing overflows.
#[inline(always)]
fn load_per<T: Tables>(t: &T, owner: Owner, weight: u16) -> u64 {
    t.load(owner).min(u64::from(u32::MAX)).wrapping_mul(u64::from(weight))
}

#[inline(never)]
pub(super) fn is_alive<T: Tables>(t: &T, owner: Owner) -> bool {
    owner != NOBODY && matches!(t.backend(owner), Some(b) if b.is_alive())
}

const _: () = assert!(RING_SIZE > LEAST_CONN_DRAWS as usize);
