//! Drain: nothing new, the old ones finish, and the end is seen soon after it came.

use std::time::{Duration, Instant};

use lb_agent::pure::model::BackendState;
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::client::stream::Streams;
use weir_tests::lab::Family;
use weir_tests::measure::Sample;
use weir_tests::scenario::{Mode, Scenario, Setup, WEB};

/// Silence that ends a flow here.
const IDLE: Duration = Duration::from_secs(8);

/// Silence that ends a flow behind DSR whose client has sent FIN.
const FIN: Duration = Duration::from_secs(2);

/// From the last FIN to `disabled`: one sweep, and one silent epoch that confirms it.
const SOON: Duration = Duration::from_secs(3);

fn start(mode: Mode, tracking: &'static str) -> Scenario {
    let timeouts = format!("idle = \"{}s\"\nfin = \"{}s\"", IDLE.as_secs(), FIN.as_secs());
    Setup { tracking, timeouts, weights: vec![100; 3], ..Setup::new(mode, Family::V4) }.start()
}

fn nothing_new_old_ones_finish(mode: Mode) {
    let scenario = start(mode, "full");
    let client = scenario.client();
    let load = Load::endless(scenario.target(), 8).start(client);
    load.await_answers(100);
    let mut held = Held::open(client, scenario.target(), 300, &[]);
    let mut on_first = held.take_on("b1");
    let _ = scenario.agent.backend("drain", WEB, scenario.backend(0), &[]);
    let tally = Load::new(scenario.target(), 3_000).run(client);
    tally.assert_all_ok("while b1 drains");
    assert_eq!(tally.share("b1"), 0, "no new flow after the drain was acknowledged: {:?}", tally.shares);

    on_first = on_first.check(client);
    on_first.assert_unharmed("old connections go on");
    let held_there = u64::try_from(on_first.len()).expect("a count");
    // Behind DSR a flow whose client has sent FIN is active until it has been silent for `fin`.
    let what = "only the connections that are held are active";
    let _ = scenario.agent.wait_until(what, FIN + Duration::from_secs(3), |status| {
        status.services[0].backends[0].active_flows == held_there
    });
    assert_eq!(scenario.web_backend(0).state, BackendState::Draining);
    on_first.close(client);
    let took = scenario.wait_state(0, BackendState::Disabled, SOON + Duration::from_secs(10));
    eprintln!("{mode:?}: disabled {took:?} after its last connection was closed");
    load.stop().assert_all_ok("load beside the drain");

    let _ = scenario.agent.backend("undrain", WEB, scenario.backend(0), &[]);
    let _ = scenario.wait_state(0, BackendState::Up, Duration::from_secs(10));
    let tally = Load::new(scenario.target(), 600).run(client);
    assert!(tally.share("b1") > 100, "{:?}", tally.shares);
    held.check(client).assert_unharmed("the others");
}

#[test]
fn nat_drain_lets_old_connections_finish_and_admits_none() {
    nothing_new_old_ones_finish(Mode::Nat);
}

#[test]
fn l2dsr_drain_lets_old_connections_finish_and_admits_none() {
    nothing_new_old_ones_finish(Mode::L2dsr);
}

#[test]
fn snat_drain_lets_old_connections_finish_and_admits_none() {
    nothing_new_old_ones_finish(Mode::NatSnat);
}

#[test]
fn the_end_of_a_drain_is_seen_soon() {
    let scenario = start(Mode::Nat, "full");
    let client = scenario.client();
    let mut sample = Sample::default();
    for _ in 0..20 {
        let mut held = Held::open(client, scenario.target(), 24, &[]);
        let on_first = held.take_on("b1");
        let _ = scenario.agent.backend("drain", WEB, scenario.backend(0), &[]);
        let drained = Instant::now();
        on_first.close(client);
        held.close(client);
        let closed = drained.elapsed();
        let _ = scenario.wait_state(0, BackendState::Disabled, Duration::from_secs(20));
        // The agent's own clock counts from the acknowledgement; ours says when the last connection ended.
        let ms = scenario.web_backend(0).drained_after_ms.expect("a finished drain says how long it took");
        sample.add(Duration::from_millis(ms).saturating_sub(closed));
        let _ = scenario.agent.backend("undrain", WEB, scenario.backend(0), &[]);
        let _ = scenario.wait_state(0, BackendState::Up, Duration::from_secs(10));
    }
    eprintln!("from the last FIN to disabled: {sample}");
    assert!(sample.median() <= SOON, "{sample}");
}

#[test]
fn a_half_closed_stream_that_the_server_feeds_counts_as_alive() {
    let scenario = start(Mode::Nat, "full");
    let every = Duration::from_millis(250);
    let streams = Streams { target: scenario.target(), count: 30, chunks: 24, every, half_close: true };
    let running = streams.start(scenario.client());
    let began = Instant::now();
    let _ = scenario.agent.backend("drain", WEB, scenario.backend(0), &[]);
    // Well after the client's FIN, and well before the last chunk.
    while began.elapsed() < every * 16 {
        let first = scenario.web_backend(0);
        assert_eq!(first.state, BackendState::Draining, "{first:#?}");
        assert!(first.active_flows > 0, "{first:#?}");
        std::thread::sleep(every);
    }
    let ended = running.wait();
    assert!(ended.iter().all(|stream| stream.outcome.is_ok()), "{ended:?}");
    assert!(ended.iter().any(|stream| stream.server == "b1"), "some of them were on b1: {ended:?}");
    let took = scenario.wait_state(0, BackendState::Disabled, SOON + Duration::from_secs(10));
    eprintln!("disabled {took:?} after the last stream ended");
}

#[test]
fn minimal_drain_ends_one_idle_timeout_after_it_began() {
    let scenario = start(Mode::Nat, "minimal");
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 300, &[]);
    let mut on_first = held.take_on("b1");
    let began = Instant::now();
    let _ = scenario.agent.backend("drain", WEB, scenario.backend(0), &[]);
    let tally = Load::new(scenario.target(), 1_000).run(client);
    tally.assert_all_ok("while b1 drains");
    assert_eq!(tally.share("b1"), 0, "{:?}", tally.shares);
    on_first = on_first.check(client);
    on_first.assert_unharmed("old connections go on");
    on_first.close(client);
    let _ = scenario.wait_state(0, BackendState::Disabled, IDLE * 3);
    eprintln!("disabled {:?} after the drain began, the idle timeout is {IDLE:?}", began.elapsed());
    assert!(began.elapsed() >= IDLE, "flows that nobody tracked have one idle timeout to show up");
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let scenario = Setup { drain: "timeout = \"2s\"".into(), ..Setup::new(Mode::Nat, Family::V4) }.start();
    let client = scenario.client();
    let mut held = Held::open(client, scenario.target(), 100, &[]);
    let on_first = held.take_on("b1");
    let _ = scenario.agent.backend("drain", WEB, scenario.backend(0), &[]);
    let took = scenario.wait_state(0, BackendState::Disabled, Duration::from_secs(10));
    assert!(took >= Duration::from_secs(1), "it waited for its timeout, not {took:?}");
    assert!(on_first.check(client).is_empty(), "what has not ended by then is cut");
    held.check(client).assert_unharmed("the others");
}
