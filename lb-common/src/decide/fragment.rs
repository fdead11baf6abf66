//! Fragments: the head carries the ports and is routed like any packet; its tails follow it, in both directions.
//!
//! A tail before its head is dropped and counted, but only where the head could be ours: towards a VIP, or from a nat backend.

use super::work::SheetOf;
use super::{Next, Outcome, Whose, way, whose};
use crate::clock::Ticks;
use crate::endpoint::Address;
use crate::family::Family;
use crate::packet::Packet;
use crate::parse::Ip;
use crate::reply::{
    FRAGMENT_ECHO, FRAGMENT_FORWARD, FRAGMENT_GUE, FRAGMENT_IPIP, FRAGMENT_NEW_ENDS, FRAGMENT_PASS, FragmentEntry,
    FragmentKey,
};
use crate::service::{FORWARD_GUE, FORWARD_IPIP};
use crate::slot::{NOBODY, Owner};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// A datagram that is not complete by then never will be, ticks (about 30 s, the usual reassembly time, RFC 1122).
pub const FRAGMENT_TICKS: u16 = 112;

/// A head is on its way to `owner`, with the ends on the sheet where it is routed: its tails shall follow. Whether there was
/// room.
#[inline(always)]
pub(super) fn follow<F: Family, T: Tables>(t: &T, owner: Owner, routed: bool, sheet: &mut SheetOf<F>) -> bool {
    sheet.pieces = key::<F>(&sheet.ip);
    let ends = &sheet.ends;
    sheet.follow = entry::<F>(owner, FRAGMENT_FORWARD, if routed { Some((&ends.src, &ends.dst)) } else { None });
    remember::<F, T>(t, sheet)
}

/// A head is about to be encapsulated as `sheet.wrap` says: its tails shall follow. Whether there was room.
#[inline(always)]
pub(super) fn follow_wrapped<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    sheet.pieces = key::<F>(&sheet.ip);
    let how = if sheet.wrap.forward == FORWARD_GUE { FRAGMENT_GUE } else { FRAGMENT_IPIP };
    sheet.follow = entry::<F>(sheet.wrap.owner, FRAGMENT_FORWARD | how, None);
    sheet.follow.src = Address::v4(sheet.wrap.entropy.to_be_bytes());
    remember::<F, T>(t, sheet)
}

/// A reply's head is on its way to the client: its tails shall follow. Whether there was room.
#[inline(always)]
pub(super) fn follow_back<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    sheet.pieces = key::<F>(&sheet.ip);
    sheet.follow = entry::<F>(sheet.to.owner, 0, Some((&sheet.to.vip, &sheet.to.client)));
    remember::<F, T>(t, sheet)
}

/// An echo request in pieces goes back: its tails shall follow. Whether there was room.
#[inline(always)]
pub(super) fn follow_echo<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    sheet.pieces = key::<F>(&sheet.ip);
    sheet.follow = entry::<F>(NOBODY, FRAGMENT_ECHO, None);
    remember::<F, T>(t, sheet)
}

/// A head that is not ours, but comes from where ours come from: its tails must not wait. Whether there was room.
#[inline(always)]
pub(super) fn leave_alone<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    if whose::<F, T>(t, &sheet.ip.src) != Whose::Backend {
        return true;
    }
    sheet.pieces = key::<F>(&sheet.ip);
    sheet.follow = entry::<F>(NOBODY, FRAGMENT_PASS, None);
    remember::<F, T>(t, sheet)
}

#[inline(always)]
fn entry<F: Family>(owner: Owner, flags: u8, ends: Option<(&F::Addr, &F::Addr)>) -> FragmentEntry {
    let mut entry = FragmentEntry { owner, flags, ..FragmentEntry::default() };
    if let Some((src, dst)) = ends {
        entry.src = F::to_address(src);
        entry.dst = F::to_address(dst);
        entry.flags |= FRAGMENT_NEW_ENDS;
    }
    entry
}

#[inline(never)]
fn remember<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    sheet.follow.time = t.now().0;
    t.set_fragment(&sheet.pieces, &sheet.follow)
}

/// IPv6 datagrams are told apart without the protocol: a tail names the first header of its part only (RFC 8200, section 4.5).
#[inline(always)]
fn key<F: Family>(ip: &Ip<F::Addr>) -> FragmentKey {
    FragmentKey {
        src: F::to_address(&ip.src),
        dst: F::to_address(&ip.dst),
        id: ip.id,
        protocol: if F::IS_V6 { 0 } else { ip.protocol },
        zero: [0; 3],
    }
}

/// A later fragment: goes where its head went.
#[inline(never)]
pub(super) fn tail<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Next {
    sheet.pieces = key::<F>(&sheet.ip);
    out.verdict = match t.fragment(&sheet.pieces) {
        Some(e) if t.now().since(Ticks(e.time)) > FRAGMENT_TICKS => headless::<F, T>(t, &sheet.ip),
        Some(e) if e.flags & (FRAGMENT_IPIP | FRAGMENT_GUE) != 0 => {
            out.owner = e.owner;
            sheet.wrap.owner = e.owner;
            sheet.wrap.forward = if e.flags & FRAGMENT_GUE != 0 { FORWARD_GUE } else { FORWARD_IPIP };
            sheet.wrap.is_error = false;
            sheet.wrap.entropy = u32::from_be_bytes(e.src.as_v4());
            return Next::Wrap;
        }
        Some(e) => after::<F, P, T>(p, t, e, sheet, out),
        None => headless::<F, T>(t, &sheet.ip),
    };
    Next::Done
}

#[inline(always)]
fn after<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    entry: &FragmentEntry,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Verdict {
    if entry.flags & FRAGMENT_PASS != 0 {
        return Verdict::PassNotOurs;
    }
    if entry.flags & FRAGMENT_ECHO != 0 {
        return super::icmp::turn_back::<F, P>(p, &sheet.ip, out);
    }
    match go_after::<F, P, T>(p, t, entry, sheet, out) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn go_after<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    entry: &FragmentEntry,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Result<Verdict, Verdict> {
    out.owner = entry.owner;
    let routed = entry.flags & FRAGMENT_NEW_ENDS != 0;
    if routed && sheet.ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    sheet.to.vip = F::from_address(&entry.src);
    sheet.to.client = F::from_address(&entry.dst);
    let forward = entry.flags & FRAGMENT_FORWARD != 0;
    let way = if forward {
        way::to_backend::<P>(t.backend(entry.owner).ok_or(Verdict::DropInternal)?, sheet.ip.len, routed)?
    } else {
        way::to_client::<F, P, T>(p, t, sheet)?
    };
    if routed {
        let (ip, to) = (&sheet.ip, &sheet.to);
        F::rewrite(p, ip, &to.vip, &to.client, ip.ttl.wrapping_sub(1)).ok_or(Verdict::DropInternal)?;
    }
    way::send(p, &way, out)?;
    Ok(if forward { Verdict::Forward } else { Verdict::Reply })
}

/// A tail whose head nobody has seen.
#[inline(always)]
fn headless<F: Family, T: Tables>(t: &T, ip: &Ip<F::Addr>) -> Verdict {
    if whose::<F, T>(t, &ip.dst) == Whose::Vip || whose::<F, T>(t, &ip.src) == Whose::Backend {
        return Verdict::DropFragmentTail;
    }
    Verdict::PassNotOurs
}
