//! ICMP: errors follow the flow that they quote, in both directions; echo is answered for VIPs and for nothing else.

use std::net::IpAddr;

use lb_common::host::{VIP_ASSIGNED, VipEntry};
use lb_common::service::{FORWARD_L2DSR, SELECT_ROUND_ROBIN, SERVICE_SNAT, ServiceEntry};
use lb_common::slot::Slot;
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::ground::CLIENT_MAC;
use weir_tests::host::action::XDP_TX;
use weir_tests::packet::{
    Flags, PEER_MAC, TTL, echo, fragments, icmp, quoted, read, tagged, tcp, too_big, udp, with_options, with_ttl,
};
use weir_tests::world::{OUR_MAC, World, address, at, service_entry};

/// VIP, backend, client, router.
const V4: [&str; 4] = ["203.0.113.10:80", "10.0.0.11:8080", "192.0.2.7:40000", "192.0.2.200"];
const V6: [&str; 4] = ["[2001:db8::10]:80", "[fd00::11]:8080", "[2001:db8:9::7]:40000", "2001:db8:9::200"];

fn nat() -> World {
    World::default()
        .pool(V4[0], 6, service_entry(1), &[(1, V4[1])])
        .pool(V4[0], 17, service_entry(2), &[(2, V4[1])])
        .pool(V6[0], 6, service_entry(3), &[(3, V6[1])])
        .pool(V6[0], 17, service_entry(4), &[(4, V6[1])])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Any TCP segment or UDP datagram.
fn packet(protocol: u8, src: &str, dst: &str) -> Vec<u8> {
    if protocol == 6 { tcp(at(src), at(dst), Flags::Data, &[7; 400]) } else { udp(at(src), at(dst), &[7; 400]) }
}

#[test]
fn an_error_about_the_vips_packet_reaches_the_backend_that_sent_it() {
    let mut bench = Bench::new(nat());
    for [vip, backend, client, router] in [V4, V6] {
        for protocol in [6, 17] {
            for l4_len in [8, 20, 400] {
                let out =
                    bench.sent(&too_big(ip(router), &packet(protocol, vip, client), l4_len), Verdict::ForwardIcmp);

                assert_eq!((out.src.ip(), out.dst.ip(), out.ttl), (ip(router), at(backend).ip(), TTL - 1));
                assert_eq!(quoted(&out), (at(backend), at(client)), "{l4_len} bytes quoted");
            }
        }
    }
    bench.compare_tables();
}

#[test]
fn an_error_about_a_clients_packet_reaches_the_client_from_the_vip() {
    let mut bench = Bench::new(nat());
    for [vip, backend, client, router] in [V4, V6] {
        for protocol in [6, 17] {
            for l4_len in [8, 20, 400] {
                let error = too_big(ip(router), &packet(protocol, client, backend), l4_len);
                let out = bench.sent(&error, Verdict::ReplyIcmp);

                assert_eq!((out.src.ip(), out.dst.ip()), (at(vip).ip(), at(client).ip()));
                assert_eq!((out.dst_mac, out.ttl), (CLIENT_MAC, TTL - 1));
                assert_eq!(quoted(&out), (at(client), at(vip)), "{l4_len} bytes quoted");
            }
        }
    }
}

#[test]
fn the_whole_quote_is_what_its_receiver_once_sent() {
    let mut bench = Bench::new(nat());
    for ([vip, backend, client, router], start) in [(V4, 42), (V6, 62)] {
        let out = bench.xdp(&too_big(ip(router), &packet(6, vip, client), 420));
        assert_eq!(out.verdict, Some(Verdict::ForwardIcmp));
        assert_eq!(out.frame[start..], packet(6, backend, client)[14..], "as the backend sent it");

        let out = bench.xdp(&too_big(ip(router), &packet(17, client, backend), 420));
        assert_eq!(out.verdict, Some(Verdict::ReplyIcmp));
        assert_eq!(out.frame[start..], packet(17, client, vip)[14..], "as the client sent it");
    }
}

#[test]
fn l2dsr_backends_get_errors_as_they_are() {
    let entry = ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(1) };
    let mut bench = Bench::new(World::default().pool(V4[0], 6, entry, &[(1, "10.0.0.11:80")]));
    let error = with_ttl(&too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 8), 1);

    let ran = bench.xdp(&error);

    assert_eq!(ran.verdict, Some(Verdict::ForwardIcmp));
    assert_eq!(ran.frame[..6], [0x02, 0, 0, 0xbe, 0, 1]);
    assert_eq!(ran.frame[12..], error[12..]);
}

