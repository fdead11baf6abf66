//! [unsafe room] Tells those who look what becomes of packets: records through a ring buffer, packet bytes with them. What is
//! wanted, `lb_common::trace` decides; nothing here runs while `HOST_TRACE` is not set.
//!
//! Whose a packet is turns out while it is decided on, and what it was is gone then. So while somebody captures, the head of
//! every packet is put aside first, on this CPU, and goes into the ring only when the decision says that it is wanted.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_ebpf::{EbpfContext, Global};
use lb_common::decide::Outcome;
use lb_common::decide::trace::{describe, forget};
use lb_common::host::{HOST_CAPTURE, HOST_TRACE};
use lb_common::trace::{
    KIND_AFTER, KIND_BEFORE, KIND_EVENT, MAX_SNAPLEN, RECORD_AFTER, RECORD_BEFORE, RECORD_EVENT, SIGHT_TC, Sight,
    TAPS as TAP_COUNT, Taps,
};

use crate::maps::{HOST, RECORD, SIGHTS, TAPS};
use crate::tables::{Maps, work};
use crate::{atomic, exit};

/// Whether the kernel can copy from frames (Linux 5.18). The loader knows; where it cannot, the verifier removes the call.
#[unsafe(no_mangle)]
static CAN_CAPTURE: Global<u8> = Global::new(1);

/// A record being put together on one CPU, and what the CPU remembers from packet to packet.
#[repr(C, align(8))]
pub(crate) struct Record {
    sight: Sight,
    bytes: [u8; MAX_SNAPLEN],
    /// Packets that each tap has met since its last sample.
    met: [u32; TAP_COUNT],
    /// Bytes that were put aside.
    held: u32,
    /// Whether the packet that is decided on now was looked at from its beginning.
    is_begun: u8,
    /// Taps that want each kind of record.
    wanted: [u8; 3],
}

/// A packet whose bytes can be copied.
pub(crate) trait Bytes: EbpfContext + Sized {
    /// The program that sees it: `SIGHT_TC` or nothing.
    const HOOK: u16;

    /// The context at this address, which the kernel has given the program.
    fn of(ctx: *mut c_void) -> Self;

    /// Interface it came in by.
    fn arrival(&self) -> u32;

    /// Length of the frame.
    fn frame_len(&self) -> u32;

    /// Copies the first `len` bytes; whether that worked.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes.
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool;
}

impl Bytes for XdpContext {
    const HOOK: u16 = 0;

