//! A hundred changes of a pool in random order, under load: no established connection to a living backend is reset or
//! moved, silent ones included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lb_agent::pure::model::BackendState;
use lb_agent::pure::snapshot::ServiceStatus;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use weir_tests::client::held::Held;
use weir_tests::client::load::{Close, Load};
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Scenario, Setup, WEB};

/// Changes that the agent has carried out.
const CHANGES: u32 = 100;

/// Established connections; half of them are silent.
const ESTABLISHED: usize = 1_000;

/// Silence that ends a flow. Short, so that slots settle between changes and are moved again.
const IDLE: Duration = Duration::from_secs(12);

/// Silent connections say one word this often: several sweeps of silence, and no end by it.
const SILENCE: Duration = Duration::from_secs(5);

/// Between two changes.
const PACE: Duration = Duration::from_millis(250);

/// Backends of the configuration, and others that come and go.
const CONFIGURED: usize = 4;
const SPARE: usize = 2;

/// One thing an operator might do to a backend, given what `status` says of it and which ones are being removed.
fn choose(
    rng: &mut StdRng,
    scenario: &Scenario,
    web: &ServiceStatus,
    leaving: &BTreeSet<usize>,
) -> (usize, Vec<String>) {
    let index = rng.random_range(0..CONFIGURED + SPARE);
    let address = scenario.backend(index);
    let state = web.backends.iter().find(|b| SocketAddr::new(b.address, b.port) == address).map(|b| b.state);
    let serving = web.backends.iter().filter(|b| b.state == BackendState::Up).count();
    let verbs: &[&str] = match state {
        _ if leaving.contains(&index) => &["add"],
        None => &["add"],
        Some(BackendState::Draining) => &["undrain"],
        Some(BackendState::Disabled) => &["enable", "undrain"],
        Some(BackendState::Up) if serving > 2 => &["drain", "remove", "weight"],
        Some(_) => &["weight"],
    };
    let verb = verbs.choose(rng).expect("not empty");
    let mut words: Vec<String> = vec!["backend".into(), (*verb).into(), WEB.into(), address.to_string()];
    if *verb == "weight" {
        words.push((*["50", "100", "200", "400"].choose(rng).expect("not empty")).into());
    }
    (index, words)
}

fn order(scenario: &Scenario, words: &[String]) -> Output {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    scenario.agent.cli(&words)
}

/// Drains a backend, waits until its slots move, and takes it back: the slots go A→B→A.
fn there_and_back(scenario: &Scenario, index: usize) {
    let address = scenario.backend(index);
    let drained = scenario.agent.cli(&["backend", "drain", WEB, &address.to_string()]);
    if drained.status.success() {
        thread::sleep(PACE);
        let _ = scenario.agent.backend("undrain", WEB, address, &[]);
    }
}

fn hundred_changes(mode: Mode, family: Family, tracking: &'static str) {
    let seed = rand::random::<u64>();
    eprintln!("{mode:?} {family:?} {tracking}: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let timeouts = format!("idle = \"{}s\"", IDLE.as_secs());
    let scenario = Setup { tracking, timeouts, spare: SPARE, ..Setup::new(mode, family) }.start();
    let client = scenario.client();

    let stop = Arc::new(AtomicBool::new(false));
    let mut silent = Held::open(client, scenario.target(), ESTABLISHED, &[]);
    let talking = silent.take(ESTABLISHED / 2).talk(client, Arc::clone(&stop), Duration::from_millis(100));
    let silent = silent.talk(client, Arc::clone(&stop), SILENCE);
    // A few hundred tuples that are opened and closed over and over, by either side and by RST.
    let loads = [(Close::Client, 20_000), (Close::Server, 30_000), (Close::Reset, 40_000)].map(|(close, first)| {
        // What this machine closes, it may open again a second later.
        let ports = first..first + if close == Close::Client { 1_200 } else { 120 };
        let sources = vec![scenario.lab.client_address(0, family, 1)];
        Load { close, sources, ports: Some(ports), ..Load::endless(scenario.target(), 4) }.start(client)
    });

    let (began, mut done, mut refused) = (Instant::now(), BTreeMap::new(), Vec::new());
    let mut leaving = BTreeSet::new();
    while done.values().sum::<u32>() < CHANGES {
        assert!(began.elapsed() < Duration::from_secs(100), "{done:?} in 100 s; refused: {refused:?}");
        let (index, words) = choose(&mut rng, &scenario, &scenario.web(), &leaving);
        let output = order(&scenario, &words);
        if output.status.success() {
            *done.entry(words[1].clone()).or_default() += 1;
            let _ = if words[1] == "remove" { leaving.insert(index) } else { leaving.remove(&index) };
        } else {
            refused.push(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)));
        }
        if done.values().sum::<u32>() % 10 == 5 {
            there_and_back(&scenario, index);
        }
        thread::sleep(PACE.mul_f64(rng.random_range(0.2..1.2)));
    }
    stop.store(true, Ordering::Relaxed);
    let what = format!("{tracking}, seed {seed}, {done:?} in {:.0} s", began.elapsed().as_secs_f64());
    let mut all = silent.wait();
    all.join(talking.wait());
    all = all.check(client);
    eprintln!("{what}: {} connections, {} harmed, {} refusals", all.len(), all.faults().len(), refused.len());
    assert!(refused.len() < 10, "what status shows can be done: {refused:#?}");
    all.assert_unharmed(&what);
    assert_eq!(all.len(), ESTABLISHED);
    for load in loads {
        let tally = load.stop();
        eprintln!("  {} short connections, {} failed: {}", tally.total(), tally.failed.len(), tally.reasons());
        tally.assert_all_ok(&what);
    }
}

#[test]
fn full_tracking_moves_no_connection() {
    hundred_changes(Mode::Nat, Family::V4, "full");
}

#[test]
fn minimal_tracking_moves_no_connection() {
    hundred_changes(Mode::L2dsr, Family::V6, "minimal");
}

#[test]
fn remove_drains_first_and_force_cuts_and_says_how_many() {
    let scenario = Setup { timeouts: "idle = \"8s\"".into(), ..Setup::new(Mode::Nat, Family::V4) }.start();
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 200, &[]);
    let (mut on_first, on_second) = (held.take_on("b1"), held.take_on("b2"));
    assert!(on_first.len() > 20 && on_second.len() > 20, "{:?}", held.shares());

    let _ = scenario.agent.backend("remove", WEB, scenario.backend(0), &[]);
    on_first = on_first.check(client);
    on_first.assert_unharmed("remove drains first");
    assert_eq!(scenario.web_backend(0).state, BackendState::Draining);
    on_first.close(client);
    let gone = scenario.agent.wait_until("b1 removed", Duration::from_secs(20), |status| {
        status.services[0].backends.iter().all(|b| SocketAddr::new(b.address, b.port) != scenario.backend(0))
    });
    eprintln!("removed {:?} after its last connection ended", gone.1);

    let count = on_second.len();
    let said = scenario.agent.backend("remove", WEB, scenario.backend(1), &["--force"]);
    assert!(said.contains(&count.to_string()), "it cut {count} connections and says so: {said}");
    let on_second = on_second.check(client);
    assert!(on_second.is_empty(), "{} connections outlived --force", on_second.len());
    held.check(client).assert_unharmed("the others");
}
