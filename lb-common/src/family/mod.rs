//! The two address families behind one trait, so that every rule is written once and compiled for both.

mod v4;
mod v6;

use crate::admission::Limits;
use crate::csum::Change;
use crate::decide::{Sheet, Work};
use crate::endpoint::Address;
use crate::flow::FlowKey;
use crate::hash::Seed;
use crate::packet::Packet;
use crate::parse::{Ip, Quote};
use crate::reply::ReplyEntry;
use crate::service::ServiceEntry;
use crate::tables::Tables;

/// IPv4 or IPv6.
pub trait Family {
    /// An address in wire order.
    type Addr: Copy + PartialEq + Default;
    /// Whether this is IPv6.
    const IS_V6: bool;
    /// Offset of the source address in the IP header.
    const SRC_AT: usize;
    /// Offset of the destination address in the IP header.
    const DST_AT: usize;

    /// ICMP's protocol number.
    const ICMP: u8;

    /// This family's part of the working memory.
    fn sheet(work: &mut Work) -> &mut Sheet<Self::Addr>;
    /// Reads the IP header at `l3`.
    fn parse<P: Packet>(p: &P, l3: usize, ip: &mut Ip<Self::Addr>) -> Option<()>;
    /// Reads the packet that an ICMP error quotes at `l3`.
    fn quoted<P: Packet>(p: &P, l3: usize, quote: &mut Quote<Self::Addr>) -> Option<()>;
    /// Reads the destination address of the IP header at `l3`, however broken the rest may be.
    fn destination<P: Packet>(p: &P, l3: usize) -> Option<Self::Addr>;
    /// Writes new addresses and a new TTL into the IP header and sets its checksum right, where it has one.
    fn rewrite<P: Packet>(p: &mut P, ip: &Ip<Self::Addr>, src: &Self::Addr, dst: &Self::Addr, ttl: u8) -> Option<()>;
    /// Writes new addresses into a quoted IP header. What that does to the sum of the quote's bytes.
    fn rewrite_quoted<P: Packet>(
        p: &mut P,
        quote: &Quote<Self::Addr>,
        src: &Self::Addr,
        dst: &Self::Addr,
    ) -> Option<Change>;
    /// DSCP and ECN of the IP header at `l3`, as one byte.
    fn class<P: Packet>(p: &P, l3: usize) -> Option<u8>;
    /// Takes one from the TTL and sets the header's checksum right, where it has one.
    fn one_hop_less<P: Packet>(p: &mut P, ip: &Ip<Self::Addr>) -> Option<()>;
    /// Protocol, source and destination of a quoted IP header without options or extensions, of a packet that is no later piece.
    fn bare_quote<P: Packet>(p: &P, l3: usize) -> Option<(u8, Self::Addr, Self::Addr)>;
    /// Writes an IP header around ICMP for a packet of `len` bytes, of this class and TTL. What the ICMP checksum covers of it.
    fn put_header<P: Packet>(
        p: &mut P,
        l3: usize,
        src: &Self::Addr,
        dst: &Self::Addr,
        len: u16,
        class_and_ttl: [u8; 2],
    ) -> Option<u64>;
    /// In the shape of the slow tables.
    fn to_address(addr: &Self::Addr) -> Address;
    /// From the shape of the slow tables.
    fn from_address(addr: &Address) -> Self::Addr;
    /// Service lookup.
    fn service<'a, T: Tables>(t: &'a T, addr: &Self::Addr, port: [u8; 2], protocol: u8) -> Option<&'a ServiceEntry>;
    /// The same by the longest prefix VIP that holds the address: first the port, then, where `any_port`, every port.
    fn prefix_service<'a, T: Tables>(
        t: &'a T,
        addr: &Self::Addr,
        port: [u8; 2],
        protocol: u8,
        any_port: bool,
    ) -> Option<&'a ServiceEntry>;
    /// Whether some prefix VIP holds the address.
    fn is_in_prefix<T: Tables>(t: &T, addr: &Self::Addr) -> bool;
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
    /// What a service's access list says of a source; `None`: nothing.
    fn access<T: Tables>(t: &T, service: u16, src: &Self::Addr) -> Option<u32>;
    /// Key of the budget that new flows from an address are charged to.
    fn source_key(seed: &Seed, src: &Self::Addr, service: u16, limits: &Limits) -> FlowKey;
    /// Whether one host alone can have the address: neither a group's nor everybody's nor nobody's nor loopback (RFC 1122,
    /// section 3.2.1.3; RFC 4291, section 2.4).
    fn is_unicast(addr: &Self::Addr) -> bool;
    /// Key of a flow to one address of a prefix VIP, from the key that does not say which.
    fn to_vip(seed: &Seed, key: FlowKey, vip: &Self::Addr, by_source: bool) -> FlowKey;
    /// What replacing an address does to a checksum that covers it.
    fn change(old: &Self::Addr, new: &Self::Addr) -> Change;
    /// Whether both addresses lie in one network of this prefix length.
    fn same_link(a: &Self::Addr, b: &Self::Addr, prefix: u8) -> bool;
}

/// IPv4 (RFC 791).
pub struct V4;
/// IPv6 (RFC 8200).
pub struct V6;

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = [1, 2, 3, 5];

    #[test]
    fn addresses_of_one_prefix_are_one_source() {
        let limits = |v4, v6| Limits::per_second(1, 1, v4, v6);
        let v4 = |addr: [u8; 4], bits| V4::source_key(&SEED, &addr, 7, &limits(bits, 0));
        assert_eq!(v4([10, 0, 0, 1], 24), v4([10, 0, 0, 254], 24));
        assert_ne!(v4([10, 0, 0, 1], 24), v4([10, 0, 1, 1], 24));
        assert_ne!(v4([10, 0, 0, 1], 32), v4([10, 0, 0, 2], 32));
        let v6 = |at: usize, bits| {
            let mut addr = [0x20; 16];
            addr[at] = 0xff;
            V6::source_key(&SEED, &addr, 7, &limits(0, bits))
        };
        assert_eq!(v6(8, 64), v6(15, 64));
        assert_ne!(v6(7, 64), v6(15, 64));
        assert_ne!(v6(8, 72), v6(15, 72));
        assert_ne!(v6(14, 128), v6(15, 128));
        assert_ne!(V4::source_key(&SEED, &[10, 0, 0, 1], 8, &limits(24, 0)), v4([10, 0, 0, 1], 24));
    }

    #[test]
    fn unicast_is_what_one_host_alone_can_have() {
        for (addr, is) in [([192, 0, 2, 7], true), ([0, 0, 0, 0], false), ([127, 0, 0, 1], false)] {
            assert_eq!(V4::is_unicast(&addr), is, "{addr:?}");
        }
        for addr in [[224, 0, 0, 251], [255; 4]] {
            assert!(!V4::is_unicast(&addr), "{addr:?}");
        }
        let mut addr = [0; 16];
        assert!(!V6::is_unicast(&addr), "::");
        addr[15] = 1;
        assert!(!V6::is_unicast(&addr), "::1");
        addr[0] = 0x20;
        assert!(V6::is_unicast(&addr), "2000::1");
        addr[0] = 0xff;
        assert!(!V6::is_unicast(&addr), "ff00::1");
    }

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
