//! The two address families behind one trait, so that every rule is written once and compiled for both.

use crate::csum::Change;
use crate::endpoint::{Address, EndpointV4, EndpointV6};
use crate::flow::FlowKey;
use crate::hash::{Seed, flow_v4, flow_v6};
use crate::reply::ReplyEntry;
use crate::service::ServiceEntry;
use crate::tables::Tables;

/// IPv4 or IPv6.
pub trait Family {
    /// An address in wire order.
    type Addr: Copy + PartialEq;
    /// Whether this is IPv6.
    const IS_V6: bool;
    /// Offset of the source address in the IP header.
    const SRC_AT: usize;
    /// Offset of the destination address in the IP header.
    const DST_AT: usize;

    /// In the shape of the slow tables.
    fn to_address(addr: &Self::Addr) -> Address;
    /// From the shape of the slow tables.
    fn from_address(addr: &Address) -> Self::Addr;
    /// Service lookup.
    fn service<'a, T: Tables>(t: &'a T, addr: &Self::Addr, port: [u8; 2], protocol: u8) -> Option<&'a ServiceEntry>;
    /// nat reply lookup.
    fn reply<'a, T: Tables>(t: &'a T, addr: &Self::Addr, port: [u8; 2], protocol: u8) -> Option<&'a ReplyEntry>;
    /// Flow key.
    fn flow_key(
        seed: &Seed,
        client: &Self::Addr,
        client_port: [u8; 2],
        vip_port: [u8; 2],
        service: u16,
        by_source: bool,
    ) -> FlowKey;
    /// What replacing an address does to a checksum that covers it.
    fn change(old: &Self::Addr, new: &Self::Addr) -> Change;
    /// Whether both addresses lie in one network of this prefix length.
    fn same_link(a: &Self::Addr, b: &Self::Addr, prefix: u8) -> bool;
}

/// IPv4 (RFC 791).
pub struct V4;
/// IPv6 (RFC 8200).
pub struct V6;

impl Family for V4 {
    type Addr = [u8; 4];
    const IS_V6: bool = false;
    const SRC_AT: usize = 12;
    const DST_AT: usize = 16;

    #[inline(always)]
    fn to_address(addr: &[u8; 4]) -> Address {
        Address::v4(*addr)
    }

    #[inline(always)]
    fn from_address(addr: &Address) -> [u8; 4] {
        addr.as_v4()
    }

    #[inline(always)]
    fn service<'a, T: Tables>(t: &'a T, addr: &[u8; 4], port: [u8; 2], protocol: u8) -> Option<&'a ServiceEntry> {
        t.service_v4(&EndpointV4 { addr: *addr, port, protocol, zero: 0 })
    }

    #[inline(always)]
    fn reply<'a, T: Tables>(t: &'a T, addr: &[u8; 4], port: [u8; 2], protocol: u8) -> Option<&'a ReplyEntry> {
        t.reply_v4(&EndpointV4 { addr: *addr, port, protocol, zero: 0 })
    }

    #[inline(always)]
    fn flow_key(
        seed: &Seed,
        client: &[u8; 4],
        client_port: [u8; 2],
        vip_port: [u8; 2],
        service: u16,
        by_source: bool,
    ) -> FlowKey {
        flow_v4(seed, *client, client_port, vip_port, service, by_source)
    }

    #[inline(always)]
    fn change(old: &[u8; 4], new: &[u8; 4]) -> Change {
        Change::NONE.four(*old, *new)
    }

    #[inline(always)]
    fn same_link(a: &[u8; 4], b: &[u8; 4], prefix: u8) -> bool {
        let differ = u32::from_be_bytes(*a) ^ u32::from_be_bytes(*b);
        prefix != 0 && u64::from(differ) >> (32 - u32::from(prefix & 63).min(32)) == 0
    }
}

impl Family for V6 {
    type Addr = [u8; 16];
    const IS_V6: bool = true;
    const SRC_AT: usize = 8;
    const DST_AT: usize = 24;

    #[inline(always)]
    fn to_address(addr: &[u8; 16]) -> Address {
        Address(*addr)
    }

    #[inline(always)]
    fn from_address(addr: &Address) -> [u8; 16] {
        addr.0
    }

    #[inline(always)]
    fn service<'a, T: Tables>(t: &'a T, addr: &[u8; 16], port: [u8; 2], protocol: u8) -> Option<&'a ServiceEntry> {
        t.service_v6(&EndpointV6 { addr: *addr, port, protocol, zero: 0 })
    }

    #[inline(always)]
    fn reply<'a, T: Tables>(t: &'a T, addr: &[u8; 16], port: [u8; 2], protocol: u8) -> Option<&'a ReplyEntry> {
        t.reply_v6(&EndpointV6 { addr: *addr, port, protocol, zero: 0 })
    }

    #[inline(always)]
    fn flow_key(
        seed: &Seed,
        client: &[u8; 16],
        client_port: [u8; 2],
        vip_port: [u8; 2],
        service: u16,
        by_source: bool,
    ) -> FlowKey {
        flow_v6(seed, client, client_port, vip_port, service, by_source)
    }

    #[inline(always)]
    fn change(old: &[u8; 16], new: &[u8; 16]) -> Change {
        Change::NONE.sixteen(old, new)
    }

    #[inline(always)]
    fn same_link(a: &[u8; 16], b: &[u8; 16], prefix: u8) -> bool {
        let half = |x: &[u8; 16], at: usize| {
            u64::from_be_bytes([x[at], x[at + 1], x[at + 2], x[at + 3], x[at + 4], x[at + 5], x[at + 6], x[at + 7]])
        };
        let bits = u32::from(prefix);
        let upper = half(a, 0) ^ half(b, 0);
        if bits <= 64 {
            return bits != 0 && upper >> (64 - bits).min(63) == 0;
        }
        upper == 0 && (half(a, 8) ^ half(b, 8)) >> (128 - bits.min(128)).min(63) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_link_compares_the_prefix_alone() {
        assert!(V4::same_link(&[10, 0, 0, 1], &[10, 0, 0, 254], 24));
        assert!(!V4::same_link(&[10, 0, 0, 1], &[10, 0, 1, 1], 24));
        assert!(V4::same_link(&[10, 0, 0, 1], &[10, 0, 0, 1], 32));
        assert!(!V4::same_link(&[10, 0, 0, 1], &[10, 0, 0, 1], 0), "no prefix: not on a link");
        let (mut a, mut b) = ([0x20; 16], [0x20; 16]);
        a[15] = 1;
        b[15] = 2;
        assert!(V6::same_link(&a, &b, 64));
        assert!(V6::same_link(&a, &b, 120));
        assert!(!V6::same_link(&a, &b, 128));
        b[3] = 9;
        assert!(!V6::same_link(&a, &b, 64));
    }
}
