//! QUIC's connection IDs on real datagrams: a client that changes its address stays on its backend.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_tests::lab::Family;
use weir_tests::scenario::{DNS, FAMILIES, MODES, Mode, Scenario, Setup};

/// Nothing here takes longer; what has not come by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// Rotation 1, a server ID of four octets (the end of the backend's address), a nonce of six.
const QUIC: &str = "timeout = \"5m\"\n[service.quic]\nconfig_rotation = 1\nserver_id_length = 4\nnonce_length = 6";

fn started(mode: Mode, family: Family) -> Scenario {
    let mut scenario = Setup { udp: true, weights: vec![100; 3], ..Setup::new(mode, family) }.prepare();
    let dns = scenario.agent.settings_mut().services.iter_mut().find(|s| s.name == DNS).expect("the UDP service");
    dns.drain = QUIC.into();
    scenario.agent.write_config();
    scenario.agent.launch();
    scenario.wait_all_up();
    let _ = scenario.wait_settled(Duration::from_secs(20));
    scenario
}

/// A short header with an ID that this backend's server would have given.
fn short(backend: IpAddr, nonce: u8) -> Vec<u8> {
    let octets = match backend {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    [&[0x41, 0x20][..], &octets[octets.len() - 4..], &[nonce; 6], &[0xee; 24]].concat()
}

/// A client's first packet: a long header with an ID of its own choice.
fn initial(chosen: u8) -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, 8][..], &[chosen; 8], &[0], &[0xee; 1_200]].concat()
}

/// Sends each datagram from its own source; which servers answered.
fn ask(scenario: &Scenario, family: Family, datagrams: Vec<(u8, Vec<u8>)>) -> Vec<String> {
    let target = scenario.target();
    let asked: Vec<(SocketAddr, Vec<u8>)> = datagrams
        .into_iter()
        .map(|(source, bytes)| (SocketAddr::new(scenario.lab.client_address(0, family, source), 0), bytes))
        .collect();
    scenario.client().call(move || {
        let mut names = Vec::new();
        for (source, bytes) in asked {
            let socket = UdpSocket::bind(source).expect("the client has this address");
            socket.set_read_timeout(Some(LOST_AFTER)).expect("a socket can have a timeout");
            let _sent = socket.send_to(&bytes, target).expect("a datagram can be sent");
            let mut buffer = [0; 2_048];
            let (length, from) = socket.recv_from(&mut buffer).expect("every datagram is answered");
            assert_eq!(from, target, "answers come from the VIP");
            let end = buffer[..length].iter().position(|byte| *byte == b' ').expect("a name comes first");
            assert_eq!(buffer[end + 1..length], bytes);
            names.push(String::from_utf8_lossy(&buffer[..end]).into_owned());
        }
        names
    })
}

#[test]
fn a_client_that_changes_address_and_port_stays_on_its_backend() {
    for mode in MODES {
        for family in FAMILIES {
            let scenario = started(mode, family);
            for index in 0..3 {
                let id = scenario.backend(index).ip();
                let moved = (0..24_u8).map(|n| (n % 12, short(id, n))).collect();
                let names = ask(&scenario, family, moved);
                assert_eq!(names, vec![format!("b{}", index + 1); 24], "{mode:?} {family:?}");
            }
            let names = ask(&scenario, family, (0..24).map(|n| (n % 12, initial(n))).collect());
            assert!(
                (0..3).all(|index| names.contains(&format!("b{}", index + 1))),
                "the ring takes the rest: {names:?}"
            );
            let dns = scenario.agent.service(DNS);
            let counted: Vec<u64> = dns.backends.iter().map(|b| b.new_flows).collect();
            assert!(counted.iter().all(|n| *n >= 24), "flows count where they go: {counted:?}");
            assert_eq!(counted.iter().sum::<u64>(), 96, "{counted:?}");
        }
    }
}

#[test]
fn a_draining_backend_keeps_its_connections_also_past_a_restart_of_the_agent() {
    let mut scenario = started(Mode::Nat, Family::V4);
    let id = scenario.backend(0).ip();
    assert_eq!(ask(&scenario, Family::V4, vec![(0, short(id, 0))]), ["b1"]);

    let _told = scenario.agent.backend("drain", DNS, scenario.backend(0), &[]);
    let check = |scenario: &Scenario, what: &str| {
        let names = ask(scenario, Family::V4, (0..12).map(|n| (n, short(id, n))).collect());
        assert_eq!(names, ["b1"; 12], "{what}");
        let names = ask(scenario, Family::V4, (0..24).map(|n| (n % 12, initial(n))).collect());
        assert!(!names.contains(&"b1".to_owned()), "{what}: {names:?}");
    };
    check(&scenario, "while it drains");
    scenario.agent.kill();
    check(&scenario, "without an agent");
    scenario.agent.launch();
    check(&scenario, "with a new agent");
}