#[test]
fn snat_errors_find_both_ways() {
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    let world = World::default().pool(V4[0], 6, entry, &[(1, V4[1])]).lend(&[1], ip("10.0.0.1"));
    let mut bench = Bench::new(world);
    let ours = bench.sent(&packet(6, V4[2], V4[0]), Verdict::Forward).src;

    let about_backend = too_big(ip("10.0.0.254"), &packet(6, &ours.to_string(), V4[1]), 8);
    let out = bench.sent(&about_backend, Verdict::ReplyIcmp);
    assert_eq!((out.src.ip(), out.dst.ip()), (at(V4[0]).ip(), at(V4[2]).ip()));
    assert_eq!(quoted(&out), (at(V4[2]), at(V4[0])));

    let out = bench.sent(&too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 20), Verdict::ForwardIcmp);
    assert_eq!(out.dst.ip(), at(V4[1]).ip());
    assert_eq!(quoted(&out), (at(V4[1]), ours));
}

#[test]
fn an_error_follows_the_flow_table_where_the_ring_does_not_route() {
    let pool = [(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080"), (3, "10.0.0.13:8080")];
    let round_robin = ServiceEntry { select: SELECT_ROUND_ROBIN, ..service_entry(1) };
    let mut bench = Bench::new(World::default().pool(V4[0], 6, round_robin, &pool));
    for port in 40_000..40_030 {
        let client = format!("192.0.2.7:{port}");
        let owner = bench.owner_of(&tcp(at(&client), at(V4[0]), Flags::Syn, b""));
        let out = bench.sent(&too_big(ip(V4[3]), &packet(6, V4[0], &client), 8), Verdict::ForwardIcmp);
        assert_eq!(out.dst.ip().to_string(), format!("10.0.0.1{owner}"));
    }
}

#[test]
fn an_error_about_an_untracked_flow_of_a_slot_in_transition_goes_to_the_previous_owner() {
    let mut bench = Bench::new(World::default().pool(V4[0], 6, service_entry(1), &[(1, V4[1])]).pool(
        "203.0.113.11:80",
        6,
        service_entry(2),
        &[(2, "10.0.0.12:8080")],
    ));
    bench.change(|world| world.backend(2).service = 1);
    bench.turn_ring(1, |_| Slot::settled(1).change_to(2));

    let out = bench.sent(&too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 8), Verdict::ForwardIcmp);

    assert_eq!(out.dst.ip().to_string(), "10.0.0.11");
}

#[test]
fn an_error_says_nothing_about_a_flow_unless_its_receiver_sent_what_it_quotes() {
    let mut bench = Bench::new(nat());
    let of_another = packet(6, "203.0.113.77:80", V4[2]);
    let mut error = too_big(ip(V4[3]), &of_another, 8);
    error[30..34].copy_from_slice(&[203, 0, 113, 10]);
    assert_eq!(bench.verdict(&error), Verdict::DropIcmp);

    let stranger = too_big(ip(V4[3]), &packet(6, "203.0.113.10:9", V4[2]), 8);
    assert_eq!(bench.verdict(&stranger), Verdict::DropIcmp, "no service has that port");
    let short = too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 3);
    assert_eq!(bench.verdict(&short), Verdict::DropIcmp, "no ports are quoted");
}

#[test]
fn padding_behind_a_short_error_is_no_quote() {
    let mut bench = Bench::new(nat());
    let whole = too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 8);
    let mut error = too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 0);
    error.extend(&whole[error.len()..]);

    assert_eq!(bench.verdict(&error), Verdict::DropIcmp);
}

#[test]
fn errors_about_others_pass_untouched() {
    let mut bench = Bench::new(nat());
    for frame in [
        too_big(ip(V4[3]), &packet(6, "192.0.2.1:50000", "198.18.0.1:80"), 8),
        too_big(ip(V4[3]), &packet(6, V4[2], "10.0.0.11:22"), 8),
    ] {
        let ran = bench.xdp(&frame);
        assert_eq!((ran.verdict, ran.frame), (Some(Verdict::PassNotOurs), frame));
    }
}

