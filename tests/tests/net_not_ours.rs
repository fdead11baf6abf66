//! What is not for a VIP is left alone: the host's own services, and what it routes for others.

use std::net::SocketAddr;

use weir_tests::client::load::Load;
use weir_tests::client::udp::Flows;
use weir_tests::lab::Nics;
use weir_tests::scenario::{FAMILIES, Mode, Setup};
use weir_tests::server::Server;

/// No service's port.
const OTHER_PORT: u16 = 2_222;

#[test]
fn the_hosts_own_services_and_what_it_routes_are_left_alone() {
    for (nics, xdp) in [(Nics::One, "native"), (Nics::Two, "native"), (Nics::Two, "generic")] {
        for family in FAMILIES {
            let scenario =
                Setup { nics, xdp, udp: true, weights: vec![100; 2], ..Setup::new(Mode::Nat, family) }.prepare();
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                scenario.lab.balancer.sysctl(key, "1");
            }
            let host = SocketAddr::new(scenario.lab.balancer_address(family), OTHER_PORT);
            let routed = SocketAddr::new(scenario.lab.backend_address(0, family), OTHER_PORT);
            let _on_host = Server::start(&scenario.lab.balancer, "host", &[host]);
            let _behind = Server::start(&scenario.lab.backends[0], "routed", &[routed]);
            let mut scenario = scenario;
            scenario.agent.launch();
            scenario.wait_all_up();
            for (target, name) in [(host, "host"), (routed, "routed")] {
                let tally = Load::new(target, 300).run(scenario.client());
                let what = format!("{name} {nics:?} {xdp} {family:?}");
                tally.assert_all_ok(&what);
                assert_eq!(tally.share(name), 300, "{what}");
                for size in [0, 4_000] {
                    let tally = Flows { target, flows: 10, datagrams: 20, size }.run(scenario.client());
                    assert_eq!((tally.answered, tally.lost, tally.wrong.len()), (200, 0, 0), "{what}: {tally:?}");
                }
            }
            assert!(scenario.drops().is_empty(), "{:?}", scenario.drops());
        }
    }
}
