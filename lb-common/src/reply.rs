//! What the kernel remembers so that replies find back: nat's backends, snat's ports, fragments' heads.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::Address;

/// The service's slot comes from the client's address alone.
pub const REPLY_SLOT_BY_SOURCE: u8 = 1 << 0;
/// The service's flows are tracked in full: a FIN or RST of the server is an event.
pub const REPLY_TRACKED: u8 = 1 << 1;
/// The service is least_conn: the end of a flow lowers its owner's load.
pub const REPLY_COUNTS_LOAD: u8 = 1 << 2;

/// The VIP is one address of a prefix: the flow's key has it ([`crate::hash::to_vip_v4`]).
pub const REPLY_PREFIX: u8 = 1 << 3;

/// nat without snat: what a packet from this backend's address:port is rewritten to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct ReplyEntry {
    /// New source address.
    pub vip: Address,
    /// New source port, wire order; 0 keeps the backend's.
    pub vip_port: [u8; 2],
    /// Service id.
    pub service: u16,
    /// Owner.
    pub owner: u16,
    /// `REPLY_*` bits.
    pub flags: u8,
    /// Always zero.
    pub zero: u8,
}

/// snat, towards the backend: the client's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct SnatForwardKey {
    /// Client's address.
    pub client: Address,
    /// The VIP: one client may talk to several addresses of a prefix from one port.
    pub vip: Address,
    /// Client's port, wire order.
    pub client_port: [u8; 2],
    /// Port it connects to, wire order.
    pub vip_port: [u8; 2],
    /// Service id.
    pub service: u16,
    /// Owner: a flow that has a new owner gets a new mapping.
    pub owner: u16,
}

/// snat, towards the backend: the source it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct SnatForwardEntry {
    /// Source port, wire order.
    pub port: [u8; 2],
    /// When it was last used, ticks; with `SNAT_ENDED` once its flow has ended.
    pub time: u16,
}

/// In [`SnatForwardEntry::time`]: both sides have closed, or one has reset. The port is free again after a pause.
pub const SNAT_ENDED: u16 = 1 << 15;

/// snat, back from the backend: the flow as the backend sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct SnatReverseKey {
    /// Backend's address.
    pub backend: Address,
    /// Our address.
    pub snat: Address,
    /// Backend's port, wire order.
    pub backend_port: [u8; 2],
    /// Our port, wire order.
    pub snat_port: [u8; 2],
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

/// snat, back from the backend: the client's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct SnatReverseEntry {
    /// Client's address: the new destination.
    pub client: Address,
    /// The VIP: the new source.
    pub vip: Address,
    /// Client's port, wire order.
    pub client_port: [u8; 2],
    /// VIP's port, wire order.
    pub vip_port: [u8; 2],
    /// Service id.
    pub service: u16,
    /// Owner.
    pub owner: u16,
    /// `REPLY_*` bits.
    pub flags: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

/// A datagram in pieces: what its fragments have in common (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct FragmentKey {
    /// Source.
    pub src: Address,
    /// Destination.
    pub dst: Address,
    /// Identification.
    pub id: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

/// Towards the backend; otherwise towards the client.
pub const FRAGMENT_FORWARD: u8 = 1 << 0;
/// `src` and `dst` replace the addresses: the datagram is routed (nat).
pub const FRAGMENT_NEW_ENDS: u8 = 1 << 1;
/// The head was none of ours, so its tails are not either.
pub const FRAGMENT_PASS: u8 = 1 << 2;
/// An echo request to a VIP: the tails go back as they came.
pub const FRAGMENT_ECHO: u8 = 1 << 3;
/// The tails are encapsulated like the head; the last four bytes of `src` are the flow's hash.
pub const FRAGMENT_IPIP: u8 = 1 << 4;
/// The same with UDP.
pub const FRAGMENT_GUE: u8 = 1 << 5;

/// Where the tails of a datagram go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct FragmentEntry {
    /// New source address, where `FRAGMENT_NEW_ENDS`.
    pub src: Address,
    /// New destination address, where `FRAGMENT_NEW_ENDS`.
    pub dst: Address,
    /// Owner.
    pub owner: u16,
    /// When the head came by, ticks.
    pub time: u16,
    /// `FRAGMENT_*` bits.
    pub flags: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

const _: () = assert!(size_of::<ReplyEntry>() == 24);
const _: () = assert!(size_of::<SnatForwardKey>() == 40 && size_of::<SnatForwardEntry>() == 4);
const _: () = assert!(size_of::<SnatReverseKey>() == 40 && size_of::<SnatReverseEntry>() == 44);
const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentEntry>() == 40);
