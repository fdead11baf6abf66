//! [unsafe room] How packets leave, by the kernel's helpers; and what the kernel asks for before it lends these.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_redirect, bpf_redirect_neigh, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;

/// The socket buffer that a TC program was called with.
#[inline(always)]
pub(crate) fn buffer(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context that the program was called with outlives the call; the verifier turns reads of its fields into the
    // buffer's own.
    unsafe { &*ctx.skb.skb }
}

/// Out by this interface, as the packet is.
#[inline(always)]
pub(crate) fn by_interface(ifindex: u32) -> i32 {
    // SAFETY: the helper takes two integers and checks them.
    action(unsafe { bpf_redirect(ifindex, 0) })
}

/// Out by this interface; the kernel finds the next hop's MAC address. A tag belongs to the link that the packet came by, and
/// the neighbour is on another.
#[inline(always)]
pub(crate) fn by_neighbour(ctx: &TcContext, ifindex: u32) -> i32 {
    if buffer(ctx).vlan_present != 0 {
        // SAFETY: the context that the program was called with.
        let _popped = unsafe { bpf_skb_vlan_pop(ctx.skb.skb) };
    }
    // SAFETY: no parameters, so no pointer is followed.
    action(unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) })
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel's actions have 32 bits")]
#[inline(always)]
const fn action(returned: i64) -> i32 {
    returned as i32
}

/// Without it the kernel lends neither `bpf_fib_lookup` nor its like.
// SAFETY: the loader reads the section by its name; no other symbol is called so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
