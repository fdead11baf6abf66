//! The two address families behind one trait, so that every rule is written once and compiled for both.

use crate::admission::{AccessV4, AccessV6, Limits};
use crate::csum::{Change, fold};
use crate::decide::{Sheet, Work};
use crate::endpoint::{Address, EndpointV4, EndpointV6};
use crate::flow::FlowKey;
use crate::hash::{Seed, flow_v4, flow_v6, to_vip_v4, to_vip_v6};
use crate::packet::Packet;
use crate::parse::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Quote, ipv4, ipv6, quoted_ipv4, quoted_ipv6,
};
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

impl Family for V4 {
    type Addr = [u8; 4];
    const IS_V6: bool = false;
    const SRC_AT: usize = 12;
    const DST_AT: usize = 16;
    const ICMP: u8 = PROTOCOL_ICMP;

    #[inline(always)]
    fn sheet(work: &mut Work) -> &mut Sheet<[u8; 4]> {
        &mut work.v4
    }

    #[inline(always)]
    fn parse<P: Packet>(p: &P, l3: usize, ip: &mut Ip<[u8; 4]>) -> Option<()> {
        ipv4(p, l3, ip)
    }

    #[inline(always)]
    fn quoted<P: Packet>(p: &P, l3: usize, quote: &mut Quote<[u8; 4]>) -> Option<()> {
        quoted_ipv4(p, l3, quote)
    }

    #[inline(always)]
    fn destination<P: Packet>(p: &P, l3: usize) -> Option<[u8; 4]> {
        p.load::<4>(l3 + Self::DST_AT)
    }

