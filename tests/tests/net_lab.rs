//! The lab itself, without Weir: what the other network tests stand on works by plain routing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_tests::client::held::Held;
use weir_tests::client::load::{Close, Load};
use weir_tests::client::stream::Streams;
use weir_tests::client::udp::Flows;
use weir_tests::client::{Connection, Failure};
use weir_tests::client::{echo, flood};
use weir_tests::lab::{DefaultRoute, Family, Lab, Nics, Plan};
use weir_tests::server::Server;

const PORT: u16 = 8080;

fn serve(lab: &Lab, backend: usize) -> Server {
    let addresses = [Family::V4, Family::V6].map(|family| SocketAddr::new(lab.backend_address(backend, family), PORT));
    Server::start(&lab.backends[backend], &format!("b{}", backend + 1), &addresses)
}

fn routed(nics: Nics) -> Lab {
    let lab = Lab::build(Plan { nics, clients: 2, backends: 2, route: DefaultRoute::Balancer });
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        lab.balancer.sysctl(key, "1");
    }
    lab
}

#[test]
fn clients_reach_backends_through_one_nic_and_through_two() {
    for nics in [Nics::One, Nics::Two] {
        let lab = routed(nics);
        let mut server = serve(&lab, 1);
        for family in [Family::V4, Family::V6] {
            let target = SocketAddr::new(lab.backend_address(1, family), PORT);
            let tally = Load::new(target, 2_000).run(&lab.clients[1]);
            tally.assert_all_ok("plain routing");
            assert_eq!(tally.share("b2"), 2_000);
            eprintln!("{nics:?} {family:?}: {:.0} requests/s", 2_000.0 / tally.took.as_secs_f64());
            let small = Flows { target, flows: 10, datagrams: 20, size: 0 }.run(&lab.clients[0]);
            assert_eq!((small.answered, small.lost, small.moved), (200, 0, 0), "{small:?}");
            let fragmented = Flows { target, flows: 10, datagrams: 5, size: 4_000 }.run(&lab.clients[0]);
            assert_eq!((fragmented.answered, fragmented.lost), (50, 0), "{fragmented:?}");
            assert!(echo::answers(&lab.clients[0], target.ip(), b"echo"), "{family:?}");
            assert!(!echo::answers(&lab.clients[0], lab.vip(family, 0), b"echo"), "{family:?}: nobody has a VIP here");
        }
        assert_eq!(server.requests(), 4_000);
        assert_eq!(server.datagrams(), 500);
    }
}

#[test]
fn tuples_are_used_again_and_every_way_to_close_is_clean() {
    let lab = routed(Nics::One);
    let _server = serve(&lab, 0);
    let target = SocketAddr::new(lab.backend_address(0, Family::V4), PORT);
    for close in [Close::Server, Close::Reset] {
        let sources = vec![lab.client_address(0, Family::V4, 3)];
        let load = Load { close, sources, ports: Some(20_000..20_100), ..Load::new(target, 1_000) };
        load.run(&lab.clients[0]).assert_all_ok("100 tuples, used ten times each");
    }
}

#[test]
fn a_killed_server_refuses_and_an_unplugged_one_is_silent() {
    let lab = routed(Nics::One);
    let mut server = serve(&lab, 0);
    let client = &lab.clients[0];
    let target = SocketAddr::new(lab.backend_address(0, Family::V4), PORT);
    let mut held = Held::open(client, target, 100, &[]);
    held = held.check(client).look(client);
    held.assert_unharmed("nothing has happened yet");
    assert_eq!(held.shares()["b1"], 100);

    let attempt = || client.run(async move { Connection::open(target, None, Duration::from_millis(300)).await.err() });
    lab.unplug_backend(0);
    assert_eq!(attempt(), Some(Failure::TimedOut));
    lab.plug_backend(0);
    held = held.check(client);
    held.assert_unharmed("a cable that comes back");

    server.kill();
    assert_eq!(attempt(), Some(Failure::Refused));
    held = held.check(client);
    assert_eq!(held.len(), 0, "a killed process takes its connections along");
    assert_eq!(held.faults().len(), 100);
}

#[test]
fn a_half_closed_stream_is_read_to_its_end() {
    let lab = routed(Nics::One);
    let _server = serve(&lab, 0);
    let target = SocketAddr::new(lab.backend_address(0, Family::V6), PORT);
    let every = Duration::from_millis(50);
    let began = Instant::now();
    let streams = Streams { target, count: 20, chunks: 10, every, half_close: true }.start(&lab.clients[0]).wait();
    assert!(streams.iter().all(|stream| stream.outcome.is_ok() && stream.server == "b1"), "{streams:?}");
    assert!(began.elapsed() >= every * 10, "a stream takes its time");
}

#[test]
fn a_vanished_client_sends_nothing_and_a_flood_is_answered_into_nowhere() {
    let lab = routed(Nics::One);
    let _server = serve(&lab, 0);
    let SocketAddr::V4(target) = SocketAddr::new(lab.backend_address(0, Family::V4), PORT) else { unreachable!() };
    let held = Held::open(&lab.clients[1], target.into(), 10, &[]);
    lab.unplug_client(1);
    held.close(&lab.clients[1]);
    let before = lab.backends[0].counter("TcpPassiveOpens");
    flood::send_syns(&lab.clients[0], target, 1_000, 1);
    let established = lab.backends[0].counter("TcpCurrEstab");
    assert_eq!(established, 10, "the backend has not heard that its clients are gone");
    assert_eq!(lab.backends[0].counter("TcpPassiveOpens"), before, "no handshake of the flood is completed");
    lab.plug_client(1);
    let tally = Load::new(target.into(), 100).run(&lab.clients[1]);
    tally.assert_all_ok("the client is back");
}
