//! nat, packet by packet, in the kernel and in its twin.

use lb_common::service::{SELECT_LEAST_CONN, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::host::action::{TC_REDIRECT, XDP_PASS, XDP_REDIRECT, XDP_TX};
use weir_tests::packet::{Flags, TTL, read, tcp, udp, with_options, with_ttl, without_checksum};
use weir_tests::world::{OTHER, OUR_MAC, WIRE, World, at, service_entry};

const VIP: &str = "203.0.113.10:80";
const CLIENT: &str = "192.0.2.7:40000";

fn nat_v4() -> World {
    World::default().pool(VIP, 6, service_entry(1), &[(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080")])
}

fn syn() -> Vec<u8> {
    tcp(at(CLIENT), at(VIP), Flags::Syn, b"")
}

#[test]
fn a_syn_to_a_vip_leaves_for_a_backend_and_opens_a_flow() {
    let mut bench = Bench::new(nat_v4());

    let ran = bench.xdp(&syn());

    assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::Forward)));
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.src, out.dst.port(), out.ttl), (at(CLIENT), 8080, TTL - 1));
    let owner = u16::from(out.dst_mac[5]);
    assert_eq!(out.dst.ip().to_string(), format!("10.0.0.1{owner}"));
    assert_eq!(out.src_mac, OUR_MAC);
    let counters = bench.counters(owner);
    assert_eq!((counters.packets, counters.bytes, counters.opened, counters.confirmed), (1, 40, 1, 0));
    assert_eq!(bench.flow().owner(), owner);
    bench.compare_tables();
}

#[test]
fn the_second_packet_confirms_and_the_third_leaves_the_table_alone() {
    let mut bench = Bench::new(nat_v4());

    let owners: Vec<_> = [Flags::Syn, Flags::Ack, Flags::Data, Flags::Fin]
        .into_iter()
        .map(|flags| bench.owner_of(&tcp(at(CLIENT), at(VIP), flags, b"hello")))
        .collect();

    assert!(owners.iter().all(|o| *o == owners[0]), "{owners:?}");
    let counters = bench.counters(owners[0]);
    assert_eq!((counters.packets, counters.opened, counters.confirmed, counters.messages), (4, 1, 1, 1));
    assert_eq!(bench.flow().owner(), owners[0]);
    bench.compare_tables();
}

#[test]
fn ipv6_and_udp_are_rewritten_likewise() {
    let world = World::default().pool("[2001:db8::10]:53", 17, service_entry(2), &[(3, "[fd00::11]:5353")]);
    let mut bench = Bench::new(world);

    let out = bench.sent(&udp(at("[2001:db8:9::7]:999"), at("[2001:db8::10]:53"), b"who"), Verdict::Forward);

    assert_eq!((out.src, out.dst, out.ttl), (at("[2001:db8:9::7]:999"), at("[fd00::11]:5353"), TTL - 1));
    bench.compare_tables();
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut bench = Bench::new(World::default().pool("203.0.113.10:53", 17, service_entry(1), &[(1, "10.0.0.11:53")]));

    let ran = bench.xdp(&without_checksum(&udp(at(CLIENT), at("203.0.113.10:53"), b"who")));

    assert_eq!(ran.verdict, Some(Verdict::Forward));
    assert_eq!(ran.frame[40..42], [0, 0]);
}

#[test]
fn ipv4_options_travel_along() {
    let mut bench = Bench::new(nat_v4());

    for words in [1, 5, 10] {
        let ran = bench.xdp(&with_options(&syn(), words));

        assert_eq!(ran.verdict, Some(Verdict::Forward), "{words} words");
        assert_eq!(ran.frame[34..34 + 4 * usize::from(words)], vec![1; 4 * usize::from(words)]);
        let _sound = read(&ran.frame).expect("a sound packet");
    }
}

