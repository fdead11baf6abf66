//! A packet that does not fit: its sender is told how large it may be (RFC 1191, RFC 8201), at a limited rate.
//!
//! Also where don't-fragment is not set: XDP cannot fragment, Katran does likewise, and a sender that is told sends smaller packets
//! or fragments itself. Not about ICMP errors, nor a datagram's later pieces, nor what no single host has sent to a single host (RFC
//! 1122, section 3.2.2; RFC 4443, section 2.4 (e)).

use super::work::SheetOf;
use super::{Next, report};
use crate::family::Family;
use crate::packet::Packet;
use crate::parse::Piece;
use crate::rate::Tokens;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Writes down what to tell the sender of the packet on the sheet, for which `sheet.limit` would have been small enough. In XDP only: what TC sees may be
/// many packets that GRO has joined.
#[inline(never)]
pub(super) fn tell<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>) -> Next {
    if P::CAN_RESOLVE || sheet.limit == 0 || matches!(sheet.ip.piece, Piece::Tail) {
        return Next::Done;
    }
    if !F::is_unicast(&sheet.ip.src) || !matches!(p.load::<1>(0), Some([first]) if first & 1 == 0) {
        return Next::Done;
    }
    let header = sheet.ip.l4 - sheet.ip.l3;
    let Some(quote_len) = report::quote_len::<F>(usize::from(sheet.ip.len), header) else {
        return Next::Done;
    };
    let Some(way) = report::way_back(p) else {
        return Next::Done;
    };
    if !may_tell(t) {
        return Next::Done;
    }
    let (kind, rest) = report::too_big::<F>(sheet.limit);
    let report = &mut sheet.report;
    (report.src, report.dst, report.kind, report.rest) = (sheet.ip.dst, sheet.ip.src, kind, rest);
    (report.l3, report.from, report.quote_len) = (sheet.ip.l3, sheet.ip.l3, quote_len);
    report.verdict = Verdict::SendTooBig;
    sheet.way = way;
    Next::Report
}

/// Takes a token. Whether there was one.
#[inline(always)]
pub(super) fn may_tell<T: Tables>(t: &T) -> bool {
    match t.tokens().and_then(|bucket| Tokens(bucket).take(t.now())) {
        Some(Tokens(left)) => {
            t.set_tokens(left);
            true
        }
        None => false,
    }
}
