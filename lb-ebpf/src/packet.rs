//! [unsafe room 3] Checked access to a packet's bytes: frames in XDP, socket buffers in TC. The only pointer arithmetic.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{
    bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_adjust_head,
    bpf_xdp_adjust_tail,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::csum::Change;
use lb_common::packet::{Arrival, Packet};

use crate::atomic::opaque;
use crate::word;

/// No header that we read or write starts further into a frame; the verifier wants a bound that it can see.
const MAX_OFFSET: usize = 0x3fff;

/// A frame in front of the network stack.
pub(crate) struct Frame<'a> {
    /// By value: a reference would keep the context on the stack too.
    ctx: XdpContext,
    program: PhantomData<&'a XdpContext>,
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx: XdpContext::new(ctx.ctx), program: PhantomData, start: ctx.data(), end: ctx.data_end() }
    }

    /// Moves the front of the frame, forward where `by` is positive. Every pointer into it is void then.
    #[inline(always)]
    fn move_front(&mut self, by: i32) -> Option<()> {
        // SAFETY: the helper checks the distance itself; the context is the one this program was called with.
        let moved = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, by) };
        self.look_again(moved)
    }

    #[inline(always)]
    fn look_again(&mut self, returned: i64) -> Option<()> {
        (self.start, self.end) = (self.ctx.data(), self.ctx.data_end());
        if returned == 0 { Some(()) } else { None }
    }

    /// The first bytes of the frame, as many as an Ethernet header with two tags has. In parts: a longer array would be cleared
    /// by a call of `memset`, whose stack there is no room for.
    #[inline(always)]
    fn link(&self) -> Option<([u8; 12], [u8; 8], [u8; 2])> {
        Some((self.load::<12>(0)?, self.load::<8>(12)?, self.load::<2>(20)?))
    }

    /// Writes back a link's header that ends at `l3`, which is 14, 18 or 22.
    #[inline(always)]
    fn put_link(&mut self, l3: usize, link: ([u8; 12], [u8; 8], [u8; 2])) -> Option<()> {
        let (macs, b, last) = link;
        self.store::<12>(0, macs)?;
        if l3 == 14 {
            return self.store::<2>(12, [b[0], b[1]]);
        }
        if l3 == 18 {
            self.store::<4>(12, [b[0], b[1], b[2], b[3]])?;
            return self.store::<2>(16, [b[4], b[5]]);
        }
        self.store::<8>(12, b)?;
        self.store::<2>(20, last)
    }

    /// Pointer to `N` bytes at `at`, if the frame has them.
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<*mut [u8; N]> {
        // The compiler must not derive one offset from another: the verifier would not follow.
        let at = opaque(at);
        if at > MAX_OFFSET {
            return None;
        }
        let first = self.start + at;
        // `first + 1 > end` would become `first >= end`, from which the verifier learns nothing.
        let last = if N == 1 { opaque(first + N) } else { first + N };
        if last > self.end {
            return None;
        }
        Some(first as *mut [u8; N])
    }

    /// The same for a place that is known at compile time.
    #[inline(always)]
    fn place<const AT: usize, const N: usize>(&self) -> Option<*mut [u8; N]> {
        let first = self.start + AT;
        let last = if N == 1 { opaque(first + N) } else { first + N };
        if last > self.end {
            return None;
        }
        Some(first as *mut [u8; N])
    }
}

impl Packet for Frame<'_> {
    const CAN_RESOLVE: bool = false;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's field has 32 bits")]
    fn arrival(&self) -> Arrival {
        Arrival { ifindex: self.ctx.ingress_ifindex() as u32, keeps_books: true }
    }

    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        self.start + end <= self.end
    }

    #[inline(always)]
    fn words<const AT: usize, const N: usize>(&self) -> Option<[u64; N]> {
        let first = self.start + AT;
        if first + N * 8 > self.end {
            return None;
        }
        let mut words = [0; N];
        let mut i = 0;
        while i < N {
            // SAFETY: the frame has `N` words from `first` on, and frame memory is valid for the whole program run (kernel, XDP
            // contract).
            words[i] = u64::from_le(unsafe { word::load_8((first + i * 8) as *const u8) });
            i += 1;
        }
        Some(words)
    }

    #[inline(always)]
    fn get<const AT: usize, const N: usize>(&self) -> Option<[u8; N]> {
        let from = self.place::<AT, N>()?;
        let mut bytes = [0; N];
        let mut i = 0;
        while i < N {
            // SAFETY: as in `load`.
            i += unsafe { word::load(from.cast(), &mut bytes, i) };
        }
        Some(bytes)
    }

    #[inline(always)]
    fn put<const AT: usize, const N: usize>(&mut self, new: [u8; N]) -> Option<()> {
        let to = self.place::<AT, N>()?;
        let mut i = 0;
        while i < N {
            // SAFETY: as in `store`.
            i += unsafe { word::store(to.cast(), &new, i) };
        }
        Some(())
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let from = self.bytes::<N>(at)?;
        let mut bytes = [0; N];
        let mut i = 0;
        while i < N {
            // SAFETY: `from` has `N` bytes before the frame's end, and frame memory is valid for the whole program run (kernel,
            // XDP contract); `word` reads at most those that are left of it.
            i += unsafe { word::load(from.cast(), &mut bytes, i) };
        }
        Some(bytes)
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, at: usize, new: [u8; N]) -> Option<()> {
        let to = self.bytes::<N>(at)?;
        let mut i = 0;
        while i < N {
            // SAFETY: as in `load`; XDP frames are writable, and `&mut self` makes this the only access.
            i += unsafe { word::store(to.cast(), &new, i) };
        }
        Some(())
    }

    #[inline(always)]
    fn begin_earlier<const BY: usize>(&mut self) -> Option<()> {
        self.move_front(-i32::try_from(BY).ok()?)
    }

    #[inline(always)]
    fn make_room(&mut self, l3: usize, by: usize) -> Option<()> {
        let link = self.link()?;
        self.move_front(-i32::try_from(by).ok()?)?;
        self.put_link(l3, link)
    }

    #[inline(always)]
    fn take_away(&mut self, l3: usize, by: usize) -> Option<()> {
        let link = self.link()?;
        self.move_front(i32::try_from(by).ok()?)?;
        self.put_link(l3, link)
    }

    #[inline(always)]
    fn cut(&mut self, len: usize) -> Option<()> {
        let more = i32::try_from((self.end - self.start).checked_sub(len)?).ok()?;
        // SAFETY: the helper checks the distance itself; the context is the one this program was called with.
        let cut = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, -more) };
        self.look_again(cut)
    }
}

