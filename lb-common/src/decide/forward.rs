//! A client's packet for a service: its owner, its backend, its way.

use super::rewrite::Ends;
use super::select::Choice;
use super::work::SheetOf;
use super::{Next, Outcome, fragment, rewrite, snat, way};
use crate::backend::{BACKEND_ON_LINK, BackendEntry};
use crate::family::Family;
use crate::packet::Packet;
use crate::parse::Piece;
use crate::service::{FORWARD_NAT, SERVICE_SNAT};
use crate::slot::NOBODY;
use crate::stats::Tally;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Finds the way of the packet on the sheet to the owner that was chosen for it.
#[inline(never)]
pub(super) fn packet<F: Family, P: Packet, T: Tables>(t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    match find::<F, P, T>(t, sheet, out) {
        Ok(next) => next,
        Err(verdict) => {
            out.verdict = verdict;
            if matches!(verdict, Verdict::DropTooBig) { Next::TooBig } else { Next::Done }
        }
    }
}

#[inline(always)]
fn find<F: Family, P: Packet, T: Tables>(t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Result<Next, Verdict> {
    let Choice { owner, tally } = sheet.choice;
    if owner == NOBODY {
        return Err(Verdict::DropNoBackend);
    }
    out.owner = owner;
    out.tally = tally;
    if sheet.tr.is_message {
        out.tally.add(Tally::MESSAGE);
    }
    if sheet.service.encapsulates() {
        sheet.wrap.owner = owner;
        sheet.wrap.forward = sheet.service.forward;
        sheet.wrap.is_error = false;
        return Ok(Next::Wrap);
    }
    let backend = t.backend(owner).ok_or(Verdict::DropInternal)?;
    sheet.limit = backend.mtu;
    let routed = sheet.service.forward == FORWARD_NAT;
    (sheet.is_reply, sheet.is_routed) = (false, routed);
    sheet.way = way::to_backend::<P>(backend, sheet.ip.len, routed)?;
    if routed {
        translate::<F, T>(t, backend, sheet, out)?;
    } else if matches!(sheet.ip.piece, Piece::Head) && !fragment::follow::<F, T>(t, owner, false, sheet) {
        return Err(Verdict::DropFragmentTableFull);
    }
    Ok(Next::Put)
}

/// Gives the packet on the sheet what was found out for it, and sends it.
#[inline(never)]
pub(super) fn send<F: Family, P: Packet>(p: &mut P, sheet: &SheetOf<F>, out: &mut Outcome) -> Verdict {
    if sheet.is_routed && rewrite::packet::<F, P>(p, &sheet.ip, &sheet.tr, &sheet.ends).is_none() {
        return Verdict::DropMalformed;
    }
    match way::send(p, &sheet.way, out) {
        Ok(()) if sheet.is_reply => Verdict::Reply,
        Ok(()) => Verdict::Forward,
        Err(verdict) => verdict,
    }
}

/// nat: the backend becomes the destination, and one of our addresses the source where replies would not come back otherwise.
#[inline(always)]
fn translate<F: Family, T: Tables>(
    t: &T,
    backend: &BackendEntry,
    sheet: &mut SheetOf<F>,
    out: &Outcome,
) -> Result<(), Verdict> {
    let (ip, tr) = (&sheet.ip, &sheet.tr);
    if ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    sheet.ends = Ends {
        src: ip.src,
        dst: F::from_address(&backend.addr),
        src_port: tr.src_port,
        dst_port: if backend.port == [0, 0] { tr.dst_port } else { backend.port },
    };
    if sheet.service.flags & SERVICE_SNAT != 0 || is_hairpin::<F>(backend, &ip.src, &sheet.ends.dst) {
        snat::ask::<F>(t.host().ok_or(Verdict::DropInternal)?, backend, sheet, out);
        if !snat::lend::<F, T>(t, sheet) {
            return Err(Verdict::DropSnatExhausted);
        }
        sheet.ends.src = F::from_address(&backend.snat_addr);
    }
    if matches!(sheet.ip.piece, Piece::Head) && !fragment::follow::<F, T>(t, out.owner, true, sheet) {
        return Err(Verdict::DropFragmentTableFull);
    }
    Ok(())
}

/// A backend that could answer its client without us: the client is itself, or on its own link.
#[inline(always)]
fn is_hairpin<F: Family>(backend: &BackendEntry, client: &F::Addr, addr: &F::Addr) -> bool {
    (backend.flags & BACKEND_ON_LINK != 0 && F::same_link(client, addr, backend.link_prefix)) || *client == *addr
}
