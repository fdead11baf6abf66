//! A backend's answer: becomes the VIP's, and goes to its client by the host's routing table.

use super::rewrite::Ends;
use super::select::Question;
use super::work::SheetOf;
use super::{Next, Outcome, fragment, snat, way};
use crate::family::Family;
use crate::flow::{FlowEntry, FlowKey, FlowState, Segment, after_server};
use crate::host::{HOST_ANY_PORT, HOST_REPLIES, HOST_SNAT, Host};
use crate::packet::Packet;
use crate::parse::Piece;
use crate::reply::{REPLY_COUNTS_LOAD, REPLY_PREFIX, REPLY_SLOT_BY_SOURCE, REPLY_TRACKED, ReplyEntry};
use crate::slot::Owner;
use crate::stats::Tally;
use crate::table::{Lookup, find_here, is_first_in_epoch, is_fresh, update};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// The two directions of a flow are told apart in the epoch bitmap, so that the server's answer does not use up the event
/// that confirms the client.
const SERVER_SIDE: u32 = 0x5bd1_e995;

/// What a reply becomes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Translation<A> {
    pub(super) vip: A,
    pub(super) vip_port: [u8; 2],
    pub(super) client: A,
    pub(super) client_port: [u8; 2],
    pub(super) service: u16,
    pub(super) owner: Owner,
    flags: u8,
    is_snat: bool,
}

/// Between whom a packet would be, were it a backend's answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<A> {
    pub(super) backend: A,
    pub(super) backend_port: [u8; 2],
    pub(super) client: A,
    pub(super) client_port: [u8; 2],
    pub(super) protocol: u8,
}

/// Whether a packet is a backend's answer, and whose client's. What it says to a group is nobody's answer (mDNS from a served port, say).
#[inline(never)]
pub(super) fn packet<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> Next {
    if !F::is_unicast(&sheet.ip.dst) {
        return Next::Rest;
    }
    sheet.asked = Asked {
        backend: sheet.ip.src,
        backend_port: sheet.tr.src_port,
        client: sheet.ip.dst,
        client_port: sheet.tr.dst_port,
        protocol: sheet.ip.protocol,
    };
    if translation::<F, T>(t, sheet) { Next::Answer } else { Next::Rest }
}

/// Finds the way of a backend's answer to its client.
#[inline(never)]
pub(super) fn answer<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    match find::<F, P, T>(p, t, sheet, out) {
        Ok(()) => Next::Books,
        Err(verdict) => {
            out.verdict = verdict;
            Next::Done
        }
    }
}

/// Finds out whose answer a packet is, and writes it to `sheet.to`; whether it is one.
#[inline(always)]
pub(super) fn translation<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    let Some(host) = t.host() else {
        return false;
    };
    if host.flags & (HOST_REPLIES | HOST_SNAT) == 0 {
        return false;
    }
    let asked = &sheet.asked;
    sheet.lent_as.snat = F::to_address(&asked.client);
    // An answer to one of our own addresses is snat's or our own (a probe's, say), never a client's.
    if t.is_local(&sheet.lent_as.snat) {
        sheet.lent_as.backend = F::to_address(&asked.backend);
        sheet.lent_as.backend_port = asked.backend_port;
        sheet.lent_as.snat_port = asked.client_port;
        sheet.lent_as.protocol = asked.protocol;
        sheet.lent_as.zero = [0; 3];
        let Some(entry) = t.snat_reverse(&sheet.lent_as) else {
            return false;
        };
        sheet.to = Translation {
            vip: F::from_address(&entry.vip),
            vip_port: entry.vip_port,
            client: F::from_address(&entry.client),
            client_port: entry.client_port,
            service: entry.service,
            owner: entry.owner,
            flags: entry.flags,
            is_snat: true,
        };
        return true;
    }
    let Some(entry) = lookup::<F, T>(t, host, &asked.backend, asked.backend_port, asked.protocol) else {
        return false;
    };
    sheet.to = Translation {
        vip: F::from_address(&entry.vip),
        vip_port: if entry.vip_port == [0, 0] { asked.backend_port } else { entry.vip_port },
        client: asked.client,
        client_port: asked.client_port,
        service: entry.service,
        owner: entry.owner,
        flags: entry.flags,
        is_snat: false,
    };
    true
}

