//! ipip and gue: the client's packet travels whole inside another one, whose every byte is accounted for.

use std::net::IpAddr;

use lb_common::backend::BACKEND_REACHABLE;
use lb_common::service::{FORWARD_GUE, FORWARD_IPIP, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::host::action::XDP_TX;
use weir_tests::packet::{
    Flags, TTL, fragments, tagged, tcp, too_big, udp, with_extensions, with_options, with_ttl, without_checksum,
};
use weir_tests::world::{GUE_PORT, OUR_MAC, World, at, service_entry};
use weir_tests::wrapped::{Wrapped, unwrap};

const CLIENTS: [&str; 3] = ["192.0.2.7:40000", "[2001:db8:9::7]:40000", "192.0.2.7:40000"];
const VIPS: [&str; 3] = ["203.0.113.10:80", "[2001:db8::10]:80", "203.0.113.20:80"];
/// 4in4, 6in6, 4in6.
const BACKENDS: [&str; 3] = ["10.0.0.11:80", "[fd00::12]:80", "[fd00::13]:80"];
const SOURCES: [(&str, u8); 3] = [("172.16.0.0", 16), ("fd00:172:16::", 32), ("fd00:172:16::", 32)];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn world(forward: u8) -> World {
    let mut world = World::default();
    for (n, protocol) in [(0, 6), (1, 6), (2, 6), (3, 17), (4, 17), (5, 17)] {
        let (id, kind) = (n + 1, usize::from(n % 3));
        let entry = ServiceEntry { forward, ..service_entry(id) };
        world = world.pool(VIPS[kind], protocol, entry, &[(id, BACKENDS[kind])]).wrap(
            &[id],
            ip(SOURCES[kind].0),
            SOURCES[kind].1,
        );
    }
    world
}

fn segment(kind: usize, flags: Flags, payload: &[u8]) -> Vec<u8> {
    tcp(at(CLIENTS[kind]), at(VIPS[kind]), flags, payload)
}

#[track_caller]
fn wrapped(bench: &mut Bench, frame: &[u8], verdict: Verdict) -> Wrapped {
    let ran = bench.xdp(frame);
    assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(verdict)));
    unwrap(&ran.frame).expect("what leaves is sound")
}

/// Everything of the inner packet but one hop is as the client sent it.
#[track_caller]
fn assert_inner_is(wrapped: &Wrapped, frame: &[u8]) {
    assert_eq!(wrapped.inner_frame[14..], with_ttl(frame, TTL - 1)[14..]);
}

#[test]
fn rfc_2003_and_2473_every_pair_of_families_travels_whole_inside_an_ip_packet() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for kind in 0..3 {
        let datagram = udp(at(CLIENTS[kind]), at(VIPS[kind]), b"who");
        for (owner, frame) in [
            (kind + 1, segment(kind, Flags::Syn, b"")),
            (kind + 1, segment(kind, Flags::Data, b"GET / HTTP/1.1")),
            (kind + 1, segment(kind, Flags::Ack, &[7; 1_200])),
            (kind + 4, datagram.clone()),
        ] {
            let out = wrapped(&mut bench, &frame, Verdict::Forward);

            assert_inner_is(&out, &frame);
            assert_eq!(out.outer.dst.ip(), at(BACKENDS[kind]).ip());
            assert_eq!(out.outer.protocol, if kind == 1 { 41 } else { 4 });
            assert_eq!((out.outer.ttl, out.outer.src_mac), (64, OUR_MAC));
            assert_eq!(usize::from(out.outer.dst_mac[5]), owner);
            assert_eq!(out.dont_fragment, (kind == 0).then_some(true));
        }
    }
    bench.compare_tables();
}

