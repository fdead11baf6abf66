//! snat: lends one of our ports to a flow, remembers it in both directions, and takes ended flows' ports back.
//!
//! Two maps: forward (client's flow → port) and reverse (what the backend answers to → client's flow). The reverse key is
//! claimed first, so that two flows can never share one; a forward entry that is missing for it marks it as an orphan.

use super::Outcome;
use super::work::SheetOf;
use crate::backend::BackendEntry;
use crate::clock::Ticks;
use crate::endpoint::Address;
use crate::family::Family;
use crate::flow::Segment;
use crate::host::Host;
use crate::reply::{
    REPLY_COUNTS_LOAD, REPLY_PREFIX, REPLY_SLOT_BY_SOURCE, REPLY_TRACKED, SNAT_ENDED, SnatForwardEntry, SnatForwardKey,
    SnatReverseEntry, SnatReverseKey,
};
use crate::service::{SELECT_LEAST_CONN, SERVICE_PREFIX, ServiceEntry, TRACKING_FULL};
use crate::stats::Tally;
use crate::tables::Tables;

/// Ports tried for one flow: with nine in ten taken, 16 tries fail for one flow in five, whose next SYN tries 16 others.
const TRIES: u32 = 16;

/// A port rests this long after its flow has ended, ticks (about 2 s): late segments of the old flow die meanwhile.
pub const SNAT_PAUSE_TICKS: u16 = 8;

/// Writes down which flow wants a port, and to be known by what to whom.
#[inline(always)]
pub(super) fn ask<F: Family>(host: &Host, backend: &BackendEntry, sheet: &mut SheetOf<F>, out: &Outcome) {
    let (ip, tr, service) = (&sheet.ip, &sheet.tr, &sheet.service);
    let mut flags = if service.slot_by_source() { REPLY_SLOT_BY_SOURCE } else { 0 };
    flags |= if service.tracking == TRACKING_FULL { REPLY_TRACKED } else { 0 };
    flags |= if service.select == SELECT_LEAST_CONN { REPLY_COUNTS_LOAD } else { 0 };
    flags |= if service.flags & SERVICE_PREFIX != 0 { REPLY_PREFIX } else { 0 };
    sheet.borrower = SnatReverseEntry {
        client: F::to_address(&ip.src),
        vip: F::to_address(&ip.dst),
        client_port: tr.src_port,
        vip_port: tr.dst_port,
        service: service.id,
        owner: out.owner,
        flags,
        zero: [0; 3],
    };
    sheet.lent = forward_key(&sheet.borrower);
    sheet.lent_as = SnatReverseKey {
        backend: backend.addr,
        snat: backend.snat_addr,
        backend_port: sheet.ends.dst_port,
        snat_port: [0; 2],
        protocol: ip.protocol,
        zero: [0; 3],
    };
    // Where the search begins must not be for clients to choose.
    let hash = F::flow_key(&host.seed, &ip.src, tr.src_port, tr.dst_port, out.owner, false);
    sheet.draw = hash.tag;
    sheet.epoch_shift = host.epoch_shift;
    sheet.flow_ended = out.tally.has(Tally::CLOSED) || out.tally.has(Tally::RESET);
}

/// Makes the port that the flow on the sheet is known by to its backend its source port; lends one where it has none. Whether
/// there was one to lend.
#[inline(never)]
pub(super) fn lend<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> bool {
    let now = t.now();
    let service = sheet.service;
    if let Some(entry) = t.snat_forward(&sheet.lent) {
        let is_syn = matches!(sheet.tr.segment, Segment::Syn);
        let what = Touch { now, epoch_shift: sheet.epoch_shift, is_syn, ended: sheet.flow_ended };
        touch(t, &sheet.lent, entry, &what);
        sheet.ends.src_port = entry.port;
        return true;
    }
    if sheet.lent_as.snat == Address::default() || service.snat_port_count == 0 {
        return false;
    }
    let start = sheet.draw.wrapping_add(u32::from(now.0).wrapping_mul(0x9e37_79b1));
    let mut n = 0;
    while n < TRIES {
        sheet.lent_as.snat_port = port(&service, start, n);
        if claim(t, &service, now, &sheet.lent_as, &sheet.borrower) {
            sheet.ends.src_port = sheet.lent_as.snat_port;
            let done = t.set_snat_forward(&sheet.lent, &SnatForwardEntry { port: sheet.ends.src_port, time: now.0 });
            if !done {
                t.release_snat_reverse(&sheet.lent_as);
            }
            return done;
        }
        n += 1;
    }
    false
}

