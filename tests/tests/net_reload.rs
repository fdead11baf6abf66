//! Reload: a right file is taken over without a lost packet, a wrong one changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Setup};

#[test]
fn a_right_file_is_taken_over_under_load() {
    for by_signal in [false, true] {
        let mut scenario = Setup { spare: 1, ..Setup::new(Mode::Nat, Family::V4) }.start();
        let client = scenario.lab.clients[0].name().to_owned();
        let held = Held::open(scenario.client(), scenario.target(), 200, &[]);
        let load = Load::endless(scenario.target(), 8).start(scenario.client());
        let added = scenario.backend(4);
        let web = &mut scenario.agent.settings_mut().services[0];
        web.backends.push((added, 100));
        web.backends[0].1 = 300;
        scenario.agent.write_config();
        if by_signal {
            scenario.agent.signal(Signal::SIGHUP);
        } else {
            let _ = scenario.agent.cli_ok(&["reload"]);
        }
        let _ = scenario.agent.wait_until("the new backend serves", Duration::from_secs(10), |status| {
            let backends = &status.services[0].backends;
            backends.iter().any(|b| SocketAddr::new(b.address, b.port) == added && b.new_flows > 10)
        });
        assert_eq!(scenario.web_backend(0).weight, 300);
        load.stop().assert_all_ok(&format!("reload while {client} asks"));
        held.check(scenario.client()).assert_unharmed("reload");
    }
}

#[test]
fn a_wrong_file_changes_nothing() {
    let scenario = Setup::new(Mode::Nat, Family::V4).start();
    let before = scenario.web();
    let right = scenario.agent.config_text();
    for wrong in [
        right.replace("weight = 100", "wieght = 100"),
        right.replacen("port = 8080", "port = 808080", 1),
        right.replace("10.30.0.21", "10.30.0.22"),
        "[[service]\n".to_owned(),
    ] {
        assert_ne!(wrong, right);
        scenario.agent.write_config_text(&wrong);
        let output = scenario.agent.cli(&["reload"]);
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        scenario.agent.signal(Signal::SIGHUP);
        let after = scenario.web();
        assert_eq!(after.backends.len(), before.backends.len());
        assert!(
            after.backends.iter().zip(&before.backends).all(|(a, b)| (a.address, a.weight) == (b.address, b.weight))
        );
    }
    scenario.agent.write_config();
    Load::new(scenario.target(), 200).run(scenario.client()).assert_all_ok("after wrong files");
}