#[test]
fn gue_variant_1_puts_udp_between_without_a_checksum() {
    let mut bench = Bench::new(world(FORWARD_GUE));
    for (kind, backend) in BACKENDS.into_iter().enumerate() {
        let frame = segment(kind, Flags::Data, b"GET / HTTP/1.1");

        let out = wrapped(&mut bench, &frame, Verdict::Forward);

        assert_inner_is(&out, &frame);
        assert_eq!((out.outer.dst.ip(), out.outer.dst.port()), (at(backend).ip(), GUE_PORT));
        assert!(out.outer.src.port() >= 0xc000, "a dynamic port: {}", out.outer.src.port());
        let ran = bench.xdp(&frame);
        let udp = if kind == 0 { 34 } else { 54 };
        assert_eq!(ran.frame[udp + 6..udp + 8], [0, 0], "RFC 6935: none");
    }
}

#[test]
fn outer_sources_and_ports_spread_flows_and_keep_each_on_one() {
    for forward in [FORWARD_IPIP, FORWARD_GUE] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..3 {
            let mut sources = std::collections::BTreeSet::new();
            let mut ports = std::collections::BTreeSet::new();
            for port in 40_000..40_200 {
                let mut client = at(CLIENTS[kind]);
                client.set_port(port);
                let mut of = |flags| {
                    let out = wrapped(&mut bench, &tcp(client, at(VIPS[kind]), flags, b""), Verdict::Forward);
                    out.outer.src
                };
                let source = of(Flags::Syn);
                assert_eq!(of(Flags::Ack), source, "a flow keeps its source");
                let _new = sources.insert(source.ip());
                let _new = ports.insert(source.port());
            }
            assert!(sources.len() > 195, "{} sources", sources.len());
            for source in sources {
                let prefix = match source {
                    IpAddr::V4(a) => a.octets()[..2] == [172, 16],
                    IpAddr::V6(a) => a.octets()[..12] == [0xfd, 0, 1, 0x72, 0, 0x16, 0, 0, 0, 0, 0, 0],
                };
                assert!(prefix, "{source} is not of the configured prefix");
            }
            assert!(if forward == FORWARD_GUE { ports.len() > 190 } else { ports.len() == 1 }, "{ports:?}");
        }
    }
}

#[test]
fn without_source_bits_the_source_is_one_address() {
    let mut bench = Bench::new(world(FORWARD_IPIP).wrap(&[1], ip("10.9.9.9"), 0));
    for port in 40_000..40_010 {
        let out =
            wrapped(&mut bench, &tcp(at(&format!("192.0.2.7:{port}")), at(VIPS[0]), Flags::Ack, b""), Verdict::Forward);
        assert_eq!(out.outer.src.ip(), ip("10.9.9.9"));
    }
}

#[test]
fn rfc_6040_section_4_1_normal_mode_copies_dscp_and_ecn() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for kind in 0..3 {
        for class in [0, 0b1011_1000, 0b1011_1001, 0b0000_0010, 0xff] {
            let frame = with_class(&segment(kind, Flags::Ack, b""), class);

            let out = wrapped(&mut bench, &frame, Verdict::Forward);

            assert_eq!(out.outer_class, class);
            assert_inner_is(&out, &frame);
        }
    }
}

fn with_class(frame: &[u8], class: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12] == 8 {
        frame[15] = class;
        // Its checksum is set by what sets the TTL.
    } else {
        frame[14] = 0x60 | class >> 4;
        frame[15] = class << 4;
    }
    with_ttl(&frame, TTL)
}

#[test]
fn the_link_keeps_its_tags_in_front() {
    for forward in [FORWARD_IPIP, FORWARD_GUE] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..3 {
            for kinds in [&[0x8100][..], &[0x88a8, 0x8100]] {
                let plain = bench.xdp(&segment(kind, Flags::Data, b"x")).frame;

                let ran = bench.xdp(&tagged(&segment(kind, Flags::Data, b"x"), kinds));

                assert_eq!(ran.verdict, Some(Verdict::Forward));
                assert_eq!(ran.frame, tagged(&plain, kinds));
            }
        }
    }
}

#[test]
fn options_extensions_and_missing_checksums_travel_untouched() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let frames = [
        with_options(&segment(0, Flags::Data, b"x"), 10),
        with_extensions(&segment(1, Flags::Data, b"x"), &[0, 43, 60]),
        without_checksum(&udp(at(CLIENTS[0]), at(VIPS[0]), b"x")),
    ];
    for frame in frames {
        let out = wrapped(&mut bench, &frame, Verdict::Forward);
        assert_inner_is(&out, &frame);
    }
}

