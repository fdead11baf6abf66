//! Cuts packets into fragments (RFC 791, section 3.2; RFC 8200, section 4.5), anywhere and any number of them.

use std::ops::Range;
use std::slice::from_ref;

use etherparse::checksum::Sum16BitWords;

use super::build::Packet;

/// The pieces of a packet without options or extension headers: bytes of what its IP header carries, multiples of eight.
pub(super) fn pieces(packet: &Packet, id: u16, cuts: &[Range<usize>]) -> Vec<Vec<u8>> {
    let frame = packet.frame();
    let start = if frame[12..14] == [8, 0] { 34 } else { 54 };
    let len = frame.len() - start;
    cuts.iter().map(|cut| piece(&frame, start, id, cut, cut.end < len)).collect()
}

/// The first piece alone, of `len` bytes.
pub(super) fn first(packet: &Packet, id: u16, len: usize) -> Vec<u8> {
    pieces(packet, id, from_ref(&(0..len))).remove(0)
}

fn piece(frame: &[u8], start: usize, id: u16, cut: &Range<usize>, more: bool) -> Vec<u8> {
    assert_eq!(cut.start % 8, 0, "fragments start at multiples of eight");
    let end = (start + cut.end).min(frame.len());
    let body = &frame[start + cut.start..end];
    let offset = u16::try_from(cut.start).expect("a test's packet is small");
    if start == 34 {
        let mut piece = [&frame[..start], body].concat();
        let len = u16::try_from(piece.len() - 14).expect("a test's packet is small");
        let field = offset >> 3 | if more { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&len.to_be_bytes());
        piece[18..20].copy_from_slice(&id.to_be_bytes());
        piece[20..22].copy_from_slice(&field.to_be_bytes());
        piece[24..26].fill(0);
        let sum = Sum16BitWords::new().add_slice(&piece[14..34]).ones_complement();
        piece[24..26].copy_from_slice(&sum.to_ne_bytes());
        return piece;
    }
    let field = offset | u16::from(more);
    let header = [&[frame[20], 0][..], &field.to_be_bytes(), &[0, 0], &id.to_be_bytes()].concat();
    let mut piece = [&frame[..start], &header, body].concat();
    let len = u16::try_from(piece.len() - start).expect("a test's packet is small");
    piece[18..20].copy_from_slice(&len.to_be_bytes());
    piece[20] = 44;
    piece
}
