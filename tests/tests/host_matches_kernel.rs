//! The decision core, compiled twice, decides the same: a hundred thousand packets, sound and broken, through both.
//!
//! `WEIR_SEED` and `WEIR_PACKETS` explore further; the seed is printed when the test fails.

use std::env;
use std::fmt::Display;
use std::str::FromStr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, SlicedPacket, TransportSlice};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE};
use lb_common::host::{HOST_CAPTURE, HOST_SLOW, HOST_TRACE};
use lb_common::slot::Slot;
use lb_common::verdict::{Fate, Verdict};
use weir_tests::bench::Bench;
use weir_tests::everything::everything;
use weir_tests::generate::{Generator, Hook};
use weir_tests::packet::read;
use weir_tests::rig::Ran;
use weir_tests::world::GUE_PORT;
use weir_tests::wrapped::unwrap;

const PACKETS: u32 = 100_000;

/// Packets between two changes of what the agent has written.
const CHANGE_EVERY: u32 = 250;

/// Packets between two comparisons of all tables.
const COMPARE_EVERY: u32 = 2_500;

fn setting<T: FromStr + Display>(name: &str, default: T) -> T {
    let value = env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    eprintln!("{name}={value}");
    value
}

#[test]
fn both_worlds_decide_alike_and_broken_packets_reach_no_backend() {
    let (world, known) = everything();
    let mut bench = Bench::new(world);
    let mut generator = Generator::new(setting("WEIR_SEED", 20_261_125), known);
    let mut seen = [0_u32; 64];

    for n in 0..setting("WEIR_PACKETS", PACKETS) {
        let (frame, hook) = generator.next(&bench.host);
        let ran = match hook {
            Hook::Xdp(ifindex) => bench.xdp_by(&frame, ifindex),
            Hook::Tc => bench.tc(&frame),
        };
        if let Some(verdict) = ran.verdict {
            seen[verdict as usize] += 1;
            judge(&frame, &ran, verdict);
        }
        if n % CHANGE_EVERY == 0 {
            turn(&mut bench, &mut generator);
        }
        if n % COMPARE_EVERY == 0 {
            bench.compare_tables();
        }
    }

    bench.compare_tables();
    let unseen: Vec<_> = Verdict::ALL.iter().filter(|v| seen[**v as usize] == 0).map(|v| v.name()).collect();
    let seen: Vec<_> = Verdict::ALL.iter().map(|v| (v.name(), seen[*v as usize])).collect();
    eprintln!("{seen:?}");
    assert!(unseen.iter().all(|name| UNREACHED.contains(name)), "no packet ended as {unseen:?}");
}

/// Ends of packets that need a full table or tables that contradict each other.
const UNREACHED: [&str; 2] = ["drop_internal", "drop_fragment_table_full"];

/// What leaves is what an independent parser understands, and as sound as it came.
fn judge(frame: &[u8], ran: &Ran, verdict: Verdict) {
    match verdict.fate() {
        Fate::Pass => return assert_eq!(ran.frame, frame, "{} touches nothing", verdict.name()),
        Fate::Drop => return,
        Fate::Send => {}
    }
    if verdict == Verdict::Forward || verdict == Verdict::Reply {
        assert!(is_understood(frame), "{} of what no parser takes: {frame:02x?}", verdict.name());
    }
    if let Ok(before) = read(frame) {
        let after = if is_wrapped(&ran.frame) { unwrap(&ran.frame).map(|w| w.inner) } else { read(&ran.frame) };
        assert!(after.is_ok(), "{} of {before:?} leaves {after:?}", verdict.name());
    }
}

/// Whether a frame of ours carries another packet.
fn is_wrapped(frame: &[u8]) -> bool {
    read(frame).is_ok_and(|outer| matches!(outer.protocol, 4 | 41) || outer.dst.port() == GUE_PORT)
}

/// TCP, UDP, or a piece of a datagram, by somebody else's judgement. A later piece may begin with anything, which only the lax
/// parser knows.
fn is_understood(frame: &[u8]) -> bool {
    let is_piece = || {
        LaxSlicedPacket::from_ethernet(frame).is_ok_and(|lax| {
            lax.net.as_ref().and_then(LaxNetSlice::ip_payload_ref).is_some_and(|payload| payload.fragmented)
        })
    };
    match SlicedPacket::from_ethernet(frame) {
        Ok(sliced) => matches!(sliced.transport, Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_))) || is_piece(),
        Err(_) => is_piece(),
    }
}

/// The agent changes something, or time passes.
fn turn(bench: &mut Bench, generator: &mut Generator) {
    let known = generator.service();
    let (id, draw) = (known.entry.id, generator.below(3));
    let (owner, _) = known.backends[draw as usize];
    let (heir, _) = known.backends[(draw as usize + 1) % 3];
    let part = generator.below(4) + 1;
    match generator.below(10) {
        0 | 1 => bench.turn_ring(id, |s| if s.0 % part == 0 { s.change_to(owner) } else { s }),
        2 => bench.turn_ring(id, Slot::age),
        3 => bench.turn_ring(id, Slot::settle),
        4 => bench.turn_ring(id, |s| s.bereave(owner, heir)),
        5 => bench.change(|world| world.backend(owner).flags ^= BACKEND_ALIVE),
        6 => bench.change(|world| world.backend(owner).flags ^= BACKEND_REACHABLE),
        // Who looks changes nothing.
        9 => bench.change(|world| world.host.flags ^= HOST_TRACE | HOST_CAPTURE | HOST_SLOW),
        7 => bench.turn_ring(id, |s| if part == 1 { Slot::settled(0) } else { s }),
        _ => bench.age(if part == 1 { 4_000 } else { 30 }),
    }
}
