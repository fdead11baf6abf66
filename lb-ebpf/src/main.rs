//! The packet path's shell: maps and helpers around `lb_common`'s decisions. Holds no opinion.
//!
//! On the host (`--cfg bpf_target_arch="x86_64"`) it is only linted; there std brings the panic handler.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "core::intrinsics has the only compare-exchange that builds for BPF"),
    feature(core_intrinsics, asm_experimental_arch)
)]
#![expect(
    clippy::inline_always,
    reason = "BPF calls take five arguments and a 512-byte stack, and the verifier knows a bound only where it saw the check"
)]

mod maps;
mod tables;
mod bucket;
mod counters;
mod route;
mod apart;
mod near;
mod atomic;
mod word;
mod packet;
mod exit;
mod trace;
mod tap;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::cty::c_void;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::decide::{Outcome, at_a_glance, in_full_into};
use lb_common::host::{HOST_LOCAL_INTERFACES, HOST_VETH_INTERFACES, INTERFACE_LOCAL, INTERFACE_VETH};
use lb_common::packet::{Arrival, Packet};
use lb_common::tables::Tables;
use lb_common::verdict::{Fate, Verdict};

use crate::counters::{count, count_sent, count_verdict};
use crate::near::{Hand, Near};
use crate::packet::{Buffer, Frame};
use crate::tables::{Maps, work};

/// Everything that comes off a wire.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_ingress(ctx: XdpContext) -> u32 {
    let action = glance(&ctx);
    if action != IN_FULL {
        return action;
    }
    let Some(work) = work() else {
        return xdp_action::XDP_PASS;
    };
    let _flags = tap::begin_if_watched::<XdpContext>(ctx.as_ptr());
    let tables = Maps { ctx: ctx.as_ptr(), check_mtu: true, hand: () };
    let mut frame = Frame::new(&ctx);
    let mut out = Outcome::of(Verdict::PassNotIp);
    in_full_into(&mut frame, &tables, work, &mut out);
    leave(ctx.as_ptr(), &out)
}

/// Counts, tells, and lets the packet go. By itself: what it keeps on the stack must not lie under the decision.
#[inline(never)]
fn leave(ctx: *mut c_void, out: &Outcome) -> u32 {
    let ctx = XdpContext::new(ctx.cast());
    count(out);
    trace::outcome(&ctx, out);
    if out.is_watched {
        let _done = tap::end::<XdpContext>(ctx.as_ptr(), out);
    }
    let tables = Maps { ctx: ctx.as_ptr(), check_mtu: true, hand: () };
    match out.verdict.fate() {
        Fate::Pass => xdp_action::XDP_PASS,
        Fate::Drop => xdp_action::XDP_DROP,
        Fate::Send => send(&tables, &Frame::new(&ctx), out.ifindex),
    }
}

/// No action: the packet must be looked at in full.
const IN_FULL: u32 = u32::MAX;

/// What nearly all packets need, in one function: its stack is its own, not the full decision's.
#[inline(never)]
fn glance(ctx: &XdpContext) -> u32 {
    let Some(near) = Near::of_this_cpu() else {
        return IN_FULL;
    };
    let tables = Maps { ctx: ctx.as_ptr(), check_mtu: true, hand: near };
    let mut frame = Frame::new(ctx);
    let Some(host) = tables.host() else {
        return IN_FULL;
    };
    if host.flags & HOST_LOCAL_INTERFACES != 0 && is_left_to_tc(&tables, &frame) {
        count_verdict(Verdict::PassToTc);
        return xdp_action::XDP_PASS;
    }
    let Some(sent) = at_a_glance(&mut frame, &tables, host) else {
        return IN_FULL;
    };
    count_sent(&sent);
    trace::sent(ctx, &sent);
    send(&tables, &frame, sent.ifindex)
}

/// Out by an interface: back to where the frame came from, or to another.
#[inline(always)]
fn send<H: Hand>(tables: &Maps<H>, frame: &Frame<'_>, ifindex: u32) -> u32 {
    if ifindex == frame.arrival().ifindex && !is_veth(tables, ifindex) {
        return xdp_action::XDP_TX;
    }
    exit::by_interface(ifindex).cast_unsigned()
}

/// An interface with partial checksums, which only the TC program can patch.
#[inline(always)]
fn is_left_to_tc<H: Hand>(tables: &Maps<H>, frame: &Frame<'_>) -> bool {
    matches!(tables.interface(frame.arrival().ifindex), Some(i) if i.flags & INTERFACE_LOCAL != 0)
}

/// An interface whose other end `XDP_TX` may not wake.
#[inline(always)]
fn is_veth<H: Hand>(tables: &Maps<H>, ifindex: u32) -> bool {
    matches!(tables.host(), Some(h) if h.flags & HOST_VETH_INTERFACES != 0)
        && matches!(tables.interface(ifindex), Some(i) if i.flags & INTERFACE_VETH != 0)
}

/// What XDP has left: local containers and VMs, and next hops that the kernel must resolve.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_reply(ctx: TcContext) -> i32 {
    let skb = exit::buffer(&ctx);
    if skb.pkt_type == PACKET_OTHERHOST {
        return TC_ACT_UNSPEC;
    }
    let ifindex = skb.ifindex;
    let tables = Maps { ctx: ctx.as_ptr(), check_mtu: false, hand: () };
    let behind_xdp = matches!(tables.interface(ifindex), Some(i) if i.flags & INTERFACE_LOCAL == 0);
    let mut buffer = Buffer::new(&ctx, Arrival { ifindex, keeps_books: !behind_xdp });
    let _flags = tap::begin_if_watched::<TcContext>(ctx.as_ptr());
    let Some(work) = work() else {
        return TC_ACT_UNSPEC;
    };
    let mut out = Outcome::of(Verdict::PassNotIp);
    in_full_into(&mut buffer, &tables, work, &mut out);
    // What XDP has let pass it has counted.
    let is_told = behind_xdp && matches!(out.verdict.fate(), Fate::Pass);
    leave_stack(ctx.as_ptr(), &out, is_told)
}

/// As `leave`, from the network stack.
#[inline(never)]
fn leave_stack(ctx: *mut c_void, out: &Outcome, is_told: bool) -> i32 {
    let ctx = TcContext::new(ctx.cast());
    trace::outcome(&ctx, out);
    if !is_told {
        count(out);
        if out.is_watched {
            let _done = tap::end::<TcContext>(ctx.as_ptr(), out);
        }
    }
    match out.verdict.fate() {
        Fate::Pass => TC_ACT_UNSPEC,
        Fate::Drop => TC_ACT_SHOT,
        Fate::Send if out.resolve => exit::by_neighbour(&ctx, out.ifindex),
        Fate::Send => exit::by_interface(out.ifindex),
    }
}

/// A packet for another host's MAC address, seen in promiscuous mode (linux/if_packet.h).
const PACKET_OTHERHOST: u32 = 3;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
