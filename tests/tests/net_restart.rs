//! The agent dies, comes back, is replaced: traffic does not notice, and what was remembered still is.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use lb_agent::pure::model::BackendState;
use lb_agent::pure::snapshot::{Difference, Snapshot};
use lb_common::host::Host;
use lb_common::maps::HOST;
use weir_tests::agent::program;
use weir_tests::client::held::Held;
use weir_tests::client::load::{Load, RunningLoad};
use weir_tests::lab::Family;
use weir_tests::netns::Running;
use weir_tests::object::with_another_program;
use weir_tests::scenario::{Mode, Scenario, Setup, WEB};

/// How long nobody minds the maps.
const AWAY: Duration = Duration::from_secs(2);

/// Established connections that must survive; half of them are silent.
const ESTABLISHED: usize = 500;

/// Traffic that goes on while the agent comes and goes.
struct Traffic {
    load: RunningLoad,
    talking: Running<Held>,
    silent: Held,
    stop: Arc<AtomicBool>,
    slots: Vec<Option<u32>>,
    before: Snapshot,
}

impl Traffic {
    fn begin(scenario: &Scenario) -> Self {
        let client = scenario.client();
        let mut silent = Held::open(client, scenario.target(), ESTABLISHED, &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let talking = silent.take(ESTABLISHED / 2).talk(client, Arc::clone(&stop), Duration::from_millis(50));
        let load = Load::endless(scenario.target(), 8).start(client);
        load.await_answers(200);
        Self { load, talking, silent, stop, slots: slots(scenario), before: scenario.agent.status() }
    }

    /// Nothing was lost, moved or forgotten.
    fn end(self, scenario: &Scenario, what: &str) {
        self.load.await_answers(200);
        let (after, client) = (scenario.agent.status(), scenario.client());
        let tally = self.load.stop();
        self.stop.store(true, Ordering::Relaxed);
        let mut held = self.talking.wait();
        held.join(self.silent);
        held = held.check(client);
        eprintln!(
            "{what}: {} requests, {} failed, {} late, {} held",
            tally.total(),
            tally.failed.len(),
            tally.late,
            held.len()
        );
        tally.assert_all_ok(what);
        held.assert_unharmed(what);
        assert_eq!(held.len(), ESTABLISHED);
        assert_eq!(tally.late, 0, "{what}: no packet was lost");
        assert!(after.agent.adopted, "{what}: {:#?}", after.agent);
        assert_eq!(slots(scenario), self.slots, "{what}: same seed, same slots");
        for (before, after) in self.before.services[0].backends.iter().zip(&after.services[0].backends) {
            assert_eq!(before.address, after.address);
            assert!(after.new_flows >= before.new_flows && after.packets >= before.packets, "{before:#?} {after:#?}");
        }
        let flows: u64 = scenario.web().backends.iter().map(|b| b.new_flows).sum();
        assert_eq!(flows, tally.total() + u64::try_from(ESTABLISHED).expect("a count"), "{what}: same counters");
        let active = scenario.web().active_flows;
        assert!(active >= u64::try_from(ESTABLISHED).expect("a count"), "{what}: {active} active flows");
    }
}

/// Slots of some tuples that no one uses: they follow from the hash's secret.
fn slots(scenario: &Scenario) -> Vec<Option<u32>> {
    let clients = (0..8).map(|n| SocketAddr::new(scenario.lab.client_address(0, scenario.setup().family, n), 40_000));
    clients.map(|client| scenario.agent.explain("tcp", client, scenario.target()).slot).collect()
}

#[test]
fn killed_under_load_it_adopts_what_is_pinned() {
    for mode in [Mode::Nat, Mode::NatSnat, Mode::L2dsr] {
        let mut scenario = Setup::new(mode, Family::V4).start();
        let traffic = Traffic::begin(&scenario);
        scenario.agent.kill();
        thread::sleep(AWAY);
        scenario.agent.launch();
        scenario.wait_all_up();
        traffic.end(&scenario, &format!("{mode:?}, kill -9"));
    }
}

#[test]
fn ended_in_order_it_leaves_the_packet_path_at_work() {
    let mut scenario = Setup::new(Mode::Nat, Family::V6).start();
    let load = Load::endless(scenario.target(), 8).start(scenario.client());
    let held = Held::open(scenario.client(), scenario.target(), 200, &[]);
    scenario.agent.terminate();
    load.await_answers(500);
    scenario.agent.launch();
    load.await_answers(200);
    load.stop().assert_all_ok("SIGTERM and a new start");
    held.check(scenario.client()).assert_unharmed("SIGTERM and a new start");
}

#[test]
fn a_new_build_of_the_program_replaces_the_old_one_at_once() {
    let mut scenario = Setup::new(Mode::Nat, Family::V4).start();
    let newer = scenario.agent.config_path().with_file_name("lb-agent-newer");
    let old = scenario.agent.status().agent.program;
    fs::write(&newer, with_another_program(&program(), &old)).expect("the folder can be written to");
    fs::set_permissions(&newer, fs::metadata(program()).expect("it exists").permissions()).expect("our own file");
    let traffic = Traffic::begin(&scenario);
    scenario.agent.use_program(newer);
    scenario.agent.kill();
    scenario.agent.launch();
    scenario.wait_all_up();
    assert_ne!(scenario.agent.status().agent.program, old, "another program is attached");
    traffic.end(&scenario, "a new build of the program");
}

#[test]
fn killed_in_a_transition_it_takes_it_up_again() {
    let timeouts = "idle = \"6s\"".to_owned();
    let mut scenario = Setup { timeouts, spare: 1, ..Setup::new(Mode::Nat, Family::V4) }.start();
    let traffic = Traffic::begin(&scenario);
    let _ = scenario.agent.backend("weight", WEB, scenario.backend(0), &["300"]);
    let _ = scenario.agent.backend("add", WEB, scenario.backend(4), &[]);
    let _ = scenario.wait_state(4, BackendState::Up, Duration::from_secs(10));
    let moving = scenario.web().slots_in_transition;
    assert!(moving > 0, "a transition is under way");
    scenario.agent.kill();
    scenario.agent.launch();
    let still = scenario.web().slots_in_transition;
    eprintln!("{moving} slots in transition before, {still} after");
    assert!(still > 0, "the transition goes on");
    traffic.end(&scenario, "kill -9 in a transition");
    eprintln!("settled after {:?}", scenario.wait_settled(Duration::from_secs(40)));
}

#[test]
fn what_the_operator_changed_outlives_the_agent() {
    let mut scenario = Setup { spare: 1, ..Setup::new(Mode::Nat, Family::V4) }.start();
    let _ = scenario.agent.backend("weight", WEB, scenario.backend(0), &["250"]);
    let _ = scenario.agent.backend("drain", WEB, scenario.backend(1), &[]);
    let _ = scenario.agent.backend("add", WEB, scenario.backend(4), &[]);
    let _ = scenario.wait_state(4, BackendState::Up, Duration::from_secs(10));
    scenario.agent.kill();
    scenario.agent.launch();
    let _ = scenario.wait_state(4, BackendState::Up, Duration::from_secs(10));
    assert_eq!(scenario.web_backend(0).weight, 250);
    let second = scenario.web_backend(1).state;
    assert!(matches!(second, BackendState::Draining | BackendState::Disabled), "{second:?}");
    let differs = |what: &str, index: usize| {
        let wanted = Some(scenario.backend(index));
        scenario.agent.status().differences.iter().any(|d: &Difference| d.what == what && d.backend == wanted)
    };
    assert!(differs("weight", 0), "{:#?}", scenario.agent.status().differences);
    assert!(differs("added", 4), "{:#?}", scenario.agent.status().differences);
    assert!(differs("draining", 1) || differs("disabled", 1), "{:#?}", scenario.agent.status().differences);
}

#[test]
fn an_incompatible_layout_is_refused_and_the_pins_are_kept() {
    let mut scenario = Setup::new(Mode::Nat, Family::V4).start();
    let held = Held::open(scenario.client(), scenario.target(), 100, &[]);
    let load = Load::endless(scenario.target(), 4).start(scenario.client());
    scenario.agent.kill();
    let layout = relabel(&scenario, |layout| layout + 1);
    let output = scenario.agent.refused_start();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("layout"), "{}: {said}", output.status);
    assert!(scenario.agent.pin_dir().join(HOST).exists(), "the pins are kept");
    load.await_answers(200);
    let _ = relabel(&scenario, |_| layout);
    scenario.agent.launch();
    assert!(scenario.agent.status().agent.adopted);
    load.stop().assert_all_ok("a refused start");
    held.check(scenario.client()).assert_unharmed("a refused start");
}

/// Changes the layout's number in the pinned maps; returns what it was.
fn relabel(scenario: &Scenario, change: impl Fn(u32) -> u32) -> u32 {
    let map = MapData::from_pin(scenario.agent.pin_dir().join(HOST)).expect("the host's record is pinned");
    let mut map: Array<MapData, Host> = Map::Array(map).try_into().expect("it is an array of one record");
    let mut host = map.get(&0, 0).expect("it can be read");
    let was = host.abi_version;
    host.abi_version = change(was);
    map.set(0, host, 0).expect("it can be written");
    was
}