#[test]
fn padding_behind_a_short_packet_stays_behind_it() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let mut frame = segment(0, Flags::Ack, b"");
    frame.extend([0; 6]);

    let ran = bench.xdp(&frame);

    assert_eq!(ran.verdict, Some(Verdict::Forward));
    assert_eq!(ran.frame.len(), frame.len() + 20);
    assert_eq!(u16::from_be_bytes([ran.frame[16], ran.frame[17]]), 60, "outer length");
}

#[test]
fn the_last_hop_of_a_packets_life_is_not_spent_here() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for kind in 0..3 {
        assert_eq!(bench.verdict(&with_ttl(&segment(kind, Flags::Syn, b""), 1)), Verdict::DropTtl);
    }
}

#[test]
fn a_backend_without_a_next_hop_is_not_reached() {
    let mut world = world(FORWARD_GUE);
    world.backend(1).flags &= !BACKEND_REACHABLE;
    assert_eq!(Bench::new(world).verdict(&segment(0, Flags::Syn, b"")), Verdict::DropNoNextHop);
}

#[test]
fn pieces_of_a_datagram_go_the_same_way() {
    for forward in [FORWARD_IPIP, FORWARD_GUE] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..3 {
            let (head, tail) = fragments(&udp(at(CLIENTS[kind]), at(VIPS[kind]), &[7; 400]), 64, 9);

            let first = bench.xdp(&head);
            let second = bench.xdp(&tail);

            assert_eq!((first.verdict, second.verdict), (Some(Verdict::Forward), Some(Verdict::Forward)));
            let start = if kind == 0 { 34 } else { 54 } + if forward == FORWARD_GUE { 8 } else { 0 };
            assert_eq!(first.frame[start..], with_ttl(&head, TTL - 1)[14..]);
            assert_eq!(second.frame[start..], with_ttl(&tail, TTL - 1)[14..]);
            let addresses = if kind == 0 { 26..34 } else { 22..54 };
            assert_eq!(first.frame[addresses.clone()], second.frame[addresses], "the same outer addresses");
        }
        bench.compare_tables();
    }
}

#[test]
fn an_error_about_a_flow_travels_like_the_flow() {
    for forward in [FORWARD_IPIP, FORWARD_GUE] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..3 {
            let flow = wrapped(&mut bench, &segment(kind, Flags::Ack, b""), Verdict::Forward);
            let router = ip(if kind == 1 { "2001:db8:9::200" } else { "192.0.2.200" });
            for quoted in [8, 20, 400] {
                let error = too_big(router, &tcp(at(VIPS[kind]), at(CLIENTS[kind]), Flags::Ack, &[7; 500]), quoted);

                let out = wrapped(&mut bench, &error, Verdict::ForwardIcmp);

                assert_eq!((out.outer.src, out.outer.dst), (flow.outer.src, flow.outer.dst));
                assert_inner_is(&out, &error);
            }
        }
    }
}

#[test]
fn tc_encapsulates_what_xdp_leaves_to_it() {
    for forward in [FORWARD_IPIP, FORWARD_GUE] {
        let mut world = world(forward);
        for owner in 1..=3 {
            world.backend(owner).flags |= lb_common::backend::BACKEND_VIA_TC;
        }
        let mut bench = Bench::new(world);
        for (kind, backend) in BACKENDS.into_iter().enumerate() {
            let frame = segment(kind, Flags::Data, b"x");
            assert_eq!(bench.verdict(&frame), Verdict::PassToTc);

            let ran = bench.tc(&frame);

            assert_eq!(ran.verdict, Some(Verdict::Forward));
            let out = unwrap(&ran.frame).expect("what leaves is sound");
            assert_inner_is(&out, &frame);
            assert_eq!(out.outer.dst.ip(), at(backend).ip());
            let behind_a_tag = bench.tc(&tagged(&frame, &[0x8100]));
            assert_eq!(behind_a_tag.verdict, Some(Verdict::DropNoRoom));
        }
    }
}