/// Exact address:port:protocol, then the address with any port.
#[inline(always)]
fn lookup<'a, F: Family, T: Tables>(
    t: &'a T,
    host: &Host,
    addr: &F::Addr,
    port: [u8; 2],
    protocol: u8,
) -> Option<&'a ReplyEntry> {
    match F::reply(t, addr, port, protocol) {
        None if host.flags & HOST_ANY_PORT != 0 => F::reply(t, addr, [0, 0], protocol),
        found => found,
    }
}

#[inline(always)]
fn find<F: Family, P: Packet, T: Tables>(
    p: &P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Result<(), Verdict> {
    out.owner = sheet.to.owner;
    if sheet.ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    // Before the way is asked for: where XDP leaves a head to the TC program, its tails may reach XDP first.
    if matches!(sheet.ip.piece, Piece::Head) && !fragment::follow_back::<F, T>(t, sheet) {
        return Err(Verdict::DropFragmentTableFull);
    }
    sheet.way = way::to_client::<F, P, T>(p, t, sheet)?;
    let to = &sheet.to;
    sheet.ends = Ends { src: to.vip, dst: to.client, src_port: to.vip_port, dst_port: to.client_port };
    (sheet.is_reply, sheet.is_routed) = (true, true);
    Ok(())
}

/// Keeps the books of an answer that is sent: where XDP leaves it to the TC program, that one keeps them.
#[inline(never)]
pub(super) fn books<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    let Some(host) = t.host() else {
        out.verdict = Verdict::DropInternal;
        return Next::Done;
    };
    let to = &sheet.to;
    if to.flags & REPLY_TRACKED != 0 {
        let by_source = to.flags & REPLY_SLOT_BY_SOURCE != 0;
        let mut key = F::flow_key(&host.seed, &to.client, to.client_port, to.vip_port, to.service, by_source);
        if to.flags & REPLY_PREFIX != 0 {
            key = F::to_vip(&host.seed, key, &to.vip, by_source);
        }
        let q = &mut sheet.question;
        q.what = Lookup { key, mask: host.flow_mask, service: to.service, idle_ticks: 0 };
        q.segment = sheet.tr.segment;
        q.counts_load = to.flags & REPLY_COUNTS_LOAD != 0;
        out.tally = server_said(t, host, q);
    }
    if to.is_snat {
        sheet.flow_ended = out.tally.has(Tally::CLOSED) || out.tally.has(Tally::RESET);
        let _found = snat::answered::<F, T>(t, sheet, host.epoch_shift);
    }
    Next::Put
}

/// Notes a FIN or RST of the server; keeps a flow alive that only the server still feeds, once an epoch.
#[inline(never)]
fn server_said<T: Tables>(t: &T, host: &Host, q: &Question) -> Tally {
    let mut tally = Tally(0);
    let now = t.now();
    let server_side = FlowKey { bucket: q.what.key.bucket, tag: q.what.key.tag ^ SERVER_SIDE };
    let last_words = matches!(q.segment, Segment::Fin | Segment::Rst);
    if !last_words && !is_first_in_epoch(t, host, server_side, now) {
        return tally;
    }
    let Some(found) = find_here(t, &q.what) else {
        return tally;
    };
    let old = found.entry.state().unwrap_or(FlowState::Ended);
    let state = if last_words { after_server(old, matches!(q.segment, Segment::Rst)) } else { old };
    let owner = found.entry.owner();
    // What the client has not confirmed yet must not live on by the server's retransmissions.
    if found.entry.is_ended()
        || (found.entry.is_unconfirmed() && state == old)
        || is_fresh(found.entry, owner, state, now, host.epoch_shift)
        || !update(&found, FlowEntry::new(q.what.key.tag, owner, state, now))
    {
        return tally;
    }
    if matches!(state, FlowState::Ended) {
        tally.add(if matches!(q.segment, Segment::Rst) { Tally::RESET } else { Tally::CLOSED });
        if q.counts_load {
            t.add_load(owner, -1);
        }
    }
    tally
}
