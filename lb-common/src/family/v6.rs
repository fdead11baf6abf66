//! IPv6 (RFC 8200).

use super::{Family, V6};
use crate::admission::{AccessV6, Limits};
use crate::csum::Change;
use crate::decide::{Sheet, Work};
use crate::endpoint::{Address, EndpointV6};
use crate::flow::FlowKey;
use crate::hash::{Seed, flow_v6, to_vip_v6};
use crate::packet::Packet;
use crate::parse::{ETHERTYPE_IPV6, Ip, PROTOCOL_ICMPV6, Quote, ipv6, quoted_ipv6};
use crate::reply::ReplyEntry;
use crate::service::ServiceEntry;
use crate::tables::Tables;

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
