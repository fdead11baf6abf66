//! What an operator watches packets by, what there is to tell of one, and whether it is wanted. The flow table knows no tuples;
//! this does, for as long as somebody looks.
//!
//! A *tap* is one operator's question. The agent writes taps, the packet path reads them while `HOST_TRACE` is set, and tells of
//! a packet in one record for all taps that want it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::decide::Outcome;
use crate::endpoint::Address;
use crate::slot::{NOBODY, Owner};
use crate::stats::Tally;
use crate::verdict::{Fate, Verdict};

/// Operators that can look at the same time. Each costs every packet that is looked at a comparison.
pub const TAPS: usize = 4;

/// Most bytes kept of a packet: a jumbo frame with its tags.
pub const MAX_SNAPLEN: usize = 9_216;

/// Bytes of records that the agent has not read yet, at most: some 1,000 full-size packets, or 20,000 events.
pub const RING_BYTES: usize = 2 << 20;

/// In [`Tap::service`] and [`Sight::service`]: none in particular.
pub const ANY_SERVICE: u16 = u16::MAX;

/// A flow was entered into the table.
pub const EVENT_OPENED: u16 = Tally::OPENED as u16;
/// The client answered (its second packet).
pub const EVENT_CONFIRMED: u16 = Tally::CONFIRMED as u16;
/// The flow ended by both FINs.
pub const EVENT_CLOSED: u16 = Tally::CLOSED as u16;
/// The flow ended by an RST.
pub const EVENT_RESET: u16 = Tally::RESET as u16;
/// The table had no room for it.
pub const EVENT_REFUSED: u16 = Tally::REFUSED as u16;
/// It was entered in the place of another flow.
pub const EVENT_EVICTED: u16 = Tally::EVICTED as u16;
/// Its entry has another owner now.
pub const EVENT_MOVED: u16 = Tally::MOVED as u16;
/// The packet was dropped; the verdict says why.
pub const EVENT_DROPPED: u16 = 1 << 8;
/// One of the sampled packets.
pub const EVENT_PACKET: u16 = 1 << 9;

/// Events and their names, in the order in which a flow lives.
pub const EVENTS: [(u16, &str); 9] = [
    (EVENT_OPENED, "opened"),
    (EVENT_EVICTED, "evicted"),
    (EVENT_CONFIRMED, "confirmed"),
    (EVENT_MOVED, "moved"),
    (EVENT_REFUSED, "refused"),
    (EVENT_CLOSED, "closed"),
    (EVENT_RESET, "reset"),
    (EVENT_DROPPED, "dropped"),
    (EVENT_PACKET, "packet"),
];

/// Somebody looks through it.
pub const TAP_ON: u16 = 1 << 0;
/// It wants packets as they came.
pub const TAP_BEFORE: u16 = 1 << 1;
/// It wants packets as they leave.
pub const TAP_AFTER: u16 = 1 << 2;

/// What one operator looks for; 64 bytes. Written by the agent in words of 64 bits, the last one last, and the last one first
/// when it goes; `lost` is the packet path's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Tap {
    /// Bit n: verdict number n.
    pub verdicts: u64,
    /// Records for which the ring had no room, since the tap was opened.
    pub lost: u64,
    /// Network of the clients, wire order, IPv4 mapped.
    pub client: [u32; 4],
    /// Its mask, wire order.
    pub client_mask: [u32; 4],
    /// Bytes kept of a packet, at most [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Only this service, or [`ANY_SERVICE`].
    pub service: u16,
    /// Only this owner, or `NOBODY`: any.
    pub owner: Owner,
    /// `EVENT_*` bits.
    pub events: u16,
    /// `TAP_*` bits.
    pub flags: u16,
    /// Every how many packets of a CPU one is told of as [`EVENT_PACKET`]; 0: none.
    pub sample: u32,
}

/// All taps: one value of [`crate::maps::TAPS`].
pub type Taps = [Tap; TAPS];

/// A record: what happened. Packet bytes follow where `kind` says so.
pub const KIND_EVENT: u8 = 1;
/// A record: the packet as it came.
pub const KIND_BEFORE: u8 = 2;
/// A record: the packet as it leaves.
pub const KIND_AFTER: u8 = 3;

/// Bits of [`Tap::records`]: what happened.
pub const RECORD_EVENT: usize = 0;
/// The packet as it came.
pub const RECORD_BEFORE: usize = 1;
/// The packet as it leaves.
pub const RECORD_AFTER: usize = 2;

/// The packet came from a backend.
pub const SIGHT_REPLY: u16 = 1 << 0;
/// The TC program saw it.
pub const SIGHT_TC: u16 = 1 << 1;

