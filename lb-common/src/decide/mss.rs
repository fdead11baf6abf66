//! Lowers the MSS that a SYN announces to what the way behind an encapsulation leaves.

use crate::csum::Change;
use crate::packet::Packet;

/// Bytes of a TCP header without options.
pub(super) const TCP_LEN: u16 = 20;

/// Options that are looked at. MSS comes first from every stack that we know; padding before it is one byte a piece.
const MAX_OPTIONS: usize = 8;

/// End of the options, padding, maximum segment size (RFC 9293, section 3.2).
const END: u8 = 0;
const PADDING: u8 = 1;
const MSS: u8 = 2;

/// Offset of TCP's checksum.
const CHECKSUM: usize = 16;

/// Makes the MSS option of the TCP header at `l4` say at most `limit`; the packet ends at `end`. A SYN without the option stays
/// without (its sender takes 536, RFC 9293 section 3.7.1). Whether anything changed.
#[inline(never)]
pub(super) fn clamp<P: Packet>(p: &mut P, l4: usize, end: usize, limit: u16) -> bool {
    let Some([offset]) = p.load::<1>(l4 + 12) else {
        return false;
    };
    let header = usize::from(offset >> 4) * 4;
    let mut at = usize::from(TCP_LEN);
    let mut n = 0;
    while n < MAX_OPTIONS {
        if at + 4 > header || l4 + at + 4 > end {
            return false;
        }
        let Some([kind, len, high, low]) = p.load::<4>(l4 + at) else {
            return false;
        };
        if kind == END {
            return false;
        }
        if kind == MSS {
            return len == 4 && lower(p, l4, at + 2, [high, low], limit);
        }
        if kind != PADDING && len < 2 {
            return false;
        }
        at += if kind == PADDING { 1 } else { usize::from(len) };
        n += 1;
    }
    false
}

/// Replaces the value at `at` of the header if it is more than `limit`.
#[inline(always)]
fn lower<P: Packet>(p: &mut P, l4: usize, at: usize, old: [u8; 2], limit: u16) -> bool {
    if u16::from_be_bytes(old) <= limit {
        return false;
    }
    let new = limit.to_be_bytes();
    // At an odd place each byte lies in the other half of its word.
    let change =
        if at & 1 == 0 { Change::NONE.word(old, new) } else { Change::NONE.word([old[1], old[0]], [new[1], new[0]]) };
    p.store(l4 + at, new).is_some() && p.patch_checksum(l4 + CHECKSUM, Change::NONE, change, false).is_some()
}
