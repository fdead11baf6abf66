//! QUIC: a packet goes to whom its connection ID names, wherever it comes from, so that a client that changes its address stays on
//! its backend. Version-independent: nothing is read but what RFC 8999 fixes (the header's form, the connection ID).
//!
//! Client-chosen IDs name nobody, or by chance the same server in every packet until the server has chosen; IDs of other
//! configurations, of dead or unknown servers and datagrams too short to carry one name nobody. All these are routed by table and
//! ring, as the draft's fallback asks. (It would rather drop short headers that name nobody: we do not, since a pool may have
//! servers that are not configured yet.)

use super::select::{Choice, Question, choose, lookup};
use super::work::SheetOf;
use super::{Next, key_of};
use crate::family::Family;
use crate::flow::{FlowKey, Segment};
use crate::host::Host;
use crate::packet::Packet;
use crate::parse::Ip;
use crate::quic::{QuicConfig, QuicServerKey, SERVER_ID_MAX};
use crate::service::{FORWARD_NAT, SELECT_LEAST_CONN, ServiceEntry, TRACKING_FULL};
use crate::slot::{NOBODY, Owner, slot_of};
use crate::table::is_first_in_epoch;
use crate::tables::Tables;

/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// First bit of a packet: a long header (RFC 8999, section 5).
const LONG_HEADER: u8 = 0x80;
/// Offset of the connection ID in a short header.
const SHORT_ID_AT: usize = 1;
/// Offset of the connection ID in a long header: first octet, version, its length.
const LONG_ID_AT: usize = 6;
/// Bytes of the ID that are read at once. A QUIC packet is longer than its ID by more than a server ID: it carries 16 bytes of
/// authentication behind it.
const READ: usize = SERVER_ID_MAX + 1;

/// A packet's destination connection ID.
struct Destination {
    /// Its first octets.
    id: [u8; READ],
    /// Its length where the header says it (long), and at most what the datagram has room for where it does not.
    len: usize,
    is_long: bool,
}

/// Finds the owner of a client's packet for a QUIC service.
#[inline(never)]
pub(super) fn route<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>) -> Next {
    let Some(host) = t.host() else {
        sheet.choice = Choice::plain(NOBODY);
        return Next::Forward;
    };
    let destination = destination(p, &sheet.ip);
    let (mut named, mut is_long) = (NOBODY, false);
    if let Some(d) = &destination {
        named = named_by(t, &sheet.service, d);
        is_long = d.is_long;
    }
    let service = &sheet.service;
    // A long header that names nobody opens a connection, as a SYN does.
    let opens = is_long && named == NOBODY && service.tracking == TRACKING_FULL;
    let segment = if opens { Segment::Syn } else { Segment::Datagram };
    let key = key_of::<F>(host, service, (&sheet.ip.src, sheet.tr.src_port), (&sheet.ip.dst, sheet.tr.dst_port));
    sheet.wrap.entropy = key.bucket;
    let what = (segment, p.arrival().keeps_books);
    match choose_named(t, host, service, key, what, named, &mut sheet.question) {
        Some(owner) => {
            sheet.choice = Choice::plain(owner);
            Next::Forward
        }
        None => Next::Table,
    }
}

/// As `select::choose`, for a QUIC service: `named` is whom the packet's connection ID names, if anybody. Such a packet needs neither ring nor
/// table; under `full` its flow is entered and counted where it goes, and its entry is asked first by packets that name nobody:
/// otherwise rule 1 and a flow that has changed its address would correct each other for ever.
#[inline(always)]
fn choose_named<T: Tables>(
    t: &T,
    host: &Host,
    service: &ServiceEntry,
    key: FlowKey,
    (segment, keeps_books): (Segment, bool),
    named: Owner,
    question: &mut Question,
) -> Option<Owner> {
    let is_full = service.tracking == TRACKING_FULL;
    if named == NOBODY && !is_full {
        return choose(t, host, service, key, (segment, keeps_books), question);
    }
    let now = t.now();
    if named != NOBODY && !(is_full && keeps_books && is_first_in_epoch(t, host, key, now)) {
        return Some(named);
    }
    let Some(slot) = t.slot(service.id, slot_of(key.tag, service.slot_by_source())) else {
        return Some(named);
    };
    *question = Question {
        what: lookup(host, service, key),
        segment,
        slot,
        now,
        epoch_shift: host.epoch_shift,
        select: service.select,
        is_nat: service.forward == FORWARD_NAT,
        named,
        table_first: true,
        counts_load: service.select == SELECT_LEAST_CONN,
        keeps_books,
    };
    None
}

/// Reads the ID. `None`: the datagram is too short to carry one that names anybody.
#[inline(always)]
fn destination<P: Packet, A>(p: &P, ip: &Ip<A>) -> Option<Destination> {
    let (at, end) = (ip.l4 + UDP_LEN, ip.l3 + usize::from(ip.len));
    let [first] = p.load::<1>(at)?;
    let is_long = first & LONG_HEADER != 0;
    let id_at = at + if is_long { LONG_ID_AT } else { SHORT_ID_AT };
    if id_at + READ > end {
        return None;
    }
    let len = if is_long { usize::from(p.load::<1>(id_at - 1)?[0]) } else { end - id_at };
    Some(Destination { id: p.load::<READ>(id_at)?, len, is_long })
}

/// The owner that an ID names, if it lives.
#[inline(always)]
fn named_by<T: Tables>(t: &T, service: &ServiceEntry, d: &Destination) -> Owner {
    let config = t.quic_config(service.id);
    if !is_of(config, d) {
        return NOBODY;
    }
    let owner = t.quic_server(&server_key(service.id, config.server_id_len(), &d.id));
    match t.backend(owner) {
        Some(b) if owner != NOBODY && b.is_alive() && b.service == service.id => owner,
        _ => NOBODY,
    }
}

/// Whether an ID was made by this configuration, as far as anybody can tell.
#[inline(always)]
fn is_of(config: QuicConfig, d: &Destination) -> bool {
    let cid_len = usize::from(config.cid_len());
    let fits = if d.is_long { d.len == cid_len } else { d.len >= cid_len };
    let [first, ..] = d.id;
    let says_length = !config.has_length() || usize::from(first & 0x1f) + 1 == cid_len;
    config.server_id_len() != 0 && first >> 5 == config.rotation() && fits && says_length
}

/// The server ID lies behind the first octet; what is behind it in turn is not part of the key.
#[inline(always)]
fn server_key(service: u16, len: u8, id: &[u8; READ]) -> QuicServerKey {
    let i = id;
    let mut high = u64::from_be_bytes([i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]]);
    let mut low = u64::from_be_bytes([i[9], i[10], i[11], i[12], i[13], i[14], i[15], 0]);
    let bits = u32::from(len) * 8;
    if bits <= 64 {
        high &= u64::MAX << (64 - bits).min(63);
        low = 0;
    } else {
        low &= u64::MAX << (128 - bits.min(128)).min(63);
    }
    let (h, l) = (high.to_be_bytes(), low.to_be_bytes());
    let id = [h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]];
    QuicServerKey { service, len, zero: 0, id }
}
