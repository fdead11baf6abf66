//! Edits of a packet that keep every checksum right.

use super::work::{Sheet, SheetOf};
use crate::csum::Change;
use crate::family::Family;
use crate::packet::Packet;
use crate::parse::{Ip, PROTOCOL_UDP, Transport};

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: usize = 6;

/// Addresses and ports that a packet gets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends<A> {
    /// Source.
    pub(super) src: A,
    /// Destination.
    pub(super) dst: A,
    /// Source port, wire order.
    pub(super) src_port: [u8; 2],
    /// Destination port, wire order.
    pub(super) dst_port: [u8; 2],
}

/// Gives a TCP or UDP packet new ends, and one hop less to live. `None`: it ends before its checksum.
#[inline(always)]
pub(super) fn packet<F: Family, P: Packet>(
    p: &mut P,
    ip: &Ip<F::Addr>,
    tr: &Transport,
    ends: &Ends<F::Addr>,
) -> Option<()> {
    let pseudo = F::change(&ip.src, &ends.src).and(F::change(&ip.dst, &ends.dst));
    let ports = Change::NONE.word(tr.src_port, ends.src_port).word(tr.dst_port, ends.dst_port);
    let udp = ip.protocol == PROTOCOL_UDP;
    p.patch_checksum(ip.l4 + checksum_at(udp), pseudo, ports, udp)?;
    let (s, d) = (ends.src_port, ends.dst_port);
    p.store::<4>(ip.l4, [s[0], s[1], d[0], d[1]])?;
    F::rewrite(p, ip, &ends.src, &ends.dst, ip.ttl.wrapping_sub(1))
}

#[inline(always)]
const fn checksum_at(udp: bool) -> usize {
    if udp { UDP_CHECKSUM } else { TCP_CHECKSUM }
}

/// Gives an ICMP error the addresses `to.vip` and `to.client`, and the packet that it quotes the ends on the sheet. `None`: it
/// ends too early.
#[inline(always)]
pub(super) fn error<F: Family, P: Packet>(p: &mut P, sheet: &SheetOf<F>) -> Option<()> {
    let Sheet { ip, quote, ends: quoted, .. } = sheet;
    let (src, dst) = (&sheet.to.vip, &sheet.to.client);
    let ports = Change::NONE.word(quote.src_port, quoted.src_port).word(quote.dst_port, quoted.dst_port);
    let (s, d) = (quoted.src_port, quoted.dst_port);
    p.store::<4>(quote.l4, [s[0], s[1], d[0], d[1]])?;
    let mut rest = ports;
    let udp = quote.protocol == PROTOCOL_UDP;
    let at = quote.l4 + checksum_at(udp);
    // 8 bytes of the quoted header hold UDP's checksum and not TCP's: what is not there need not be right.
    if at + 2 <= ip.l3 + usize::from(ip.len)
        && let Some(old) = p.load::<2>(at)
    {
        let change = ports.and(F::change(&quote.src, &quoted.src)).and(F::change(&quote.dst, &quoted.dst));
        let new = if udp { change.apply_udp(old) } else { change.apply(old) };
        p.store(at, new)?;
        rest = rest.word(old, new);
    }
    rest = rest.and(F::rewrite_quoted(p, quote, &quoted.src, &quoted.dst)?);
    // ICMP has no pseudo-header, ICMPv6 has (RFC 4443, section 2.3).
    let pseudo = if F::IS_V6 { F::change(&ip.src, src).and(F::change(&ip.dst, dst)) } else { Change::NONE };
    p.patch_checksum(ip.l4 + 2, pseudo, rest, false)?;
    F::rewrite(p, ip, src, dst, ip.ttl.wrapping_sub(1))
}
