//! Answers about limits as global functions: the verifier checks each once, by itself, and not on every path that asks.
//!
//! Numbers go in and come out, nothing else: of what a global function returns the verifier knows nothing.

use lb_common::decide::limits;
use lb_common::flow::FlowKey;
use lb_common::slot::Owner;

use crate::tables::Maps;

/// The maps, for questions that do not ask the routing table.
const MAPS: Maps = Maps { ctx: core::ptr::null_mut(), check_mtu: false, hand: () };

/// `limits::is_source_spent`.
// SAFETY: no other symbol is called so.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_is_source_spent(service: u32, bucket: u32, tag: u32) -> u32 {
    u32::from(limits::is_source_spent(&MAPS, id(service), FlowKey { bucket, tag }))
}

/// `limits::is_budget_spent`.
// SAFETY: no other symbol is called so.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_is_budget_spent(service: u32) -> u32 {
    u32::from(limits::is_budget_spent(&MAPS, id(service)))
}

/// `limits::place`.
// SAFETY: no other symbol is called so.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_place(service: u32, first: u32, draw: u32) -> u32 {
    u32::from(limits::place(&MAPS, id(service), id(first), draw))
}

/// Service ids and owners have 16 bits; the verifier does not know.
#[expect(clippy::cast_possible_truncation, reason = "callers widen 16 bits")]
#[inline(always)]
const fn id(number: u32) -> u16 {
    number as u16
}

#[inline(always)]
pub(crate) fn is_source_spent(service: u16, source: FlowKey) -> bool {
    weir_is_source_spent(u32::from(service), source.bucket, source.tag) != 0
}

#[inline(always)]
pub(crate) fn is_budget_spent(service: u16) -> bool {
    weir_is_budget_spent(u32::from(service)) != 0
}

#[inline(always)]
pub(crate) fn place(service: u16, first: Owner, draw: u32) -> Owner {
    id(weir_place(u32::from(service), u32::from(first), draw))
}
