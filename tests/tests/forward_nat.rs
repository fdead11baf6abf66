//! nat, packet by packet, in the kernel.

use std::net::SocketAddr;

use lb_common::endpoint::Address;
use lb_common::host::HOST_SNAT;
use lb_common::service::{SERVICE_SNAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::packet::{Flags, TTL, read, tcp, udp};
use weir_tests::rig::Rig;
use weir_tests::world::{OUR_MAC, Service, WIRE, World, backend_entry, service_entry};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn pool(world: &mut World, vip: &str, protocol: u8, entry: ServiceEntry, backends: &[(u16, &str)]) {
    let vip = at(vip);
    let owners = backends.iter().map(|(owner, _)| *owner).collect();
    let service = Service { vip: vip.ip(), port: vip.port(), protocol, entry, owners };
    let backends: Vec<_> = backends
        .iter()
        .map(|(owner, addr)| (*owner, backend_entry(*owner, entry.id, at(addr).ip(), at(addr).port())))
        .collect();
    world.add(&service, &backends);
}

fn nat_v4() -> World {
    let mut world = World::default();
    pool(&mut world, "203.0.113.10:80", 6, service_entry(1), &[(1, "10.0.0.11:8080"), (2, "10.0.0.12:8080")]);
    world
}

#[test]
fn a_syn_to_a_vip_leaves_for_a_backend_and_opens_a_flow() {
    let mut rig = Rig::load(&nat_v4()).expect("the programs load");

    let ran = rig.run_xdp(&tcp(at("192.0.2.7:40000"), at("203.0.113.10:80"), Flags::Syn, b""), WIRE).expect("it runs");

    assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::Forward)));
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.src, out.dst.port(), out.ttl), (at("192.0.2.7:40000"), 8080, TTL - 1));
    let owner = u16::from(out.dst_mac[5]);
    assert_eq!(out.dst.ip().to_string(), format!("10.0.0.1{owner}"));
    assert_eq!(out.src_mac, OUR_MAC);
    let counters = rig.counters(owner).expect("counters");
    assert_eq!((counters.packets, counters.opened, counters.confirmed), (1, 1, 0));
    assert_eq!(rig.flows().expect("flows").len(), 1);
}

#[test]
fn the_second_packet_confirms_and_the_third_leaves_the_table_alone() {
    let mut rig = Rig::load(&nat_v4()).expect("the programs load");
    let (client, vip) = (at("192.0.2.7:40000"), at("203.0.113.10:80"));
    let run = |rig: &mut Rig, flags| {
        let ran = rig.run_xdp(&tcp(client, vip, flags, b"hello"), WIRE).expect("it runs");
        read(&ran.frame).expect("a sound packet").dst
    };

    let owners: Vec<_> =
        [Flags::Syn, Flags::Ack, Flags::Data, Flags::Fin].into_iter().map(|f| run(&mut rig, f)).collect();

    assert!(owners.iter().all(|o| *o == owners[0]), "{owners:?}");
    let sum: Vec<_> = [1, 2].into_iter().map(|o| rig.counters(o).expect("counters")).collect();
    assert_eq!(sum.iter().map(|c| c.packets).sum::<u64>(), 4);
    assert_eq!(sum.iter().map(|c| c.opened).sum::<u64>(), 1);
    assert_eq!(sum.iter().map(|c| c.confirmed).sum::<u64>(), 1);
    assert_eq!(rig.flows().expect("flows").len(), 1);
}

#[test]
fn ipv6_and_udp_are_rewritten_likewise() {
    let mut world = World::default();
    pool(&mut world, "[2001:db8::10]:53", 17, service_entry(2), &[(3, "[fd00::11]:5353")]);
    let mut rig = Rig::load(&world).expect("the programs load");

    let ran = rig.run_xdp(&udp(at("[2001:db8:9::7]:999"), at("[2001:db8::10]:53"), b"who"), WIRE).expect("it runs");

    assert_eq!((ran.action, ran.verdict), (XDP_TX, Some(Verdict::Forward)));
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.src, out.dst), (at("[2001:db8:9::7]:999"), at("[fd00::11]:5353")));
}

#[test]
fn snat_gives_the_flow_one_of_our_ports_and_keeps_it() {
    let mut world = World::default();
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    pool(&mut world, "203.0.113.10:80", 6, entry, &[(1, "10.0.0.11:8080")]);
    world.host.flags |= HOST_SNAT;
    world.backends.get_mut(&1).expect("the backend").snat_addr = Address::v4([10, 0, 0, 1]);
    let mut rig = Rig::load(&world).expect("the programs load");
    let (client, vip) = (at("192.0.2.7:40000"), at("203.0.113.10:80"));

    let sources: Vec<_> = [Flags::Syn, Flags::Ack]
        .into_iter()
        .map(|f| {
            let ran = rig.run_xdp(&tcp(client, vip, f, b""), WIRE).expect("it runs");
            assert_eq!(ran.verdict, Some(Verdict::Forward));
            read(&ran.frame).expect("a sound packet").src
        })
        .collect();

    assert_eq!(sources[0], sources[1]);
    assert_eq!(sources[0].ip().to_string(), "10.0.0.1");
    assert!((1_024..1_024 + 4_096).contains(&sources[0].port()), "{}", sources[0]);
}

#[test]
fn what_is_not_ours_passes_untouched_and_a_vip_without_service_drops() {
    let mut rig = Rig::load(&nat_v4()).expect("the programs load");
    let foreign = tcp(at("192.0.2.7:40000"), at("198.51.100.1:80"), Flags::Syn, b"");

    let ran = rig.run_xdp(&foreign, WIRE).expect("it runs");
    assert_eq!((ran.action, ran.verdict, ran.frame), (XDP_PASS, Some(Verdict::PassNotOurs), foreign));
    let ran = rig.run_xdp(&tcp(at("192.0.2.7:4"), at("203.0.113.10:81"), Flags::Syn, b""), WIRE).expect("it runs");
    assert_eq!((ran.action, ran.verdict), (XDP_DROP, Some(Verdict::DropNoService)));
}

#[test]
fn the_tc_program_forwards_what_xdp_never_saw() {
    let mut world = nat_v4();
    let _wire = world.interfaces.remove(&WIRE);
    let mut rig = Rig::load(&world).expect("the programs load");
    let mut frame = tcp(at("192.0.2.7:40000"), at("203.0.113.10:80"), Flags::Syn, b"");
    // Loopback's own MAC address: otherwise the packet is another host's.
    frame[..6].copy_from_slice(&[0; 6]);

    let ran = rig.run_tc(&frame).expect("it runs");

    assert_eq!((ran.action, ran.verdict), (7, Some(Verdict::Forward)), "TC_ACT_REDIRECT");
    let out = read(&ran.frame).expect("a sound packet");
    assert_eq!((out.src, out.dst.port()), (at("192.0.2.7:40000"), 8080));
}
