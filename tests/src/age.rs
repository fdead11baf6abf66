//! What has a time, and grows older while the rigs' clock stands still.

use lb_common::admission::{SOURCE_TIME_BITS, SOURCE_UNIT_SHIFT};
use lb_common::clock::{TICK_SHIFT, TIME_BITS};
use lb_common::flow::FlowEntry;
use lb_common::reply::{FragmentEntry, SNAT_ENDED, SnatForwardEntry};

/// A flow entry, `ticks` older.
pub fn older_flow(entry: u64, ticks: u16) -> u64 {
    const SHIFT: u32 = 64 - TIME_BITS;
    if FlowEntry(entry).is_free() { 0 } else { entry.wrapping_sub(u64::from(ticks) << SHIFT) }
}

/// A mapping, `ticks` older.
pub fn older_snat(entry: SnatForwardEntry, ticks: u16) -> SnatForwardEntry {
    SnatForwardEntry { time: entry.time & SNAT_ENDED | older(entry.time, ticks), ..entry }
}

/// A datagram in pieces, `ticks` older.
pub fn older_fragment(entry: FragmentEntry, ticks: u16) -> FragmentEntry {
    FragmentEntry { time: older(entry.time, ticks), ..entry }
}

/// A service's budget, `ticks` later.
pub(crate) const fn older_budget(until: u64, ticks: u16) -> u64 {
    until.saturating_sub((ticks as u64) << TICK_SHIFT)
}

/// A source's budget, `ticks` later.
pub(crate) const fn older_source(entry: u64, ticks: u16) -> u64 {
    const TIME: u64 = (1 << SOURCE_TIME_BITS) - 1;
    let time = (entry & TIME).wrapping_sub((ticks as u64) << (TICK_SHIFT - SOURCE_UNIT_SHIFT)) & TIME;
    if entry == 0 { 0 } else { entry & !TIME | time }
}

fn older(time: u16, ticks: u16) -> u16 {
    time.wrapping_sub(ticks) & ((1 << TIME_BITS) - 1)
}
