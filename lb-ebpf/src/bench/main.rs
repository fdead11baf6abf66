//! What the datapath benchmark measures with: a generator of live frames, the floor that no program can be faster than, and the
//! place where frames end.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]

mod control;
mod frame;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

use crate::control::{
    CHECK, CHECK_NOTE, Control, DATA_FLAGS, DATA_FRAMES, FLOWS, FRAMES, KIND, KIND_DRAWN, KIND_IN_TURN, KIND_MIXED,
    KIND_SYN, MOST_FLOWS, MOVED, NOTES_AT, PORT, RANDOM, Received, SENT_DATA, SYNS, SYNS_OF_256, TARGET, TURN, VIP,
};
use crate::frame::{Segment, destination, redirect, source, swap_macs, value, write};

/// Written by the benchmark between runs, by the generator during one.
#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();

/// Written by the receiver.
#[btf_map]
static RECEIVED: Array<Received, 1> = Array::new();

/// Flow → where it went when that was noted. Written and read by the receiver.
#[btf_map]
static SEEN: Array<u32, { MOST_FLOWS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Established flows' clients are in 10.0.0.0/8, those of SYNs in 11.0.0.0/8.
const ESTABLISHED: u32 = 10 << 24;
const NEW: u32 = 11 << 24;

const SYN: u8 = 0x02;

/// Writes a whole frame over whatever the recycled page holds, and sends it to the device under test.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_generate(ctx: XdpContext) -> u32 {
    let Some(control) = value(&CONTROL, 0) else {
        return xdp_action::XDP_ABORTED;
    };
    let random = next_random(control[RANDOM]);
    control[RANDOM] = random;
    let is_syn = match control[KIND] {
        KIND_SYN => true,
        KIND_MIXED => (random & 0xff) < control[SYNS_OF_256],
        _ => false,
    };
    let segment = if is_syn {
        let n = control[SYNS];
        control[SYNS] = n.wrapping_add(1);
        Segment { client: NEW | low(n) & 0xff_ffff, port: port_of(low(n >> 24)), flags: SYN }
    } else {
        let flow = match control[KIND] {
            KIND_IN_TURN => {
                let n = control[TURN];
                control[TURN] = if n + 1 >= control[FLOWS] { 0 } else { n + 1 };
                low(n)
            }
            _ => low((random >> 32).wrapping_mul(control[FLOWS]) >> 32),
        };
        control[SENT_DATA] = control[SENT_DATA].wrapping_add(1);
        let flags = (control[DATA_FLAGS] & 0xff).to_le_bytes()[0];
        Segment { client: ESTABLISHED | flow, port: port_of(flow.wrapping_mul(0x9e37)), flags }
    };
    if !write(&ctx, &segment, low(control[VIP]), low(control[PORT])) {
        return xdp_action::XDP_ABORTED;
    }
    redirect(low(control[TARGET]))
}

/// The floor: MAC addresses swapped, and back.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_floor(ctx: XdpContext) -> u32 {
    if swap_macs(&ctx) { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

/// Counts, compares where asked to, and gives the page back.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "aya's entry point hands the context over")]
fn weir_receive(ctx: XdpContext) -> u32 {
    let (Some(received), Some(control)) = (value(&RECEIVED, 0), value(&CONTROL, 0)) else {
        return xdp_action::XDP_DROP;
    };
    received[FRAMES] = received[FRAMES].wrapping_add(1);
    if control[CHECK] != 0
        && let Some(client) = source(&ctx)
        && client & 0xff00_0000 == ESTABLISHED
        && let Some(seen) = value(&SEEN, client.wrapping_add(low(control[NOTES_AT])) & (MOST_FLOWS - 1))
    {
        let there = destination(&ctx);
        received[DATA_FRAMES] = received[DATA_FRAMES].wrapping_add(1);
        if control[CHECK] == CHECK_NOTE {
            *seen = there;
        } else if *seen != there {
            received[MOVED] = received[MOVED].wrapping_add(1);
        }
    }
    xdp_action::XDP_DROP
}

/// Marsaglia's xorshift (J. Stat. Softw. 8(14), 2003), and a multiplication, because its lower bits alone are weak.
#[inline(always)]
const fn next_random(x: u64) -> u64 {
    let x = x ^ x << 13;
    let x = x ^ x >> 7;
    x ^ x << 17
}

/// Above the well-known ones.
#[inline(always)]
const fn port_of(n: u32) -> u16 {
    let [low, high, ..] = n.to_le_bytes();
    u16::from_le_bytes([low, high & 0x7f]) | 0x400
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
#[inline(always)]
const fn low(n: u64) -> u32 {
    n as u32
}

const _: () = assert!(KIND_DRAWN == 0, "an array of zeroes draws");

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
