//! [unsafe room] Frames of the benchmark: written whole, read in a few places.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::XdpContext;

use crate::control::FRAME_LEN;

/// What differs from frame to frame.
pub(crate) struct Segment {
    /// Client's address, host order.
    pub(crate) client: u32,
    /// Client's port, host order.
    pub(crate) port: u16,
    /// TCP flags.
    pub(crate) flags: u8,
}

const WORDS: usize = FRAME_LEN / 8;

/// Ethernet, IPv4 without options, TCP without options, ten bytes of payload. `vip` and `vip_port` in wire order as they lie in
/// memory. Whether the frame has room.
#[inline(always)]
pub(crate) fn write(ctx: &XdpContext, segment: &Segment, vip: u32, vip_port: u32) -> bool {
    let start = ctx.data();
    if start + FRAME_LEN > ctx.data_end() {
        return false;
    }
    let client = u64::from(segment.client.to_be());
    let port = u64::from(segment.port.to_be());
    let vip = u64::from(vip);
    let sum = u64::from(checksum(client, vip));
    let words: [u64; WORDS] = [
        // 02:00:00:00:00:02, from 02:00:
        0x0002_0200_0000_0002,
        // :00:00:00:01, IPv4, version 4, 5 words
        0x0045_0008_0100_0000,
        // length 50, id 0, don't fragment, TTL 64, TCP
        0x0640_0040_0000_3200,
        sum | client << 16 | (vip & 0xffff) << 48,
        vip >> 16 | port << 16 | u64::from(vip_port & 0xffff) << 32,
        // acknowledgement 1, 5 words, flags
        0x0050_0100_0000_0000 | u64::from(segment.flags) << 56,
        // window 65535; the checksum stays empty, which costs a forwarder as much as any
        0x0000_0000_0000_ffff,
        0,
    ];
    // SAFETY: the frame has `FRAME_LEN` bytes from `start` on (checked above) and is writable (kernel, XDP contract). Live frames
    // begin 256 bytes into a page, so that words are aligned.
    unsafe { (start as *mut [u64; WORDS]).write(words) };
    true
}

/// Checksum of the IP header above, in the order that the sum's bytes have in memory: sums do not care (RFC 1071).
#[expect(clippy::cast_possible_truncation, reason = "folded twice, nothing is left above 16 bits")]
#[inline(always)]
const fn checksum(client: u64, vip: u64) -> u16 {
    // 45 00, length, id, fragment, TTL and protocol, as little-endian words.
    let fixed = 0x0045 + 0x3200 + 0x0040 + 0x0640;
    let sum = fixed + (client & 0xffff) + (client >> 16) + (vip & 0xffff) + (vip >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Swaps the MAC addresses; whether there are any.
#[inline(always)]
pub(crate) fn swap_macs(ctx: &XdpContext) -> bool {
    let start = ctx.data();
    if start + 14 > ctx.data_end() {
        return false;
    }
    let macs = start as *mut [u16; 6];
    // SAFETY: twelve bytes lie before the frame's end (checked above), at an even address.
    let [to_0, to_1, to_2, from_0, from_1, from_2] = unsafe { macs.read() };
    // SAFETY: as above.
    unsafe { macs.write([from_0, from_1, from_2, to_0, to_1, to_2]) };
    true
}

const IPIP: u8 = 4;

/// Whether the frame is encapsulated IPv4 in IPv4.
#[inline(always)]
fn is_ipip(ctx: &XdpContext) -> bool {
    // The protocol of an IPv4 header.
    byte(ctx, 23) == Some(IPIP)
}

/// Client's address, host order, of a frame that was forwarded.
#[inline(always)]
pub(crate) fn source(ctx: &XdpContext) -> Option<u32> {
    if is_ipip(ctx) { word(ctx, 14 + 20 + 12) } else { word(ctx, 14 + 12) }
}

/// Where a frame went: the outer destination where there is one, else the MAC address's last four bytes; 0 is none.
#[inline(always)]
pub(crate) fn destination(ctx: &XdpContext) -> u32 {
    let there = if is_ipip(ctx) { word(ctx, 14 + 16) } else { word(ctx, 2) };
    there.unwrap_or(0)
}

#[inline(always)]
fn byte(ctx: &XdpContext, at: usize) -> Option<u8> {
    let place = ctx.data() + at;
    // Of a comparison with one byte more the compiler would make one that tells the verifier nothing.
    if place + 2 > ctx.data_end() {
        return None;
    }
    // SAFETY: the byte lies before the frame's end (checked above).
    Some(unsafe { (place as *const u8).read() })
}

#[inline(always)]
fn word(ctx: &XdpContext, at: usize) -> Option<u32> {
    let place = ctx.data() + at;
    if place + 4 > ctx.data_end() {
        return None;
    }
    // SAFETY: four bytes lie before the frame's end (checked above), at an even address.
    let [a, b] = unsafe { (place as *const [u16; 2]).read() };
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    Some(u32::from_be_bytes([a, b, c, d]))
}

/// An array's value, for one run of a program.
#[expect(clippy::mut_from_ref, reason = "the map is the kernel's memory, and each place is asked for once")]
#[inline(always)]
pub(crate) fn value<T, const N: usize, const F: usize>(
    map: &'static Array<T, N, F>,
    index: u32,
) -> Option<&'static mut T> {
    // SAFETY: a lookup's result is valid for the program run; one CPU runs the benchmark's programs, one after the other, each asks
    // for a place once, and the benchmark's own process writes between runs.
    map.get_ptr_mut(index).map(|place| unsafe { &mut *place })
}

/// Out by this interface.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the kernel's actions have 32 bits")]
#[inline(always)]
pub(crate) fn redirect(ifindex: u32) -> u32 {
    // SAFETY: the helper takes two integers and checks them.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}
