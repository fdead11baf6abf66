//! IPv4 (RFC 791).

use super::{Family, V4};
use crate::admission::{AccessV4, Limits};
use crate::csum::{Change, fold};
use crate::decide::{Sheet, Work};
use crate::endpoint::{Address, EndpointV4};
use crate::flow::FlowKey;
use crate::hash::{Seed, flow_v4, to_vip_v4};
use crate::packet::Packet;
use crate::parse::{ETHERTYPE_IPV4, Ip, PROTOCOL_ICMP, Quote, ipv4, quoted_ipv4};
use crate::reply::ReplyEntry;
use crate::service::ServiceEntry;
use crate::tables::Tables;

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
