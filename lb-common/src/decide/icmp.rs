//! ICMP and ICMPv6: errors follow the flow that they quote, in both directions; echo is answered for VIPs and for nothing else.
//!
//! Eight bytes of the quoted transport header are enough (RFC 792); most of what breaks path-MTU discovery elsewhere is to ask
//! for more.

use super::encap::Wrap;
use super::reply::Asked;
use super::rewrite::Ends;
use super::work::SheetOf;
use super::{Next, Outcome, Whose, fragment, key_of, reply, rewrite, select, service, tunnel, way, whose};
use crate::backend::BackendEntry;
use crate::csum::Change;
use crate::family::Family;
use crate::host::{HOST_ENCAP, HOST_SNAT};
use crate::packet::Packet;
use crate::parse::{Ip, Piece};
use crate::reply::SnatForwardKey;
use crate::service::FORWARD_NAT;
use crate::slot::NOBODY;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// TTL of what we send ourselves.
const OWN_TTL: u8 = 64;

/// Type of a neighbour solicitation (RFC 4861, section 4.3).
const NEIGHBOUR_SOLICITATION: u8 = 135;

/// An ICMP message that is no fragment's tail.
#[inline(never)]
pub(super) fn message<F: Family, P: Packet, T: Tables>(
    p: &P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Next {
    let l4 = sheet.ip.l4;
    let room = (sheet.ip.l3 + usize::from(sheet.ip.len)).saturating_sub(l4);
    let head = if room >= 8 { p.load::<2>(l4) } else { None };
    let whose = whose::<F, T>(t, &sheet.ip.dst);
    let Some([kind, _]) = head else {
        if whose != Whose::Vip {
            return Next::Rest;
        }
        out.verdict = Verdict::DropMalformed;
        return Next::Done;
    };
    if F::IS_V6 && kind == NEIGHBOUR_SOLICITATION {
        return Next::Solicitation;
    }
    if kind == echo_request::<F>() && whose == Whose::Vip {
        return Next::Echo;
    }
    if !is_error::<F>(kind) || !matches!(sheet.ip.piece, Piece::Whole) {
        return Next::Rest;
    }
    if whose != Whose::Vip
        && matches!(t.host(), Some(host) if host.flags & HOST_ENCAP != 0)
        && tunnel::is_quoted::<F, P>(p, sheet)
    {
        return Next::Tunnel;
    }
    if !quotes::<F, P>(p, sheet) {
        return Next::Rest;
    }
    match whose {
        Whose::Vip | Whose::Assigned => Next::AboutClient,
        Whose::Backend | Whose::Stranger => Next::AboutBackend,
    }
}

/// Reads what the error quotes. Whether it is a packet that its destination sent, as it must be.
#[inline(always)]
fn quotes<F: Family, P: Packet>(p: &P, sheet: &mut SheetOf<F>) -> bool {
    let end = sheet.ip.l3 + usize::from(sheet.ip.len);
    // What lies behind the packet is the link's padding, not a quote.
    F::quoted(p, sheet.ip.l4 + 8, &mut sheet.quote).is_some()
        && sheet.quote.l4 + 4 <= end
        && sheet.quote.src == sheet.ip.dst
}

/// Destination unreachable, source quench, time exceeded, parameter problem; every ICMPv6 type below 128 (RFC 4443).
#[inline(always)]
fn is_error<F: Family>(kind: u8) -> bool {
    if F::IS_V6 { kind < 128 } else { matches!(kind, 3 | 4 | 11 | 12) }
}

#[inline(always)]
const fn echo_request<F: Family>() -> u8 {
    if F::IS_V6 { 128 } else { 8 }
}

/// Somebody could not bring the VIP's packet to a client: the backend that sent it must hear of it.
#[inline(never)]
pub(super) fn about_a_client<F: Family, P: Packet, T: Tables>(
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Next {
    let Some(host) = t.host() else {
        return Next::Rest;
    };
    let quote = &sheet.quote;
    let Some(service) = service::<F, T>(t, host, &quote.src, quote.src_port, quote.protocol) else {
        return Next::AboutBackend;
    };
    let key = key_of::<F>(host, service, (&quote.dst, quote.dst_port), (&quote.src, quote.src_port));
    let owner = select::owner_of_quoted(t, host, service, key, &mut sheet.question);
    let told = match t.backend(owner) {
        Some(backend) if owner != NOBODY => {
            let quote = &sheet.quote;
            sheet.lent = SnatForwardKey {
                client: F::to_address(&quote.dst),
                vip: F::to_address(&quote.src),
                client_port: quote.dst_port,
                vip_port: quote.src_port,
                service: service.id,
                owner,
            };
            let is_lent = host.flags & HOST_SNAT != 0;
            let routed = service.forward == FORWARD_NAT;
            if service.encapsulates() {
                sheet.wrap = Wrap { owner, forward: service.forward, is_error: true, entropy: key.bucket };
                return Next::Wrap;
            }
            tell_backend::<F, P, T>(t, sheet, &Teller { backend, routed, is_lent })
        }
        _ => Err(Verdict::DropNoBackend),
    };
    match told {
        Ok(()) => Next::Retell,
        Err(verdict) => {
            out.verdict = verdict;
            Next::Done
        }
    }
}

/// Whom to tell of an error, and how.
struct Teller<'a> {
    backend: &'a BackendEntry,
    routed: bool,
    is_lent: bool,
}

#[inline(always)]
fn tell_backend<F: Family, P: Packet, T: Tables>(
    t: &T,
    sheet: &mut SheetOf<F>,
    teller: &Teller<'_>,
) -> Result<(), Verdict> {
    let backend = teller.backend;
    if teller.routed && sheet.ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    sheet.way = way::to_backend::<P>(backend, sheet.ip.len, teller.routed)?;
    sheet.is_reply = false;
    sheet.is_routed = teller.routed;
    if teller.routed {
        let quote = &sheet.quote;
        sheet.ends = Ends {
            src: F::from_address(&backend.addr),
            dst: quote.dst,
            src_port: if backend.port == [0, 0] { quote.src_port } else { backend.port },
            dst_port: quote.dst_port,
        };
        if teller.is_lent
            && let Some(lent) = t.snat_forward(&sheet.lent)
        {
            sheet.ends.dst = F::from_address(&backend.snat_addr);
            sheet.ends.dst_port = lent.port;
        }
        sheet.to.vip = sheet.ip.src;
        sheet.to.client = sheet.ends.src;
    }
    Ok(())
}

/// A backend, or a router on its side, could not take a client's packet: the client must hear of it, from the VIP that it
/// knows.
#[inline(never)]
pub(super) fn about_a_backend<F: Family, P: Packet, T: Tables>(
    p: &P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Next {
    sheet.asked = Asked {
        backend: sheet.quote.dst,
        backend_port: sheet.quote.dst_port,
        client: sheet.quote.src,
        client_port: sheet.quote.src_port,
        protocol: sheet.quote.protocol,
    };
    if !reply::translation::<F, T>(t, sheet) {
        return Next::Rest;
    }
    match tell_client::<F, P, T>(p, t, sheet) {
        Ok(()) => Next::Retell,
        Err(verdict) => {
            out.verdict = verdict;
            Next::Done
        }
    }
}

#[inline(always)]
fn tell_client<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>) -> Result<(), Verdict> {
    if sheet.ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    sheet.way = way::to_client::<F, P, T>(p, t, sheet)?;
    sheet.is_reply = true;
    sheet.is_routed = true;
    let to = &sheet.to;
    sheet.ends = Ends { src: to.client, dst: to.vip, src_port: to.client_port, dst_port: to.vip_port };
    Ok(())
}

/// Sends the error on, rewritten where the packet that it quotes was.
#[inline(never)]
pub(super) fn retell<F: Family, P: Packet>(p: &mut P, sheet: &SheetOf<F>, out: &mut Outcome) -> Verdict {
    if sheet.is_routed && rewrite::error::<F, P>(p, sheet).is_none() {
        return Verdict::DropMalformed;
    }
    match way::send(p, &sheet.way, out) {
        Err(verdict) => verdict,
        Ok(()) if sheet.is_reply => Verdict::ReplyIcmp,
        Ok(()) => Verdict::ForwardIcmp,
    }
}

/// Echo to a VIP: answered in place, if one host has asked one host (RFC 1122, sections 3.2.1.3 and 3.2.2.6; RFC 4443, section
/// 4.2): an answer from a group's MAC address, or to a group, is nothing we may send.
#[inline(never)]
pub(super) fn echo<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Verdict {
    if !F::is_unicast(&sheet.ip.src) || !matches!(p.load::<1>(0), Some([first]) if first & 1 == 0) {
        return Verdict::DropIcmp;
    }
    if matches!(sheet.ip.piece, Piece::Head) && !fragment::follow_echo::<F, T>(t, sheet) {
        return Verdict::DropFragmentTableFull;
    }
    let l4 = sheet.ip.l4;
    let Some([old, code]) = p.load::<2>(l4) else {
        return Verdict::DropMalformed;
    };
    let new = if F::IS_V6 { 129 } else { 0 };
    // Addresses change places, which no sum notices.
    let change = Change::NONE.word([old, code], [new, code]);
    if p.store(l4, [new, code]).is_none() || p.patch_checksum(l4 + 2, Change::NONE, change, false).is_none() {
        return Verdict::DropMalformed;
    }
    turn_back::<F, P>(p, &sheet.ip, out)
}

/// Sends a packet back to where it came from: addresses and MAC addresses change places.
#[inline(always)]
pub(super) fn turn_back<F: Family, P: Packet>(p: &mut P, ip: &Ip<F::Addr>, out: &mut Outcome) -> Verdict {
    let done = F::rewrite(p, ip, &ip.dst, &ip.src, OWN_TTL).and_then(|()| {
        let macs = p.load::<12>(0)?;
        let m = &macs;
        p.store::<12>(0, [m[6], m[7], m[8], m[9], m[10], m[11], m[0], m[1], m[2], m[3], m[4], m[5]])
    });
    out.ifindex = p.arrival().ifindex;
    if done.is_some() { Verdict::EchoReply } else { Verdict::DropInternal }
}
