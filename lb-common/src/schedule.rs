//! The schedule of round_robin: owners in the order of smooth weighted turns, walked by a cursor per CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::SCHEDULE_TURNS;
use crate::slot::Owner;

/// One service's turns.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Schedule {
    /// Turns in use; 0: nobody has a turn.
    pub len: u32,
    /// Always zero.
    pub zero: u32,
    /// The turns.
    pub turns: [Owner; SCHEDULE_TURNS],
}

const _: () = assert!(size_of::<Schedule>() == 4_096);
