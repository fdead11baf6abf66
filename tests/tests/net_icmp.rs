//! ICMP: echo to a VIP is answered, and a router's "too big" reaches the backend that has to send less at once.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use weir_tests::client::echo::answers;
use weir_tests::scenario::{FAMILIES, MODES, Mode, Setup};

/// Between the least IPv6 allows and the backends' own 1500.
const NARROW_MTU: u16 = 1_300;

#[test]
fn echo_to_a_vip_is_answered_and_to_nobodys_address_it_is_not() {
    for family in FAMILIES {
        let scenario = Setup { weights: vec![100; 2], ..Setup::new(Mode::Nat, family) }.start();
        let client = scenario.client();
        assert!(answers(client, scenario.lab.vip(family, 0), b"is anybody there?"), "{family:?}: the VIP");
        assert!(
            answers(client, scenario.lab.balancer_address(family), b"and the host?"),
            "{family:?}: the host itself"
        );
        assert!(!answers(client, scenario.lab.vip(family, 1), b"nobody"), "{family:?}: no VIP of ours");
        assert!(scenario.agent.status().verdicts["echo_reply"] >= 1);
    }
}

#[test]
fn path_mtu_discovery_works_through_the_vip() {
    for mode in MODES {
        for family in FAMILIES {
            let scenario = Setup { weights: vec![100; 2], ..Setup::new(mode, family) }.start();
            // The router's way to the client narrows; the client does not know, so its MSS does not say so.
            scenario.lab.narrow_client(0, NARROW_MTU);
            let mut command = Command::new("curl");
            let url = format!("http://{}/echo", scenario.target());
            let _ = command.args([
                "--silent",
                "--show-error",
                "--fail",
                "--globoff",
                "--max-time",
                "10",
                "--data-binary",
                "@-",
            ]);
            let _ = command.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut curl = scenario.client().start(command);
            let mut stdin = curl.stdin.take().expect("stdin is piped");
            let body = vec![b'w'; 300_000];
            let sent = body.clone();
            let writer = thread::spawn(move || stdin.write_all(&sent));
            let output = curl.wait_with_output().expect("curl ends");
            let what = format!("{mode:?} {family:?}: {:?}", scenario.agent.status().verdicts);
            writer.join().expect("the writer does not panic").expect("curl takes the body");
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == body, "{what}: {} bytes came back", output.stdout.len());
            assert!(scenario.agent.status().verdicts["forward_icmp"] >= 1, "{what}");
        }
    }
}
