//! Fragments: the head carries the ports and is routed like any packet; its tails follow it, in both directions.

use lb_common::decide::FRAGMENT_TICKS;
use lb_common::limits::MAX_FRAGMENTS;
use lb_common::reply::{FragmentEntry, FragmentKey};
use lb_common::service::{FORWARD_L2DSR, SERVICE_SNAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, fragments, read, tcp, udp};
use weir_tests::world::{World, at, service_entry};

const V4: [&str; 3] = ["203.0.113.10:53", "10.0.0.11:5353", "192.0.2.7:40000"];
const V6: [&str; 3] = ["[2001:db8::10]:53", "[fd00::11]:5353", "[2001:db8:9::7]:40000"];

fn nat() -> World {
    World::default().pool(V4[0], 17, service_entry(1), &[(1, V4[1])]).pool(V6[0], 17, service_entry(2), &[(2, V6[1])])
}

fn pieces(src: &str, dst: &str, id: u32) -> (Vec<u8>, Vec<u8>) {
    fragments(&udp(at(src), at(dst), &[7; 200]), 64, id)
}

#[test]
fn tails_follow_their_head_to_the_backend() {
    let mut bench = Bench::new(nat());
    for [vip, backend, client] in [V4, V6] {
        let (head, tail) = pieces(client, vip, 1);

        let out = bench.sent(&head, Verdict::Forward);
        assert_eq!((out.src.ip(), out.dst.ip()), (at(client).ip(), at(backend).ip()));
        for _ in 0..2 {
            let out = bench.sent(&tail, Verdict::Forward);
            assert_eq!((out.src.ip(), out.dst.ip()), (at(client).ip(), at(backend).ip()));
            assert_eq!((out.ttl, &out.payload[..]), (63, &[7; 144][..]));
        }
    }
    assert_eq!(bench.counters(1).packets, 3);
    bench.compare_tables();
}

#[test]
fn pieces_put_together_have_a_sound_checksum() {
    let mut bench = Bench::new(nat());
    let (head, tail) = pieces(V4[2], V4[0], 1);
    let (head, tail) = (bench.xdp(&head).frame, bench.xdp(&tail).frame);

    let mut whole = [&head[..], &tail[34..]].concat();
    whole[16..22].copy_from_slice(&udp(at(V4[2]), at(V4[1]), &[7; 200])[16..22]);
    let expected = udp(at(V4[2]), at(V4[1]), &[7; 200]);
    assert_eq!(whole[34..], expected[34..]);
}

#[test]
fn tails_follow_their_head_to_the_client() {
    let mut bench = Bench::new(nat());
    for [vip, backend, client] in [V4, V6] {
        let (head, tail) = pieces(backend, client, 1);
        assert_eq!(bench.verdict(&tail), Verdict::DropFragmentTail, "its head has not been seen");

        for piece in [&head, &tail] {
            let out = bench.sent(piece, Verdict::Reply);
            assert_eq!((out.src.ip(), out.dst.ip()), (at(vip).ip(), at(client).ip()));
        }
    }
    assert_eq!(bench.counters(1).reply_packets, 2);
    bench.compare_tables();
}

#[test]
fn snat_pieces_find_both_ways() {
    let entry = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(1) };
    let world =
        World::default().pool(V4[0], 17, entry, &[(1, V4[1])]).lend(&[1], "10.0.0.1".parse().expect("an address"));
    let mut bench = Bench::new(world);
    let (head, tail) = pieces(V4[2], V4[0], 1);
    let ours = bench.sent(&udp(at(V4[2]), at(V4[0]), b"x"), Verdict::Forward).src;
    for piece in [&head, &tail] {
        let out = bench.sent(piece, Verdict::Forward);
        assert_eq!((out.src.ip(), out.dst.ip()), (ours.ip(), at(V4[1]).ip()));
    }

    let (head, tail) = pieces(V4[1], &ours.to_string(), 2);
    for piece in [&head, &tail] {
        let out = bench.sent(piece, Verdict::Reply);
        assert_eq!((out.src.ip(), out.dst.ip()), (at(V4[0]).ip(), at(V4[2]).ip()));
    }
    bench.compare_tables();
}

