//! A backend changes its MAC address: the agent follows its neighbour without a restart.

use std::time::{Duration, Instant};

use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::scenario::{FAMILIES, Mode, Scenario, Setup};

/// A MAC address that no veth has by chance.
const OTHER_MAC: &str = "02:00:5e:10:00:01";

fn follows(scenario: &Scenario, announced: bool, limit: Duration, what: &str) {
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 100, &[]);
    // Until its new address is found the backend is silent, and a silent backend's connections are let go.
    let on_first = (!announced).then(|| held.take_on("b1"));
    let value = if announced { "1" } else { "0" };
    for key in ["ipv4/conf/all/arp_notify", "ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"] {
        scenario.lab.backends[0].sysctl(key, value);
    }
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
    drop(on_first);
}

#[test]
fn an_announced_change_is_followed_at_once() {
    for mode in [Mode::Nat, Mode::L2dsr] {
        for family in FAMILIES {
            let scenario = Setup::new(mode, family).start();
            follows(&scenario, true, Duration::from_secs(5), &format!("{mode:?} {family:?}, announced"));
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
        follows(&scenario, false, Duration::from_secs(60), &format!("{family:?}, silent"));
    }
}
