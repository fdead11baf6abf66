//! What has a time, and grows older while the rigs' clock stands still.

use lb_common::clock::TIME_BITS;
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

fn older(time: u16, ticks: u16) -> u16 {
    time.wrapping_sub(ticks) & ((1 << TIME_BITS) - 1)
}
