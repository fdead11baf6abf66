//! ipip and gue between real machines: `lb-agent decap` takes the outer headers off on the backends.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::decap::Decap;
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Scenario, Setup};

const REQUESTS: u64 = 600;

/// Both modes in every pair of families: mode, client and VIP, backend.
const WAYS: [(Mode, Family, Family); 6] = [
    (Mode::Ipip, Family::V4, Family::V4),
    (Mode::Ipip, Family::V6, Family::V6),
    (Mode::Ipip, Family::V4, Family::V6),
    (Mode::Gue, Family::V4, Family::V4),
    (Mode::Gue, Family::V6, Family::V6),
    (Mode::Gue, Family::V4, Family::V6),
];

fn start(mode: Mode, family: Family, outer: Family) -> (Scenario, Vec<Decap>) {
    let scenario = Setup { weights: vec![100; 2], outer, ..Setup::new(mode, family) }.start();
    let vip = scenario.target().ip();
    let decaps = (0..2).map(|backend| Decap::start(&scenario.lab.backends[backend], "eth0", vip)).collect();
    (scenario, decaps)
}

#[test]
fn requests_travel_encapsulated_and_answers_come_directly() {
    for (mode, family, outer) in WAYS {
        let (scenario, decaps) = start(mode, family, outer);
        let what = format!("{mode:?} {family:?} in {outer:?}");

        let tally = Load::new(scenario.target(), REQUESTS).run(scenario.client());

        eprintln!("{what}: {} requests, {} failed, shares {:?}", tally.total(), tally.failed.len(), tally.shares);
        tally.assert_all_ok(&what);
        for (index, decap) in decaps.into_iter().enumerate() {
            let share = tally.share(&format!("b{}", index + 1));
            let ended = decap.stop();
            assert!(share > 0 && ended.decapsulated >= 4 * share, "{what}: {share} requests, {ended:?}");
        }
        let verdicts = scenario.agent.status().verdicts;
        assert_eq!((verdicts["reply"], scenario.drops().len()), (0, 0), "{what}: {verdicts:?}");
    }
}

#[test]
fn path_mtu_discovery_works_through_the_encapsulation() {
    for (mode, family, outer) in WAYS {
        let (scenario, _decaps) = start(mode, family, outer);
        let what = format!("{mode:?} {family:?} in {outer:?}");
        // More than the way behind the balancer takes in full-sized segments.
        let body = vec![b'w'; 300_000];

        let back = echo(&scenario, &body);

        let verdicts = scenario.agent.status().verdicts;
        assert!(back == body, "{what}: {} bytes came back; {verdicts:?}", back.len());
        assert!(verdicts["send_too_big"] >= 1, "{what}: {verdicts:?}");
        let route = scenario.client().ip_shows(&format!("route get {}", scenario.target().ip()));
        let overhead = if outer == Family::V4 { 20 } else { 40 } + if mode == Mode::Gue { 8 } else { 0 };
        assert!(route.contains(&format!("mtu {}", 1_500 - overhead)), "{what}: {route}");
    }
}

/// Posts a body by a real client, and returns what comes back.
fn echo(scenario: &Scenario, body: &[u8]) -> Vec<u8> {
    let mut command = Command::new("curl");
    let _ =
        command.args(["--silent", "--show-error", "--fail", "--globoff", "--max-time", "20", "--data-binary", "@-"]);
    let _ = command.arg(format!("http://{}/echo", scenario.target()));
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut curl = scenario.client().start(command);
    let mut stdin = curl.stdin.take().expect("stdin is piped");
    let sent = body.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    let output = curl.wait_with_output().expect("curl ends");
    // A curl that gave up says more than its broken pipe.
    let _: Result<std::io::Result<()>, _> = writer.join();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_backend_hears_a_smaller_mss_than_its_client_announced() {
    let (scenario, _decaps) = start(Mode::Ipip, Family::V4, Family::V4);
    let target = scenario.target();
    let client = scenario.client();
    let _held = Held::open(client, target, 4, &[]);
    // The largest segment that the server's kernel will send.
    let seen: String = (0..2).map(|backend| sockets(&scenario, backend)).collect();
    // 1,500 less the outer header, both inner ones and the timestamps.
    assert!(seen.contains("mss:1428"), "{seen}");
}

/// What `ss` says of the connections to the VIP that a backend's server has.
fn sockets(scenario: &Scenario, backend: usize) -> String {
    let mut command = Command::new("ss");
    let source = format!("src {}", scenario.target().ip());
    let _ = command.args(["-tniH", &source]).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = scenario.lab.backends[backend].start(command).wait_with_output().expect("ss ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn decapsulation_ends_with_its_process_and_says_what_is_wrong() {
    let (scenario, decaps) = start(Mode::Ipip, Family::V4, Family::V4);
    for decap in decaps {
        let ended = decap.stop();
        assert!(ended.was_success, "{ended:?}");
    }
    let attached = scenario.lab.backends[0].ip_shows("link show eth0");
    assert!(!attached.contains("xdp"), "{attached}");

    let refused = Decap::refused(&scenario.lab.backends[0], &["--interface", "eth9", "--vip", "10.20.0.100"]);
    assert!(refused.contains("eth9 has no address"), "{refused}");
    let refused = Decap::refused(&scenario.lab.wire, &["--interface", "front"]);
    assert!(refused.contains("lo holds none"), "{refused}");
}
