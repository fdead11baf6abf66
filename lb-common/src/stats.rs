//! Counters: one record per CPU and owner, one per CPU and verdict. Written by one CPU each, so without atomics; the agent
//! reads them as mapped memory and adds them up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::decide::Outcome;
use crate::verdict::{VERDICTS, Verdict};

/// What one CPU has seen of one owner, since load. Two cache lines; plain packets touch the first only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct OwnerCounters {
    /// Packets forwarded to the backend.
    pub packets: u64,
    /// Bytes of those, from the IP header on.
    pub bytes: u64,
    /// Segments with PSH, or datagrams: the nearest thing to requests that L4 sees.
    pub messages: u64,
    /// Packets of the backend sent on to clients (nat).
    pub reply_packets: u64,
    /// Bytes of those, from the IP header on.
    pub reply_bytes: u64,
    /// Flows entered into the table.
    pub opened: u64,
    /// Flows whose client answered (second packet).
    pub confirmed: u64,
    /// Flows ended by both FINs.
    pub closed: u64,
    /// Flows ended by an RST.
    pub reset: u64,
    /// Flows for which the table had no room.
    pub refused: u64,
    /// Flows pushed out of the table by others.
    pub evicted: u64,
    /// Flows ended by silence; written by the agent, on CPU 0's record.
    pub expired: u64,
    /// DSR flows closed by the client's FIN and the silence after it; written by the agent, on CPU 0's record.
    pub lingered: u64,
    /// Room to grow; zero.
    pub reserved: [u64; 3],
}

/// How packets ended, by one CPU's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct VerdictCounters {
    /// Indexed by [`crate::verdict::Verdict`].
    pub packets: [u64; VERDICTS],
}

/// Things that happened to the flow table on behalf of one packet: added to its owner's record together with the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub u8);

impl Tally {
    /// A flow was entered.
    pub const OPENED: u8 = 1 << 0;
    /// A flow was confirmed.
    pub const CONFIRMED: u8 = 1 << 1;
    /// A flow ended by both FINs.
    pub const CLOSED: u8 = 1 << 2;
    /// A flow ended by an RST.
    pub const RESET: u8 = 1 << 3;
    /// There was no room.
    pub const REFUSED: u8 = 1 << 4;
    /// The packet is a message.
    pub const MESSAGE: u8 = 1 << 5;
    /// Another flow was pushed out for it; counted with that one's owner.
    pub const EVICTED: u8 = 1 << 6;
    /// The flow's entry has another owner now; told of, not counted.
    pub const MOVED: u8 = 1 << 7;

    /// Notes one more thing.
    #[inline(always)]
    pub const fn add(&mut self, what: u8) {
        self.0 |= what;
    }

    /// Whether it happened.
    #[inline(always)]
    pub const fn has(self, what: u8) -> bool {
        self.0 & what != 0
    }

    /// Whether anything beyond plain forwarding happened.
    #[inline(always)]
    pub const fn has_flow_event(self) -> bool {
        self.0 & !Self::MESSAGE != 0
    }
}

impl OwnerCounters {
    /// Adds what became of one packet of this owner's.
    #[inline(always)]
    pub fn add(&mut self, out: &Outcome) {
        match out.verdict {
            Verdict::Forward => self.add_forwarded(u64::from(out.bytes), out.tally),
            Verdict::Reply => self.add_reply(u64::from(out.bytes), out.tally),
            _ if out.tally.has_flow_event() => self.add_flow_events(out.tally),
            _ => {}
        }
    }

    /// Adds one forwarded packet of `bytes`.
    #[inline(always)]
    pub fn add_forwarded(&mut self, bytes: u64, tally: Tally) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
        self.messages = self.messages.wrapping_add(u64::from(tally.has(Tally::MESSAGE)));
        if tally.has_flow_event() {
            self.add_flow_events(tally);
        }
    }

    /// Adds one reply of `bytes`.
    #[inline(always)]
    pub fn add_reply(&mut self, bytes: u64, tally: Tally) {
        self.reply_packets = self.reply_packets.wrapping_add(1);
        self.reply_bytes = self.reply_bytes.wrapping_add(bytes);
        if tally.has_flow_event() {
            self.add_flow_events(tally);
        }
    }

    #[inline(always)]
    fn add_flow_events(&mut self, tally: Tally) {
        self.opened = self.opened.wrapping_add(u64::from(tally.has(Tally::OPENED)));
        self.confirmed = self.confirmed.wrapping_add(u64::from(tally.has(Tally::CONFIRMED)));
        self.closed = self.closed.wrapping_add(u64::from(tally.has(Tally::CLOSED)));
        self.reset = self.reset.wrapping_add(u64::from(tally.has(Tally::RESET)));
        self.refused = self.refused.wrapping_add(u64::from(tally.has(Tally::REFUSED)));
    }
}

const _: () = assert!(size_of::<OwnerCounters>() == 128 && align_of::<OwnerCounters>() == 8);
const _: () = assert!(core::mem::offset_of!(OwnerCounters, refused) == 72);
