//! The flow table: buckets of eight 64-bit entries, one cache line each, two candidate buckets a flow.
//!
//! An entry holds a tag (half of the flow's keyed hash), the owner, the state and a coarse time. Every change, by the kernel
//! or by the agent, is one 64-bit compare-exchange. A false match (2^-32 an entry) lets a new flow join a neighbour's owner,
//! which is consistent: it stays there.

use crate::clock::Ticks;
use crate::limits::FLOW_BUCKET_ENTRIES;
use crate::slot::Owner;

/// What the table believes of a flow. Zero is no state: an entry of all zeroes is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// The client's SYN has been seen, nothing else of it since.
    HalfOpen = 1,
    /// Met in mid-stream, or a UDP flow of one datagram: routed and kept like a live one, not counted as active yet.
    Adopted = 2,
    /// Confirmed by a second packet of the client.
    Established = 3,
    /// The client has sent FIN.
    FinClient = 4,
    /// The server has sent FIN (nat: we see its half).
    FinServer = 5,
    /// Both have, or somebody has sent RST. Kept for a while so that its last segments find their owner.
    Ended = 6,
}

/// One entry: tag (bits 0-31), owner (32-46), state (47-49), time (50-63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowEntry(pub u64);

/// Eight entries: one cache line.
pub type FlowBucket = [u64; FLOW_BUCKET_ENTRIES];

const OWNER_SHIFT: u32 = 32;
const STATE_SHIFT: u32 = 47;
const TIME_SHIFT: u32 = 50;

impl FlowEntry {
    /// A free place.
    pub const FREE: Self = Self(0);

    /// Puts an entry together.
    #[inline(always)]
    pub const fn new(tag: u32, owner: Owner, state: FlowState, now: Ticks) -> Self {
        Self(
            tag as u64
                | (owner as u64 & 0x7fff) << OWNER_SHIFT
                | (state as u64) << STATE_SHIFT
                | (now.0 as u64) << TIME_SHIFT,
        )
    }

    /// Whether nothing lives here.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 == 0
    }

    /// Half of the flow's hash.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub const fn tag(self) -> u32 {
        self.0 as u32
    }

    /// The flow's owner.
    #[inline(always)]
    pub const fn owner(self) -> Owner {
        (self.0 >> OWNER_SHIFT & 0x7fff) as Owner
    }

    /// The state's number; 0 where the place is free.
    #[inline(always)]
    pub const fn state_number(self) -> u8 {
        (self.0 >> STATE_SHIFT & 7) as u8
    }

    /// The state; `None` where the place is free.
    #[inline(always)]
    pub const fn state(self) -> Option<FlowState> {
        match self.state_number() {
            1 => Some(FlowState::HalfOpen),
            2 => Some(FlowState::Adopted),
            3 => Some(FlowState::Established),
            4 => Some(FlowState::FinClient),
            5 => Some(FlowState::FinServer),
            6 => Some(FlowState::Ended),
            _ => None,
        }
    }

    /// Whether the flow is over.
    #[inline(always)]
    pub const fn is_ended(self) -> bool {
        self.state_number() == FlowState::Ended as u8
    }

    /// Whether only one packet of it has been seen.
    #[inline(always)]
    pub const fn is_unconfirmed(self) -> bool {
        self.state_number() <= FlowState::Adopted as u8
    }

    /// When it was last refreshed.
    #[inline(always)]
    pub const fn time(self) -> Ticks {
        Ticks((self.0 >> TIME_SHIFT) as u16)
    }
}

/// Where a flow may lie, and what it is recognised by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// First candidate bucket, before masking.
    pub bucket: u32,
    /// Recognises the flow in its bucket, and picks its ring slot.
    pub tag: u32,
}

impl FlowKey {
    /// First candidate bucket.
    #[inline(always)]
    pub const fn first(self, mask: u32) -> u32 {
        self.bucket & mask
    }

    /// Second candidate bucket: found from the first and the tag (partial-key cuckoo hashing, Fan et al., CoNEXT 2014).
    #[inline(always)]
    pub const fn second(self, mask: u32) -> u32 {
        (self.bucket ^ (self.tag.wrapping_mul(0x9e37_79b1) >> 7 | 1)) & mask
    }
}

