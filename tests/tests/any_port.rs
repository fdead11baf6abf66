//! Services of every port: whatever port a client asks for is the port its backend sees, and its answers come from it.

use lb_common::service::{FORWARD_L2DSR, SELECT_LEAST_CONN, SELECT_ROUND_ROBIN, SERVICE_SNAT, ServiceEntry};
use lb_common::verdict::Verdict;
use weir_tests::bench::Bench;
use weir_tests::packet::{Flags, fragments, quoted, tagged, tcp, too_big, udp, with_extensions, with_options};
use weir_tests::world::{World, at, service_entry};

const PORTS: [u16; 4] = [1, 80, 8_443, 65_535];
/// VIP, backend, client, router beyond the client, an address of ours; without ports.
const V4: [&str; 5] = ["203.0.113.10", "10.0.0.11", "192.0.2.7", "192.0.2.200", "10.0.0.1"];
const V6: [&str; 5] = ["[2001:db8::10]", "[fd00::11]", "[2001:db8:9::7]", "2001:db8:9::200", "[fd00::1]"];

fn bench(entry: ServiceEntry) -> Bench {
    let mut world = World::default();
    for (n, [vip, backend, .., ours]) in [V4, V6].into_iter().enumerate() {
        for (m, protocol) in [6, 17].into_iter().enumerate() {
            let id = u16::try_from(n * 2 + m + 1).expect("a small number");
            let pool = [(id, &*format!("{backend}:0"))];
            world = world.pool(&format!("{vip}:0"), protocol, ServiceEntry { id, ..entry }, &pool);
            world = world.lend(&[id], ours.trim_matches(['[', ']']).parse().expect("an address"));
        }
    }
    Bench::new(world)
}

fn packet(protocol: u8, src: &str, dst: &str, flags: Flags) -> Vec<u8> {
    if protocol == 6 { tcp(at(src), at(dst), flags, b"") } else { udp(at(src), at(dst), b"who") }
}

#[test]
fn nat_keeps_the_clients_port_in_both_directions() {
    for select in [0, SELECT_ROUND_ROBIN, SELECT_LEAST_CONN] {
        let mut bench = bench(ServiceEntry { select, ..service_entry(0) });
        for [vip, backend, client, ..] in [V4, V6] {
            for (protocol, port) in [6, 17].into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                let (vip, backend) = (format!("{vip}:{port}"), format!("{backend}:{port}"));
                let client = format!("{client}:40000");

                let out = bench.sent(&packet(protocol, &client, &vip, Flags::Syn), Verdict::Forward);
                assert_eq!((out.src, out.dst), (at(&client), at(&backend)));
                let out = bench.sent(&packet(protocol, &backend, &client, Flags::SynAck), Verdict::Reply);
                assert_eq!((out.src, out.dst), (at(&vip), at(&client)));
            }
        }
        bench.compare_tables();
    }
}

#[test]
fn snat_keeps_the_clients_port_in_both_directions() {
    let mut bench = bench(ServiceEntry { flags: SERVICE_SNAT, ..service_entry(0) });
    for [vip, backend, client, _, ours] in [V4, V6] {
        for (protocol, port) in [6, 17].into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
            let (vip, backend, client) =
                (format!("{vip}:{port}"), format!("{backend}:{port}"), format!("{client}:40000"));

            let out = bench.sent(&packet(protocol, &client, &vip, Flags::Syn), Verdict::Forward);
            assert_eq!((out.src.ip(), out.dst), (at(&format!("{ours}:0")).ip(), at(&backend)));
            let out = bench.sent(&packet(protocol, &backend, &out.src.to_string(), Flags::SynAck), Verdict::Reply);
            assert_eq!((out.src, out.dst), (at(&vip), at(&client)));
        }
    }
    bench.compare_tables();
}

#[test]
fn l2dsr_sends_every_port_as_it_is() {
    let mut bench = bench(ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(0) });
    for [vip, _, client, ..] in [V4, V6] {
        for (protocol, port) in [6, 17].into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
            let frame = packet(protocol, &format!("{client}:40000"), &format!("{vip}:{port}"), Flags::Syn);
            let ran = bench.xdp(&frame);
            assert_eq!((ran.verdict, &ran.frame[12..]), (Some(Verdict::Forward), &frame[12..]));
        }
    }
}

#[test]
fn icmp_errors_find_the_flow_of_every_port_in_both_directions() {
    for entry in [service_entry(0), ServiceEntry { flags: SERVICE_SNAT, ..service_entry(0) }] {
        let mut bench = bench(entry);
        for [vip, backend, client, router, _] in [V4, V6] {
            for (protocol, port) in [6, 17].into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                let (vip, backend, client) =
                    (format!("{vip}:{port}"), format!("{backend}:{port}"), format!("{client}:40000"));
                let router = router.parse().expect("an address");
                let sent = bench.sent(&packet(protocol, &client, &vip, Flags::Syn), Verdict::Forward);

                let about = packet(protocol, &vip, &client, Flags::Data);
                let told = bench.sent(&too_big(router, &about, 8), Verdict::ForwardIcmp);
                assert_eq!(quoted(&told), (at(&backend), sent.src), "as the backend sent it");

                let about = packet(protocol, &sent.src.to_string(), &backend, Flags::Data);
                let told = bench.sent(&too_big(router, &about, 8), Verdict::ReplyIcmp);
                assert_eq!(quoted(&told), (at(&client), at(&vip)), "as the client sent it");
            }
        }
        bench.compare_tables();
    }
}

#[test]
fn tags_options_extension_headers_and_pieces_are_no_matter() {
    let mut bench = bench(service_entry(0));
    let (client, vip) = ("[2001:db8:9::7]:40000", "[2001:db8::10]:853");
    let out = bench.sent(&with_extensions(&packet(6, client, vip, Flags::Syn), &[0, 43, 60]), Verdict::Forward);
    assert_eq!(out.dst, at("[fd00::11]:853"));
    let (client, vip) = ("192.0.2.7:40000", "203.0.113.10:853");
    let out = bench.sent(&with_options(&packet(6, client, vip, Flags::Syn), 4), Verdict::Forward);
    assert_eq!(out.dst, at("10.0.0.11:853"));
    let ran = bench.xdp(&tagged(&packet(6, client, vip, Flags::Ack), &[0x88a8, 0x8100]));
    assert_eq!(ran.verdict, Some(Verdict::Forward));
    let (head, tail) = fragments(&udp(at(client), at(vip), &[7; 200]), 64, 5);
    for piece in [head, tail] {
        assert_eq!(bench.sent(&piece, Verdict::Forward).dst.ip(), at("10.0.0.11:0").ip());
    }
    let (head, tail) = fragments(&udp(at("10.0.0.11:853"), at(client), &[7; 200]), 64, 6);
    for piece in [head, tail] {
        assert_eq!(bench.sent(&piece, Verdict::Reply).src.ip(), at(vip).ip());
    }
}
