//! A backend dies: whoever is not on it notices nothing, and new connections fail only until health has seen it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lb_agent::pure::model::BackendState;
use weir_tests::client::held::Held;
use weir_tests::client::load::{Load, RunningLoad, Tally};
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Scenario, Setup};

/// Between probes, as the configuration below says.
const INTERVAL: Duration = Duration::from_millis(250);

/// For one probe.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Failures that take a backend down.
const FALL: u32 = 3;

/// The busy machine of a test run: probes and connections wait for a CPU.
const NOISE: Duration = Duration::from_millis(750);

/// Established connections that must not notice.
const ESTABLISHED: usize = 500;

/// From a failure to the last new connection that may meet it: each probe starts at most one jittered interval (±20 %)
/// after the one before has ended, and takes its timeout if nobody answers.
fn detection(silent: bool) -> Duration {
    (INTERVAL * 6 / 5 + if silent { TIMEOUT } else { Duration::ZERO }) * FALL
}

struct Story {
    scenario: Scenario,
    load: RunningLoad,
    others: weir_tests::netns::Running<Held>,
    on_victim: Held,
    stop: Arc<AtomicBool>,
}

impl Story {
    /// Load, 500 established connections on b2 to b4 that talk, and those on b1 that do not.
    fn begin(mode: Mode, family: Family) -> Self {
        let scenario = Setup::new(mode, family).start();
        let mut others = Held::default();
        let mut on_victim = Held::default();
        while others.len() < ESTABLISHED {
            let mut batch = Held::open(scenario.client(), scenario.target(), 200, &[]);
            on_victim.join(batch.take_on("b1"));
            others.join(batch);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let others = others.talk(scenario.client(), Arc::clone(&stop), Duration::from_millis(50));
        let load =
            Load { limit: Duration::from_secs(1), ..Load::endless(scenario.target(), 8) }.start(scenario.client());
        load.await_answers(200);
        Self { scenario, load, others, on_victim, stop }
    }

    /// Stops all and checks what every failure has in common.
    fn end(self, died: Instant, silent: bool, what: &str) -> (Scenario, Tally) {
        self.load.await_answers(500);
        let tally = self.load.stop();
        self.stop.store(true, Ordering::Relaxed);
        let others = self.others.wait();
        others.assert_unharmed(what);
        assert!(others.len() >= ESTABLISHED);
        let last = tally.failed.iter().map(|failed| failed.began).max();
        let window = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(died));
        eprintln!(
            "{what}: {} of {} requests failed ({}), the last began {window:?} after the failure, promised {:?}",
            tally.failed.len(),
            tally.total(),
            tally.reasons(),
            detection(silent)
        );
        assert!(
            window <= detection(silent) + NOISE,
            "{what}: a request that began {window:?} after the failure failed"
        );
        assert!(tally.failed.iter().all(|failed| failed.ended >= died), "{what}: no request failed before");
        (self.scenario, tally)
    }
}

fn killed(mode: Mode, family: Family) {
    let mut story = Story::begin(mode, family);
    let died = Instant::now();
    story.scenario.kill_server(0);
    let took = story.scenario.wait_state(0, BackendState::Down, Duration::from_secs(10));
    let (mut scenario, tally) = story.end(died, false, &format!("{mode:?} {family:?}, server killed"));
    eprintln!("  down after {took:?}");
    assert!(!tally.failed.is_empty(), "a killed server refuses until health has seen it");

    // It comes back and is given work again.
    scenario.revive_server(0);
    let _ = scenario.wait_state(0, BackendState::Up, Duration::from_secs(10));
    let tally = Load::new(scenario.target(), 400).run(scenario.client());
    tally.assert_all_ok("after its return");
    assert!(tally.share("b1") > 40, "{:?}", tally.shares);
}

fn unplugged(mode: Mode, family: Family) {
    let mut story = Story::begin(mode, family);
    let died = Instant::now();
    story.scenario.lab.unplug_backend(0);
    let took = story.scenario.wait_state(0, BackendState::Down, Duration::from_secs(10));
    // Its silent connections now reach a living backend, whose RST lets the client reconnect at once.
    let on_victim = std::mem::take(&mut story.on_victim);
    let (count, asked) = (on_victim.len(), Instant::now());
    let on_victim = on_victim.check(story.scenario.client());
    assert!(on_victim.is_empty());
    assert!(on_victim.faults().iter().all(|fault| fault.what == "reset"), "{:?}", on_victim.faults());
    eprintln!("  down after {took:?}; its {count} connections were reset within {:?}", asked.elapsed());
    let (scenario, _) = story.end(died, true, &format!("{mode:?} {family:?}, cable pulled"));

    scenario.lab.plug_backend(0);
    let _ = scenario.wait_state(0, BackendState::Up, Duration::from_secs(10));
    let tally = Load::new(scenario.target(), 400).run(scenario.client());
    tally.assert_all_ok("after its return");
    assert!(tally.share("b1") > 40, "{:?}", tally.shares);
}

#[test]
fn nat_a_killed_server_harms_nobody_else() {
    killed(Mode::Nat, Family::V4);
}

#[test]
fn l2dsr_a_killed_server_harms_nobody_else() {
    killed(Mode::L2dsr, Family::V6);
}

#[test]
fn nat_a_pulled_cable_harms_nobody_else() {
    unplugged(Mode::Nat, Family::V6);
}

#[test]
fn snat_a_pulled_cable_harms_nobody_else() {
    unplugged(Mode::NatSnat, Family::V4);
}

#[test]
fn l2dsr_a_pulled_cable_harms_nobody_else() {
    unplugged(Mode::L2dsr, Family::V4);
}

#[test]
fn a_backend_that_reports_ill_keeps_its_connections_and_gets_no_new_ones() {
    let mut scenario = Setup::new(Mode::Nat, Family::V4).start();
    let held = Held::open(scenario.client(), scenario.target(), 100, &[]);
    scenario.server(0).set_health(503);
    let _ = scenario.wait_state(0, BackendState::Down, Duration::from_secs(10));
    let tally = Load::new(scenario.target(), 1_000).run(scenario.client());
    tally.assert_all_ok("b1 answers 503 to probes");
    assert_eq!(tally.share("b1"), 0, "{:?}", tally.shares);
    held.check(scenario.client()).assert_unharmed("b1 still serves what it has");
}

#[test]
fn a_pool_without_a_living_backend_drops_and_counts() {
    let scenario = Setup { weights: vec![100; 2], ..Setup::new(Mode::Nat, Family::V4) }.start();
    for index in 0..2 {
        scenario.lab.unplug_backend(index);
    }
    for index in 0..2 {
        let _ = scenario.wait_state(index, BackendState::Down, Duration::from_secs(10));
    }
    let load = Load { concurrency: 4, limit: Duration::from_millis(500), ..Load::new(scenario.target(), 8) };
    let tally = load.run(scenario.client());
    assert_eq!(tally.reasons(), "8 timed out", "an empty pool is silent, so that a retransmission can succeed");
    assert!(scenario.drops().contains_key("drop_no_backend"), "{:?}", scenario.drops());
    scenario.lab.plug_backend(1);
    let _ = scenario.wait_state(1, BackendState::Up, Duration::from_secs(10));
    let tally = Load::new(scenario.target(), 100).run(scenario.client());
    tally.assert_all_ok("one is back");
    assert_eq!(tally.share("b2"), 100);
}
