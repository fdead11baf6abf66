//! What the datapath benchmark measures with.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Sends everything on.
#[xdp]
fn weir_floor(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
