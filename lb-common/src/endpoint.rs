//! An address, a port and a protocol: the key of a service and of a nat backend's replies. As small as it can be, because
//! an 8-byte key hashes several times faster than a 40-byte one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

/// IPv4 endpoint; 8 bytes. Everything in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct EndpointV4 {
    /// Address.
    pub addr: [u8; 4],
    /// Port in wire order; 0 means every port.
    pub port: [u8; 2],
    /// IANA protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Zero; a prefix VIP's length in bits, where `addr` is its network address.
    pub zero: u8,
}

impl EndpointV4 {
    /// All of it, as it lies in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 2] {
        transmute!(self)
    }
}

/// IPv6 endpoint; 20 bytes. Everything in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct EndpointV6 {
    /// Address.
    pub addr: [u8; 16],
    /// Port in wire order; 0 means every port.
    pub port: [u8; 2],
    /// IANA protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Zero; a prefix VIP's length in bits, where `addr` is its network address.
    pub zero: u8,
}

impl EndpointV6 {
    /// All of it, as it lies in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 5] {
        transmute!(self)
    }
}

/// An address of either family in one shape: IPv4 as an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2). For tables
/// that are off the fast path.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn v4(a: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }

    /// Whether it is the mapped form of an IPv4 address (`::ffff:0:0/96`).
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let a = &self.0;
        let high = u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
        high == 0 && u32::from_ne_bytes([a[8], a[9], a[10], a[11]]) == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    /// The IPv4 address in the last four bytes; meaningful when the address is mapped.
    #[inline(always)]
    pub const fn as_v4(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }
}

const _: () = assert!(size_of::<EndpointV4>() == 8 && align_of::<EndpointV4>() == 4);
const _: () = assert!(size_of::<EndpointV6>() == 20 && align_of::<EndpointV6>() == 4);
const _: () = assert!(size_of::<Address>() == 16);