/// What there is to tell of a packet: the head of every record, 80 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Sight {
    /// When, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The client; where the packet is nobody's, its source.
    pub client: Address,
    /// The VIP; where the packet is nobody's, its destination.
    pub vip: Address,
    /// Client's port, wire order; 0 where it is not known.
    pub client_port: [u8; 2],
    /// VIP's port, wire order; 0 where it is not known.
    pub vip_port: [u8; 2],
    /// `EVENT_*` bits.
    pub events: u16,
    /// Service id, or [`ANY_SERVICE`]: no service's.
    pub service: u16,
    /// Owner, or `NOBODY`.
    pub owner: Owner,
    /// `SIGHT_*` bits.
    pub flags: u16,
    /// IANA protocol number; 0 where it could not be read.
    pub protocol: u8,
    /// Number of the verdict.
    pub verdict: u8,
    /// `KIND_*`.
    pub kind: u8,
    /// Bit n: tap n wants the record.
    pub taps: u8,
    /// Interface it came in by.
    pub arrival: u32,
    /// Interface it leaves by; 0: by none.
    pub departure: u32,
    /// Length of the IP packet as it came, bytes.
    pub bytes: u32,
    /// Length of the frame, bytes.
    pub frame_len: u32,
    /// Bytes of it that follow.
    pub captured: u32,
    /// Always zero.
    pub zero: u32,
}

/// What happened to the packet's flow, and to the packet.
#[inline(always)]
pub const fn events(out: &Outcome) -> u16 {
    let flow = (out.tally.0 & !Tally::MESSAGE) as u16;
    if matches!(out.verdict.fate(), Fate::Drop) { flow | EVENT_DROPPED } else { flow }
}

impl Tap {
    /// A tap through which all of ours is seen: every service and client, no event.
    pub const OPEN: Self = Self {
        verdicts: VERDICTS_OF_OURS,
        lost: 0,
        client: [0; 4],
        client_mask: [0; 4],
        snaplen: 0,
        service: ANY_SERVICE,
        owner: NOBODY,
        events: 0,
        flags: TAP_ON,
        sample: 0,
    };

    /// Whether somebody looks.
    #[inline(always)]
    pub const fn is_on(&self) -> bool {
        self.flags & TAP_ON != 0
    }

    /// Whether it wants packets themselves.
    #[inline(always)]
    pub const fn captures(&self) -> bool {
        self.flags & (TAP_BEFORE | TAP_AFTER) != 0
    }

    /// Whether the packet is one that is looked for; which of its events, `events` says.
    #[inline(always)]
    pub const fn matches(&self, sight: &Sight) -> bool {
        if !self.is_on() || self.verdicts >> (sight.verdict & 63) & 1 == 0 {
            return false;
        }
        if self.service != ANY_SERVICE && self.service != sight.service {
            return false;
        }
        if self.owner != NOBODY && self.owner != sight.owner {
            return false;
        }
        let c = words(&sight.client);
        let (net, mask) = (&self.client, &self.client_mask);
        // One comparison for all four words: the verifier would follow each.
        (c[0] & mask[0] ^ net[0]) | (c[1] & mask[1] ^ net[1]) | (c[2] & mask[2] ^ net[2]) | (c[3] & mask[3] ^ net[3])
            == 0
    }

    /// Which records a packet that matches is worth: `1 << RECORD_*`. `nth`: how many packets of this tap the CPU has met since it
    /// last told of one as a sample, this one included. What XDP leaves to the TC program is told of there, but for what it did
    /// to the flow table.
    #[inline(always)]
    pub const fn records(&self, sight: &Sight, nth: u32) -> u8 {
        let bit = sight.verdict & 63;
        let is_final = PASSED_ON >> bit & 1 == 0;
        let event = sight.events & self.events != 0 || is_final && self.is_sample(nth);
        let before = is_final && self.flags & TAP_BEFORE != 0;
        let after = SENT >> bit & 1 != 0 && self.flags & TAP_AFTER != 0;
        (event as u8) << RECORD_EVENT | (before as u8) << RECORD_BEFORE | (after as u8) << RECORD_AFTER
    }

    /// Whether the packet is told of because it is its turn.
    #[inline(always)]
    pub const fn is_sample(&self, nth: u32) -> bool {
        self.sample != 0 && nth >= self.sample
    }
}

/// An address as four words in wire order.
#[inline(always)]
pub const fn words(a: &Address) -> [u32; 4] {
    let b = &a.0;
    [
        u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
        u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
        u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
    ]
}

/// Verdicts of packets that another program sees next.
const PASSED_ON: u64 = 1 << Verdict::PassToTc as u8;

/// Verdicts of packets that leave.
const SENT: u64 = of_fate(Fate::Send);

/// Verdicts of packets that are not ours.
const STRANGERS: u64 = of_fate(Fate::Pass) & !PASSED_ON;

/// Every end of a packet of ours: what a tap sees that asks for none in particular.
pub const VERDICTS_OF_OURS: u64 = !STRANGERS;

const fn of_fate(fate: Fate) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < Verdict::ALL.len() {
        if Verdict::ALL[i].fate() as u8 == fate as u8 {
            bits |= 1 << i;
        }
        i += 1;
    }
    bits
}