/// Offset fields of a checksum patch: the change covers the pseudo-header.
const PSEUDO_HEADER: u64 = 1 << 4;
/// UDP: zero stays zero, and a computed zero is sent as all ones.
const UDP_ZERO: u64 = 1 << 5;
/// IPv6, whose addresses no header checksum compensates for (Linux 6.16 and later; older ones refuse the flag).
const IPV6: u64 = 1 << 7;

/// A socket buffer on its way into the network stack.
pub(crate) struct Buffer<'a> {
    ctx: &'a TcContext,
    arrival: Arrival,
}

impl<'a> Buffer<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext, arrival: Arrival) -> Self {
        Self { ctx, arrival }
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.ctx.as_ptr().cast()
    }

    #[inline(always)]
    fn patch(&self, at: u32, change: Change, flags: u64) -> bool {
        // SAFETY: the helper checks the offset itself; the context is the one this program was called with.
        unsafe { bpf_l4_csum_replace(self.skb(), at, 0, u64::from(change.to_kernel()), flags) == 0 }
    }
}

impl Packet for Buffer<'_> {
    const CAN_RESOLVE: bool = true;

    #[inline(always)]
    fn arrival(&self) -> Arrival {
        self.arrival
    }

    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        end <= self.ctx.len() as usize
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        let (at, len) = (u32::try_from(at).ok()?, u32::try_from(N).ok()?);
        // SAFETY: the helper checks the offset itself and writes exactly `N` bytes to `bytes`, which has as many.
        let done = unsafe { bpf_skb_load_bytes(self.skb() as *const c_void, at, bytes.as_mut_ptr().cast(), len) };
        // SAFETY: the helper has filled all `N` bytes, or returned an error.
        if done == 0 { Some(unsafe { bytes.assume_init() }) } else { None }
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, at: usize, new: [u8; N]) -> Option<()> {
        let (at, len) = (u32::try_from(at).ok()?, u32::try_from(N).ok()?);
        // SAFETY: the helper checks the offset itself, makes the bytes writable and reads exactly `N` bytes from `new`.
        let done = unsafe { bpf_skb_store_bytes(self.skb(), at, new.as_ptr().cast(), len, 0) };
        if done == 0 { Some(()) } else { None }
    }

    /// The helper makes room behind the header that the kernel has read, tags not included; a tag that the NIC has taken off is
    /// not in the frame, and one that is has to stay where it is.
    #[inline(always)]
    fn make_room(&mut self, l3: usize, by: usize) -> Option<()> {
        if l3 != 14 {
            return None;
        }
        let outer = if by < 40 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
        let udp = if by == 28 || by == 48 { BPF_F_ADJ_ROOM_ENCAP_L4_UDP } else { 0 };
        // What GRO has joined is cut into smaller segments than it came in, so that they fit.
        let flags = u64::from(outer | udp);
        // SAFETY: the helper takes integers and checks them; the context is the one this program was called with.
        let done = unsafe { bpf_skb_adjust_room(self.skb(), i32::try_from(by).ok()?, BPF_ADJ_ROOM_MAC, flags) };
        if done == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn patch_checksum(&mut self, at: usize, pseudo: Change, rest: Change, udp: bool) -> Option<()> {
        let at = u32::try_from(at).ok()?;
        let udp = if udp { UDP_ZERO } else { 0 };
        let pseudo_done = pseudo == Change::NONE
            || self.patch(at, pseudo, PSEUDO_HEADER | IPV6 | udp)
            || self.patch(at, pseudo, PSEUDO_HEADER | udp);
        let done = pseudo_done && (rest == Change::NONE || self.patch(at, rest, udp));
        if done { Some(()) } else { None }
    }
}
