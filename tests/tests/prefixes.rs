//! Prefix VIPs: every address of the prefix is the service's, the more particular VIP wins, and replies come from the very address
//! that the client used.

use lb_common::hash::{flow_v4, to_vip_v4};
use lb_common::host::VIP_ASSIGNED;
use lb_common::service::{FORWARD_L2DSR, SELECT_SOURCE_HASH, SERVICE_SNAT, ServiceEntry};
use lb_common::slot::slot_of;
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, arp_request, echo, fragments, solicitation, tcp, too_big, udp};
use weir_tests::world::{World, at, service_entry};

const CLIENT: &str = "192.0.2.7:40000";

fn dsr(id: u16) -> ServiceEntry {
    ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(id) }
}

fn syn(client: &str, vip: &str) -> Vec<u8> {
    tcp(at(client), at(vip), Flags::Syn, b"")
}

/// 198.18.0.0/16, l2dsr, one backend: owner 1.
fn wide() -> World {
    World::default().pool("198.18.0.0:80", 6, dsr(1), &[(1, "10.0.0.11:80")]).on_prefix("198.18.0.0:80", 6, 16)
}

#[test]
fn every_address_of_a_prefix_is_the_services_and_none_beyond_it() {
    let world = wide().pool("[2001:db8:18::]:80", 6, dsr(2), &[(2, "[fd00::12]:80")]);
    let mut bench = Bench::new(world.on_prefix("[2001:db8:18::]:80", 6, 48));

    for vip in ["198.18.0.0:80", "198.18.0.1:80", "198.18.200.7:80", "198.18.255.255:80"] {
        assert_eq!(bench.owner_of(&syn(CLIENT, vip)), 1, "{vip}");
    }
    for vip in ["[2001:db8:18::]:80", "[2001:db8:18:ffff:ffff:ffff:ffff:ffff]:80"] {
        assert_eq!(bench.owner_of(&syn("[2001:db8:9::7]:40000", vip)), 2, "{vip}");
    }
    assert_eq!(bench.verdict(&syn(CLIENT, "198.19.0.0:80")), Verdict::PassNotOurs);
    assert_eq!(bench.verdict(&syn(CLIENT, "198.17.255.255:80")), Verdict::PassNotOurs);
    assert_eq!(bench.verdict(&syn("[2001:db8:9::7]:40000", "[2001:db8:19::]:80")), Verdict::PassNotOurs);
    assert_eq!(bench.verdict(&syn(CLIENT, "198.18.0.1:81")), Verdict::DropNoService, "all of a VIP is ours");
    assert_eq!(bench.verdict(&udp(at(CLIENT), at("198.18.0.1:80"), b"who")), Verdict::DropNoService);
    bench.compare_tables();
}

#[test]
fn the_exact_vip_wins_then_its_every_port_then_the_longest_prefix_then_its_every_port() {
    let world = wide()
        .pool("198.18.1.0:80", 6, dsr(2), &[(2, "10.0.0.12:80")])
        .on_prefix("198.18.1.0:80", 6, 24)
        .pool("198.18.1.0:0", 6, dsr(3), &[(3, "10.0.0.13:0")])
        .on_prefix("198.18.1.0:0", 6, 24)
        .pool("198.18.1.9:0", 6, dsr(4), &[(4, "10.0.0.14:0")])
        .pool("198.18.1.9:80", 6, dsr(5), &[(5, "10.0.0.15:80")]);
    let mut bench = Bench::new(world);

    for (vip, owner) in
        [("198.18.1.9:80", 5), ("198.18.1.9:443", 4), ("198.18.1.8:80", 2), ("198.18.1.8:443", 3), ("198.18.2.8:80", 1)]
    {
        assert_eq!(bench.owner_of(&syn(CLIENT, vip)), owner, "{vip}");
    }
    assert_eq!(bench.verdict(&syn(CLIENT, "198.18.2.8:443")), Verdict::DropNoService);
}