const _: () = assert!(size_of::<Tap>() == 64 && core::mem::offset_of!(Tap, flags) / 8 == 7);
const _: () = assert!(size_of::<Sight>() == 80);
const _: () = assert!(crate::verdict::VERDICTS == 64, "a tap has a bit for every verdict");

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Sight {
            client: Address::v4([192, 0, 2, 7]),
            service: 3,
            owner: 5,
            verdict: Verdict::Forward as u8,
            events: EVENT_OPENED,
            ..Sight::default()
        }
    }

    #[test]
    fn a_tap_that_is_off_wants_nothing() {
        assert!(!Tap::default().matches(&sight()));
        assert!(!Tap { flags: TAP_BEFORE, ..Tap::OPEN }.matches(&sight()));
        assert!(Tap::OPEN.matches(&sight()));
    }

    #[test]
    fn service_owner_and_verdict_must_all_fit() {
        assert!(Tap { service: 3, owner: 5, verdicts: 1 << Verdict::Forward as u8, ..Tap::OPEN }.matches(&sight()));
        assert!(!Tap { service: 4, ..Tap::OPEN }.matches(&sight()));
        assert!(!Tap { owner: 6, ..Tap::OPEN }.matches(&sight()));
        assert!(!Tap { verdicts: !(1 << Verdict::Forward as u8), ..Tap::OPEN }.matches(&sight()));
        assert!(!Tap { service: 3, ..Tap::OPEN }.matches(&Sight { service: ANY_SERVICE, ..sight() }));
    }

    #[test]
    fn clients_are_compared_as_far_as_the_mask_reaches() {
        let net = |a: [u8; 4], mask: [u8; 16]| Tap {
            client: words(&Address::v4(a)),
            client_mask: words(&Address(mask)),
            ..Tap::OPEN
        };
        let mut mask = [0xff; 16];
        assert!(net([192, 0, 2, 7], mask).matches(&sight()));
        assert!(!net([192, 0, 2, 8], mask).matches(&sight()));
        mask[15] = 0;
        assert!(net([192, 0, 2, 0], mask).matches(&sight()));
        assert!(!net([192, 0, 3, 0], mask).matches(&sight()));
        let v6 = Sight { client: Address([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]), ..sight() };
        assert!(!net([192, 0, 2, 0], mask).matches(&v6));
    }

    #[test]
    fn events_are_those_asked_for_and_every_nth_packet() {
        let tap = Tap { events: EVENT_CLOSED | EVENT_OPENED, sample: 10, ..Tap::OPEN };
        let event = 1 << RECORD_EVENT;
        assert_eq!(tap.records(&sight(), 9), event);
        assert_eq!(tap.records(&Sight { events: EVENT_RESET, ..sight() }, 9), 0);
        assert_eq!(tap.records(&Sight { events: EVENT_RESET, ..sight() }, 10), event);
        assert_eq!(Tap { sample: 0, ..tap }.records(&Sight { events: 0, ..sight() }, 10), 0);
    }

    #[test]
    fn a_packet_is_kept_as_it_came_and_as_it_leaves_if_it_does() {
        let tap = Tap { flags: TAP_ON | TAP_BEFORE | TAP_AFTER, ..Tap::OPEN };
        let (before, after) = (1 << RECORD_BEFORE, 1 << RECORD_AFTER);
        let ended = |verdict: Verdict| Sight { verdict: verdict as u8, ..sight() };
        assert_eq!(tap.records(&ended(Verdict::Forward), 1), before | after);
        assert_eq!(tap.records(&ended(Verdict::DropTtl), 1), before);
        assert_eq!(Tap { flags: TAP_ON | TAP_AFTER, ..tap }.records(&ended(Verdict::DropTtl), 1), 0);
        assert_eq!(tap.records(&ended(Verdict::PassToTc), 1), 0, "the TC program keeps it");
        let told = Tap { events: EVENT_OPENED, sample: 1, ..tap };
        assert_eq!(told.records(&ended(Verdict::PassToTc), 1), 1 << RECORD_EVENT, "which does not enter flows");
    }

    #[test]
    fn what_is_not_ours_is_seen_only_by_who_asks_for_it() {
        let stranger = Sight { verdict: Verdict::PassNotOurs as u8, ..sight() };
        assert!(!Tap::OPEN.matches(&stranger));
        assert!(Tap { verdicts: 1 << Verdict::PassNotOurs as u8, ..Tap::OPEN }.matches(&stranger));
        assert!(Tap::OPEN.matches(&Sight { verdict: Verdict::PassToTc as u8, ..sight() }));
    }

    #[test]
    fn every_event_has_a_name_and_a_bit_of_its_own() {
        let all = EVENTS.iter().fold(0, |seen, (bit, _)| {
            assert_eq!(seen & bit, 0);
            seen | bit
        });
        assert_eq!(all.count_ones() as usize, EVENTS.len());
        assert_eq!(all & u16::from(Tally::MESSAGE), 0);
    }
}
