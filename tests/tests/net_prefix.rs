//! A prefix for a VIP: real requests to several of its addresses, answered from the very address that was asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_tests::client::echo;
use weir_tests::client::load::Load;
use weir_tests::lab::Family;
use weir_tests::scenario::{FAMILIES, Mode, SERVER_PORT, Scenario, Setup, WEB};
use weir_tests::server::Server;

/// Addresses of the prefix: the last two bits.
const ADDRESSES: u8 = 4;

fn length(family: Family) -> u8 {
    if family == Family::V4 { 30 } else { 126 }
}

fn started(mode: Mode, family: Family) -> (Scenario, Vec<IpAddr>) {
    let mut scenario = Setup { weights: vec![100; 2], ..Setup::new(mode, family) }.prepare();
    let vips: Vec<IpAddr> = (0..ADDRESSES).map(|n| scenario.lab.vip(family, n)).collect();
    if mode == Mode::L2dsr {
        for index in 0..2 {
            scenario.kill_server(index);
            for vip in &vips {
                scenario.lab.hold_vip(index, *vip);
            }
            let own = scenario.backend(index).ip();
            let addresses: Vec<SocketAddr> =
                vips.iter().chain([&own]).map(|ip| SocketAddr::new(*ip, SERVER_PORT)).collect();
            let server = Server::start(&scenario.lab.backends[index], &format!("b{}", index + 1), &addresses);
            scenario.servers[index] = Some(server);
        }
    }
    let (one, all) = (format!("vip = \"{}\"", vips[0]), format!("vip = \"{}/{}\"", vips[0], length(family)));
    let text = scenario.agent.config_text().replace(&one, &all);
    assert!(text.contains(&all));
    scenario.agent.write_config_text(&text);
    scenario.agent.launch();
    scenario.wait_all_up();
    (scenario, vips)
}

#[test]
fn every_address_of_a_prefix_serves() {
    for mode in [Mode::L2dsr, Mode::NatSnat] {
        for family in FAMILIES {
            let (scenario, vips) = started(mode, family);
            let port = scenario.target().port();
            for vip in &vips {
                let tally = Load::new(SocketAddr::new(*vip, port), 50).run(scenario.client());
                tally.assert_all_ok(&format!("{mode:?} {family:?} {vip}, drops {:?}", scenario.drops()));
                assert!(echo::answers(scenario.client(), *vip, b"are you there?"), "{mode:?} {vip} answers echo");
            }
            let web = scenario.agent.service(WEB);
            assert_eq!((web.vip, web.vip_prefix), (vips[0], Some(length(family))));
            assert_eq!(web.backends.iter().map(|b| b.new_flows).sum::<u64>(), 200, "{mode:?} {family:?} {web:#?}");

            let client = SocketAddr::new(scenario.lab.client_address(0, family, 0), 40_000);
            let told = scenario.agent.explain("tcp", client, SocketAddr::new(vips[2], port));
            assert_eq!(told.verdict, "forward", "{told:#?}");
        }
    }
}

#[test]
fn connections_to_a_prefix_outlive_the_agent() {
    let (mut scenario, vips) = started(Mode::NatSnat, Family::V4);
    let target = SocketAddr::new(vips[3], scenario.target().port());
    let held = weir_tests::client::held::Held::open(scenario.client(), target, 20, &[]);
    scenario.agent.kill();
    Load::new(target, 50).run(scenario.client()).assert_all_ok("without an agent");
    scenario.agent.launch();
    scenario.wait_all_up();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let talking = held.talk(scenario.client(), std::sync::Arc::clone(&stop), Duration::from_millis(20));
    Load::new(target, 50).run(scenario.client()).assert_all_ok("with a new agent");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    talking.wait().assert_unharmed("connections through the agent's restart");
}
