//! Limits with real clients: who is kept out gets nothing, who is not notices nothing, and no backend holds more than it may.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::client::{Connection, Failure};
use weir_tests::lab::Family;
use weir_tests::netns::Netns;
use weir_tests::scenario::{FAMILIES, Mode, Scenario, Setup};

/// Shorter than the kernel's first retransmission of a SYN.
const ONE_TRY: Duration = Duration::from_millis(900);

fn start(setup: Setup, lines: &str) -> Scenario {
    let mut scenario = setup.prepare();
    configure(&scenario, lines);
    scenario.agent.launch();
    scenario.wait_all_up();
    scenario
}

/// `lines` belong to the only service, the last thing in the file.
fn configure(scenario: &Scenario, lines: &str) {
    scenario.agent.write_config_text(&format!("{}\n{lines}\n", scenario.agent.config_text()));
}

fn reload(scenario: &Scenario, lines: &str) {
    configure(scenario, lines);
    let _ = scenario.agent.cli_ok(&["reload"]);
}

/// How a single SYN is answered.
fn knock(client: &Netns, target: SocketAddr) -> Result<(), Failure> {
    client.run(async move { Connection::open(target, None, ONE_TRY).await.map(drop) })
}

#[test]
fn a_denied_source_gets_nothing_and_lists_change_without_a_gap() {
    for family in FAMILIES {
        let [first, second] = match family {
            Family::V4 => ["10.10.1.0/24", "10.10.2.0/24"],
            Family::V6 => ["fd10:1::/64", "fd10:2::/64"],
        };
        let only_first = format!("[service.access]\nallow = [\"{first}\"]");
        let scenario = start(Setup { clients: 2, ..Setup::new(Mode::Nat, family) }, &only_first);
        let (ours, theirs) = (&scenario.lab.clients[0], &scenario.lab.clients[1]);
        let held = Held::open(ours, scenario.target(), 20, &[]);
        let load = Load::endless(scenario.target(), 8).start(ours);
        assert_eq!(knock(theirs, scenario.target()), Err(Failure::TimedOut), "{family:?}: no answer, no RST");
        let told = scenario.agent.explain(
            "tcp",
            SocketAddr::new(scenario.lab.client_address(1, family, 0), 5),
            scenario.target(),
        );
        assert_eq!(told.verdict, "drop_denied", "{told:#?}");

        // Every one of these lets the first client in.
        for lines in [
            format!("[service.access]\nallow = [\"{first}\", \"{second}\"]"),
            format!("[service.access]\ndeny = [\"{second}\"]"),
            String::new(),
            only_first.clone(),
        ] {
            reload(&scenario, &lines);
            let is_let_in = lines.is_empty() || lines.contains("allow") && lines.contains(second);
            assert_eq!(knock(theirs, scenario.target()).is_ok(), is_let_in, "{family:?} {lines}");
        }
        load.stop().assert_all_ok("while lists change");
        let held = held.check(ours);
        held.assert_unharmed("while lists change");

        // Whoever is denied now is denied with all that it has.
        reload(&scenario, &format!("[service.access]\nallow = [\"{second}\"]"));
        assert_eq!(knock(theirs, scenario.target()), Ok(()), "{family:?}");
        assert_eq!(knock(ours, scenario.target()), Err(Failure::TimedOut), "{family:?}");
        let before = scenario.web().limits.expect("the service has limits").denied_packets;
        let mut held = held;
        let asked = held.take(1).check(ours);
        assert!(asked.is_empty(), "{family:?}: an established connection of a denied source: {asked:?}");
        let _ = scenario.agent.wait_until("denied packets are counted", Duration::from_secs(10), |status| {
            status.services[0].limits.as_ref().is_some_and(|limits| limits.denied_packets > before)
        });
    }
}

