//! Decapsulation for backends whose kernel has none: a shell around `lb_common::decap`.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the shared modules have a compare-exchange in them"),
    feature(core_intrinsics, asm_experimental_arch)
)]
#![expect(
    clippy::inline_always,
    reason = "BPF calls take five arguments and a 512-byte stack, and the verifier knows a bound only where it saw the check"
)]

// Shared with the load balancer's programs, which use all of them.
#[expect(dead_code, reason = "compare-exchange is the flow table's")]
#[path = "../atomic.rs"]
mod atomic;
#[expect(dead_code, reason = "socket buffers are the TC program's")]
#[path = "../packet.rs"]
mod packet;
#[path = "../word.rs"]
mod word;
mod tables;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::decap::{Decapped, decapsulate};

use crate::packet::Frame;
use crate::tables::{Told, count};

/// Takes outer headers off, and sends everything on but what congestion has marked in vain.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_decap(ctx: XdpContext) -> u32 {
    let done = decapsulate(&mut Frame::new(&ctx), &Told);
    count(done);
    match done {
        Decapped::CongestionLost => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
