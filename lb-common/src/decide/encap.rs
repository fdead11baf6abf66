//! ipip and gue: an outer header in front of the client's packet, which stays as it is but for one hop of its life.
//!
//! The header is made as a value, so that a shorter path can make the same. Outer fields: DSCP and ECN are the inner packet's
//! (RFC 6040, normal mode), TTL is our own, the source's low bits (and gue's source port, and IPv6's flow label, RFC 6438) are
//! the flow's hash, so that routers and the backend's NIC spread flows. gue is variant 1 (draft-ietf-intarea-gue, section 4):
//! the inner IP header follows UDP directly, and its version tells the variant; Linux (`ip fou add port 6080 gue`) and Katran's
//! own backends take it.

use super::work::SheetOf;
use super::{Next, Outcome, fragment, mss, way};
use crate::backend::BackendEntry;
use crate::csum::fold;
use crate::endpoint::Address;
use crate::family::Family;
use crate::flow::Segment;
use crate::packet::Packet;
use crate::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP, Piece};
use crate::service::FORWARD_GUE;
use crate::slot::Owner;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: u16 = 20;
/// Bytes of an IPv6 header.
pub const IPV6_LEN: u16 = 40;
/// Bytes of a UDP header.
pub const UDP_LEN: u16 = 8;

/// TTL of the outer header.
const OUTER_TTL: u8 = 64;

/// First of the ports that gue sends from: the dynamic range, 14 bits of it (draft-ietf-intarea-gue, section 5.11.1).
const FIRST_PORT: u32 = 0xc000;

/// What is to be encapsulated, and for whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrap {
    /// Whose backend.
    pub(super) owner: Owner,
    /// `FORWARD_IPIP` or `FORWARD_GUE`.
    pub(super) forward: u8,
    /// The packet is an ICMP error about the flow, not the flow's own.
    pub(super) is_error: bool,
    /// The flow's hash: the half of it that does not pick the slot.
    pub(super) entropy: u32,
}

/// What the outer header takes from the inner packet.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// The inner packet is IPv6.
    pub is_v6: bool,
    /// DSCP and ECN: IPv4's second byte, IPv6's traffic class.
    pub class: u8,
    /// Length of the inner packet, bytes.
    pub len: u16,
    /// The flow's hash: the half of it that does not pick the slot ([`crate::flow::FlowKey::bucket`]).
    pub entropy: u32,
}

impl Inner {
    /// Protocol number that the outer IP header carries.
    #[inline(always)]
    const fn protocol(self, is_gue: bool) -> u8 {
        if is_gue {
            PROTOCOL_UDP
        } else if self.is_v6 {
            PROTOCOL_IPV6
        } else {
            PROTOCOL_IPV4
        }
    }
}

/// Bytes that go in front of a packet to this backend.
#[inline(always)]
pub const fn overhead(b: &BackendEntry, is_gue: bool) -> u16 {
    (if b.addr.is_v4() { IPV4_LEN } else { IPV6_LEN }) + if is_gue { UDP_LEN } else { 0 }
}

/// The low bits of the outer source that are the flow's.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 32 bits are the flow's")]
const fn source_part(b: &BackendEntry, entropy: u32) -> u32 {
    entropy & ((1_u64 << (b.source_bits & 63)) - 1) as u32
}

/// Where an outer packet of a flow comes from.
#[inline(always)]
pub const fn source(b: &BackendEntry, entropy: u32) -> Address {
    let mut a = b.snat_addr.0;
    let low = u32::from_be_bytes([a[12], a[13], a[14], a[15]]) | source_part(b, entropy);
    let low = low.to_be_bytes();
    a[12] = low[0];
    a[13] = low[1];
    a[14] = low[2];
    a[15] = low[3];
    Address(a)
}

/// The outer IPv4 header (RFC 2003), checksum and all. Don't-fragment is always set: a backend that decapsulates in XDP cannot
/// join fragments, and where nothing is fragmented the identification need not differ (RFC 6864, section 4.1).
#[inline(always)]
pub const fn outer_v4(b: &BackendEntry, is_gue: bool, inner: &Inner) -> [u8; 20] {
    let src = source(b, inner.entropy).as_v4();
    let dst = b.addr.as_v4();
    let len = inner.len.wrapping_add(overhead(b, is_gue)).to_be_bytes();
    let first = [0x45, inner.class, len[0], len[1]];
    let third = [OUTER_TTL, inner.protocol(is_gue), 0, 0];
    let sum = u32::from_ne_bytes(first) as u64
        + u32::from_ne_bytes(DONT_FRAGMENT) as u64
        + u32::from_ne_bytes(third) as u64
        + u32::from_ne_bytes(src) as u64
        + u32::from_ne_bytes(dst) as u64;
    let c = (!fold(sum)).to_ne_bytes();
    let (f, d) = (first, DONT_FRAGMENT);
    [
        f[0], f[1], f[2], f[3], d[0], d[1], d[2], d[3], third[0], third[1], c[0], c[1], src[0], src[1], src[2], src[3],
        dst[0], dst[1], dst[2], dst[3],
    ]
}

/// Identification zero, don't fragment, offset zero.
const DONT_FRAGMENT: [u8; 4] = [0, 0, 0x40, 0];