#[test]
fn l2dsr_pieces_stay_as_they_are() {
    let entry = ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(1) };
    let mut bench = Bench::new(World::default().pool(V4[0], 17, entry, &[(1, "10.0.0.11:53")]));
    let (head, tail) = pieces(V4[2], V4[0], 1);
    for piece in [&head, &tail] {
        let ran = bench.xdp(piece);
        assert_eq!(ran.verdict, Some(Verdict::Forward));
        assert_eq!(ran.frame[..6], [0x02, 0, 0, 0xbe, 0, 1]);
        assert_eq!(ran.frame[12..], piece[12..]);
    }
}

#[test]
fn tcp_comes_in_pieces_too() {
    let mut bench = Bench::new(World::default().pool(V4[0], 6, service_entry(1), &[(1, V4[1])]));
    let (head, tail) = fragments(&tcp(at(V4[2]), at(V4[0]), Flags::Data, &[7; 100]), 40, 1);
    let _out = bench.sent(&head, Verdict::Forward);
    let _out = bench.sent(&tail, Verdict::Forward);
    let (head, _) = fragments(&tcp(at(V4[2]), at(V4[0]), Flags::Data, &[7; 100]), 8, 2);
    assert_eq!(bench.verdict(&head), Verdict::DropMalformed, "a TCP header in two pieces is an attack");
}

#[test]
fn a_tail_whose_head_nobody_saw_is_dropped_at_a_vip_and_at_no_other_address() {
    let mut bench = Bench::new(nat());
    let (_, tail) = pieces(V4[2], V4[0], 7);
    assert_eq!(bench.verdict(&tail), Verdict::DropFragmentTail);
    let (_, tail) = pieces(V4[2], "198.18.0.1:53", 7);
    let ran = bench.xdp(&tail);
    assert_eq!((ran.verdict, ran.frame), (Some(Verdict::PassNotOurs), tail));
}

#[test]
fn tails_of_another_datagram_wait_for_their_own_head() {
    let mut bench = Bench::new(nat());
    for [vip, _, client] in [V4, V6] {
        let (head, _) = pieces(client, vip, 1);
        let _out = bench.sent(&head, Verdict::Forward);
        assert_eq!(bench.verdict(&pieces(client, vip, 2).1), Verdict::DropFragmentTail);
    }
}

#[test]
fn a_head_is_forgotten_after_the_usual_reassembly_time() {
    let mut bench = Bench::new(nat());
    let (head, tail) = pieces(V4[2], V4[0], 1);
    let _out = bench.sent(&head, Verdict::Forward);
    bench.age(FRAGMENT_TICKS);
    let _out = bench.sent(&tail, Verdict::Forward);
    bench.age(1);
    assert_eq!(bench.verdict(&tail), Verdict::DropFragmentTail);
}

#[test]
fn what_a_backend_sends_in_pieces_on_its_own_behalf_passes_whole() {
    let mut bench = Bench::new(nat());
    let (head, tail) = pieces("10.0.0.11:999", V4[2], 1);
    for piece in [&head, &tail] {
        let ran = bench.xdp(piece);
        assert_eq!((ran.verdict, &ran.frame), (Some(Verdict::PassNotOurs), piece));
    }
}

#[test]
fn a_full_table_drops_heads_under_a_name() {
    let mut bench = Bench::new(nat());
    for n in 0..u32::try_from(MAX_FRAGMENTS).expect("a small number") {
        let (key, entry) = (FragmentKey { id: n, ..FragmentKey::default() }, FragmentEntry::default());
        bench.rig.set_fragment(&key, &entry).expect("there is room");
        let _none = bench.host.fragments.borrow_mut().insert(key, Box::leak(Box::new(entry)));
    }
    assert_eq!(bench.verdict(&pieces(V4[2], V4[0], 1).0), Verdict::DropFragmentTableFull);
    assert_eq!(bench.verdict(&pieces(V4[1], V4[2], 1).0), Verdict::DropFragmentTableFull);
    let _whole = bench.sent(&udp(at(V4[2]), at(V4[0]), b"x"), Verdict::Forward);
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut bench = Bench::new(nat());
    let whole = udp(at(V6[2]), at(V6[0]), &[7; 20]);
    let (mut atomic, _) = fragments(&whole, 24, 1);
    atomic.extend(&whole[54 + 24..]);
    let len = u16::try_from(atomic.len() - 54).expect("a small packet");
    atomic[18..20].copy_from_slice(&len.to_be_bytes());
    atomic[57] = 0;

    let out = bench.xdp(&atomic);

    assert_eq!(out.verdict, Some(Verdict::Forward));
    assert_eq!(read(&out.frame).expect("a sound packet").dst, at(V6[1]));
    assert!(bench.rig.fragments().expect("the map").is_empty());
}
