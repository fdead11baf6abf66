//! ICMP errors about our own outer packets: a router between us and a backend answers to the outer source. Its client must hear of it
//! in words about the packet that it sent (RFC 2003, section 4; RFC 2473, section 8).
//!
//! Only where the quote holds the inner header and names a flow whose outer packet would look just like that: backend, source
//! and mode. Everything else is the kernel's.

use super::work::SheetOf;
use super::{Next, Outcome, encap, key_of, report, select, service, too_big, way};
use crate::endpoint::Address;
use crate::family::Family;
use crate::packet::Packet;
use crate::parse::{PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP};
use crate::service::FORWARD_GUE;
use crate::slot::{NOBODY, Owner};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// The least that a host must take (RFC 791; RFC 8200, section 5).
const LEAST_MTU_V4: u16 = 68;
const LEAST_MTU_V6: u16 = 1_280;

/// An error that quotes what may be an outer packet of ours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tunnel {
    /// Offset of the error's IP header.
    l3: usize,
    /// Offset behind the error's last byte.
    end: usize,
    /// Offset of the inner IP header in the quote.
    inner: usize,
    /// The inner packet is IPv6.
    pub(super) is_v6: bool,
    is_gue: bool,
    src: Address,
    dst: Address,
    /// Largest outer packet that fits; 0: the error says something else, which comes to "unreachable".
    mtu: u16,
}

/// Whether the error on the sheet, sent to the source of what it quotes, may be about an outer packet; then it is noted.
#[inline(always)]
pub(super) fn is_quoted<F: Family, P: Packet>(p: &P, sheet: &mut SheetOf<F>) -> bool {
    let (l3, l4) = (sheet.ip.l3, sheet.ip.l4);
    let outer = l4 + 8;
    let Some(head) = p.load::<8>(l4) else {
        return false;
    };
    let Some((protocol, src, dst)) = F::bare_quote(p, outer) else {
        return false;
    };
    let is_gue = protocol == PROTOCOL_UDP;
    if src != sheet.ip.dst || !(is_gue || protocol == PROTOCOL_IPV4 || protocol == PROTOCOL_IPV6) {
        return false;
    }
    let header = usize::from(if F::IS_V6 { encap::IPV6_LEN } else { encap::IPV4_LEN });
    let inner = outer + header + if is_gue { usize::from(encap::UDP_LEN) } else { 0 };
    let end = l3 + usize::from(sheet.ip.len);
    let Some([first]) = p.load::<1>(inner) else {
        return false;
    };
    let is_v6 = first >> 4 == 6;
    if inner + 28 > end || !(is_v6 || first >> 4 == 4) || (is_v6 && !F::IS_V6) {
        return false;
    }
    let Some(mtu) = meaning::<F>(head) else {
        return false;
    };
    sheet.tunnel = Tunnel { l3, end, inner, is_v6, is_gue, src: F::to_address(&src), dst: F::to_address(&dst), mtu };
    true
}

/// The MTU that an error speaks of; 0 where it says that the backend cannot be reached. `None`: neither.
#[inline(always)]
const fn meaning<F: Family>(head: [u8; 8]) -> Option<u16> {
    let low = u16::from_be_bytes([head[6], head[7]]);
    match (F::IS_V6, head[0], head[1]) {
        // A router from before RFC 1191 says nothing, and nobody can be told.
        (false, 3, 4) | (true, 2, _) if low == 0 => None,
        (false, 3, 4) => Some(low),
        (true, 2, _) if head[4] == 0 && head[5] == 0 => Some(low),
        (false, 3 | 11, _) | (true, 1 | 3, _) => Some(0),
        _ => None,
    }
}

/// Finds the flow that the inner packet is of, and writes down what its client should hear.
#[inline(never)]
pub(super) fn whose<F: Family, P: Packet, T: Tables>(
    p: &P,
    t: &T,
    tunnel: &Tunnel,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Next {
    match find::<F, P, T>(p, t, tunnel, sheet) {
        Some(owner) => {
            out.owner = owner;
            Next::Tell
        }
        None => Next::Rest,
    }
}

#[inline(always)]
fn find<F: Family, P: Packet, T: Tables>(p: &P, t: &T, tunnel: &Tunnel, sheet: &mut SheetOf<F>) -> Option<Owner> {
    let host = t.host()?;
    F::quoted(p, tunnel.inner, &mut sheet.quote)?;
    let quote = &sheet.quote;
    if P::CAN_RESOLVE || quote.l4 + 4 > tunnel.end {
        return None;
    }
    let service = service::<F, T>(t, host, &quote.dst, quote.dst_port, quote.protocol)?;
    if !service.encapsulates() || tunnel.is_gue != (service.forward == FORWARD_GUE) {
        return None;
    }
    let key = key_of::<F>(host, service, (&quote.src, quote.src_port), (&quote.dst, quote.dst_port));
    let owner = select::owner_of_quoted(t, host, service, key, &mut sheet.question);
    let b = t.backend(owner)?;
    if owner == NOBODY || b.addr != tunnel.dst || encap::source(b, key.bucket) != tunnel.src {
        return None;
    }
    let quote = &sheet.quote;
    let report = &mut sheet.report;
    report.quote_len = report::quote_len::<F>(tunnel.end - tunnel.inner, quote.l4 - tunnel.inner)?;
    let least = if F::IS_V6 { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
    (report.kind, report.rest) = if tunnel.mtu == 0 {
        report::unreachable::<F>()
    } else {
        report::too_big::<F>(tunnel.mtu.saturating_sub(encap::overhead(b, tunnel.is_gue)).max(least))
    };
    (report.src, report.dst) = (quote.dst, quote.src);
    (report.l3, report.from) = (tunnel.l3, tunnel.inner);
    report.verdict = Verdict::ReplyIcmp;
    Some(owner)
}

/// Finds the way to the client.
#[inline(never)]
pub(super) fn tell<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    sheet.to.vip = sheet.report.src;
    sheet.to.client = sheet.report.dst;
    sheet.ip.protocol = F::ICMP;
    sheet.ip.len = u16::try_from(report::head_len::<F>() + sheet.report.quote_len).unwrap_or(u16::MAX);
    match way::to_client::<F, P, T>(p, t, sheet) {
        Ok(way) if too_big::may_tell(t) => {
            sheet.way = way;
            Next::Report
        }
        Ok(_) => {
            out.verdict = Verdict::DropIcmp;
            Next::Done
        }
        Err(verdict) => {
            out.verdict = verdict;
            Next::Done
        }
    }
}
