//! QUIC: a packet goes to whom its connection ID names, and to the ring where it names nobody.

use lb_common::backend::BACKEND_ALIVE;
use lb_common::flow::FlowState;
use lb_common::quic::{QUIC_LENGTH_IN_FIRST_OCTET, QuicConfig};
use lb_common::service::{
    FORWARD_L2DSR, SELECT_LEAST_CONN, ServiceEntry, TRACKING_FULL, TRACKING_MINIMAL, TRACKING_NONE,
};
use lb_common::slot::{Owner, Slot};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{fragments, too_big, udp, with_extensions, with_options};
use weir_tests::world::{World, at, service_entry};

const VIP: &str = "203.0.113.10:443";
const CLIENT: &str = "192.0.2.7:40000";
/// Rotation 0, server IDs of two octets, nonces of five: connection IDs of eight.
const CONFIG: QuicConfig = QuicConfig::new(0, 2, 5, 0);
const SERVERS: [(&[u8], Owner); 3] = [(&[0, 11], 1), (&[0, 12], 2), (&[0, 13], 3)];
const POOL: [(Owner, &str); 3] = [(1, "10.0.0.11:443"), (2, "10.0.0.12:443"), (3, "10.0.0.13:443")];

fn world(entry: ServiceEntry) -> World {
    World::default().pool(VIP, 17, entry, &POOL).with_quic(entry.id, CONFIG, &SERVERS)
}

fn full() -> World {
    world(service_entry(1))
}

/// A connection ID of a server: first octet, server ID, nonce.
fn cid(first: u8, server: [u8; 2], nonce: u8) -> Vec<u8> {
    [&[first], &server[..], &[nonce; 5]].concat()
}

/// A packet with a short header (RFC 9000, section 17.3.1): first octet, ID, protected rest.
fn short(client: &str, id: &[u8]) -> Vec<u8> {
    udp(at(client), at(VIP), &[&[0x40][..], id, &[0xee; 24]].concat())
}