#[test]
fn a_source_beyond_its_rate_is_limited_and_another_is_not() {
    const RATE: u64 = 20;
    let scenario =
        start(Setup::new(Mode::Nat, Family::V4), &format!("[service.limits]\nnew_flows_per_source = {RATE}"));
    let client = scenario.client();
    let sources = [0, 1].map(|n| scenario.lab.client_address(0, Family::V4, n));
    let from = |source, requests| Load {
        sources: vec![source],
        concurrency: 100,
        limit: ONE_TRY,
        ..Load::new(scenario.target(), requests)
    };
    let began = Instant::now();
    let greedy = from(sources[0], 100).start(client);
    let modest = from(sources[1], RATE / 2).run(client);
    let greedy = greedy.await_end();
    let most = RATE + RATE * (began.elapsed().as_secs() + 1);
    modest.assert_all_ok("a source within its rate");
    assert!((RATE..=most).contains(&greedy.ok), "{} of 100 got through, at most {most} may", greedy.ok);
    let refused = |status: &lb_agent::pure::snapshot::Snapshot| {
        status.services[0].limits.as_ref().map_or(0, |limits| limits.rate_limited_flows)
    };
    let _ = scenario.agent.wait_until("what was limited is counted", Duration::from_secs(10), |s| refused(s) >= 40);
    assert!(scenario.drops()["drop_rate_limited"] >= 40);
    std::thread::sleep(Duration::from_secs(1));
    from(sources[0], 5).run(client).assert_all_ok("the same source, a second later");
}

#[test]
fn no_backend_holds_more_than_it_may_and_overflow_goes_to_the_others() {
    for select in ["maglev", "round_robin", "least_conn"] {
        let setup = Setup { weights: vec![100; 3], select, ..Setup::new(Mode::Nat, Family::V4) };
        let mut scenario = setup.prepare();
        let text = scenario.agent.config_text().replacen("weight = 100", "weight = 100\nmax_connections = 3", 1);
        scenario.agent.write_config_text(&format!("{text}\n[service.limits]\nmax_connections = 5\n"));
        scenario.agent.launch();
        scenario.wait_all_up();
        let client = scenario.client();
        let mut held = Held::open(client, scenario.target(), 13, &[]);
        let shares: Vec<_> = held.shares().into_values().collect();
        assert_eq!(shares, [3, 5, 5], "{select}: {:?}", held.shares());

        // Sweeps set counts right meanwhile; none of them gives a place away.
        let sweeps = scenario.agent.status().flow_table.sweeps;
        let _ = scenario.agent.wait_until("ten sweeps", Duration::from_secs(20), |s| s.flow_table.sweeps > sweeps + 10);
        for _ in 0..3 {
            assert_eq!(knock(client, scenario.target()), Err(Failure::TimedOut), "{select}: full, and no RST");
        }
        assert!(scenario.drops()["drop_backend_full"] >= 3, "{select}: {:?}", scenario.drops());

        held.take_on("b1").close_by_server(client);
        let again = Held::open(client, scenario.target(), 3, &[]);
        assert_eq!(again.shares()["b1"], 3, "{select}: places that came free: {:?}", again.shares());
        held.check(client).assert_unharmed(select);
        again.check(client).assert_unharmed(select);
    }
}

#[test]
fn a_cap_that_comes_and_goes_moves_no_connection() {
    let scenario = start(Setup { weights: vec![100; 3], ..Setup::new(Mode::Nat, Family::V4) }, "");
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 60, &[]);
    let capped = "[service.limits]\nmax_connections = 40";
    reload(&scenario, capped);
    let _ = scenario.agent.wait_until("loads are counted", Duration::from_secs(10), |s| s.flow_table.sweeps > 5);
    held = held.check(client);
    held.join(Held::open(client, scenario.target(), 60, &[]));
    let shares: Vec<_> = held.shares().into_values().collect();
    assert_eq!(shares, [40, 40, 40], "what was there before counts too");
    reload(&scenario, "");
    for _ in 0..3 {
        held = held.check(client);
        Load::new(scenario.target(), 100).run(client).assert_all_ok("without a cap");
    }
    held.assert_unharmed("a cap that came and went");
}

#[test]
fn flows_beyond_the_budget_work_and_survive_a_change_of_the_ring() {
    let scenario = start(Setup::new(Mode::Nat, Family::V4), "[service.limits]\nnew_flows = 10");
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 200, &[]);
    let _ = scenario.agent.wait_until("what was over budget is counted", Duration::from_secs(10), |status| {
        status.services[0].limits.as_ref().is_some_and(|limits| limits.over_budget_flows > 50)
    });
    let _ = scenario.agent.backend("drain", "web", scenario.backend(1), &[]);
    for _ in 0..3 {
        held = held.check(client);
        Load::new(scenario.target(), 50).run(client).assert_all_ok("beyond the budget");
    }
    held.assert_unharmed("flows that were refused, in a transition");
    assert!(!scenario.drops().contains_key("drop_rate_limited"), "{:?}", scenario.drops());
}