#[test]
fn an_error_to_an_empty_pool_or_with_no_time_left_is_dropped_under_a_name() {
    let mut bench = Bench::new(nat());
    let error = too_big(ip(V4[3]), &packet(6, V4[0], V4[2]), 8);

    assert_eq!(bench.verdict(&with_ttl(&error, 1)), Verdict::DropTtl);
    let back = with_ttl(&too_big(ip(V4[3]), &packet(6, V4[2], V4[1]), 8), 1);
    assert_eq!(bench.verdict(&back), Verdict::DropTtl);
    bench.turn_ring(1, |_| Slot::settled(0));
    assert_eq!(bench.verdict(&error), Verdict::DropNoBackend);
}

#[test]
fn echo_to_a_vip_is_answered_in_place() {
    let mut bench = Bench::new(nat());
    for ([vip, _, client, _], kind) in [(V4, 0), (V6, 129)] {
        for payload in [&b""[..], b"odd", &[7; 1_400]] {
            let frame = echo(at(client).ip(), at(vip).ip(), payload);
            let ran = bench.xdp(&frame);

            assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::EchoReply)));
            let out = read(&ran.frame).expect("a sound packet");
            assert_eq!((out.src.ip(), out.dst.ip(), out.ttl), (at(vip).ip(), at(client).ip(), 64));
            assert_eq!((out.src_mac, out.dst_mac), (OUR_MAC, PEER_MAC));
            assert_eq!((out.payload[0], &out.payload[4..]), (kind, &[&[0x12, 0x34, 0, 1], payload].concat()[..]));
        }
    }
    let _sound = bench.sent(&tagged(&echo(at(V4[2]).ip(), at(V4[0]).ip(), b"x"), &[0x8100]), Verdict::EchoReply);
    let _sound = bench.sent(&with_options(&echo(at(V4[2]).ip(), at(V4[0]).ip(), b"x"), 1), Verdict::EchoReply);
}

#[test]
fn an_echo_in_pieces_comes_back_in_pieces() {
    let mut bench = Bench::new(nat());
    for [vip, _, client, _] in [V4, V6] {
        let (head, tail) = fragments(&echo(at(client).ip(), at(vip).ip(), &[7; 200]), 64, 9);
        for piece in [&head, &tail] {
            let ran = bench.xdp(piece);
            assert_eq!(ran.verdict, Some(Verdict::EchoReply));
            let out = read(&ran.frame).expect("a sound packet");
            assert_eq!((out.src.ip(), out.dst.ip()), (at(vip).ip(), at(client).ip()));
        }
    }
}

#[test]
fn echo_to_anybody_else_is_not_ours_to_answer() {
    let mut world = nat();
    let _vip = world.vips.insert(address(ip("203.0.113.99")), VipEntry { flags: VIP_ASSIGNED });
    let mut bench = Bench::new(world);
    for (to, verdict) in
        [("10.0.0.11", Verdict::PassNotOurs), ("192.0.2.1", Verdict::PassNotOurs), ("203.0.113.99", Verdict::PassLocal)]
    {
        let frame = echo(at(V4[2]).ip(), ip(to), b"x");
        let ran = bench.xdp(&frame);
        assert_eq!((ran.verdict, ran.frame), (Some(verdict), frame), "{to}");
    }
}

#[test]
fn other_icmp_to_a_vip_is_dropped_under_a_name() {
    let mut bench = Bench::new(nat());
    for [vip, _, client, _] in [V4, V6] {
        for kind in [0, 5, 13, 129, 137] {
            let frame = icmp(at(client).ip(), at(vip).ip(), kind, 0, &[0; 12]);
            assert_eq!(bench.verdict(&frame), Verdict::DropIcmp, "type {kind}");
        }
    }
    let mut short = icmp(at(V4[2]).ip(), at(V4[0]).ip(), 8, 0, &[]);
    short.truncate(40);
    assert_eq!(bench.verdict(&short), Verdict::DropMalformed);
}