#[test]
fn one_client_port_has_a_flow_at_each_address() {
    let mut bench = Bench::new(wide());

    for vip in ["198.18.0.1:80", "198.18.0.2:80", "198.18.0.1:80"] {
        let _owner = bench.owner_of(&syn(CLIENT, vip));
    }

    assert_eq!(bench.flows().len(), 2);
    assert_eq!(bench.counters(1).opened, 2);
    bench.compare_tables();
}

#[test]
fn the_hash_of_an_exact_vips_flow_is_what_it_was() {
    let world = wide().pool("203.0.113.10:80", 6, dsr(2), &[(2, "10.0.0.12:80")]);
    let seed = world.host.seed;
    let mut bench = Bench::new(world);

    let _owner = bench.owner_of(&syn(CLIENT, "203.0.113.10:80"));

    let key = flow_v4(&seed, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), [0, 80], 2, false);
    assert_eq!(bench.flow().tag(), key.tag);
    let of_prefix = flow_v4(&seed, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), [0, 80], 1, false);
    let _owner = bench.owner_of(&syn(CLIENT, "198.18.0.1:80"));
    let tag = to_vip_v4(&seed, of_prefix, [198, 18, 0, 1], false).tag;
    assert!(bench.flows().iter().any(|flow| flow.tag() == tag));
}

#[test]
fn source_hash_sends_a_client_to_one_backend_at_every_address() {
    let entry = ServiceEntry { select: SELECT_SOURCE_HASH, ..dsr(1) };
    let pool: Vec<(u16, String)> = (1..=3).map(|n| (n, format!("10.0.0.1{n}:80"))).collect();
    let pool: Vec<(u16, &str)> = pool.iter().map(|(owner, addr)| (*owner, addr.as_str())).collect();
    let mut bench =
        Bench::new(World::default().pool("198.18.0.0:80", 6, entry, &pool).on_prefix("198.18.0.0:80", 6, 16));

    let first = bench.owner_of(&syn(CLIENT, "198.18.0.1:80"));
    for n in 2..40 {
        assert_eq!(bench.owner_of(&syn(CLIENT, &format!("198.18.0.{n}:80"))), first);
    }
    let slots: Vec<u32> = bench.flows().iter().map(|flow| slot_of(flow.tag(), true)).collect();
    assert!(slots.iter().all(|slot| *slot == slots[0]) && slots.len() == 39);
}

#[test]
fn arp_solicitations_and_echo_are_answered_for_every_address_but_this_hosts_own() {
    let mut world = wide().pool("[2001:db8:18::]:80", 6, dsr(2), &[(2, "[fd00::12]:80")]);
    let _new = world.locals.insert(weir_tests::world::address("198.18.0.250".parse().expect("an address")));
    let mut bench = Bench::new(world.on_prefix("[2001:db8:18::]:80", 6, 48));
    let asker = "192.0.2.7".parse().expect("an address");

    assert_eq!(bench.verdict(&arp_request(asker, "198.18.3.4".parse().expect("v4"))), Verdict::ArpReply);
    assert_eq!(bench.verdict(&arp_request(asker, "198.19.3.4".parse().expect("v4"))), Verdict::PassNotIp);
    assert_eq!(bench.verdict(&arp_request(asker, "198.18.0.250".parse().expect("v4"))), Verdict::PassNotIp);
    let v6 = solicitation(
        "2001:db8:9::7".parse().expect("v6"),
        "2001:db8:18::5".parse().expect("v6"),
        &[1, 1, 2, 0, 0, 0, 0, 9],
    );
    assert_eq!(bench.verdict(&v6), Verdict::NeighbourReply);
    let ping = |to: &str| echo("192.0.2.7".parse().expect("v4"), to.parse().expect("v4"), b"ping");
    assert_eq!(bench.verdict(&ping("198.18.9.9")), Verdict::EchoReply);
    assert_eq!(bench.verdict(&ping("198.18.0.250")), Verdict::PassLocal);
    assert_eq!(bench.verdict(&syn(CLIENT, "198.18.0.250:80")), Verdict::PassLocal, "its own address serves itself");
}

