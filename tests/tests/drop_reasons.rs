//! Every end of a packet can be reached, or says why not; and tags change nothing about any of them.

use lb_common::admission::{ACCESS_DENY, Limits};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE};
use lb_common::host::{VIP_ASSIGNED, VipEntry};
use lb_common::service::{SERVICE_ACCESS, SERVICE_CAPPED, SERVICE_LIMITED, SERVICE_SNAT, ServiceEntry};
use lb_common::slot::Slot;
use lb_common::verdict::{Fate, Verdict};
use weir_tests::bench::Bench;
use weir_tests::packet::{
    Flags, PEER_MAC, arp_request, echo, fragments, ip, solicitation, tagged, tcp, too_big, udp, with_ttl,
};
use weir_tests::world::{World, address, at, service_entry};

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "203.0.113.10:80";
const BACKEND: &str = "10.0.0.11:8080";

/// Needs a table of 8,192 datagrams: `fragments.rs` fills it.
const ELSEWHERE: Verdict = Verdict::DropFragmentTableFull;
/// In front of the network stack there is always room for another header; `forward_encap` shows where there is none.
const IN_TC: Verdict = Verdict::DropNoRoom;
/// No packet reaches it while the agent's tables agree.
const NEVER: Verdict = Verdict::DropInternal;

fn bench() -> Bench {
    let flagged = |id, flags| ServiceEntry { flags, ..service_entry(id) };
    let ports = |id, count| ServiceEntry { flags: SERVICE_SNAT, snat_port_count: count, ..service_entry(id) };
    let mut world = World::default()
        .pool(VIP, 6, service_entry(1), &[(1, BACKEND)])
        .pool("203.0.113.10:81", 6, service_entry(2), &[(2, "10.0.0.12:8080")])
        .pool("203.0.113.10:82", 6, service_entry(3), &[(3, "10.0.0.13:8080")])
        .pool("203.0.113.10:83", 6, ports(4, 0), &[(4, "10.0.0.14:8080")])
        .pool("[2001:db8::10]:80", 6, service_entry(5), &[(5, "[fd00::11]:80")])
        .pool("203.0.113.10:84", 6, flagged(6, SERVICE_ACCESS), &[(6, "10.0.0.15:8080")])
        .pool("203.0.113.10:85", 6, flagged(7, SERVICE_LIMITED), &[(7, "10.0.0.16:8080")])
        .pool("203.0.113.10:86", 6, flagged(8, SERVICE_CAPPED), &[(8, "10.0.0.17:8080")])
        .rule(6, "192.0.2.0/24", ACCESS_DENY);
    // No flow costs less than a whole second.
    let costly = Limits { source_cost: u32::MAX, prefix_v4: 32, ..Limits::default() };
    let _none = world.limits.insert(7, costly);
    // Alive for the ring, with a place for nobody.
    world.backend(8).flags &= !BACKEND_ALIVE;
    world.turn_ring(2, |_| Slot::settled(0));
    world.backend(3).flags &= !BACKEND_REACHABLE;
    world.backend(1).mtu = 1_400;
    let assigned = address("203.0.113.99".parse().expect("an address"));
    let _vip = world.vips.insert(assigned, VipEntry { flags: VIP_ASSIGNED });
    Bench::new(world)
}

fn packets() -> Vec<(Verdict, Vec<u8>)> {
    let (client, vip) = (at(CLIENT), at(VIP));
    let to = |text: &str| tcp(client, at(text), Flags::Syn, b"");
    let answer = |text: &str, len: usize| tcp(at(BACKEND), at(text), Flags::Data, &vec![0; len]);
    let router = "192.0.2.200".parse().expect("an address");
    let mut malformed = to(VIP);
    malformed[16] = 0xff;
    let (_, tail) = fragments(&udp(client, vip, &[0; 100]), 64, 1);
    let mut strange = to(VIP);
    strange[12] = 0x12;
    vec![
        (Verdict::PassNotIp, strange),
        (Verdict::PassNotOurs, to("198.18.0.1:80")),
        (Verdict::PassLocal, to("203.0.113.99:80")),
        (Verdict::PassToTc, answer("192.0.2.66:40000", 0)),
        (Verdict::Forward, to(VIP)),
        (Verdict::Reply, answer(CLIENT, 0)),
        (Verdict::ForwardIcmp, too_big(router, &tcp(vip, client, Flags::Data, b""), 8)),
        (Verdict::ReplyIcmp, too_big(router, &tcp(client, at(BACKEND), Flags::Data, b""), 8)),
        (Verdict::EchoReply, echo(client.ip(), vip.ip(), b"x")),
        (Verdict::ArpReply, arp_request([192, 0, 2, 7].into(), [203, 0, 113, 10].into())),
        (
            Verdict::NeighbourReply,
            solicitation(
                "2001:db8:9::7".parse().expect("an address"),
                "2001:db8::10".parse().expect("an address"),
                &[&[1, 1][..], &PEER_MAC].concat(),
            ),
        ),
        (Verdict::DropMalformed, malformed),
        (Verdict::DropNoService, ip(client.ip(), vip.ip(), 47, 64, &[0; 20])),
        (Verdict::DropNoBackend, to("203.0.113.10:81")),
        (Verdict::DropNoNextHop, to("203.0.113.10:82")),
        (Verdict::DropTtl, with_ttl(&to(VIP), 1)),
        (Verdict::DropFragmentTail, tail),
        (Verdict::DropSnatExhausted, to("203.0.113.10:83")),
        (Verdict::DropNoRoute, answer("198.51.100.5:40000", 0)),
        (Verdict::DropTooBig, answer("100.64.0.9:40000", 1_300)),
        (Verdict::SendTooBig, tcp(client, vip, Flags::Data, &[0; 1_400])),
        (Verdict::DropDenied, to("203.0.113.10:84")),
        (Verdict::DropRateLimited, to("203.0.113.10:85")),
        (Verdict::DropBackendFull, to("203.0.113.10:86")),
        (Verdict::DropIcmp, ip(client.ip(), vip.ip(), 1, 64, &[13, 0, 0, 0, 0, 0, 0, 0])),
    ]
}

#[test]
fn every_end_has_a_packet() {
    let mut bench = bench();
    for (verdict, frame) in packets() {
        assert_eq!(bench.verdict(&frame), verdict);
    }
    let reached: Vec<_> = packets().into_iter().map(|(verdict, _)| verdict).collect();
    let missing: Vec<_> = Verdict::ALL.iter().filter(|v| !reached.contains(v)).copied().collect();
    assert_eq!(missing, [ELSEWHERE, NEVER, IN_TC]);
}

#[test]
fn one_tag_or_two_change_nothing_and_stay() {
    let mut bench = bench();
    for (verdict, frame) in packets() {
        if verdict == Verdict::PassNotIp {
            continue;
        }
        for kinds in [&[0x8100][..], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
            let sent = tagged(&frame, kinds);
            let ran = bench.xdp(&sent);

            assert_eq!(ran.verdict, Some(verdict), "{kinds:04x?}");
            assert_eq!(ran.frame[12..12 + 4 * kinds.len()], sent[12..12 + 4 * kinds.len()]);
            if verdict.fate() != Fate::Send {
                assert_eq!(ran.frame, sent, "untouched");
            }
        }
    }
}
