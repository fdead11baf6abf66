//! Errors about our own outer packets: the client hears of them in words about the packet that it sent.

use std::net::IpAddr;

use lb_common::service::{FORWARD_GUE, FORWARD_IPIP, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::ground::CLIENT_MAC;
use weir_tests::packet::{Flags, icmp, quoted, tagged, tcp, too_big};
use weir_tests::world::{World, at, service_entry};

const CLIENTS: [&str; 3] = ["192.0.2.7:40000", "[2001:db8:9::7]:40000", "192.0.2.7:40000"];
const VIPS: [&str; 3] = ["203.0.113.10:80", "[2001:db8::10]:80", "203.0.113.20:80"];
/// 4in4, 6in6, 4in6.
const BACKENDS: [&str; 3] = ["10.0.0.11:80", "[fd00::12]:80", "[fd00::13]:80"];
const SOURCES: [&str; 3] = ["172.16.0.0", "fd00:172:16::", "fd00:172:16::"];
/// A router on the way of each.
const ROUTERS: [&str; 3] = ["10.0.0.254", "fd00::254", "fd00::254"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn world(forward: u8) -> World {
    let mut world = World::default();
    for n in 0..3 {
        let id = u16::try_from(n).expect("small") + 1;
        world = world.pool(VIPS[n], 6, ServiceEntry { forward, ..service_entry(id) }, &[(id, BACKENDS[n])]).wrap(
            &[id],
            ip(SOURCES[n]),
            16,
        );
    }
    world
}

fn segment(kind: usize) -> Vec<u8> {
    tcp(at(CLIENTS[kind]), at(VIPS[kind]), Flags::Ack, &[7; 1_300])
}

/// What a router says that may carry no more than 1,400 bytes.
fn narrow(kind: usize, outer: &[u8], quoted: usize) -> Vec<u8> {
    too_big(ip(ROUTERS[kind]), outer, quoted)
}

#[test]
fn rfc_2003_and_2473_the_client_hears_of_the_mtu_less_the_encapsulation() {
    for (forward, mtus) in [(FORWARD_IPIP, [1_380, 1_360, 1_360]), (FORWARD_GUE, [1_372, 1_352, 1_352])] {
        let mut bench = Bench::new(world(forward));
        for kind in 0..3 {
            let outer = bench.xdp(&segment(kind)).frame;
            for quote in [if kind == 1 { 60 } else { 40 }, 200, 1_200] {
                let out = bench.sent(&narrow(kind, &outer, quote), Verdict::ReplyIcmp);

                assert_eq!((out.src.ip(), out.dst.ip()), (at(VIPS[kind]).ip(), at(CLIENTS[kind]).ip()));
                assert_eq!((out.dst_mac, out.ttl), (CLIENT_MAC, 64));
                assert_eq!(out.payload[..2], if kind == 1 { [2, 0] } else { [3, 4] });
                assert_eq!(u32::from_be_bytes(out.payload[4..8].try_into().expect("four")), mtus[kind]);
                assert_eq!(quoted(&out), (at(CLIENTS[kind]), at(VIPS[kind])));
            }
        }
        bench.compare_tables();
    }
}

#[test]
fn rfc_8200_section_5_no_ipv6_client_hears_of_less_than_every_link_carries() {
    let mut bench = Bench::new(world(FORWARD_GUE));
    let outer = bench.xdp(&segment(1)).frame;
    let quote = &outer[14..400];
    let error = icmp(ip(ROUTERS[1]), source_of(&outer), 2, 0, &[&[0, 0, 5, 0], quote].concat());

    let out = bench.sent(&error, Verdict::ReplyIcmp);

    assert_eq!(out.payload[4..8], [0, 0, 5, 0], "1,280");
}

fn source_of(outer: &[u8]) -> IpAddr {
    match outer[12] {
        8 => <[u8; 4]>::try_from(&outer[26..30]).expect("four").into(),
        _ => <[u8; 16]>::try_from(&outer[22..38]).expect("sixteen").into(),
    }
}

#[test]
fn rfc_2003_section_4_whatever_keeps_the_tunnel_from_its_end_makes_the_host_unreachable() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for kind in 0..3 {
        let outer = bench.xdp(&segment(kind)).frame;
        // Host, protocol and port unreachable, time exceeded.
        let said = if kind == 0 { [(3, 1), (3, 2), (3, 3), (11, 0)] } else { [(1, 0), (1, 3), (1, 4), (3, 0)] };
        for (what, code) in said {
            let error = icmp(ip(ROUTERS[kind]), source_of(&outer), what, code, &[&[0; 4], &outer[14..200]].concat());

            let out = bench.sent(&error, Verdict::ReplyIcmp);

            assert_eq!(out.payload[..2], if kind == 1 { [1, 3] } else { [3, 1] });
            assert_eq!(quoted(&out), (at(CLIENTS[kind]), at(VIPS[kind])));
        }
    }
}

#[test]
fn tags_of_the_link_stay() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for kind in 0..3 {
        let outer = bench.xdp(&segment(kind)).frame;
        let error = narrow(kind, &outer, 200);
        let plain = bench.xdp(&error).frame;
        for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
            assert_eq!(bench.xdp(&tagged(&error, tags)).frame, tagged(&plain, tags));
        }
    }
}

#[test]
fn what_is_not_about_a_flow_of_ours_is_the_kernels() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let outer = bench.xdp(&segment(0)).frame;
    let good = narrow(0, &outer, 200);
    assert_eq!(bench.verdict(&good), Verdict::ReplyIcmp);
    let mut others = vec![narrow(0, &outer, 8), narrow(0, &outer, 27)];
    // The outer destination is no backend of the flow's; the inner one no VIP; a source that its hash does not give.
    for at in [58, 78] {
        let mut about = good.clone();
        about[at + 3] ^= 1;
        others.push(about);
    }
    let mut elsewhere = outer.clone();
    elsewhere[29] ^= 1;
    others.push(narrow(0, &elsewhere, 200));
    for frame in others {
        let ran = bench.xdp(&frame);
        assert_eq!((ran.verdict, ran.frame), (Some(Verdict::PassNotOurs), frame));
    }
    assert_eq!(bench.verdict(&good), Verdict::ReplyIcmp);
}
