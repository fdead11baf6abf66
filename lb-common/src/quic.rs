//! QUIC connection IDs that name their backend: the plaintext encoding of QUIC-LB (draft-ietf-quic-load-balancers).
//!
//! ```text
//! first octet: config rotation (3 bits), length of what follows or random bits (5)
//! server ID:   1 to 15 octets
//! nonce:       4 octets or more; server ID and nonce have 19 at most
//! ```
//! Rotation 7 means that a server has no configuration: its packets are routed by their addresses, as are all that name nobody.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Octets of a connection ID besides server ID and nonce.
pub const FIRST_OCTET: u8 = 1;
/// Longest server ID, octets.
pub const SERVER_ID_MAX: usize = 15;
/// Shortest nonce, octets.
pub const NONCE_MIN: u8 = 4;
/// Longest server ID and nonce together: QUIC's connection IDs have 20 octets at most (RFC 9000, section 17.2).
pub const SERVER_ID_AND_NONCE_MAX: u8 = 19;
/// The last rotation that names a configuration; 7 is "none".
pub const ROTATION_MAX: u8 = 6;

/// The first octet's low bits say how many octets follow it; an ID whose do not is no server's.
pub const QUIC_LENGTH_IN_FIRST_OCTET: u8 = 1 << 0;

/// How connection IDs of one service are read, in one word: rotation (bits 0-7), octets of the server ID (8-15), octets of the whole
/// ID (16-23), `QUIC_*` bits (24-31). Zero: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct QuicConfig(pub u64);

impl QuicConfig {
    /// Puts one together: rotation `0..=6`, server ID `1..=15` octets, nonce at least 4, both at most 19.
    pub const fn new(rotation: u8, server_id_len: u8, nonce_len: u8, flags: u8) -> Self {
        let cid_len = FIRST_OCTET + server_id_len + nonce_len;
        Self(rotation as u64 | (server_id_len as u64) << 8 | (cid_len as u64) << 16 | (flags as u64) << 24)
    }

    /// Config rotation.
    #[inline(always)]
    pub const fn rotation(self) -> u8 {
        self.octet(0)
    }

    /// Octets of the server ID; 0: no ID names anybody.
    #[inline(always)]
    pub const fn server_id_len(self) -> u8 {
        self.octet(8)
    }

    /// Octets of the whole connection ID.
    #[inline(always)]
    pub const fn cid_len(self) -> u8 {
        self.octet(16)
    }

    /// Whether the first octet says how many follow it.
    #[inline(always)]
    pub const fn has_length(self) -> bool {
        self.octet(24) & QUIC_LENGTH_IN_FIRST_OCTET != 0
    }

    #[inline(always)]
    const fn octet(self, shift: u32) -> u8 {
        (self.0 >> shift & 0xff) as u8
    }
}

/// A server ID of a service.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(4))]
pub struct QuicServerKey {
    /// Service id.
    pub service: u16,
    /// Octets of the server ID.
    pub len: u8,
    /// Always zero.
    pub zero: u8,
    /// The server ID; zeroes behind its end.
    pub id: [u8; 16],
}

const _: () = assert!(size_of::<QuicConfig>() == 8 && size_of::<QuicServerKey>() == 20);
