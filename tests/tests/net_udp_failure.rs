//! UDP flows leave a backend that is down at once, silent or refusing, whatever remembers them.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use weir_tests::lab::Family;
use weir_tests::scenario::{DNS, Mode, Scenario, Setup};

/// One datagram's answer.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// From the death to the first answer by another backend: three probes of 250 ms, and a machine that is busy with other tests.
const WITHIN: Duration = Duration::from_secs(20);

/// Flows that talk through a failure: each must be answered by somebody else than the victim again.
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn survive(mut scenario: Scenario, silent: bool, what: &str) {
    let _ = scenario.wait_settled(Duration::from_secs(60));
    let target = scenario.target();
    let (first, known) = mpsc::channel();
    let (go, went) = mpsc::channel::<()>();
    let client = scenario.client();
    let task = client.spawn(async move {
        // Plain sockets on a thread of their own: nothing else runs there.
        tokio::task::spawn_blocking(move || {
            let sockets: Vec<UdpSocket> = (0..24)
                .map(|_| {
                    let socket = UdpSocket::bind("0.0.0.0:0").expect("a UDP socket can be bound");
                    socket.set_read_timeout(Some(LOST_AFTER)).expect("a socket can have a timeout");
                    socket
                })
                .collect();
            let ask = |socket: &UdpSocket| -> Option<String> {
                let _sent = socket.send_to(b"who", target).ok()?;
                let mut buffer = [0; 64];
                let (length, _) = socket.recv_from(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..length]).split(' ').next()?.to_owned())
            };
            let mut before = Vec::new();
            for socket in &sockets {
                let deadline = Instant::now() + WITHIN;
                let name = loop {
                    if let Some(name) = ask(socket) {
                        break name;
                    }
                    assert!(Instant::now() < deadline, "no answer before the failure");
                };
                before.push(name);
            }
            first.send(before.clone()).expect("the test listens");
            went.recv().expect("the test goes on");
            let died = Instant::now();
            let mut after = Vec::new();
            for socket in &sockets {
                loop {
                    match ask(socket) {
                        Some(name) if name != "b1" => break after.push(name),
                        _ => assert!(died.elapsed() < WITHIN, "a flow stays on the dead backend"),
                    }
                }
            }
            (before, after)
        })
        .await
        .expect("the task does not panic")
    });
    let before = known.recv().expect("every flow is answered once");
    assert!(before.contains(&"b1".to_owned()), "{what}: {before:?}");
    if silent {
        scenario.lab.unplug_backend(0);
    } else {
        scenario.kill_server(0);
    }
    go.send(()).expect("the client waits");
    let (before, after) = task.wait();
    let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| *b != "b1" && b != a).collect();
    assert_eq!(moved, [], "{what}: nobody else's flow moves");
    let dns = scenario.agent.service(DNS);
    assert!(dns.backends.iter().any(|b| b.state == lb_agent::pure::model::BackendState::Down), "{what}: {dns:#?}");
}

#[test]
fn flows_of_a_dead_backend_find_another_at_once() {
    for (select, tracking, silent) in [
        ("maglev", "full", false),
        ("maglev", "minimal", false),
        ("least_conn", "full", false),
        ("round_robin", "full", true),
    ] {
        let timeouts = "udp = \"8s\"\nidle = \"8s\"".into();
        let usual = Setup::new(Mode::Nat, Family::V4);
        let setup = Setup { udp: true, weights: vec![100; 3], select, tracking, timeouts, ..usual };
        survive(setup.start(), silent, &format!("{select} {tracking} silent {silent}"));
    }
}