/// Takes a port that is free, or that can be taken back.
#[inline(never)]
fn claim<T: Tables>(
    t: &T,
    service: &ServiceEntry,
    now: Ticks,
    reverse: &SnatReverseKey,
    borrower: &SnatReverseEntry,
) -> bool {
    t.claim_snat_reverse(reverse, borrower)
        || (take_back(t, reverse, now, service) && t.claim_snat_reverse(reverse, borrower))
}

/// The `n`th port to try, wire order.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product of a 16-bit count and 32 bits, shifted by 32, has 16 bits"
)]
fn port(service: &ServiceEntry, start: u32, n: u32) -> [u8; 2] {
    // A step that is odd and large draws a new place each time, so that a run of taken ports does not use up all tries.
    let drawn = start.wrapping_add(n.wrapping_mul(0x9e37_79b1));
    let offset = (u64::from(drawn) * u64::from(service.snat_port_count)) >> 32;
    service.snat_port_first.wrapping_add(offset as u16).to_be_bytes()
}

/// Frees a port whose flow has ended and rested, or has been silent for longer than its idle timeout.
#[inline(always)]
fn take_back<T: Tables>(t: &T, reverse: &SnatReverseKey, now: Ticks, service: &ServiceEntry) -> bool {
    let Some(holder) = t.snat_reverse(reverse) else {
        return true;
    };
    let key = forward_key(holder);
    match t.snat_forward(&key) {
        Some(entry) if entry.port == reverse.snat_port => {
            let age = now.since(Ticks(entry.time & !SNAT_ENDED));
            let rest = if entry.time & SNAT_ENDED != 0 { SNAT_PAUSE_TICKS } else { service.idle_ticks };
            if age <= rest {
                return false;
            }
            t.release_snat_forward(&key);
        }
        _ => {}
    }
    t.release_snat_reverse(reverse);
    true
}

/// The forward key that belongs to a reverse entry.
pub const fn forward_key(entry: &SnatReverseEntry) -> SnatForwardKey {
    SnatForwardKey {
        client: entry.client,
        vip: entry.vip,
        client_port: entry.client_port,
        vip_port: entry.vip_port,
        service: entry.service,
        owner: entry.owner,
    }
}

/// What has just happened to a mapping's flow.
struct Touch {
    now: Ticks,
    epoch_shift: u32,
    is_syn: bool,
    ended: bool,
}

/// Keeps a mapping alive, once an epoch; notes its flow's end, and a new SYN's new life.
#[inline(always)]
fn touch<T: Tables>(t: &T, key: &SnatForwardKey, entry: SnatForwardEntry, what: &Touch) {
    let was_ended = entry.time & SNAT_ENDED != 0;
    let is_ended = what.ended || (was_ended && !what.is_syn);
    let time = Ticks(entry.time & !SNAT_ENDED);
    if is_ended == was_ended && (is_ended || time.same_epoch(what.now, what.epoch_shift)) {
        return;
    }
    let time = what.now.0 | if is_ended { SNAT_ENDED } else { 0 };
    // A full table refuses no update of a key that it has.
    let _updated = t.set_snat_forward(key, &SnatForwardEntry { port: entry.port, time });
}

/// The backend has answered: keeps the mapping alive, or notes that the flow is over. Whether there is one.
#[inline(never)]
pub(super) fn answered<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>, epoch_shift: u32) -> bool {
    sheet.lent = SnatForwardKey {
        client: F::to_address(&sheet.to.client),
        vip: F::to_address(&sheet.to.vip),
        client_port: sheet.to.client_port,
        vip_port: sheet.to.vip_port,
        service: sheet.to.service,
        owner: sheet.to.owner,
    };
    match t.snat_forward(&sheet.lent) {
        Some(entry) if entry.port == sheet.tr.dst_port => {
            let what = Touch { now: t.now(), epoch_shift, is_syn: false, ended: sheet.flow_ended };
            touch(t, &sheet.lent, entry, &what);
            true
        }
        _ => false,
    }
}
