//! What is told of packets while somebody looks: what was asked for, of those that were asked for, and nothing else.

use lb_common::endpoint::Address;
use lb_common::host::{HOST_CAPTURE, HOST_SLOW, HOST_TRACE};
use lb_common::service::ServiceEntry;
use lb_common::trace::{
    ANY_SERVICE, EVENT_CLOSED, EVENT_CONFIRMED, EVENT_DROPPED, EVENT_OPENED, KIND_AFTER, KIND_BEFORE, KIND_EVENT,
    RING_BYTES, SIGHT_REPLY, SIGHT_TC, Sight, TAP_AFTER, TAP_BEFORE, TAP_ON, TAPS, Tap, words,
};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, read, tcp, udp, with_ttl};
use weir_tests::world::{WIRE, World, at, service_entry};

const VIP: &str = "203.0.113.10:80";
const VIP_V6: &str = "[2001:db8::10]:80";
const CLIENT: &str = "192.0.2.7:40000";
const CLIENT_V6: &str = "[2001:db8:9::7]:40000";
const BACKEND: &str = "10.0.0.11:8080";

const EVERYTHING: u16 = 0x3ff;

fn world() -> World {
    World::default()
        .pool(VIP, 6, service_entry(1), &[(1, BACKEND)])
        .pool(VIP_V6, 6, service_entry(2), &[(2, "[fd00::11]:8080")])
        .pool("203.0.113.10:53", 17, ServiceEntry { ..service_entry(3) }, &[(3, "10.0.0.13:53")])
}

fn events(events: u16) -> Tap {
    Tap { events, ..Tap::OPEN }
}

/// A bench on which these look.
fn looking(taps: &[Tap]) -> Bench {
    let mut world = world();
    world.host.flags |= HOST_TRACE | HOST_SLOW;
    if taps.iter().any(Tap::captures) {
        world.host.flags |= HOST_CAPTURE;
    }
    let mut bench = Bench::new(world);
    let mut all = [Tap::default(); TAPS];
    all[..taps.len()].copy_from_slice(taps);
    bench.rig.look(&all).expect("the taps can be written");
    bench
}

fn told(bench: &mut Bench) -> Vec<(Sight, Vec<u8>)> {
    bench.rig.sights().expect("the ring can be read")
}

#[test]
fn the_life_of_a_flow_is_told_with_its_tuple_service_and_owner() {
    let mut bench = looking(&[events(EVERYTHING)]);
    for (from, to, flags) in [
        (CLIENT, VIP, Flags::Syn),
        (CLIENT, VIP, Flags::Ack),
        (CLIENT, VIP, Flags::Data),
        (CLIENT, VIP, Flags::Fin),
        (BACKEND, CLIENT, Flags::Fin),
    ] {
        let _ran = bench.xdp(&tcp(at(from), at(to), flags, b""));
    }

    let sights: Vec<_> = told(&mut bench).into_iter().map(|(sight, _)| sight).collect();

    let happened: Vec<_> = sights.iter().map(|sight| sight.events).collect();
    assert_eq!(happened, [EVENT_OPENED, EVENT_CONFIRMED, EVENT_CLOSED], "{sights:#?}");
    for sight in &sights {
        assert_eq!((sight.service, sight.owner, sight.protocol, sight.taps), (1, 1, 6, 1), "{sight:?}");
        assert_eq!((sight.client, sight.vip), (Address::v4([192, 0, 2, 7]), Address::v4([203, 0, 113, 10])));
        assert_eq!((sight.client_port, sight.vip_port), (40_000_u16.to_be_bytes(), 80_u16.to_be_bytes()));
        assert_eq!((sight.kind, sight.arrival, sight.captured), (KIND_EVENT, WIRE, 0));
    }
    assert_eq!(sights[2].flags, SIGHT_REPLY, "the server closed it");
    assert!(sights.is_sorted_by_key(|sight| sight.time_ns));
}