/// A packet with a long header (section 17.2): `kind` 0 is Initial, 1 0-RTT, 2 Handshake.
fn long(client: &str, kind: u8, dcid: &[u8]) -> Vec<u8> {
    let len = u8::try_from(dcid.len()).expect("at most 20 octets");
    let head = [&[0xc0 | kind << 4, 0, 0, 0, 1, len][..], dcid, &[8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    udp(at(client), at(VIP), &[&head[..], &[0xee; 1_200]].concat())
}

/// Client-chosen IDs: as long as a server's, but none of its configuration; and of another length.
const CHOSEN: [&[u8]; 2] = [&[0xe3, 9, 9, 9, 9, 9, 9, 9], &[0x13, 0, 11, 9, 9, 9, 9, 9, 9, 9]];

#[test]
fn a_client_that_changes_its_address_stays_on_its_backend() {
    for tracking in [TRACKING_FULL, TRACKING_MINIMAL, TRACKING_NONE] {
        let mut bench = Bench::new(world(ServiceEntry { tracking, ..service_entry(1) }));
        for (server, owner) in SERVERS {
            let id = cid(0x1f, server.try_into().expect("two octets"), 7);
            for n in 0..20 {
                let client = format!("192.0.2.{}:{}", n + 1, 40_000 + n * 7);
                assert_eq!(bench.owner_of(&short(&client, &id)), owner, "{tracking} {client}");
                assert_eq!(bench.owner_of(&long(&client, 2, &id)), owner, "a handshake's packet too");
            }
        }
        bench.compare_tables();
    }
}

#[test]
fn who_names_nobody_is_routed_by_its_addresses() {
    let mut bench = Bench::new(full());
    let ring = bench.owner_of(&long(CLIENT, 0, CHOSEN[0]));

    let mut named_nobody = vec![
        long(CLIENT, 0, CHOSEN[1]),
        long(CLIENT, 1, CHOSEN[0]),
        long(CLIENT, 0, &[]),
        short(CLIENT, &cid(0xff, [0, 12], 7)),
        short(CLIENT, &cid(0x20, [0, 12], 7)),
        short(CLIENT, &cid(0, [0, 99], 7)),
    ];
    // Too short to carry an ID, down to nothing.
    named_nobody.extend((0..17).map(|len| udp(at(CLIENT), at(VIP), &short(CLIENT, &cid(0, [0, 13], 7))[42..42 + len])));
    for frame in named_nobody {
        assert_eq!(bench.owner_of(&frame), ring);
    }
    assert_eq!(bench.flows().len(), 1);
    bench.compare_tables();
}

#[test]
fn a_long_header_that_names_nobody_opens_a_flow_and_a_named_packet_confirms_it() {
    let mut bench = Bench::new(full());
    let owner = bench.owner_of(&long(CLIENT, 0, CHOSEN[0]));
    assert_eq!((bench.flow().state(), bench.flow().owner()), (Some(FlowState::HalfOpen), owner));
    let _same = bench.owner_of(&long(CLIENT, 0, CHOSEN[0]));
    assert_eq!(bench.flow().state(), Some(FlowState::HalfOpen), "a repeated Initial confirms nothing");

    let server = SERVERS.iter().find(|(_, of)| *of == owner).expect("one of three").0;
    let _same = bench.owner_of(&short(CLIENT, &cid(0, server.try_into().expect("two octets"), 1)));

    assert_eq!((bench.flow().state(), bench.flow().owner()), (Some(FlowState::Established), owner));
    assert_eq!((bench.counters(owner).opened, bench.counters(owner).confirmed), (1, 1));
    bench.compare_tables();
}

#[test]
fn a_flow_counts_where_its_connection_id_sends_it_and_nothing_corrects_it_to_the_ring() {
    let mut bench = Bench::new(full());
    let by_ring = bench.owner_of(&long(CLIENT, 0, CHOSEN[0]));
    let (server, other) = SERVERS.iter().find(|(_, of)| *of != by_ring).expect("one of three");
    let id = cid(0, (*server).try_into().expect("two octets"), 1);

    assert_eq!(bench.owner_of(&short(CLIENT, &id)), *other, "a connection that came from another address");
    assert_eq!(bench.flow().owner(), *other);
    bench.age(40);
    assert_eq!(bench.owner_of(&short(CLIENT, &cid(0xe0, [9, 9], 1))), *other, "the flow's entry, not the ring");
    bench.age(40);
    assert_eq!(bench.owner_of(&short(CLIENT, &id)), *other);

    assert_eq!((bench.flow().owner(), bench.flow().state()), (*other, Some(FlowState::Established)));
    bench.compare_tables();
}

#[test]
fn a_draining_backend_keeps_its_flows_and_gets_no_new_ones() {
    let mut bench = Bench::new(full());
    bench.turn_ring(1, |slot| if slot.current() == 1 { slot.change_to(2) } else { slot });

    for n in 0..40_u8 {
        let client = format!("192.0.2.9:{}", 41_000 + u16::from(n));
        assert_eq!(bench.owner_of(&short(&client, &cid(0, [0, 11], n))), 1, "known by its ID at any address");
        let new = format!("192.0.2.9:{}", 42_000 + u16::from(n));
        assert_ne!(bench.owner_of(&long(&new, 0, CHOSEN[0])), 1);
    }
    bench.turn_ring(1, |slot| slot.age().settle());
    assert_eq!(bench.owner_of(&short("192.0.2.9:41000", &cid(0, [0, 11], 3))), 1);
}

#[test]
fn a_dead_backends_connections_go_to_the_ring() {
    let mut bench = Bench::new(full());
    let id = cid(0, [0, 11], 7);
    for n in 0..20 {
        assert_eq!(bench.owner_of(&short(&format!("192.0.2.9:{}", 41_000 + n), &id)), 1);
    }

    bench.change(|world| world.backend(1).flags &= !BACKEND_ALIVE);
    bench.turn_ring(1, |slot| slot.bereave(1, 3));

    for n in 0..20 {
        assert_ne!(bench.owner_of(&short(&format!("192.0.2.9:{}", 41_000 + n), &id)), 1);
    }
    assert!(bench.flows().iter().all(|flow| flow.owner() != 1), "their entries have moved along");
    bench.compare_tables();
}

#[test]
fn an_id_whose_owner_serves_another_service_names_nobody() {
    let mut world = full();
    world.backend(2).service = 9;
    let mut bench = Bench::new(world);
    bench.turn_ring(1, |_| Slot::settled(3));

    assert_eq!(bench.owner_of(&short(CLIENT, &cid(0, [0, 12], 1))), 3);
}

#[test]
fn rotation_lengths_and_the_first_octets_length_must_fit() {
    let config = QuicConfig::new(2, 3, 8, QUIC_LENGTH_IN_FIRST_OCTET);
    let world = World::default().pool(VIP, 17, service_entry(1), &POOL).with_quic(1, config, &[(&[1, 2, 3], 2)]);
    let mut bench = Bench::new(world);
    bench.turn_ring(1, |_| Slot::settled(3));
    let id = |first: u8| [&[first, 1, 2, 3][..], &[9; 8]].concat();

    assert_eq!(bench.owner_of(&short("192.0.2.7:1", &id(0x4b))), 2);
    assert_eq!(bench.owner_of(&long("192.0.2.7:2", 2, &id(0x4b))), 2);
    assert_eq!(bench.owner_of(&short("192.0.2.7:3", &id(0x4c))), 3, "another length");
    assert_eq!(bench.owner_of(&short("192.0.2.7:4", &id(0x0b))), 3, "another rotation");
    assert_eq!(bench.owner_of(&long("192.0.2.7:5", 2, &id(0x4b)[..11])), 3, "shorter than its header says");
}

#[test]
fn server_ids_of_every_length_are_read_whole() {
    for len in 1..=15_u8 {
        let (server, other): (Vec<u8>, Vec<u8>) = ((1..=len).collect(), (1..len).chain([99]).collect());
        let config = QuicConfig::new(0, len, 4, 0);
        let world = World::default().pool(VIP, 17, service_entry(1), &POOL);
        let mut bench = Bench::new(world.with_quic(1, config, &[(&server, 2), (&other, 1)]));
        bench.turn_ring(1, |_| Slot::settled(3));

        let id = |server: &[u8]| [&[0][..], server, &[0xaa; 4]].concat();
        assert_eq!(bench.owner_of(&short("192.0.2.7:1", &id(&server))), 2, "{len}");
        assert_eq!(bench.owner_of(&short("192.0.2.7:2", &id(&other))), 1, "{len}");
        assert_eq!(bench.owner_of(&short("192.0.2.7:3", &id(&vec![77; len.into()]))), 3, "{len}");
    }
}

#[test]
fn least_conn_counts_a_migrated_flow_for_its_owner() {
    let mut bench = Bench::new(world(ServiceEntry { select: SELECT_LEAST_CONN, ..service_entry(1) }));

    for n in 0..10 {
        assert_eq!(bench.owner_of(&short(&format!("192.0.2.9:{}", 41_000 + n), &cid(0, [0, 12], 1))), 2);
    }

    assert_eq!(bench.rig.load_of(2).expect("the loads"), 10);
    bench.compare_tables();
}

#[test]
fn icmp_errors_about_a_migrated_flow_reach_its_backend() {
    for forward in [0, FORWARD_L2DSR] {
        let mut bench = Bench::new(world(ServiceEntry { forward, ..service_entry(1) }));
        for n in 0..12_u16 {
            let client = format!("192.0.2.9:{}", 41_000 + n);
            let (server, owner) = SERVERS[usize::from(n) % 3];
            assert_eq!(bench.owner_of(&short(&client, &cid(0, server.try_into().expect("two"), 1))), owner);

            let about = udp(at(VIP), at(&client), &[0x40; 600]);
            let ran = bench.xdp(&too_big("192.0.2.200".parse().expect("an address"), &about, 8));

            assert_eq!(ran.verdict, Some(Verdict::ForwardIcmp));
            assert_eq!(ran.frame[4..6], owner.to_be_bytes());
        }
    }
}

#[test]
fn options_extension_headers_and_pieces_hide_no_connection_id() {
    let v6 = "[2001:db8::10]:443";
    let pool = [(4, "[fd00::11]:443"), (5, "[fd00::12]:443")];
    let world = full().pool(v6, 17, ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(2) }, &pool);
    let mut bench = Bench::new(world.with_quic(2, CONFIG, &[(&[0, 11], 4), (&[0, 12], 5)]));
    bench.turn_ring(2, |_| Slot::settled(5));
    let packet = [&[0x40][..], &cid(0, [0, 11], 7), &[0xee; 600]].concat();
    let six = udp(at("[2001:db8:9::7]:40000"), at(v6), &packet);

    assert_eq!(bench.owner_of(&with_options(&short(CLIENT, &cid(0, [0, 13], 7)), 3)), 3);
    assert_eq!(bench.owner_of(&with_extensions(&six, &[0, 60])), 4);
    let (head, tail) = fragments(&six, 400, 7);
    assert_eq!(bench.owner_of(&head), 4);
    assert_eq!(bench.xdp(&tail).frame[4..6], [0, 4]);
}
