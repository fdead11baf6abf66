//! What the kernel knows of a service.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `nat`: rewrite the destination to the backend; replies come back through us.
pub const FORWARD_NAT: u8 = 0;
/// `l2dsr`: rewrite the MAC alone; the backend holds the VIP and replies directly.
pub const FORWARD_L2DSR: u8 = 1;
/// `ipip`: an outer IP header in front (RFC 2003, RFC 2473); the backend holds the VIP and replies directly.
pub const FORWARD_IPIP: u8 = 2;
/// `gue`: the same with a UDP header between (draft-ietf-intarea-gue, variant 1).
pub const FORWARD_GUE: u8 = 3;

/// `maglev`: the ring's owner.
pub const SELECT_MAGLEV: u8 = 0;
/// `source_hash`: the ring's owner, the slot chosen by the client's address alone.
pub const SELECT_SOURCE_HASH: u8 = 1;
/// `round_robin`: the next turn of the schedule.
pub const SELECT_ROUND_ROBIN: u8 = 2;
/// `least_conn`: the less loaded, per weight, of two owners drawn from the ring.
pub const SELECT_LEAST_CONN: u8 = 3;

/// `full`: every flow is in the table from its first packet to its end.
pub const TRACKING_FULL: u8 = 0;
/// `minimal`: the table is used in transitions only.
pub const TRACKING_MINIMAL: u8 = 1;
/// `none`: the hash alone.
pub const TRACKING_NONE: u8 = 2;

/// Every nat flow of the service gets one of our source addresses.
pub const SERVICE_SNAT: u8 = 1 << 0;
/// Some live flow may not be in the table (`full`): one was refused, or tracking has begun, within the last idle timeout. The
/// agent's note to its successor; the packet path does not read it.
pub const SERVICE_UNTRACKED: u8 = 1 << 1;
/// The VIP is a prefix: which of its addresses a client talks to is part of the flow.
pub const SERVICE_PREFIX: u8 = 1 << 4;
/// QUIC: connection IDs name their backend ([`crate::quic`]).
pub const SERVICE_QUIC: u8 = 1 << 5;
/// Packets of this service always take the full path: whoever adds a question that the fast one does not ask sets it.
pub const SERVICE_SLOW: u8 = 1 << 7;

/// One service as the packet path sees it. Times are in ticks ([`crate::clock`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceEntry {
    /// Index of the ring, the schedule and the cursor: `0..MAX_SERVICES`.
    pub id: u16,
    /// `FORWARD_*`.
    pub forward: u8,
    /// `SELECT_*`.
    pub select: u8,
    /// `TRACKING_*`.
    pub tracking: u8,
    /// `SERVICE_*` bits.
    pub flags: u8,
    /// A half-open flow older than this may be evicted, ticks.
    pub syn_ticks: u16,
    /// A confirmed flow silent for longer than this may be evicted, ticks.
    pub idle_ticks: u16,
    /// A DSR flow whose client has sent FIN ends after this silence, ticks.
    pub fin_ticks: u16,
    /// First source port that `snat` may use, host order.
    pub snat_port_first: u16,
    /// Number of source ports that `snat` may use; 0 where there is none.
    pub snat_port_count: u16,
}

impl ServiceEntry {
    /// Whether the owner of a new flow need not be the ring's, so that every packet looks its flow up.
    #[inline(always)]
    pub const fn owner_is_in_table(&self) -> bool {
        self.select >= SELECT_ROUND_ROBIN
    }

    /// Whether packets are encapsulated.
    #[inline(always)]
    pub const fn encapsulates(&self) -> bool {
        self.forward >= FORWARD_IPIP
    }

    /// Whether a packet that names no owner itself looks its flow up before the ring is asked: as above, and QUIC's under `full`,
    /// whose flows are where their connection IDs say, wherever the ring would have them.
    #[inline(always)]
    pub const fn asks_table_first(&self) -> bool {
        self.owner_is_in_table() || (self.flags & SERVICE_QUIC != 0 && self.tracking == TRACKING_FULL)
    }

    /// Whether the ring alone names the slot by the client's address.
    #[inline(always)]
    pub const fn slot_by_source(&self) -> bool {
        self.select == SELECT_SOURCE_HASH
    }
}

const _: () = assert!(size_of::<ServiceEntry>() == 16 && align_of::<ServiceEntry>() == 2);