/// The first eight bytes of the outer IPv6 header (RFC 2473); its addresses follow, `source` and the backend's.
#[inline(always)]
pub const fn outer_v6(is_gue: bool, inner: &Inner) -> [u8; 8] {
    let word = (6_u32 << 28 | (inner.class as u32) << 20 | inner.entropy >> 12).to_be_bytes();
    let len = inner.len.wrapping_add(if is_gue { UDP_LEN } else { 0 }).to_be_bytes();
    [word[0], word[1], word[2], word[3], len[0], len[1], inner.protocol(is_gue), OUTER_TTL]
}

/// gue's UDP header. No checksum: over IPv4 that is usual, over IPv6 it is what RFC 6935 allows tunnels (the inner packet has
/// its own checksums, RFC 6936 section 4), and Linux's receiver takes it.
#[inline(always)]
pub const fn outer_udp(b: &BackendEntry, inner: &Inner) -> [u8; 8] {
    let src = (FIRST_PORT | inner.entropy >> 18).to_be_bytes();
    let len = inner.len.wrapping_add(UDP_LEN).to_be_bytes();
    [src[2], src[3], b.port[0], b.port[1], len[0], len[1], 0, 0]
}

/// Finds the way of the packet on the sheet to the backend that `sheet.wrap` names.
#[inline(never)]
pub(super) fn way<F: Family, P: Packet, T: Tables>(t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    match find::<F, P, T>(t, sheet) {
        Ok(()) => Next::Enclose,
        Err(verdict) => {
            out.verdict = verdict;
            if matches!(verdict, Verdict::DropTooBig) && !sheet.wrap.is_error { Next::TooBig } else { Next::Done }
        }
    }
}

#[inline(always)]
fn find<F: Family, P: Packet, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> Result<(), Verdict> {
    let wrap = &sheet.wrap;
    let is_head = !wrap.is_error && matches!(sheet.ip.piece, Piece::Head);
    let b = t.backend(wrap.owner).ok_or(Verdict::DropInternal)?;
    let more = overhead(b, wrap.forward == FORWARD_GUE);
    sheet.limit = b.mtu.saturating_sub(more);
    let len = sheet.ip.len.checked_add(more).ok_or(Verdict::DropTooBig)?;
    sheet.way = way::to_backend::<P>(b, len, true)?;
    if sheet.ip.ttl <= 1 {
        return Err(Verdict::DropTtl);
    }
    if is_head && !fragment::follow_wrapped::<F, T>(t, sheet) {
        return Err(Verdict::DropFragmentTableFull);
    }
    Ok(())
}

/// Lowers the MSS of a SYN to what is left of the way.
#[inline(always)]
pub(super) fn clamp<F: Family, P: Packet>(p: &mut P, sheet: &SheetOf<F>) {
    let is_syn = !sheet.wrap.is_error && matches!(sheet.tr.segment, Segment::Syn);
    if is_syn && !matches!(sheet.ip.piece, Piece::Tail) && sheet.limit != 0 {
        let fits = sheet.limit.saturating_sub((if F::IS_V6 { IPV6_LEN } else { IPV4_LEN }) + mss::TCP_LEN);
        let _clamped = mss::clamp(p, sheet.ip.l4, sheet.ip.l3 + usize::from(sheet.ip.len), fits);
    }
}

/// Encapsulates the packet on the sheet, and sends it.
#[inline(never)]
pub(super) fn send<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    sheet: &mut SheetOf<F>,
    out: &mut Outcome,
) -> Verdict {
    match wrap::<F, P, T>(p, t, sheet, out) {
        Ok(()) if sheet.wrap.is_error => Verdict::ForwardIcmp,
        Ok(()) => Verdict::Forward,
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn wrap<F: Family, P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    sheet: &SheetOf<F>,
    out: &mut Outcome,
) -> Result<(), Verdict> {
    let b = t.backend(sheet.wrap.owner).ok_or(Verdict::DropInternal)?;
    let l3 = sheet.ip.l3;
    let class = F::class(p, l3).ok_or(Verdict::DropMalformed)?;
    F::one_hop_less(p, &sheet.ip).ok_or(Verdict::DropMalformed)?;
    let inner = Inner { is_v6: F::IS_V6, class, len: sheet.ip.len, entropy: sheet.wrap.entropy };
    put(p, b, l3, sheet.wrap.forward == FORWARD_GUE, &inner).ok_or(Verdict::DropNoRoom)?;
    way::send(p, &sheet.way, out)
}

/// Makes room and writes the outer header. `None`: there was no room.
#[inline(always)]
fn put<P: Packet>(p: &mut P, b: &BackendEntry, l3: usize, is_gue: bool, inner: &Inner) -> Option<()> {
    let more = usize::from(overhead(b, is_gue));
    p.make_room(l3, more)?;
    if b.addr.is_v4() {
        p.store::<2>(l3 - 2, ETHERTYPE_IPV4.to_be_bytes())?;
        p.store::<20>(l3, outer_v4(b, is_gue, inner))?;
    } else {
        p.store::<2>(l3 - 2, ETHERTYPE_IPV6.to_be_bytes())?;
        p.store::<8>(l3, outer_v6(is_gue, inner))?;
        p.store::<16>(l3 + 8, source(b, inner.entropy).0)?;
        p.store::<16>(l3 + 24, b.addr.0)?;
    }
    if is_gue {
        p.store::<8>(l3 + more - usize::from(UDP_LEN), outer_udp(b, inner))?;
    }
    Some(())
}