#[test]
fn a_packet_whose_time_is_up_goes_no_further() {
    let mut bench = Bench::new(nat_v4());

    assert_eq!(bench.verdict(&with_ttl(&syn(), 1)), Verdict::DropTtl);
    assert_eq!(bench.verdict(&with_ttl(&syn(), 0)), Verdict::DropTtl);
    assert_eq!(bench.sent(&with_ttl(&syn(), 2), Verdict::Forward).ttl, 1);
}

#[test]
fn a_backend_behind_another_interface_is_reached_by_redirection() {
    let mut world = World::default().pool(VIP, 6, service_entry(1), &[(1, "10.0.0.11:8080")]);
    world.backend(1).ifindex = OTHER;
    let mut bench = Bench::new(world);

    assert_eq!(bench.xdp(&syn()).action, XDP_REDIRECT);
    assert_eq!(bench.xdp_by(&syn(), OTHER).action, XDP_TX);
}

#[test]
fn what_is_not_ours_passes_untouched_and_a_vip_without_service_drops() {
    let mut bench = Bench::new(nat_v4());
    let foreign = tcp(at(CLIENT), at("198.51.100.1:80"), Flags::Syn, b"");

    let ran = bench.xdp(&foreign);
    assert_eq!((ran.action, ran.verdict, ran.frame), (XDP_PASS, Some(Verdict::PassNotOurs), foreign));
    let elsewhere = tcp(at(CLIENT), at("203.0.113.10:81"), Flags::Syn, b"");
    assert_eq!(bench.verdict(&elsewhere), Verdict::DropNoService);
    assert_eq!(bench.verdict(&udp(at(CLIENT), at(VIP), b"")), Verdict::DropNoService);
}

#[test]
fn the_tc_program_forwards_what_xdp_never_saw() {
    let mut world = nat_v4();
    let _wire = world.interfaces.remove(&WIRE);
    let mut bench = Bench::new(world);

    let ran = bench.tc(&syn());

    assert_eq!((ran.action, ran.verdict), (TC_REDIRECT, Some(Verdict::Forward)));
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.src, out.dst.port()), (at(CLIENT), 8080));
    assert_eq!(bench.flows().len(), 1);
    bench.compare_tables();
}

#[test]
fn the_tc_program_sends_what_xdp_left_to_it_and_keeps_no_second_set_of_books() {
    let entry = ServiceEntry { select: SELECT_LEAST_CONN, ..service_entry(1) };
    let mut world = World::default().pool(VIP, 6, entry, &[(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080")]);
    for owner in [1, 2] {
        world.backend(owner).flags |= lb_common::backend::BACKEND_VIA_TC;
    }
    let mut bench = Bench::new(world);

    let ran = bench.xdp(&syn());
    assert_eq!((ran.action, ran.verdict), (XDP_PASS, Some(Verdict::PassToTc)));
    assert_eq!(ran.frame, syn(), "untouched");
    let owner = bench.flow().owner();
    let ran = bench.tc(&ran.frame);

    assert_eq!(ran.verdict, Some(Verdict::Forward));
    let counters = bench.counters(owner);
    assert_eq!((counters.packets, counters.opened), (1, 1));
    assert_eq!(bench.flows().len(), 1);
    bench.compare_tables();
}

#[test]
fn the_tc_program_leaves_an_unknown_next_hop_to_the_kernel() {
    let mut world = World::default().pool(VIP, 6, service_entry(1), &[(1, "10.0.0.11:8080")]);
    world.backend(1).flags &= !lb_common::backend::BACKEND_REACHABLE;
    let _wire = world.interfaces.remove(&WIRE);
    let mut bench = Bench::new(world);

    let ran = bench.tc(&syn());

    assert_eq!((ran.action, ran.verdict), (TC_REDIRECT, Some(Verdict::Forward)));
    assert_eq!(read(&ran.frame).expect("a sound packet").dst, at("10.0.0.11:8080"));
    assert_eq!(bench.verdict(&syn()), Verdict::DropNoNextHop, "XDP cannot ask");
}