#[test]
fn nothing_is_told_while_nobody_looks() {
    let mut bench = Bench::new(world());
    let mut taps = [Tap::default(); TAPS];
    taps[0] = events(EVERYTHING);
    bench.rig.look(&taps).expect("the taps can be written");
    assert_eq!(bench.verdict(&tcp(at(CLIENT), at(VIP), Flags::Syn, b"")), Verdict::Forward);
    assert_eq!(told(&mut bench), [], "the host's flag is not set");
    // There is one rig.
    drop(bench);

    let mut bench = looking(&[Tap { flags: 0, ..events(EVERYTHING) }]);
    assert_eq!(bench.verdict(&tcp(at(CLIENT), at(VIP), Flags::Syn, b"")), Verdict::Forward);
    assert_eq!(told(&mut bench), [], "no tap is open");
}

#[test]
fn each_tap_gets_what_it_asks_for_and_no_more() {
    let mut mask = [0xff; 16];
    mask[15] = 0;
    let mask = words(&Address(mask));
    let mut bench = looking(&[
        Tap { service: 2, ..events(EVENT_OPENED) },
        Tap { owner: 1, ..events(EVENT_OPENED | EVENT_CONFIRMED) },
        Tap { client: words(&Address::v4([198, 51, 100, 0])), client_mask: mask, ..events(EVENT_OPENED) },
        Tap { verdicts: 1 << Verdict::DropTtl as u8, ..events(EVENT_DROPPED) },
    ]);
    for frame in [
        tcp(at(CLIENT), at(VIP), Flags::Syn, b""),
        tcp(at(CLIENT), at(VIP), Flags::Ack, b""),
        tcp(at(CLIENT_V6), at(VIP_V6), Flags::Syn, b""),
        udp(at("198.51.100.9:5000"), at("203.0.113.10:53"), b"who"),
        with_ttl(&tcp(at(CLIENT), at(VIP), Flags::Data, b""), 1),
        tcp(at(CLIENT), at("203.0.113.10:9"), Flags::Syn, b""),
        tcp(at(CLIENT), at("198.18.0.1:80"), Flags::Syn, b""),
    ] {
        let _ran = bench.xdp(&frame);
    }

    let seen: Vec<_> = told(&mut bench).into_iter().map(|(s, _)| (s.taps, s.events, s.service, s.verdict)).collect();

    let forward = Verdict::Forward as u8;
    assert_eq!(
        seen,
        [
            (0b0010, EVENT_OPENED, 1, forward),
            (0b0010, EVENT_CONFIRMED, 1, forward),
            (0b0001, EVENT_OPENED, 2, forward),
            (0b0100, EVENT_OPENED, 3, forward),
            (0b1000, EVENT_DROPPED, 1, Verdict::DropTtl as u8),
        ]
    );
}

#[test]
fn a_packet_of_no_service_is_told_as_it_is_and_not_as_the_one_before_it() {
    let mut bench = looking(&[Tap { sample: 1, verdicts: u64::MAX, ..events(0) }]);
    let _ran = bench.xdp(&tcp(at(CLIENT), at(VIP), Flags::Syn, b""));
    let _ran = bench.xdp(&tcp(at("198.51.100.9:7"), at("203.0.113.10:9"), Flags::Syn, b""));
    let _ran = bench.xdp(&tcp(at("198.51.100.9:7"), at("198.18.0.1:8"), Flags::Syn, b""));

    let seen: Vec<_> = told(&mut bench).into_iter().map(|(sight, _)| sight).collect();

    assert_eq!(seen.len(), 3, "{seen:#?}");
    for (sight, verdict, port) in [(&seen[1], Verdict::DropNoService, 9_u16), (&seen[2], Verdict::PassNotOurs, 8)] {
        assert_eq!((sight.service, sight.owner, sight.verdict), (ANY_SERVICE, 0, verdict as u8), "{sight:?}");
        assert_eq!((sight.client, sight.vip_port), (Address::v4([198, 51, 100, 9]), port.to_be_bytes()));
    }
}

#[test]
fn one_packet_in_n_is_sampled() {
    let mut bench = looking(&[Tap { sample: 5, ..events(0) }]);
    for _ in 0..20 {
        let _ran = bench.xdp(&tcp(at(CLIENT), at(VIP), Flags::Data, b"x"));
    }
    assert_eq!(told(&mut bench).len(), 4);
}

