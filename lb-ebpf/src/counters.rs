//! [unsafe room 2] This CPU's counters: of owners, and of packets' ends.

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use lb_common::decide::{Outcome, Sent};
use lb_common::limits::MAX_OWNERS;
use lb_common::slot::{NOBODY, Owner};
use lb_common::verdict::{VERDICTS as VERDICT_COUNT, Verdict};

use crate::atomic;
use crate::maps::{COUNTERS, VERDICTS};

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

/// This CPU's record of an owner.
#[inline(always)]
fn record_of(owner: Owner) -> u32 {
    cpu() * OWNERS + u32::from(owner)
}

const OWNERS: u32 = 1 << 15;
const _: () = assert!(OWNERS as usize == MAX_OWNERS);

/// Adds a flow that had to make room for another to this CPU's counters.
#[inline(always)]
pub(crate) fn count_evicted(owner: Owner) {
    if let Some(record) = COUNTERS.get_ptr_mut(record_of(owner)) {
        // SAFETY: valid for the program run; this CPU alone writes its records.
        let evicted = unsafe { &mut (*record).evicted };
        *evicted = evicted.wrapping_add(1);
    }
}

/// Adds a packet to this CPU's counters.
#[inline(always)]
pub(crate) fn count(out: &Outcome) {
    count_verdict(out.verdict);
    if out.owner == NOBODY {
        return;
    }
    let Some(record) = COUNTERS.get_ptr_mut(record_of(out.owner)) else {
        return;
    };
    // SAFETY: valid for the program run; this CPU alone writes its records, and the program is not re-entered on one CPU.
    let record = unsafe { &mut *record };
    record.add(out);
}

/// Adds a packet that was sent on at a glance to this CPU's counters.
#[inline(always)]
pub(crate) fn count_sent(sent: &Sent) {
    count_verdict(Verdict::Forward);
    if let Some(record) = COUNTERS.get_ptr_mut(record_of(sent.owner)) {
        // SAFETY: as in `count`.
        let record = unsafe { &mut *record };
        record.add_forwarded(u64::from(sent.bytes), sent.tally);
    }
}

/// Adds an end of a packet to this CPU's counters.
#[inline(always)]
pub(crate) fn count_verdict(verdict: Verdict) {
    let Some(record) = VERDICTS.get_ptr_mut(cpu()) else {
        return;
    };
    let i = atomic::opaque(verdict as usize) & (VERDICT_COUNT - 1);
    // SAFETY: as in `count`; the index is reduced below the length.
    let counter = unsafe { addr_of_mut!((*record).packets[i]) };
    // SAFETY: the pointer above is valid and this CPU's alone.
    let n = unsafe { counter.read() };
    // SAFETY: as above.
    unsafe { counter.write(n.wrapping_add(1)) };
}

const _: () = assert!(VERDICT_COUNT.is_power_of_two());
