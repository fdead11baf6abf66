//! A packet that does not fit is answered by how large it may be; at a limited rate, and never about what must not be answered.

use std::net::IpAddr;

use lb_common::rate::{MOST_TOKENS, TOKENS_PER_TICK};
use lb_common::service::{FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::host::action::XDP_TX;
use weir_tests::packet::{Flags, PEER_MAC, fragments, read, tagged, tcp, too_big, udp, with_extensions, with_options};
use weir_tests::world::{OUR_MAC, World, at, service_entry};

const CLIENTS: [&str; 3] = ["192.0.2.7:40000", "[2001:db8:9::7]:40000", "192.0.2.7:40000"];
const VIPS: [&str; 3] = ["203.0.113.10:80", "[2001:db8::10]:80", "203.0.113.20:80"];
/// 4in4, 6in6, 4in6.
const BACKENDS: [&str; 3] = ["10.0.0.11:80", "[fd00::12]:80", "[fd00::13]:80"];
const SOURCES: [&str; 3] = ["172.16.0.0", "fd00:172:16::", "fd00:172:16::"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// nat and l2dsr keep the family, so they have two kinds.
fn kinds(forward: u8) -> usize {
    if forward >= FORWARD_IPIP { 3 } else { 2 }
}

fn world(forward: u8) -> World {
    let mut world = World::default();
    for n in 0..kinds(forward) {
        let id = u16::try_from(n).expect("small") + 1;
        world = world.pool(VIPS[n], 6, ServiceEntry { forward, ..service_entry(id) }, &[(id, BACKENDS[n])]);
        if forward >= FORWARD_IPIP {
            world = world.wrap(&[id], ip(SOURCES[n]), 16);
        }
    }
    world
}

/// A TCP segment whose IP packet has `len` bytes.
fn segment(kind: usize, len: usize) -> Vec<u8> {
    let headers = if kind == 1 { 60 } else { 40 };
    tcp(at(CLIENTS[kind]), at(VIPS[kind]), Flags::Ack, &vec![7; len - headers])
}

fn overhead(forward: u8, kind: usize) -> usize {
    match (forward, kind) {
        (FORWARD_IPIP, 0) => 20,
        (FORWARD_IPIP, _) => 40,
        (FORWARD_GUE, 0) => 28,
        (FORWARD_GUE, _) => 48,
        _ => 0,
    }
}

#[test]
fn rfc_1191_and_rfc_4443_the_sender_hears_from_the_vip_how_much_fits() {
    for forward in [FORWARD_NAT, FORWARD_L2DSR, FORWARD_IPIP, FORWARD_GUE] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..kinds(forward) {
            let limit = 1_500 - overhead(forward, kind);
            assert_eq!(bench.verdict(&segment(kind, limit)), Verdict::Forward, "what fits goes");
            let frame = segment(kind, limit + 1);

            let ran = bench.xdp(&frame);

            assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::SendTooBig)));
            let out = read(&ran.frame).expect("a sound report");
            assert_eq!((out.src.ip(), out.dst.ip()), (at(VIPS[kind]).ip(), at(CLIENTS[kind]).ip()));
            assert_eq!((out.src_mac, out.dst_mac, out.ttl), (OUR_MAC, PEER_MAC, 64));
            let [high, low] = u16::try_from(limit).expect("small").to_be_bytes();
            assert_eq!(out.payload[..2], if kind == 1 { [2, 0] } else { [3, 4] });
            assert_eq!(out.payload[4..8], [0, 0, high, low]);
            let quote = if kind == 1 { 256 } else { 128 };
            assert_eq!(out.payload[8..], frame[14..14 + quote], "the packet as it came, as far as it goes");
        }
        bench.compare_tables();
    }
}

#[test]
fn options_extensions_and_tags_are_quoted_and_kept() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for (kind, frame) in [(0, with_options(&segment(0, 1_480), 10)), (1, with_extensions(&segment(1, 1_460), &[0, 60]))]
    {
        let ran = bench.xdp(&frame);
        assert_eq!(ran.verdict, Some(Verdict::SendTooBig));
        let out = read(&ran.frame).expect("a sound report");
        assert_eq!(out.payload[8..80], frame[14..86]);

        for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
            let with_tags = bench.xdp(&tagged(&frame, tags));
            assert_eq!(with_tags.verdict, Some(Verdict::SendTooBig));
            assert_eq!(with_tags.frame, tagged(&ran.frame, tags), "kind {kind}");
        }
    }
}

#[test]
fn a_narrow_way_is_told_of_too() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    bench.change(|world| world.backend(1).mtu = 400);
    let frame = segment(0, 500);

    let out = bench.sent(&frame, Verdict::SendTooBig);

    assert_eq!(out.payload[4..8], [0, 0, 1, 0x7c], "380");
    assert_eq!(out.payload[8..], frame[14..142]);
}

#[test]
fn reports_come_at_a_limited_rate_and_the_rest_is_dropped_under_its_name() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let frame = segment(0, 1_481);
    for n in 0..MOST_TOKENS {
        assert_eq!(bench.verdict(&frame), Verdict::SendTooBig, "{n}");
    }
    assert_eq!(bench.verdict(&frame), Verdict::DropTooBig);
    assert_eq!(bench.verdict(&segment(0, 1_480)), Verdict::Forward, "what fits is not held up");
    const { assert!(TOKENS_PER_TICK < MOST_TOKENS) };
}

#[test]
fn rfc_1122_errors_and_later_pieces_are_not_answered() {
    let mut bench = Bench::new(world(FORWARD_IPIP).pool(
        VIPS[0],
        17,
        ServiceEntry { forward: FORWARD_IPIP, ..service_entry(9) },
        &[(9, BACKENDS[0])],
    ));
    let about = tcp(at(VIPS[0]), at(CLIENTS[0]), Flags::Ack, &[7; 1_470]);
    assert_eq!(bench.verdict(&too_big(ip("192.0.2.200"), &about, 1_460)), Verdict::DropTooBig, "an error");

    let (head, tail) = fragments(&udp(at(CLIENTS[0]), at(VIPS[0]), &[7; 1_600]), 64, 9);
    assert_eq!(bench.verdict(&head), Verdict::Forward);
    assert_eq!(bench.verdict(&tail), Verdict::DropTooBig, "a later piece");
    let (head, _) = fragments(&udp(at(CLIENTS[0]), at(VIPS[0]), &[7; 1_600]), 1_488, 10);
    assert_eq!(bench.verdict(&head), Verdict::SendTooBig, "a head names its flow");
}