#[test]
fn packets_are_kept_as_they_came_and_as_they_leave_no_longer_than_asked() {
    let whole = Tap { flags: TAP_ON | TAP_BEFORE | TAP_AFTER, snaplen: 9_216, service: 1, ..Tap::OPEN };
    for (tap, kept) in [(whole, 1_054_usize), (Tap { snaplen: 60, ..whole }, 60)] {
        let mut bench = looking(&[tap]);
        let frame = tcp(at(CLIENT), at(VIP), Flags::Data, &[7; 1_000]);
        assert_eq!(frame.len(), 1_054);
        let ran = bench.xdp(&frame);
        let _other = bench.xdp(&tcp(at(CLIENT_V6), at(VIP_V6), Flags::Syn, b""));

        let sights = told(&mut bench);

        let [(before, came), (after, left)] = &sights[..] else { panic!("two records: {sights:?}") };
        assert_eq!((before.kind, after.kind), (KIND_BEFORE, KIND_AFTER));
        assert_eq!(
            (before.frame_len, before.captured as usize, came.len().next_multiple_of(8)),
            (1_054, kept, kept.next_multiple_of(8))
        );
        assert_eq!(came[..kept], frame[..kept], "as it came");
        assert_eq!(left[..kept], ran.frame[..kept], "as it leaves");
        assert!(after.time_ns > before.time_ns);
    }
}

#[test]
fn what_is_dropped_is_kept_as_it_came_only() {
    let mut bench = looking(&[Tap { flags: TAP_ON | TAP_BEFORE | TAP_AFTER, snaplen: 9_216, ..Tap::OPEN }]);
    let frame = with_ttl(&tcp(at(CLIENT), at(VIP), Flags::Data, b"x"), 1);
    assert_eq!(bench.verdict(&frame), Verdict::DropTtl);
    let sights = told(&mut bench);
    assert_eq!(
        sights.iter().map(|(s, _)| (s.kind, s.verdict)).collect::<Vec<_>>(),
        [(KIND_BEFORE, Verdict::DropTtl as u8)]
    );
}

#[test]
fn the_tc_program_keeps_packets_likewise() {
    let mut bench = looking(&[Tap { flags: TAP_ON | TAP_BEFORE | TAP_AFTER, snaplen: 9_216, ..Tap::OPEN }]);
    let ran = bench.tc(&tcp(at(BACKEND), at(CLIENT), Flags::Data, b"hello"));
    assert_eq!(ran.verdict, Some(Verdict::Reply));
    let sights = told(&mut bench);
    let [(before, came), (_, left)] = &sights[..] else { panic!("two records: {sights:?}") };
    assert_eq!(before.flags, SIGHT_REPLY | SIGHT_TC);
    assert_eq!((before.client, before.vip_port), (Address::v4([192, 0, 2, 7]), 80_u16.to_be_bytes()));
    assert_eq!(read(&came[..before.captured as usize]).expect("sound").src, at(BACKEND));
    assert_eq!(read(&left[..before.captured as usize]).expect("sound").src, at(VIP));
}

#[test]
fn what_finds_no_room_is_counted_and_the_packet_goes_its_way() {
    let mut bench =
        looking(&[Tap { flags: TAP_ON | TAP_BEFORE, snaplen: 9_216, service: 1, ..Tap::OPEN }, events(EVENT_OPENED)]);
    let frame = tcp(at(CLIENT), at(VIP), Flags::Data, &[7; 1_400]);
    let packets = RING_BYTES / frame.len() + 100;
    for _ in 0..packets {
        assert_eq!(bench.verdict(&frame), Verdict::Forward);
    }
    let kept = told(&mut bench).into_iter().filter(|(sight, _)| sight.kind == KIND_BEFORE).count();
    let lost = bench.rig.taps().expect("the taps").map(|tap| usize::try_from(tap.lost).expect("few"));
    assert_eq!((kept + lost[0], lost[1]), (packets, 0));
    assert!(lost[0] >= 100, "{lost:?}");
}
