//! The MSS that a client announces is lowered to what the encapsulation leaves, and nothing else of its SYN changes.

use std::net::IpAddr;

use lb_common::service::{FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, tcp};
use weir_tests::world::{World, at, service_entry};
use weir_tests::wrapped::{syn_with, unwrap};

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "203.0.113.10:80";
const CLIENT_V6: &str = "[2001:db8:9::7]:40000";
const VIP_V6: &str = "[2001:db8::10]:80";

fn world(forward: u8) -> World {
    let entry = |id| ServiceEntry { forward, ..service_entry(id) };
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    World::default()
        .pool(VIP, 6, entry(1), &[(1, "10.0.0.11:80")])
        .wrap(&[1], ip("172.16.0.0"), 16)
        .pool(VIP_V6, 6, entry(2), &[(2, "[fd00::12]:80")])
        .wrap(&[2], ip("fd00:172:16::"), 32)
}

/// The TCP options of what reaches the backend.
#[track_caller]
fn options(bench: &mut Bench, frame: &[u8]) -> Vec<u8> {
    let ran = bench.xdp(frame);
    assert_eq!(ran.verdict, Some(Verdict::Forward));
    let inner = unwrap(&ran.frame).expect("every checksum is right").inner_frame;
    let tcp = if inner[12] == 8 { 34 } else { 54 };
    inner[tcp + 20..tcp + usize::from(inner[tcp + 12] >> 4) * 4].to_vec()
}

const fn mss(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [2, 4, high, low]
}

#[test]
fn what_is_left_is_the_mtu_less_every_header() {
    for (forward, v4, v6) in [(FORWARD_IPIP, 1_440, 1_400), (FORWARD_GUE, 1_432, 1_392)] {
        let mut bench = Bench::new(world(forward));
        for announced in [1_460, 8_960, 65_535] {
            assert_eq!(options(&mut bench, &syn_with(at(CLIENT), at(VIP), &mss(announced))), mss(v4));
            assert_eq!(options(&mut bench, &syn_with(at(CLIENT_V6), at(VIP_V6), &mss(announced))), mss(v6));
        }
    }
}

#[test]
fn what_fits_stays() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    for announced in [0, 536, 1_440] {
        assert_eq!(options(&mut bench, &syn_with(at(CLIENT), at(VIP), &mss(announced))), mss(announced));
    }
}

#[test]
fn the_option_is_found_behind_others_at_even_and_odd_places() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let [high, low] = 1_460_u16.to_be_bytes();
    let [fits_high, fits_low] = 1_440_u16.to_be_bytes();
    let around: [(&[u8], &[u8]); 6] = [
        (&[4, 2], &[3, 3, 7, 0, 0, 0]),
        (&[1], &[0, 0, 0]),
        (&[1, 1, 1], &[0]),
        (&[3, 3, 7], &[0]),
        (&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8], &[4, 2]),
        (&[1, 1, 1, 1, 1, 1, 1], &[0]),
    ];
    for (before, after) in around {
        let with = |high: u8, low: u8| [before, &[2, 4, high, low], after].concat();

        let left = options(&mut bench, &syn_with(at(CLIENT), at(VIP), &with(high, low)));

        assert_eq!(left, with(fits_high, fits_low));
    }
}

#[test]
fn a_syn_without_the_option_or_with_a_broken_one_is_left_alone() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let broken: [&[u8]; 7] = [
        &[],
        &[4, 2, 1, 1],
        &[0, 2, 4, 0xff, 0xff, 0, 0, 0],
        &[9, 0, 2, 4, 0xff, 0xff, 0, 0],
        &[2, 3, 0xff, 0xff],
        &[254, 40, 2, 4],
        &[1, 1, 2, 4],
    ];
    for bytes in broken {
        assert_eq!(options(&mut bench, &syn_with(at(CLIENT), at(VIP), bytes)), bytes);
    }
}

#[test]
fn other_segments_and_other_modes_are_not_looked_at() {
    let mut bench = Bench::new(world(FORWARD_IPIP));
    let mut data = syn_with(at(CLIENT), at(VIP), &mss(1_460));
    data[47] = 0x10;
    let fixed = tcp(at(CLIENT), at(VIP), Flags::Ack, b"");
    // The flag byte changed, so the checksum does: by the difference between SYN and ACK.
    let sum = u16::from_be_bytes([data[50], data[51]]).wrapping_sub(0x0e);
    data[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(fixed[47], data[47]);
    assert_eq!(options(&mut bench, &data), mss(1_460));

    drop(bench);
    for forward in [FORWARD_NAT, FORWARD_L2DSR] {
        let mut bench = Bench::new(world(forward));
        let ran = bench.xdp(&syn_with(at(CLIENT), at(VIP), &mss(1_460)));
        assert_eq!((ran.verdict, &ran.frame[54..58]), (Some(Verdict::Forward), &mss(1_460)[..]));
    }
}