    #[inline(always)]
    fn rewrite<P: Packet>(p: &mut P, ip: &Ip<[u8; 4]>, src: &[u8; 4], dst: &[u8; 4], ttl: u8) -> Option<()> {
        let checksum = p.load::<2>(ip.l3 + 10)?;
        let change =
            Self::change(&ip.src, src).and(Self::change(&ip.dst, dst)).word([ip.ttl, ip.protocol], [ttl, ip.protocol]);
        let c = change.apply(checksum);
        let (s, d) = (src, dst);
        p.store::<12>(ip.l3 + 8, [ttl, ip.protocol, c[0], c[1], s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3]])
    }

    #[inline(always)]
    fn rewrite_quoted<P: Packet>(p: &mut P, quote: &Quote<[u8; 4]>, src: &[u8; 4], dst: &[u8; 4]) -> Option<Change> {
        let addresses = Self::change(&quote.src, src).and(Self::change(&quote.dst, dst));
        let old = p.load::<2>(quote.l3 + 10)?;
        let new = addresses.apply(old);
        p.store(quote.l3 + 10, new)?;
        p.store(quote.l3 + Self::SRC_AT, *src)?;
        p.store(quote.l3 + Self::DST_AT, *dst)?;
        Some(addresses.word(old, new))
    }

    #[inline(always)]
    fn class<P: Packet>(p: &P, l3: usize) -> Option<u8> {
        p.load::<1>(l3 + 1).map(|[class]| class)
    }

    #[inline(always)]
    fn one_hop_less<P: Packet>(p: &mut P, ip: &Ip<[u8; 4]>) -> Option<()> {
        let [ttl, protocol, c, d] = p.load::<4>(ip.l3 + 8)?;
        let less = ttl.wrapping_sub(1);
        let [c, d] = Change::NONE.word([ttl, protocol], [less, protocol]).apply([c, d]);
        p.store::<4>(ip.l3 + 8, [less, protocol, c, d])
    }

    #[inline(always)]
    fn bare_quote<P: Packet>(p: &P, l3: usize) -> Option<(u8, [u8; 4], [u8; 4])> {
        let h = p.load::<20>(l3)?;
        let is_tail = u16::from_be_bytes([h[6], h[7]]) & 0x1fff != 0;
        if h[0] != 0x45 || is_tail {
            None
        } else {
            Some((h[9], [h[12], h[13], h[14], h[15]], [h[16], h[17], h[18], h[19]]))
        }
    }

    #[inline(always)]
    fn put_header<P: Packet>(
        p: &mut P,
        l3: usize,
        src: &[u8; 4],
        dst: &[u8; 4],
        len: u16,
        class_and_ttl: [u8; 2],
    ) -> Option<u64> {
        let ([class, ttl], [high, low]) = (class_and_ttl, len.to_be_bytes());
        // Identification zero is as good as any where don't-fragment is set (RFC 6864, section 4.1).
        let words = [[0x45, class, high, low], [0, 0, 0x40, 0], [ttl, PROTOCOL_ICMP, 0, 0], *src, *dst];
        let mut sum = 0;
        let mut i = 0;
        while i < words.len() {
            sum += u64::from(u32::from_ne_bytes(words[i]));
            i += 1;
        }
        let [c, d] = (!fold(sum)).to_ne_bytes();
        p.store::<12>(l3, [0x45, class, high, low, 0, 0, 0x40, 0, ttl, PROTOCOL_ICMP, c, d])?;
        p.store(l3 + Self::SRC_AT, *src)?;
        p.store(l3 + Self::DST_AT, *dst)?;
        p.store(l3 - 2, ETHERTYPE_IPV4.to_be_bytes())?;
        Some(0)
    }

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
    fn prefix_service<'a, T: Tables>(
        t: &'a T,
        addr: &[u8; 4],
        port: [u8; 2],
        protocol: u8,
        any_port: bool,
    ) -> Option<&'a ServiceEntry> {
        let key = EndpointV4 { port, protocol, ..*t.prefix_v4(addr)? };
        match t.service_v4(&key) {
            None if any_port => t.service_v4(&EndpointV4 { port: [0, 0], ..key }),
            found => found,
        }
    }

    #[inline(always)]
    fn is_in_prefix<T: Tables>(t: &T, addr: &[u8; 4]) -> bool {
        t.prefix_v4(addr).is_some()
    }

    #[inline(always)]
    fn to_vip(seed: &Seed, key: FlowKey, vip: &[u8; 4], by_source: bool) -> FlowKey {
        to_vip_v4(seed, key, *vip, by_source)
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
    fn access<T: Tables>(t: &T, service: u16, src: &[u8; 4]) -> Option<u32> {
        t.access_v4(&AccessV4 { service: u32::from(service).to_be_bytes(), addr: *src })
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    fn source_key(seed: &Seed, src: &[u8; 4], service: u16, limits: &Limits) -> FlowKey {
        let beyond = (u64::from(u32::MAX) >> (limits.prefix_v4 & 63)) as u32;
        let source = u32::from_be_bytes(*src) & !beyond;
        flow_v4(seed, source.to_be_bytes(), [0; 2], [0; 2], service, false)
    }

    #[inline(always)]
    fn is_unicast(addr: &[u8; 4]) -> bool {
        !matches!(addr[0], 0 | 127 | 224..)
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
    const ICMP: u8 = PROTOCOL_ICMPV6;

    #[inline(always)]
    fn sheet(work: &mut Work) -> &mut Sheet<[u8; 16]> {
        &mut work.v6
    }

    #[inline(always)]
    fn parse<P: Packet>(p: &P, l3: usize, ip: &mut Ip<[u8; 16]>) -> Option<()> {
        ipv6(p, l3, ip)
    }

    #[inline(always)]
    fn quoted<P: Packet>(p: &P, l3: usize, quote: &mut Quote<[u8; 16]>) -> Option<()> {
        quoted_ipv6(p, l3, quote)
    }

    #[inline(always)]
    fn destination<P: Packet>(p: &P, l3: usize) -> Option<[u8; 16]> {
        p.load::<16>(l3 + Self::DST_AT)
    }

    #[inline(always)]
    fn rewrite<P: Packet>(p: &mut P, ip: &Ip<[u8; 16]>, src: &[u8; 16], dst: &[u8; 16], ttl: u8) -> Option<()> {
        p.store(ip.l3 + 7, [ttl])?;
        p.store(ip.l3 + Self::SRC_AT, *src)?;
        p.store(ip.l3 + Self::DST_AT, *dst)
    }

    #[inline(always)]
    fn rewrite_quoted<P: Packet>(p: &mut P, quote: &Quote<[u8; 16]>, src: &[u8; 16], dst: &[u8; 16]) -> Option<Change> {
        p.store(quote.l3 + Self::SRC_AT, *src)?;
        p.store(quote.l3 + Self::DST_AT, *dst)?;
        Some(Self::change(&quote.src, src).and(Self::change(&quote.dst, dst)))
    }

    #[inline(always)]
    fn class<P: Packet>(p: &P, l3: usize) -> Option<u8> {
        p.load::<2>(l3).map(|[a, b]| a << 4 | b >> 4)
    }

    #[inline(always)]
    fn one_hop_less<P: Packet>(p: &mut P, ip: &Ip<[u8; 16]>) -> Option<()> {
        p.store(ip.l3 + 7, [ip.ttl.wrapping_sub(1)])
    }

    #[inline(always)]
    fn bare_quote<P: Packet>(p: &P, l3: usize) -> Option<(u8, [u8; 16], [u8; 16])> {
        let h = p.load::<8>(l3)?;
        if h[0] >> 4 != 6 {
            return None;
        }
        Some((h[6], p.load::<16>(l3 + Self::SRC_AT)?, p.load::<16>(l3 + Self::DST_AT)?))
    }

    #[inline(always)]
    fn put_header<P: Packet>(
        p: &mut P,
        l3: usize,
        src: &[u8; 16],
        dst: &[u8; 16],
        len: u16,
        class_and_ttl: [u8; 2],
    ) -> Option<u64> {
        let ([class, ttl], carried) = (class_and_ttl, len.checked_sub(40)?);
        let [high, low] = carried.to_be_bytes();
        p.store::<8>(l3, [0x60 | class >> 4, class << 4, 0, 0, high, low, PROTOCOL_ICMPV6, ttl])?;
        p.store(l3 + Self::SRC_AT, *src)?;
        p.store(l3 + Self::DST_AT, *dst)?;
        p.store(l3 - 2, ETHERTYPE_IPV6.to_be_bytes())?;
        // The pseudo-header (RFC 8200, section 8.1): a change from all ones is a sum.
        let rest = u64::from(u32::from_ne_bytes([0, 0, high, low]))
            + u64::from(u32::from_ne_bytes([0, 0, 0, PROTOCOL_ICMPV6]));
        let addresses = Self::change(&[0xff; 16], src).and(Self::change(&[0xff; 16], dst));
        Some(rest + u64::from(addresses.to_kernel()))
    }

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
    fn prefix_service<'a, T: Tables>(
        t: &'a T,
        addr: &[u8; 16],
        port: [u8; 2],
        protocol: u8,
        any_port: bool,
    ) -> Option<&'a ServiceEntry> {
        let key = EndpointV6 { port, protocol, ..*t.prefix_v6(addr)? };
        match t.service_v6(&key) {
            None if any_port => t.service_v6(&EndpointV6 { port: [0, 0], ..key }),
            found => found,
        }
    }

    #[inline(always)]
    fn is_in_prefix<T: Tables>(t: &T, addr: &[u8; 16]) -> bool {
        t.prefix_v6(addr).is_some()
    }

    #[inline(always)]
    fn to_vip(seed: &Seed, key: FlowKey, vip: &[u8; 16], by_source: bool) -> FlowKey {
        to_vip_v6(seed, key, vip, by_source)
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
    fn access<T: Tables>(t: &T, service: u16, src: &[u8; 16]) -> Option<u32> {
        t.access_v6(&AccessV6 { service: u32::from(service).to_be_bytes(), addr: *src })
    }

    #[inline(always)]
    fn source_key(seed: &Seed, src: &[u8; 16], service: u16, limits: &Limits) -> FlowKey {
        let bits = u32::from(limits.prefix_v6);
        let [upper, lower] = halves(src);
        let upper = upper & leading(bits.min(64));
        let lower = lower & leading(bits.saturating_sub(64).min(64));
        flow_v6(seed, &joined(upper, lower), [0; 2], [0; 2], service, false)
    }

    #[inline(always)]
    fn is_unicast(addr: &[u8; 16]) -> bool {
        // Word by word: an array to compare with would lie on the stack, of which BPF has little.
        let word = |at: usize| u32::from_be_bytes([addr[at], addr[at + 1], addr[at + 2], addr[at + 3]]);
        addr[0] != 0xff && (word(0) | word(4) | word(8) != 0 || word(12) > 1)
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

#[inline(always)]
const fn halves(a: &[u8; 16]) -> [u64; 2] {
    [
        u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]),
        u64::from_be_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]),
    ]
}

#[inline(always)]
const fn joined(upper: u64, lower: u64) -> [u8; 16] {
    let (u, l) = (upper.to_be_bytes(), lower.to_be_bytes());
    [u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]]
}

/// The first `bits` of 64.
#[inline(always)]
const fn leading(bits: u32) -> u64 {
    if bits == 0 { 0 } else { u64::MAX << ((64 - bits) & 63) }
}

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
