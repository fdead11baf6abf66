//! Requests through the VIP: none is lost, and each backend gets its due, in every mode and for every policy.

use std::time::Duration;

use weir_tests::client::load::{Close, Load, Tally};
use weir_tests::lab::{CLIENT_ADDRESSES, Family, Nics};
use weir_tests::scenario::{Mode, Scenario, Setup};

/// What the promise speaks of.
const REQUESTS: u64 = 20_000;

/// Enough for weights: a quarter of it varies by 2 % by chance, five times less than the tolerance.
const REQUESTS_FOR_WEIGHTS: u64 = 6_000;

/// `status` shows what the last sweep saw.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);

/// Maglev hashes: shares are true to ±10 %.
const TOLERANCE: f64 = 0.1;

fn run(scenario: &Scenario, requests: u64, what: &str) -> Tally {
    let tally = Load::new(scenario.target(), requests).run(scenario.client());
    eprintln!(
        "{what}: {} requests in {:.1} s, {} failed, {} late, shares {:?}",
        tally.total(),
        tally.took.as_secs_f64(),
        tally.failed.len(),
        tally.late,
        tally.shares
    );
    tally.assert_all_ok(what);
    tally
}

fn loses_nothing_and_shares_evenly(mode: Mode, family: Family) {
    let mut scenario = Setup::new(mode, family).start();
    let tally = run(&scenario, REQUESTS, &format!("{mode:?} {family:?}"));
    tally.assert_shares(&scenario.dues(), TOLERANCE);

    // Three witnesses: the client, the servers, the packet path's own counters.
    let (status, _) = scenario.agent.wait_until("every flow counted", COUNTED_WITHIN, |status| {
        status.services[0].backends.iter().map(|b| b.new_flows).sum::<u64>() == REQUESTS
    });
    let web = &status.services[0];
    for index in 0..4 {
        let name = format!("b{}", index + 1);
        assert_eq!(scenario.server(index).requests(), tally.share(&name));
        assert_eq!(web.backends[index].new_flows, tally.share(&name), "{web:#?}");
        assert!(web.backends[index].packets >= 4 * tally.share(&name), "SYN, ACK, request, FIN at least: {web:#?}");
    }
    assert_eq!(scenario.drops().into_iter().collect::<Vec<_>>(), [], "nothing was dropped");

    // Three backends, one of them twice as strong.
    drop(scenario);
    let scenario = Setup { weights: vec![100, 100, 200], ..Setup::new(mode, family) }.start();
    let tally = run(&scenario, REQUESTS_FOR_WEIGHTS, &format!("{mode:?} {family:?}, weights 100/100/200"));
    tally.assert_shares(&scenario.dues(), TOLERANCE);
}

#[test]
fn nat_loses_nothing_and_shares_evenly_on_ipv4() {
    loses_nothing_and_shares_evenly(Mode::Nat, Family::V4);
}

#[test]
fn nat_loses_nothing_and_shares_evenly_on_ipv6() {
    loses_nothing_and_shares_evenly(Mode::Nat, Family::V6);
}

#[test]
fn snat_loses_nothing_and_shares_evenly_on_ipv4() {
    loses_nothing_and_shares_evenly(Mode::NatSnat, Family::V4);
}

#[test]
fn snat_loses_nothing_and_shares_evenly_on_ipv6() {
    loses_nothing_and_shares_evenly(Mode::NatSnat, Family::V6);
}

#[test]
fn l2dsr_loses_nothing_and_shares_evenly_on_ipv4() {
    loses_nothing_and_shares_evenly(Mode::L2dsr, Family::V4);
}

#[test]
fn l2dsr_loses_nothing_and_shares_evenly_on_ipv6() {
    loses_nothing_and_shares_evenly(Mode::L2dsr, Family::V6);
}

