//! Who has a VIP? We have: ARP and neighbour solicitations, answered in place.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::host::{VIP_ASSIGNED, VipEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::host::action::{XDP_PASS, XDP_TX};
use weir_tests::packet::{PEER_MAC, arp_request, read, solicitation, tagged, with_ttl};
use weir_tests::world::{OUR_MAC, World, address, service_entry};

const ASKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

fn asker_v6() -> Ipv6Addr {
    "2001:db8:9::7".parse().expect("an address")
}

fn vip_v6() -> Ipv6Addr {
    "2001:db8::10".parse().expect("an address")
}

/// Source link-layer address.
const OPTION: [u8; 8] = [1, 1, 0x02, 0, 0, 0, 0, 0x99];

fn world() -> World {
    World::default().pool("203.0.113.10:80", 6, service_entry(1), &[(1, "10.0.0.11:80")]).pool(
        "[2001:db8::10]:80",
        6,
        service_entry(2),
        &[(2, "[fd00::11]:80")],
    )
}

#[test]
fn an_arp_request_for_a_vip_is_answered_with_the_interfaces_mac_address() {
    let mut bench = Bench::new(world());
    for (frame, tags) in [(arp_request(ASKER, VIP), 0), (tagged(&arp_request(ASKER, VIP), &[0x8100]), 4)] {
        let ran = bench.xdp(&frame);

        assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::ArpReply)));
        assert_eq!((&ran.frame[..6], &ran.frame[6..12]), (&PEER_MAC[..], &OUR_MAC[..]));
        let answer = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &OUR_MAC, &VIP.octets(), &PEER_MAC, &ASKER.octets()].concat();
        assert_eq!(ran.frame[14 + tags..], answer);
    }
}

#[test]
fn a_probe_for_a_vip_is_answered_too_or_somebody_else_would_take_it() {
    assert_eq!(Bench::new(world()).verdict(&arp_request(Ipv4Addr::UNSPECIFIED, VIP)), Verdict::ArpReply);
}

#[test]
fn other_arp_is_the_kernels_and_stays_untouched() {
    let mut world = world();
    let _vip = world.vips.insert(address(Ipv4Addr::new(203, 0, 113, 99).into()), VipEntry { flags: VIP_ASSIGNED });
    let mut bench = Bench::new(world);
    let mut answer = arp_request(ASKER, VIP);
    answer[21] = 2;
    let mut short = arp_request(ASKER, VIP);
    short.truncate(41);
    for (what, frame) in [
        ("for somebody else", arp_request(ASKER, Ipv4Addr::new(192, 0, 2, 1))),
        ("for a nat backend", arp_request(ASKER, Ipv4Addr::new(10, 0, 0, 11))),
        ("for a VIP that the host holds", arp_request(ASKER, Ipv4Addr::new(203, 0, 113, 99))),
        ("an announcement", arp_request(VIP, VIP)),
        ("an answer", answer),
        ("too short", short),
    ] {
        let ran = bench.xdp(&frame);
        assert_eq!((ran.action, ran.verdict, ran.frame), (XDP_PASS, Some(Verdict::PassNotIp), frame), "{what}");
    }
}

#[test]
fn a_solicitation_for_a_vip_is_answered_with_a_sound_advertisement() {
    let mut bench = Bench::new(world());
    for option in [&OPTION[..], &[]] {
        let ran = bench.xdp(&solicitation(asker_v6(), vip_v6(), option));

        assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::NeighbourReply)));
        let out = read(&ran.frame).expect("a sound packet");
        assert_eq!((out.src.ip(), out.dst.ip(), out.ttl), (vip_v6().into(), asker_v6().into(), 255));
        assert_eq!((out.dst_mac, out.src_mac), (PEER_MAC, OUR_MAC));
        assert_eq!((out.payload[0], out.payload[1], out.payload[4]), (136, 0, 0x60), "solicited, override");
        assert_eq!(out.payload[8..24], vip_v6().octets());
        let target = [&[2, 1][..], &OUR_MAC].concat();
        assert_eq!(out.payload[24..], if option.is_empty() { vec![] } else { target });
    }
}

#[test]
fn somebody_without_an_address_yet_is_answered_before_all_nodes() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];

    let ran = Bench::new(world()).xdp(&solicitation(Ipv6Addr::UNSPECIFIED, vip_v6(), &nonce));

    assert_eq!(ran.verdict, Some(Verdict::NeighbourReply));
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.dst.ip().to_string(), out.dst_mac), ("ff02::1".to_owned(), [0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!((out.payload[4], &out.payload[24..26]), (0x20, &[2, 1][..]), "override alone, and our MAC address");
}

#[test]
fn a_solicitation_that_a_router_let_through_is_dropped() {
    let frame = with_ttl(&solicitation(asker_v6(), vip_v6(), &OPTION), 254);

    assert_eq!(Bench::new(world()).verdict(&frame), Verdict::DropIcmp);
}

#[test]
fn other_solicitations_are_the_kernels() {
    let mut bench = Bench::new(world());
    for target in ["2001:db8:9::1", "fd00::11"] {
        let frame = solicitation(asker_v6(), target.parse().expect("an address"), &OPTION);
        let ran = bench.xdp(&frame);
        assert_eq!((ran.action, ran.verdict, ran.frame), (XDP_PASS, Some(Verdict::PassNotOurs), frame));
    }
}