#[test]
fn an_exact_vip_that_the_host_holds_stays_its_own_within_a_prefix() {
    let mut world = wide();
    let held = weir_tests::world::address("198.18.0.99".parse().expect("an address"));
    let _new = world.vips.insert(held, lb_common::host::VipEntry { flags: VIP_ASSIGNED });
    let _new = world.locals.insert(held);
    let mut bench = Bench::new(world);

    assert_eq!(bench.verdict(&syn(CLIENT, "198.18.0.99:80")), Verdict::PassLocal);
}

#[test]
fn snat_answers_from_the_address_that_was_asked() {
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    let world = World::default()
        .pool("198.18.0.0:80", 6, entry, &[(1, "10.0.0.11:8080")])
        .lend(&[1], "10.0.0.1".parse().expect("an address"))
        .on_prefix("198.18.0.0:80", 6, 16);
    let mut bench = Bench::new(world);

    let mut lent = Vec::new();
    for vip in ["198.18.0.1:80", "198.18.77.2:80"] {
        let out = bench.sent(&syn(CLIENT, vip), Verdict::Forward);
        assert_eq!((out.src.ip(), out.dst), ("10.0.0.1".parse().expect("an address"), at("10.0.0.11:8080")));
        lent.push((at(vip), out.src));
    }
    assert_ne!(lent[0].1, lent[1].1, "two flows, two ports");
    for (vip, ours) in lent {
        let reply = bench.sent(&tcp(at("10.0.0.11:8080"), ours, Flags::SynAck, b""), Verdict::Reply);
        assert_eq!((reply.src, reply.dst), (vip, at(CLIENT)));
        let end = bench.sent(&tcp(at("10.0.0.11:8080"), ours, Flags::Rst, b""), Verdict::Reply);
        assert_eq!(end.src, vip);
    }
    assert!(bench.flows().iter().all(|flow| flow.is_ended()), "replies find their flow: {:?}", bench.flows());
    bench.compare_tables();
}

#[test]
fn an_icmp_error_about_one_address_goes_to_its_flows_backend() {
    let pool = [(1, "10.0.0.11:80"), (2, "10.0.0.12:80"), (3, "10.0.0.13:80")];
    let mut bench =
        Bench::new(World::default().pool("198.18.0.0:80", 6, dsr(1), &pool).on_prefix("198.18.0.0:80", 6, 16));

    for n in 1..20 {
        let vip = at(&format!("198.18.0.{n}:80"));
        let owner = bench.owner_of(&tcp(at(CLIENT), vip, Flags::Syn, b""));
        let about = tcp(vip, at(CLIENT), Flags::Data, b"");
        let ran = bench.xdp(&too_big("192.0.2.200".parse().expect("v4"), &about, 8));
        assert_eq!(ran.verdict, Some(Verdict::ForwardIcmp));
        assert_eq!(ran.frame[4..6], owner.to_be_bytes(), "{vip}");
    }
}

#[test]
fn tails_follow_their_head_to_the_same_address() {
    let world = World::default().pool("198.18.0.0:53", 17, dsr(1), &[(1, "10.0.0.11:53"), (2, "10.0.0.12:53")]);
    let mut bench = Bench::new(world.on_prefix("198.18.0.0:53", 17, 16));

    for n in 1..10 {
        let whole = udp(at(CLIENT), at(&format!("198.18.0.{n}:53")), &[7; 2_000]);
        let (head, tail) = fragments(&whole, 1_200, n);
        let owner = bench.owner_of(&head);
        let ran = bench.xdp(&tail);
        assert_eq!((ran.verdict, &ran.frame[4..6]), (Some(Verdict::Forward), &owner.to_be_bytes()[..]));
    }
}
