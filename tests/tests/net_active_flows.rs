//! Active flows: what `status` counts is what is there, however flows began, ended or vanished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lb_agent::pure::snapshot::{CountQuality, ServiceStatus};
use weir_tests::client::flood::send_syns;
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Scenario, Setup, WEB};

/// A sweep or two, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Waits until the service has exactly so many active and half-open flows.
fn wait_flows(scenario: &Scenario, active: usize, half_open: usize, limit: Duration, what: &str) -> ServiceStatus {
    let wanted = (u64::try_from(active).expect("a count"), u64::try_from(half_open).expect("a count"));
    let what = format!("{what}: {active} active, {half_open} half-open");
    let (status, took) = scenario.agent.wait_until(&what, limit, |status| {
        let web = status.services.iter().find(|service| service.name == WEB).expect("the service is there");
        (web.active_flows, web.half_open_flows) == wanted
    });
    eprintln!("{what} after {took:?}");
    let web = status.services.into_iter().find(|service| service.name == WEB).expect("seen above");
    assert_eq!(web.counts, CountQuality::Exact);
    let parts = (
        web.backends.iter().map(|b| b.active_flows).sum::<u64>(),
        web.backends.iter().map(|b| b.half_open_flows).sum::<u64>(),
    );
    assert_eq!(parts, wanted, "the backends' flows add up to the service's: {web:#?}");
    web
}

fn every_end_is_counted(mode: Mode, family: Family) {
    let timeouts = "idle = \"10m\"\nfin = \"1s\"".to_owned();
    let scenario = Setup { timeouts, ..Setup::new(mode, family) }.start();
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 500, &[]);
    let web = wait_flows(&scenario, 500, 0, SEEN_WITHIN, "opened 500");
    for (index, backend) in web.backends.iter().enumerate() {
        let there = held.shares().get(&format!("b{}", index + 1)).copied().unwrap_or_default();
        assert_eq!(usize::try_from(backend.active_flows), Ok(there), "{backend:#?}");
    }
    held.take(100).close(client);
    let _ = wait_flows(&scenario, 400, 0, SEEN_WITHIN, "100 FINs by the client");
    held.take(100).close_by_server(client);
    let _ = wait_flows(&scenario, 300, 0, SEEN_WITHIN, "100 FINs by the server");
    held.take(100).reset(client);
    let web = wait_flows(&scenario, 200, 0, SEEN_WITHIN, "100 RSTs by the client");
    assert_eq!(web.backends.iter().map(|b| b.reset_flows).sum::<u64>(), 100, "{web:#?}");
    assert_eq!(web.backends.iter().map(|b| b.closed_flows).sum::<u64>(), 200, "{web:#?}");
    Load::new(scenario.target(), 1_000).run(client).assert_all_ok("short connections");
    let web = wait_flows(&scenario, 200, 0, SEEN_WITHIN, "1000 short connections later");
    let opened: u64 = web.backends.iter().map(|b| b.new_flows).sum();
    let confirmed: u64 = web.backends.iter().map(|b| b.confirmed_flows).sum();
    assert_eq!((opened, confirmed), (1_500, 1_500), "{web:#?}");
    held.check(client).assert_unharmed("those that stayed");
}

#[test]
fn nat_counts_every_end() {
    every_end_is_counted(Mode::Nat, Family::V4);
}

#[test]
fn snat_counts_every_end() {
    every_end_is_counted(Mode::NatSnat, Family::V6);
}

#[test]
fn l2dsr_counts_every_end_after_fin_linger() {
    every_end_is_counted(Mode::L2dsr, Family::V4);
}

#[test]
fn nat_counts_a_servers_rst() {
    let mut scenario = Setup { weights: vec![100], ..Setup::new(Mode::Nat, Family::V4) }.start();
    let held = Held::open(scenario.client(), scenario.target(), 50, &[]);
    let _ = wait_flows(&scenario, 50, 0, SEEN_WITHIN, "opened 50");
    scenario.kill_server(0);
    // A killed server's kernel sends FIN; it answers what comes afterwards by RST.
    assert!(held.check(scenario.client()).is_empty());
    let _ = wait_flows(&scenario, 0, 0, SEEN_WITHIN, "their server was killed");
}

#[test]
fn vanished_clients_expire_and_quiet_ones_stay() {
    let timeouts = "idle = \"4s\"".to_owned();
    let scenario = Setup { timeouts, clients: 2, ..Setup::new(Mode::Nat, Family::V4) }.start();
    let quiet = Held::open(&scenario.lab.clients[0], scenario.target(), 60, &[]);
    let vanishing = Held::open(&scenario.lab.clients[1], scenario.target(), 40, &[]);
    // One segment per epoch, of which there are four in an idle timeout.
    let stop = Arc::new(AtomicBool::new(false));
    let quiet = quiet.talk(&scenario.lab.clients[0], Arc::clone(&stop), Duration::from_millis(900));
    let _ = wait_flows(&scenario, 100, 0, SEEN_WITHIN, "opened 60 and 40");
    scenario.lab.unplug_client(1);
    vanishing.close(&scenario.lab.clients[1]);
    assert_eq!(scenario.web().active_flows, 100, "nobody has said that they are gone");
    let web = wait_flows(&scenario, 60, 0, Duration::from_secs(12), "40 vanished");
    assert_eq!(web.backends.iter().map(|b| b.expired_flows).sum::<u64>(), 40, "{web:#?}");
    for _ in 0..20 {
        assert_eq!(scenario.web().active_flows, 60, "one segment per epoch keeps a flow");
        std::thread::sleep(Duration::from_millis(250));
    }
    stop.store(true, Ordering::Relaxed);
    quiet.wait().assert_unharmed("quiet connections");
}

#[test]
fn a_flood_is_half_open_expires_and_costs_no_established_flow() {
    let timeouts = "syn = \"2s\"".to_owned();
    let scenario = Setup { timeouts, flow_table_entries: 10_000, ..Setup::new(Mode::Nat, Family::V4) }.start();
    let client = scenario.client();
    let std::net::SocketAddr::V4(target) = scenario.target() else { unreachable!("the test speaks IPv4") };
    let held = Held::open(client, target.into(), 400, &[]);
    let _ = wait_flows(&scenario, 400, 0, SEEN_WITHIN, "opened 400");

    send_syns(client, target, 1_000, 1);
    let _ = wait_flows(&scenario, 400, 1_000, Duration::from_millis(1_800), "1000 handshakes nobody completes");
    let _ = wait_flows(&scenario, 400, 0, Duration::from_secs(8), "they expired");

    // Many times what the table holds.
    send_syns(client, target, 100_000, 2);
    let web = scenario.web();
    eprintln!(
        "after 100000 SYNs: {} active, {} half-open, drops {:?}",
        web.active_flows,
        web.half_open_flows,
        scenario.drops()
    );
    assert_eq!(web.active_flows, 400, "{web:#?}");
    let tally = Load::new(target.into(), 500).run(client);
    tally.assert_all_ok("clients during the flood's rest");
    let held = held.check(client);
    held.assert_unharmed("the flood");
    let _ = wait_flows(&scenario, 400, 0, Duration::from_secs(10), "the flood expired");
    drop(held);
}