    #[inline(always)]
    fn of(ctx: *mut c_void) -> Self {
        Self::new(ctx.cast())
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's field has 32 bits")]
    fn arrival(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's length has 32 bits")]
    fn frame_len(&self) -> u32 {
        // SAFETY: the context that the program was called with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: the helper checks offset and length against the frame; `to` is the caller's promise.
        unsafe { bpf_xdp_load_bytes(self.ctx, 0, to.cast(), len) == 0 }
    }
}

impl Bytes for TcContext {
    const HOOK: u16 = SIGHT_TC;

    #[inline(always)]
    fn of(ctx: *mut c_void) -> Self {
        Self::new(ctx.cast())
    }

    #[inline(always)]
    fn arrival(&self) -> u32 {
        exit::buffer(self).ifindex
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.len()
    }

    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: the helper checks offset and length against the buffer; `to` is the caller's promise.
        unsafe { bpf_skb_load_bytes(self.as_ptr(), 0, to.cast(), len) == 0 }
    }
}

/// Begins where somebody looks. Returns the host's flags, which are read here.
#[inline(always)]
pub(crate) fn begin_if_watched<C: Bytes>(ctx: *mut c_void) -> u32 {
    let flags = flags();
    if flags & HOST_TRACE == 0 { flags } else { begin::<C>(ctx) }
}

#[inline(always)]
fn flags() -> u32 {
    match HOST.get(0) {
        Some(host) => host.flags,
        None => 0,
    }
}

/// Before the decision: notes the time, wipes notes, puts the packet's head aside where somebody captures. The host's
/// flags again: what the caller kept for afterwards would lie on a stack that has no byte to spare.
#[inline(never)]
fn begin<C: Bytes>(ctx: *mut c_void) -> u32 {
    let ctx = &C::of(ctx);
    let (Some(record), Some(work)) = (RECORD.get_ptr_mut(0), work()) else {
        return 0;
    };
    forget(work);
    // SAFETY: per-CPU memory, valid for the program run; programs on one CPU do not interrupt each other, and nothing else holds
    // a reference to it here.
    let r = unsafe { &mut *record };
    r.sight.time_ns = now_ns();
    r.sight.arrival = ctx.arrival();
    r.sight.frame_len = 0;
    r.held = 0;
    r.is_begun = 1;
    let flags = flags();
    if CAN_CAPTURE.load() != 0 && flags & HOST_CAPTURE != 0 {
        let _done = put_aside(ctx, record);
    }
    flags
}

/// After the decision: tells those who want to know.
#[inline(never)]
pub(crate) fn end<C: Bytes>(ctx: *mut c_void, out: &Outcome) -> u32 {
    let ctx = &C::of(ctx);
    let (Some(record), Some(taps), Some(work)) = (RECORD.get_ptr_mut(0), TAPS.get_ptr_mut(0), work()) else {
        return 0;
    };
    // SAFETY: as in `begin`.
    let r = unsafe { &mut *record };
    // Somebody began to look while this packet was under way.
    if r.is_begun == 0 {
        return 0;
    }
    r.is_begun = 0;
    describe(&Maps { ctx: ctx.as_ptr(), check_mtu: false, hand: () }, work, out, &mut r.sight);
    r.sight.flags |= C::HOOK;
    r.wanted = [0; 3];
    let mut i = 0;
    while i < TAP_COUNT {
        let _done = ask(record, taps, i);
        i += 1;
    }
    let _done = tell(record, taps, KIND_EVENT, RECORD_EVENT);
    let _done = tell(record, taps, KIND_BEFORE, RECORD_BEFORE);
    // SAFETY: as in `begin`.
    if unsafe { (*record).wanted[RECORD_AFTER] } != 0 && CAN_CAPTURE.load() != 0 {
        let _done = put_aside(ctx, record);
        // SAFETY: as in `begin`.
        unsafe { (*record).sight.time_ns = now_ns() };
        let _done = tell(record, taps, KIND_AFTER, RECORD_AFTER);
    }
    0
}

/// Copies the packet's head to the record, as much as the most curious tap wants.
#[inline(never)]
fn put_aside<C: Bytes>(ctx: &C, record: *mut Record) -> u32 {
    let Some(taps) = TAPS.get_ptr(0) else {
        return 0;
    };
    let mut snaplen = 0;
    let mut i = 0;
    while i < TAP_COUNT {
        // SAFETY: map memory, valid for the program run; the agent changes words of it, each right by itself.
        let tap = unsafe { &(*taps)[i] };
        let wanted = if tap.captures() { tap.snaplen } else { 0 };
        snaplen = if wanted > snaplen { wanted } else { snaplen };
        i += 1;
    }
    let frame_len = ctx.frame_len();
    let len = atomic::opaque((if frame_len < snaplen { frame_len } else { snaplen }) as usize);
    // SAFETY: as in `begin`.
    let r = unsafe { &mut *record };
    r.sight.frame_len = frame_len;
    r.held = 0;
    if len == 0 || len > MAX_SNAPLEN {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_SNAPLEN")]
    let len = len as u32;
    // SAFETY: `bytes` has MAX_SNAPLEN bytes, and `len` is no more.
    if unsafe { ctx.copy(r.bytes.as_mut_ptr(), len) } {
        r.held = len;
    }
    0
}

/// Which records one tap wants, noted in memory: the verifier would follow every combination of them in registers.
#[inline(never)]
fn ask(record: *mut Record, taps: *mut Taps, i: usize) -> u32 {
    if i >= TAP_COUNT {
        return 0;
    }
    // SAFETY: as in `begin`.
    let r = unsafe { &mut *record };
    // SAFETY: as in `put_aside`; the index is below the length.
    let tap = unsafe { &(*taps)[i] };
    if !tap.matches(&r.sight) {
        return 0;
    }
    let nth = r.met[i].wrapping_add(1);
    r.met[i] = if tap.is_sample(nth) { 0 } else { nth };
    let records = tap.records(&r.sight, nth);
    let mut kind = 0;
    while kind < r.wanted.len() {
        r.wanted[kind] |= (records >> kind & 1) << i;
        kind += 1;
    }
    0
}

/// Puts a record into the ring for those who want its kind; where there is no room, each of them has lost one.
#[inline(never)]
fn tell(record: *mut Record, taps: *mut Taps, kind: u8, which: usize) -> u32 {
    // SAFETY: as in `begin`.
    let r = unsafe { &mut *record };
    let wanted = if which < r.wanted.len() { r.wanted[which] } else { 0 };
    if wanted == 0 {
        return 0;
    }
    r.sight.kind = kind;
    r.sight.taps = wanted;
    let held = if which == RECORD_EVENT { 0 } else { r.held };
    r.sight.captured = held;
    let held = atomic::opaque(held as usize);
    if held > MAX_SNAPLEN {
        return 0;
    }
    // SAFETY: the record's head and its bytes lie one after the other, and `held` is at most the length of the latter. They are
    // read before anything is written again.
    let bytes = unsafe { core::slice::from_raw_parts(addr_of!(r.sight).cast::<u8>(), size_of::<Sight>() + held) };
    if SIGHTS.output_untyped::<[u8]>(bytes, 0).is_ok() {
        return 0;
    }
    let mut i = 0;
    while i < TAP_COUNT {
        if wanted >> i & 1 != 0 {
            // SAFETY: as in `put_aside`; the index is below the length.
            let lost = unsafe { addr_of_mut!((*taps)[i].lost) };
            // SAFETY: valid, aligned, changed atomically by all CPUs; the agent only clears it before the tap is opened.
            unsafe { atomic::add(lost, 1) };
        }
        i += 1;
    }
    0
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

const _: () = assert!(core::mem::offset_of!(Record, bytes) == size_of::<Sight>());