/// What a client's packet says about its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segment {
    /// TCP SYN without ACK.
    Syn,
    /// TCP FIN.
    Fin,
    /// TCP RST.
    Rst,
    /// Any other TCP segment.
    #[default]
    Data,
    /// A UDP datagram.
    Datagram,
}

impl Segment {
    /// Reads TCP's flag byte (RFC 9293, section 3.1).
    #[inline(always)]
    pub const fn of_tcp(flags: u8) -> Self {
        if flags & 0x04 != 0 {
            Self::Rst
        } else if flags & 0x12 == 0x02 {
            Self::Syn
        } else if flags & 0x01 != 0 {
            Self::Fin
        } else {
            Self::Data
        }
    }

    /// Whether it touches the flow table even where the ring alone routes.
    #[inline(always)]
    pub const fn is_event(self) -> bool {
        matches!(self, Self::Syn | Self::Fin | Self::Rst)
    }
}

/// Whether a SYN on this entry opens a new flow rather than repeating an old one's. `server_seen`: nat, where we see the
/// server's half; elsewhere a client that has sent FIN and now sends SYN has closed.
#[inline(always)]
pub const fn syn_opens_anew(state: FlowState, server_seen: bool) -> bool {
    match state {
        FlowState::Ended => true,
        FlowState::FinClient => !server_seen,
        _ => false,
    }
}

/// The state after one more packet of the client. RST and FIN never revive; an ended flow stays ended.
#[inline(always)]
pub const fn after_client(state: FlowState, segment: Segment) -> FlowState {
    match (state, segment) {
        (FlowState::Ended, _) | (_, Segment::Rst) | (FlowState::FinServer, Segment::Fin) => FlowState::Ended,
        (_, Segment::Fin) => FlowState::FinClient,
        (FlowState::HalfOpen | FlowState::Adopted, Segment::Data | Segment::Datagram) => FlowState::Established,
        (s, _) => s,
    }
}

/// The state after a FIN or RST of the server (nat).
#[inline(always)]
pub const fn after_server(state: FlowState, rst: bool) -> FlowState {
    match state {
        FlowState::Ended | FlowState::FinClient => FlowState::Ended,
        _ if rst => FlowState::Ended,
        _ => FlowState::FinServer,
    }
}

/// The state a flow is inserted with.
#[inline(always)]
pub const fn first_state(segment: Segment) -> FlowState {
    match segment {
        Segment::Syn => FlowState::HalfOpen,
        Segment::Fin => FlowState::FinClient,
        Segment::Rst => FlowState::Ended,
        Segment::Data | Segment::Datagram => FlowState::Adopted,
    }
}

const _: () = assert!(size_of::<FlowBucket>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_back_what_was_put_in() {
        let e = FlowEntry::new(0xdead_beef, 32_767, FlowState::FinServer, Ticks(16_383));
        assert_eq!(
            (e.tag(), e.owner(), e.state(), e.time()),
            (0xdead_beef, 32_767, Some(FlowState::FinServer), Ticks(16_383))
        );
        assert!(!FlowEntry::new(0, 1, FlowState::HalfOpen, Ticks(0)).is_free());
    }

    #[test]
    fn both_fins_end_a_flow_in_either_order() {
        assert_eq!(after_server(after_client(FlowState::Established, Segment::Fin), false), FlowState::Ended);
        assert_eq!(after_client(after_server(FlowState::Established, false), Segment::Fin), FlowState::Ended);
    }

    #[test]
    fn an_ended_flow_is_not_revived_by_its_last_acknowledgement() {
        assert_eq!(after_client(FlowState::Ended, Segment::Data), FlowState::Ended);
        assert!(syn_opens_anew(FlowState::Ended, true));
    }

    #[test]
    fn a_syn_to_a_half_closed_nat_flow_keeps_its_owner() {
        assert!(!syn_opens_anew(FlowState::FinClient, true));
        assert!(syn_opens_anew(FlowState::FinClient, false));
    }

    #[test]
    fn the_second_bucket_differs_from_the_first_and_finds_back() {
        for n in 0..1_000_u32 {
            let k = FlowKey { bucket: n.wrapping_mul(0x85eb_ca6b), tag: n.wrapping_mul(0xc2b2_ae35) };
            let (a, b) = (k.first(0xff), k.second(0xff));
            assert_ne!(a, b);
            assert_eq!(FlowKey { bucket: b, tag: k.tag }.second(0xff), a);
        }
    }
}
