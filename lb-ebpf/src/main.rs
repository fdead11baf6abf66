//! The packet path's shell: maps and helpers around `lb_common`'s decisions. Holds no opinion.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::bindings::{TC_ACT_OK, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Everything that comes off a wire.
#[xdp]
fn weir_ingress(_ctx: XdpContext) -> u32 {
    if maps::HOST.get(0).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    xdp_action::XDP_PASS
}

/// Replies of local containers.
#[classifier]
fn weir_reply(_ctx: TcContext) -> i32 {
    TC_ACT_OK as i32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
