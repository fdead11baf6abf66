//! Backends that are containers on the load balancer's own host: their stack leaves checksums to hardware that does not
//! exist, so their answers must be rewritten by the program that knows how to finish them.

use std::net::SocketAddr;
use std::time::Duration;

use lb_agent::pure::model::BackendState;
use weir_tests::agent::Agent;
use weir_tests::agent::settings::{Service, Settings};
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::client::udp::Flows;
use weir_tests::lab::{DefaultRoute, Family, Lab, Nics, Plan};
use weir_tests::scenario::{DNS, FAMILIES, HEALTH, SERVER_PORT, VIP_PORT, WEB};
use weir_tests::server::Server;

struct Host {
    agent: Agent,
    _servers: Vec<Server>,
    lab: Lab,
    target: SocketAddr,
}

/// Two containers, and one backend across the wire beside them.
fn start(family: Family, xdp: &str) -> Host {
    let mut lab = Lab::build(Plan { nics: Nics::One, clients: 1, backends: 1, route: DefaultRoute::Balancer });
    lab.add_container();
    lab.add_container();
    let mut backends = Vec::new();
    let mut servers = Vec::new();
    for index in 0..2 {
        let address = SocketAddr::new(lab.container_address(index, family), SERVER_PORT);
        servers.push(Server::start(&lab.containers[index], &format!("k{}", index + 1), &[address]));
        backends.push((address, 100));
    }
    let address = SocketAddr::new(lab.backend_address(0, family), SERVER_PORT);
    servers.push(Server::start(&lab.backends[0], "b1", &[address]));
    backends.push((address, 100));
    let target = SocketAddr::new(lab.vip(family, 0), VIP_PORT);
    let web = Service {
        name: WEB.into(),
        vip: target.ip(),
        port: target.port(),
        protocol: "tcp",
        forward: "nat",
        snat: false,
        select: "maglev",
        tracking: "full",
        backends,
        health: HEALTH.into(),
        timeouts: String::new(),
        drain: String::new(),
    };
    let dns = Service { name: DNS.into(), protocol: "udp", ..web.clone() };
    let settings = Settings {
        interfaces: vec![("eth0".into(), xdp.into())],
        services: vec![web, dns],
        flow_table_entries: 100_000,
        agent_lines: String::new(),
    };
    let agent = Agent::start(&lab.balancer, settings);
    let _ = agent.wait_until("all backends up", Duration::from_secs(20), |status| {
        status.services.iter().flat_map(|service| &service.backends).all(|backend| backend.state == BackendState::Up)
    });
    Host { agent, _servers: servers, lab, target }
}

#[test]
fn containers_of_this_host_serve_beside_a_backend_across_the_wire() {
    for (family, xdp) in FAMILIES.into_iter().flat_map(|family| [(family, "native"), (family, "generic")]) {
        let host = start(family, xdp);
        let client = &host.lab.clients[0];
        let tally = Load::new(host.target, 3_000).run(client);
        let verdicts = host.agent.status().verdicts;
        let what = format!("{family:?} {xdp}: {:?}, verdicts {verdicts:?}", tally.shares);
        eprintln!("{what}");
        tally.assert_all_ok(&what);
        tally.assert_shares(&["k1", "k2", "b1"].map(|name| (name.to_owned(), 100)), 0.15);
        Held::open(client, host.target, 60, &[]).check(client).assert_unharmed(&what);
        for size in [0, 3_000] {
            let tally = Flows { target: host.target, flows: 30, datagrams: 20, size }.run(client);
            // Two CPUs may hand a datagram's tail to the balancer before its head: dropped, but never in silence.
            let overtaken = host.agent.status().verdicts["drop_fragment_tail"];
            assert!(
                tally.lost as u64 <= overtaken,
                "{size} bytes: {tally:?}, {overtaken} tails before their heads, {what}"
            );
            assert!(size > 0 || overtaken == 0, "small datagrams have no tails");
            assert_eq!((tally.answered + tally.lost, tally.moved, tally.wrong.len()), (600, 0, 0), "{tally:?}");
        }
    }
}

#[test]
fn a_container_is_a_client_of_the_vip_too() {
    let host = start(Family::V4, "native");
    // From the bridge the VIP lies behind the host, which does not hold it: it is reached through eth0's wire.
    let interfaces = host.agent.status().interfaces;
    assert!(interfaces.iter().any(|interface| interface.name == "eth0"), "{interfaces:?}");
    Load::new(host.target, 100).run(&host.lab.clients[0]).assert_all_ok("a client beside it");
}
