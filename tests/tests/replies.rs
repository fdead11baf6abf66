//! nat without snat: what a backend answers becomes the VIP's and goes to the client by the host's routes.

use lb_common::flow::FlowState;
use lb_common::host::VipEntry;
use lb_common::service::{SERVICE_SNAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::ground::{CLIENT_MAC, GATEWAY_MAC};
use weir_tests::host::action::{TC_REDIRECT, XDP_PASS, XDP_REDIRECT, XDP_TX};
use weir_tests::packet::{Flags, TTL, read, tcp, udp, with_options, with_ttl, without_checksum};
use weir_tests::world::{OTHER, OUR_MAC, World, address, at, service_entry};

/// VIP, backend, client on our link, client beyond the gateway.
const V4: [&str; 4] = ["203.0.113.10:80", "10.0.0.11:8080", "192.0.2.7:40000", "9.9.9.9:40000"];
const V6: [&str; 4] = ["[2001:db8::10]:80", "[fd00::11]:8080", "[2001:db8:9::7]:40000", "[2001:db8:77::9]:40000"];

fn world() -> World {
    World::default()
        .pool(V4[0], 6, service_entry(1), &[(1, V4[1])])
        .pool(V4[0], 17, service_entry(2), &[(2, V4[1])])
        .pool(V6[0], 6, service_entry(3), &[(3, V6[1])])
        .pool(V6[0], 17, service_entry(4), &[(4, V6[1])])
}

fn answer(flags: Flags) -> Vec<u8> {
    tcp(at(V4[1]), at(V4[2]), flags, b"")
}

#[test]
fn an_answer_comes_from_the_vip_in_every_family_and_protocol() {
    let mut bench = Bench::new(world());
    for [vip, backend, near, far] in [V4, V6] {
        for (client, mac) in [(near, CLIENT_MAC), (far, GATEWAY_MAC)] {
            for frame in [
                tcp(at(backend), at(client), Flags::SynAck, b""),
                tcp(at(backend), at(client), Flags::Data, b"odd"),
                udp(at(backend), at(client), b"answer"),
            ] {
                let out = bench.sent(&frame, Verdict::Reply);

                assert_eq!((out.src, out.dst, out.ttl), (at(vip), at(client), TTL - 1));
                assert_eq!((out.dst_mac, out.src_mac), (mac, OUR_MAC));
            }
        }
    }
    let counters = bench.counters(1);
    assert_eq!((counters.reply_packets, counters.reply_bytes, counters.packets), (4, 2 * (40 + 43), 0));
    bench.compare_tables();
}

#[test]
fn it_leaves_by_the_clients_interface() {
    let mut bench = Bench::new(world());

    assert_eq!(bench.xdp(&answer(Flags::SynAck)).action, XDP_REDIRECT);
    assert_eq!(bench.xdp_by(&answer(Flags::SynAck), OTHER).action, XDP_TX);
}

#[test]
fn a_udp_checksum_of_zero_stays_zero_and_a_computed_zero_is_sent_as_ones() {
    let mut bench = Bench::new(world());

    let ran = bench.xdp(&without_checksum(&udp(at(V4[1]), at(V4[2]), b"x")));
    assert_eq!((ran.verdict, &ran.frame[40..42]), (Some(Verdict::Reply), &[0, 0][..]));
    // Some payload of two bytes makes the rewritten checksum zero.
    let ones = (0..=u16::MAX).map(u16::to_be_bytes).find(|payload| {
        let becomes = udp(at(V4[0]), at(V4[2]), payload);
        becomes[40..42] == [0xff, 0xff]
    });
    let ran = bench.xdp(&udp(at(V4[1]), at(V4[2]), &ones.expect("one payload in 65,536")));
    assert_eq!((ran.verdict, &ran.frame[40..42]), (Some(Verdict::Reply), &[0xff, 0xff][..]));
}

#[test]
fn options_and_every_size_of_payload_keep_their_checksums() {
    let mut bench = Bench::new(world());
    for len in [0, 1, 2, 3, 999, 1_400] {
        for frame in [
            with_options(&tcp(at(V4[1]), at(V4[2]), Flags::Data, &vec![0xa5; len]), 2),
            tcp(at(V6[1]), at(V6[2]), Flags::Data, &vec![0xa5; len]),
            udp(at(V6[1]), at(V6[2]), &vec![0xa5; len]),
        ] {
            let _sound = bench.sent(&frame, Verdict::Reply);
        }
    }
}

#[test]
fn an_unknown_next_hop_is_tcs_to_resolve() {
    let mut bench = Bench::new(world());
    for (backend, stranger) in [(V4[1], "192.0.2.66:40000"), (V6[1], "[2001:db8:9::66]:40000")] {
        let frame = tcp(at(backend), at(stranger), Flags::SynAck, b"");

        let ran = bench.xdp(&frame);
        assert_eq!((ran.action, ran.verdict, &ran.frame), (XDP_PASS, Some(Verdict::PassToTc), &frame));
        let ran = bench.tc(&frame);
        assert_eq!((ran.action, ran.verdict), (TC_REDIRECT, Some(Verdict::Reply)));
        let out = read(&ran.frame).expect("a sound packet");
        assert_eq!(out.dst, at(stranger));
    }
    assert_eq!(bench.counters(1).reply_packets, 1, "counted once");
}

#[test]
fn a_client_that_no_route_leads_to_or_that_is_too_far_is_dropped_under_a_name() {
    let mut bench = Bench::new(world());
    let to = |client: &str| tcp(at(V4[1]), at(client), Flags::Data, b"");

    assert_eq!(bench.verdict(&to("198.51.100.5:40000")), Verdict::DropNoRoute);
    assert_eq!(bench.verdict(&with_ttl(&to(V4[2]), 1)), Verdict::DropTtl);
    let large = tcp(at(V4[1]), at("100.64.0.9:40000"), Flags::Data, &[0; 1_300]);
    assert_eq!(bench.verdict(&large), Verdict::DropTooBig);
}

#[test]
fn what_a_backend_says_to_us_or_from_another_port_is_its_own_affair() {
    let mut world = world();
    let _new = world.locals.insert(address("192.0.2.1".parse().expect("an address")));
    let mut bench = Bench::new(world);
    for frame in [
        tcp(at(V4[1]), at("192.0.2.1:50000"), Flags::SynAck, b""),
        tcp(at("10.0.0.11:22"), at(V4[2]), Flags::SynAck, b""),
        udp(at("10.0.0.12:8080"), at(V4[2]), b""),
    ] {
        let ran = bench.xdp(&frame);
        assert_eq!((ran.verdict, ran.frame), (Some(Verdict::PassNotOurs), frame));
    }
}

#[test]
fn both_fins_end_a_flow_and_the_last_acknowledgement_does_not_revive_it() {
    let mut bench = Bench::new(world());
    let ask = |flags| tcp(at(V4[2]), at(V4[0]), flags, b"");
    for flags in [Flags::Syn, Flags::Ack, Flags::Fin] {
        let _owner = bench.owner_of(&ask(flags));
    }
    assert_eq!(bench.flow().state(), Some(FlowState::FinClient));

    let _out = bench.sent(&answer(Flags::Fin), Verdict::Reply);

    assert_eq!(bench.flow().state(), Some(FlowState::Ended));
    let _owner = bench.owner_of(&ask(Flags::Ack));
    assert_eq!(bench.flow().state(), Some(FlowState::Ended));
    assert_eq!((bench.counters(1).closed, bench.counters(1).reset), (1, 0));
    bench.compare_tables();
}

#[test]
fn the_server_may_close_first() {
    let mut bench = Bench::new(world());
    let ask = |flags| tcp(at(V4[2]), at(V4[0]), flags, b"");
    for flags in [Flags::Syn, Flags::Ack] {
        let _owner = bench.owner_of(&ask(flags));
    }
    let _out = bench.sent(&answer(Flags::Fin), Verdict::Reply);
    assert_eq!(bench.flow().state(), Some(FlowState::FinServer));
    let _owner = bench.owner_of(&ask(Flags::Fin));
    assert_eq!(bench.flow().state(), Some(FlowState::Ended));
    assert_eq!(bench.counters(1).closed, 1);
}

#[test]
fn a_reset_by_either_side_ends_a_flow_at_once() {
    for by_server in [false, true] {
        let mut bench = Bench::new(world());
        let ask = |flags| tcp(at(V4[2]), at(V4[0]), flags, b"");
        for flags in [Flags::Syn, Flags::Ack] {
            let _owner = bench.owner_of(&ask(flags));
        }
        if by_server {
            let _out = bench.sent(&answer(Flags::Rst), Verdict::Reply);
        } else {
            let _owner = bench.owner_of(&ask(Flags::Rst));
        }
        assert_eq!(bench.flow().state(), Some(FlowState::Ended));
        assert_eq!((bench.counters(1).reset, bench.counters(1).closed), (1, 0), "by server: {by_server}");
    }
}

#[test]
fn a_flow_that_only_the_server_feeds_stays_alive() {
    let mut bench = Bench::new(world());
    for flags in [Flags::Syn, Flags::Ack] {
        let _owner = bench.owner_of(&tcp(at(V4[2]), at(V4[0]), flags, b""));
    }
    let before = bench.flow().time();
    bench.age(2_000);

    let _out = bench.sent(&answer(Flags::Data), Verdict::Reply);

    assert_eq!(bench.flow().time(), before, "as if no time had passed");
}

#[test]
fn a_servers_retransmitted_syn_ack_does_not_keep_a_half_open_flow_alive() {
    let mut bench = Bench::new(world());
    let _owner = bench.owner_of(&tcp(at(V4[2]), at(V4[0]), Flags::Syn, b""));
    bench.age(15);
    let before = bench.flow();

    let _out = bench.sent(&answer(Flags::SynAck), Verdict::Reply);

    assert_eq!(bench.flow(), before);
}

#[test]
fn the_servers_answer_does_not_use_up_the_event_that_confirms_the_client() {
    let mut bench = Bench::new(world());
    let _owner = bench.owner_of(&tcp(at(V4[2]), at(V4[0]), Flags::Syn, b""));
    let _out = bench.sent(&answer(Flags::SynAck), Verdict::Reply);
    let _owner = bench.owner_of(&tcp(at(V4[2]), at(V4[0]), Flags::Ack, b""));

    assert_eq!(bench.flow().state(), Some(FlowState::Established));
    assert_eq!(bench.counters(1).confirmed, 1);
}

#[test]
fn without_nat_services_nothing_is_taken_for_a_reply() {
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    let mut world = World::default().pool(V4[0], 6, entry, &[(1, V4[1])]);
    let _vip = world.vips.insert(address(at(V4[0]).ip()), VipEntry { flags: 0 });

    assert_eq!(Bench::new(world).verdict(&answer(Flags::SynAck)), Verdict::PassNotOurs);
}