#[test]
fn nat_works_through_a_single_interface_and_in_generic_mode() {
    for (nics, xdp) in [(Nics::One, "native"), (Nics::One, "generic"), (Nics::Two, "generic")] {
        for family in [Family::V4, Family::V6] {
            let scenario = Setup { nics, xdp, weights: vec![100; 2], ..Setup::new(Mode::Nat, family) }.start();
            let interfaces = scenario.agent.status().interfaces;
            assert!(interfaces.iter().all(|interface| interface.mode == xdp), "{interfaces:?}");
            let _ = run(&scenario, 1_000, &format!("{nics:?} {xdp} {family:?}"));
        }
    }
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let cpus = u64::try_from(std::thread::available_parallelism().expect("the kernel knows").get()).expect("a count");
    for weights in [vec![100; 4], vec![100, 100, 200]] {
        let scenario = Setup { select: "round_robin", weights, ..Setup::new(Mode::Nat, Family::V4) }.start();
        let tally = run(&scenario, REQUESTS, "round_robin");
        let dues = scenario.dues();
        let sum: u64 = dues.iter().map(|(_, weight)| weight).sum();
        for (name, weight) in &dues {
            let due = REQUESTS * weight / sum;
            assert!(tally.share(name).abs_diff(due) <= cpus, "{name} is due {due} ± {cpus}: {:?}", tally.shares);
        }
    }
}

#[test]
fn least_conn_gives_every_backend_work_by_weight() {
    let scenario =
        Setup { select: "least_conn", weights: vec![100, 100, 200], ..Setup::new(Mode::Nat, Family::V4) }.start();
    let tally = run(&scenario, REQUESTS_FOR_WEIGHTS, "least_conn");
    tally.assert_shares(&scenario.dues(), 0.25);
}

#[test]
fn source_hash_keeps_a_client_on_its_backend() {
    for tracking in ["full", "minimal"] {
        let scenario = Setup { select: "source_hash", tracking, ..Setup::new(Mode::Nat, Family::V4) }.start();
        let mut used = std::collections::BTreeSet::new();
        for number in 0..CLIENT_ADDRESSES {
            let sources = vec![scenario.lab.client_address(0, Family::V4, number)];
            let tally = Load { sources, ..Load::new(scenario.target(), 50) }.run(scenario.client());
            tally.assert_all_ok("source_hash");
            assert_eq!(tally.shares.len(), 1, "one address, one backend: {:?}", tally.shares);
            used.extend(tally.shares.into_keys());
        }
        assert!(used.len() > 1, "{CLIENT_ADDRESSES} addresses meet more than one backend");
    }
}

#[test]
fn tuples_that_are_used_again_lose_nothing() {
    for mode in [Mode::Nat, Mode::NatSnat, Mode::L2dsr] {
        let scenario = Setup::new(mode, Family::V4).start();
        for close in [Close::Client, Close::Server, Close::Reset] {
            let load = Load {
                sources: vec![scenario.lab.client_address(0, Family::V4, 1)],
                ports: Some(30_000..30_320),
                close,
                // A client may use a tuple again one second after it has closed it itself (tcp_tw_reuse).
                requests: if close == Close::Client { 320 } else { 3_200 },
                ..Load::new(scenario.target(), 0)
            };
            load.run(scenario.client()).assert_all_ok(&format!("{mode:?}, {close:?} closes, 320 tuples"));
        }
    }
}

#[test]
fn curl_and_a_large_body_pass() {
    let scenario = Setup::new(Mode::Nat, Family::V4).start();
    let mut command = std::process::Command::new("curl");
    let body = "weir ".repeat(200_000);
    let _ = command
        .args(["--silent", "--show-error", "--fail", "--max-time", "20", "--data-binary", "@-"])
        .arg(format!("http://{}/echo", scenario.target()))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = scenario.client().start(command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let sent = body.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, sent.as_bytes()));
    let output = child.wait_with_output().expect("curl ends");
    writer.join().expect("the writer does not panic").expect("curl takes the body");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, body.as_bytes(), "1 MB goes and comes back unchanged");
}
