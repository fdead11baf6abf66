//! ICMP errors that we write ourselves: a header of ours around the beginning of the packet that is reported.

use super::way::Way;
use super::work::SheetOf;
use super::{Outcome, way};
use crate::csum::fold;
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;

/// TTL of what we send ourselves.
const OWN_TTL: u8 = 64;

/// Precedence of network control (RFC 1812, section 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// Bytes of an ICMP header.
const ICMP_LEN: usize = 8;

/// Bytes of a quote: what holds every header there can be, or the least that names a flow. Multiples of four. A report might quote
/// more (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 (c)), and no sender needs it; the verifier walks every word of it.
const QUOTES_V4: [usize; 2] = [128, 28];
/// The same for IPv6.
const QUOTES_V6: [usize; 2] = [256, 48];

/// Eight bytes at a time.
const MOST_WORDS: usize = 256 / 8;

/// An error to be written around the beginning of a packet that lies in the frame already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report<A> {
    /// From this address.
    pub(super) src: A,
    /// To this one.
    pub(super) dst: A,
    /// ICMP type and code.
    pub(super) kind: [u8; 2],
    /// The four bytes behind the checksum.
    pub(super) rest: [u8; 4],
    /// Offset of the IP header that the frame has now.
    pub(super) l3: usize,
    /// Offset of what is quoted.
    pub(super) from: usize,
    /// How much is quoted: one of `quote_len`'s.
    pub(super) quote_len: usize,
    /// How the packet ends if all goes well.
    pub(super) verdict: Verdict,
    /// Sum of the quote's words.
    sum: u64,
}

impl<A: Default> Default for Report<A> {
    fn default() -> Self {
        Self {
            src: A::default(),
            dst: A::default(),
            kind: [0; 2],
            rest: [0; 4],
            l3: 0,
            from: 0,
            quote_len: 0,
            verdict: Verdict::PassNotIp,
            sum: 0,
        }
    }
}

/// Bytes from the report's IP header to its quote.
#[inline(always)]
pub(super) const fn head_len<F: Family>() -> usize {
    ICMP_LEN + if F::IS_V6 { 40 } else { 20 }
}

/// How much of a packet is quoted of which `there` bytes are there, the first `header` of them its IP header. `None`: too little to
/// be understood.
#[inline(always)]
pub(super) const fn quote_len<F: Family>(there: usize, header: usize) -> Option<usize> {
    let sizes = if F::IS_V6 { QUOTES_V6 } else { QUOTES_V4 };
    if there >= sizes[0] {
        Some(sizes[0])
    } else if there >= sizes[1] && header + 8 <= sizes[1] {
        Some(sizes[1])
    } else {
        None
    }
}

/// What "too big" says: the next hop's MTU (RFC 1191, section 4; RFC 4443, section 3.2).
#[inline(always)]
pub(super) const fn too_big<F: Family>(mtu: u16) -> ([u8; 2], [u8; 4]) {
    let m = mtu.to_be_bytes();
    (if F::IS_V6 { [2, 0] } else { [3, 4] }, [0, 0, m[0], m[1]])
}

/// What "host unreachable" says (RFC 792; RFC 4443, section 3.1).
#[inline(always)]
pub(super) const fn unreachable<F: Family>() -> ([u8; 2], [u8; 4]) {
    (if F::IS_V6 { [1, 3] } else { [3, 1] }, [0; 4])
}

/// Writes the report on the sheet, and sends it where the sheet says.
#[inline(never)]
pub(super) fn send<F: Family, P: Packet>(p: &mut P, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Verdict {
    let report = &mut sheet.report;
    // The words are summed up where they lie: once the front has moved, the verifier would walk them for every kind of front.
    report.sum = match sum(p, report.from, report.quote_len) {
        NOT_THERE => return Verdict::DropMalformed,
        sum => sum,
    };
    if move_front(p, report.l3, report.from, head_len::<F>()).is_none() {
        return Verdict::DropNoRoom;
    }
    if write::<F, P>(p, report).is_none() {
        return Verdict::DropInternal;
    }
    match way::send(p, &sheet.way, out) {
        Ok(()) => report.verdict,
        Err(verdict) => verdict,
    }
}

/// Makes what is quoted start `head` bytes behind `l3`.
#[inline(always)]
fn move_front<P: Packet>(p: &mut P, l3: usize, from: usize, head: usize) -> Option<()> {
    let before = from.wrapping_sub(l3);
    if before == 0 { p.make_room(l3, head) } else { p.take_away(l3, before.checked_sub(head)?) }
}

/// Writes the headers in front of the quote and cuts off what is not quoted.
#[inline(always)]
fn write<F: Family, P: Packet>(p: &mut P, report: &Report<F::Addr>) -> Option<()> {
    let (l3, len) = (report.l3, report.quote_len);
    let quote = l3 + head_len::<F>();
    p.cut(quote + len)?;
    let rest = report.rest;
    let [kind, code] = report.kind;
    let total = u16::try_from(head_len::<F>() + len).ok()?;
    let header = F::put_header(p, l3, &report.src, &report.dst, total, [CONTROL, OWN_TTL])?;
    let [c0, c1] =
        (!fold(report.sum + header + sum_8([kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]]))).to_ne_bytes();
    p.store::<8>(quote - ICMP_LEN, [kind, code, c0, c1, rest[0], rest[1], rest[2], rest[3]])
}

/// No sum of a few hundred bytes.
const NOT_THERE: u64 = u64::MAX;

/// Sum of the 32-bit words of `len` bytes at `at`; `NOT_THERE` where the frame is shorter. (What a BPF call returns must be a number.)
#[inline(never)]
fn sum<P: Packet>(p: &P, at: usize, len: usize) -> u64 {
    let mut sum = 0;
    let mut n = 0;
    while n < MOST_WORDS {
        if n * 8 + 8 > len {
            break;
        }
        let Some(bytes) = p.load::<8>(at + n * 8) else {
            return NOT_THERE;
        };
        sum += sum_8(bytes);
        n += 1;
    }
    if len & 4 == 0 {
        return sum;
    }
    match p.load::<4>((at + len).wrapping_sub(4)) {
        Some(bytes) => sum + u64::from(u32::from_ne_bytes(bytes)),
        None => NOT_THERE,
    }
}

#[inline(always)]
fn sum_8(b: [u8; 8]) -> u64 {
    u64::from(u32::from_ne_bytes([b[0], b[1], b[2], b[3]])) + u64::from(u32::from_ne_bytes([b[4], b[5], b[6], b[7]]))
}

/// Back to where the packet came from.
#[inline(always)]
pub(super) fn way_back<P: Packet>(p: &P) -> Option<Way> {
    let m = p.load::<12>(0)?;
    Some(Way::plain(p.arrival().ifindex, [m[6], m[7], m[8], m[9], m[10], m[11]], [m[0], m[1], m[2], m[3], m[4], m[5]]))
}
