//! A backend changes its MAC address: the agent follows its neighbour without a restart.

use std::time::{Duration, Instant};

use lb_agent::pure::model::BackendState;
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::scenario::{FAMILIES, Mode, Scenario, Setup};

/// A MAC address that no veth has by chance.
const OTHER_MAC: &str = "02:00:5e:10:00:01";

/// Whether the first backend tells its neighbours when its MAC address changes.
fn announce(scenario: &Scenario, value: &str) {
    for key in ["ipv4/conf/all/arp_notify", "ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"] {
        scenario.lab.backends[0].sysctl(key, value);
    }
}

fn follows(scenario: &Scenario, limit: Duration, what: &str) {
    let client = scenario.client();
    let held = Held::open(client, scenario.target(), 100, &[]);
    announce(scenario, "1");
    scenario.lab.change_mac(0, OTHER_MAC);
    let changed = Instant::now();
    // One request at a time until a run of them finds every backend.
    let failed = loop {
        let load = Load { concurrency: 8, limit: Duration::from_millis(300), ..Load::new(scenario.target(), 80) };
        let tally = load.run(client);
        if tally.failed.is_empty() && tally.share("b1") > 0 {
            break changed.elapsed();
        }
        assert!(changed.elapsed() < limit, "{what}: not followed within {limit:?}: {}", tally.reasons());
    };
    eprintln!("{what}: all well {failed:?} after the change");
    held.check(client).assert_unharmed(what);
}

#[test]
fn an_announced_change_is_followed_at_once() {
    for mode in [Mode::Nat, Mode::L2dsr] {
        for family in FAMILIES {
            let scenario = Setup::new(mode, family).start();
            follows(&scenario, Duration::from_secs(5), &format!("{mode:?} {family:?}, announced"));
        }
    }
}

#[test]
fn a_silent_change_is_found_by_the_hosts_own_probes() {
    for family in FAMILIES {
        let scenario = Setup::new(Mode::Nat, family).start();
        // The kernel trusts a neighbour for up to a minute without proof; this host asks sooner.
        for version in ["ipv4", "ipv6"] {
            scenario.lab.balancer.sysctl(&format!("{version}/neigh/eth1/base_reachable_time_ms"), "1000");
            scenario.lab.balancer.sysctl(&format!("{version}/neigh/eth1/delay_first_probe_time"), "1");
        }
        let client = scenario.client();
        let mut held = Held::open(client, scenario.target(), 100, &[]);
        // Until its new address is found the backend is silent, and a silent backend's connections are let go.
        drop(held.take_on("b1"));
        announce(&scenario, "0");
        scenario.lab.change_mac(0, OTHER_MAC);
        let _ = scenario.wait_state(0, BackendState::Down, Duration::from_secs(10));
        let found = scenario.wait_state(0, BackendState::Up, Duration::from_secs(60));
        eprintln!("{family:?}, silent: up again {found:?} after it was found down");
        let tally = Load::new(scenario.target(), 200).run(client);
        tally.assert_all_ok("with its new address");
        assert!(tally.share("b1") > 0, "{:?}", tally.shares);
        held.check(client).assert_unharmed("connections to the others");
    }
}
