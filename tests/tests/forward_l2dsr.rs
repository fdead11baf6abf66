//! l2dsr: the backend holds the VIP, so the packet changes its MAC addresses and nothing else.

use lb_common::backend::{BACKEND_REACHABLE, BACKEND_VIA_TC};
use lb_common::flow::FlowState;
use lb_common::service::{FORWARD_L2DSR, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::host::action::{XDP_REDIRECT, XDP_TX};
use weir_tests::packet::{Flags, tcp, udp, with_extensions, with_options, with_ttl};
use weir_tests::world::{OTHER, OUR_MAC, World, at, service_entry};

fn entry() -> ServiceEntry {
    ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(1) }
}

fn dsr_v4() -> World {
    World::default().pool("203.0.113.10:80", 6, entry(), &[(1, "10.0.0.11:80")])
}

fn segment(flags: Flags) -> Vec<u8> {
    tcp(at("192.0.2.7:40000"), at("203.0.113.10:80"), flags, b"")
}

#[test]
fn nothing_but_the_mac_addresses_changes() {
    let world = dsr_v4().pool("203.0.113.10:53", 17, ServiceEntry { id: 2, ..entry() }, &[(2, "10.0.0.12:53")]).pool(
        "[2001:db8::10]:80",
        6,
        ServiceEntry { id: 3, ..entry() },
        &[(3, "[fd00::13]:80")],
    );
    let mut bench = Bench::new(world);
    let v6 = tcp(at("[2001:db8:9::7]:40000"), at("[2001:db8::10]:80"), Flags::Syn, b"");
    let frames = [
        (1, segment(Flags::Syn)),
        (1, with_options(&segment(Flags::Data), 3)),
        (2, udp(at("192.0.2.7:40000"), at("203.0.113.10:53"), b"who")),
        (3, v6.clone()),
        (3, with_extensions(&v6, &[0, 60])),
    ];

    for (owner, frame) in frames {
        let ran = bench.xdp(&frame);

        assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::Forward)));
        assert_eq!(ran.frame[..6], [0x02, 0, 0, 0xbe, 0, owner]);
        assert_eq!(ran.frame[6..12], OUR_MAC);
        assert_eq!(ran.frame[12..], frame[12..]);
    }
    bench.compare_tables();
}

#[test]
fn the_ttl_is_not_ours_to_count() {
    let mut bench = Bench::new(dsr_v4());

    assert_eq!(bench.sent(&with_ttl(&segment(Flags::Syn), 1), Verdict::Forward).ttl, 1);
}

#[test]
fn a_backend_behind_another_interface_is_reached_by_redirection() {
    let mut world = dsr_v4();
    world.backend(1).ifindex = OTHER;

    assert_eq!(Bench::new(world).xdp(&segment(Flags::Syn)).action, XDP_REDIRECT);
}

#[test]
fn without_its_mac_address_a_backend_cannot_be_reached_not_even_by_tc() {
    let mut world = dsr_v4();
    world.backend(1).flags &= !BACKEND_REACHABLE;
    let mut bench = Bench::new(world);
    assert_eq!(bench.verdict(&segment(Flags::Syn)), Verdict::DropNoNextHop);
    bench.change(|world| world.backend(1).flags |= BACKEND_VIA_TC);
    assert_eq!(bench.verdict(&segment(Flags::Syn)), Verdict::PassToTc);
    assert_eq!(bench.tc(&segment(Flags::Syn)).verdict, Some(Verdict::DropNoNextHop));
}

#[test]
fn a_backend_behind_a_bridge_is_tcs_to_reach() {
    let mut world = dsr_v4();
    world.backend(1).flags |= BACKEND_VIA_TC;
    let mut bench = Bench::new(world);

    let ran = bench.xdp(&segment(Flags::Syn));
    assert_eq!((ran.verdict, &ran.frame), (Some(Verdict::PassToTc), &segment(Flags::Syn)));
    let ran = bench.tc(&ran.frame);
    assert_eq!(ran.verdict, Some(Verdict::Forward));
    assert_eq!(ran.frame[12..], segment(Flags::Syn)[12..]);
    assert_eq!(bench.counters(1).opened, 1);
}

#[test]
fn a_clients_fin_leaves_the_flow_lingering_and_a_new_syn_opens_another() {
    let mut bench = Bench::new(dsr_v4());
    for flags in [Flags::Syn, Flags::Ack, Flags::Fin] {
        let _owner = bench.owner_of(&segment(flags));
    }
    assert_eq!(bench.flow().state(), Some(FlowState::FinClient));

    let _owner = bench.owner_of(&segment(Flags::Ack));
    assert_eq!(bench.flow().state(), Some(FlowState::FinClient), "the last acknowledgements revive nothing");
    let _owner = bench.owner_of(&segment(Flags::Syn));

    assert_eq!(bench.flow().state(), Some(FlowState::HalfOpen));
    assert_eq!(bench.counters(1).opened, 2);
    bench.compare_tables();
}

#[test]
fn every_packet_of_a_lingering_flow_counts_for_its_silence() {
    let mut bench = Bench::new(dsr_v4());
    for flags in [Flags::Syn, Flags::Ack, Flags::Fin] {
        let _owner = bench.owner_of(&segment(flags));
    }
    let before = bench.flow().time();
    bench.age(20);

    let _owner = bench.owner_of(&segment(Flags::Ack));

    assert_eq!(bench.flow().time(), before, "as if no time had passed");
}
