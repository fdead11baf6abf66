//! Wrong input and wrong surroundings: one clear message, the right exit code, and nothing half-done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use weir_tests::agent::{Agent, program};
use weir_tests::client::load::Load;
use weir_tests::lab::Family;
use weir_tests::scenario::{Mode, Scenario, Setup, WEB};

/// Exit code of a wrong command line or configuration.
const WRONG: i32 = 2;

/// Exit code of what was tried and failed.
const FAILED: i32 = 1;

/// Exit code when no agent answers.
const NOBODY: i32 = 3;

fn prepared() -> Scenario {
    Setup { weights: vec![100; 2], ..Setup::new(Mode::Nat, Family::V4) }.prepare()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// It ended with `code`, said each of `words`, and left nothing behind.
fn assert_refused(scenario: &Scenario, output: &Output, code: i32, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "it does not say {word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let links = scenario.lab.balancer.ip_shows("-details -o link");
    assert!(!links.contains("xdp"), "a program is still attached: {links}");
    assert!(!scenario.agent.pin_dir().join("HOST").exists(), "maps are still pinned");
}

#[test]
fn wrong_configurations_are_named_by_file_line_and_remedy() {
    let scenario = prepared();
    let right = scenario.agent.config_text();
    let cases: &[(&str, &str, &[&str])] = &[
        ("weight = 100", "wieght = 100", &["wieght", "weight"]),
        ("port = 80\n", "port = 80808\n", &["port"]),
        ("forward = \"nat\"", "forward = \"natt\"", &["natt", "nat"]),
        ("select = \"maglev\"", "select = \"meglev\"", &["meglev", "maglev"]),
        ("vip = \"10.20.0.100\"", "vip = \"10.20.0\"", &["10.20.0"]),
        ("address = \"10.30.0.22\"", "address = \"10.30.0.21\"", &["10.30.0.21"]),
        ("address = \"10.30.0.22\"", "address = \"fd30::22\"", &["fd30::22"]),
        ("interval = \"250ms\"", "interval = \"fast\"", &["interval", "fast"]),
        ("tracking = \"full\"\n", "tracking = \"minimal\"\nsnat = true\n", &["snat", "full"]),
        ("[[service]]", "[[service", &["weir.toml"]),
    ];
    for (from, to, words) in cases {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from} is in the configuration");
        scenario.agent.write_config_text(&wrong);
        let words = [&["weir.toml"], *words].concat();
        assert_refused(&scenario, &scenario.agent.cli(&["check"]), WRONG, &words);
        assert_refused(&scenario, &scenario.agent.refused_start(), WRONG, &words);
    }
    let service = right.find("[[service]]").expect("there is one");
    let twice = format!("{right}\n{}", right[service..].replace("name = \"web\"", "name = \"web2\""));
    scenario.agent.write_config_text(&twice);
    assert_refused(&scenario, &scenario.agent.refused_start(), WRONG, &["10.20.0.100", "web", "web2"]);
    fs::remove_file(scenario.agent.config_path()).expect("it was written");
    assert_refused(&scenario, &scenario.agent.refused_start(), WRONG, &["weir.toml"]);
    scenario.agent.write_config();
    let checked = scenario.agent.cli(&["check"]);
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn a_missing_interface_is_named() {
    let mut scenario = prepared();
    scenario.agent.settings_mut().interfaces[1].0 = "eth7".into();
    scenario.agent.write_config();
    assert_refused(&scenario, &scenario.agent.refused_start(), FAILED, &["eth7", "ip link"]);
}

#[test]
fn whoever_is_not_root_is_told_which_capabilities_are_missing() {
    let mut scenario = prepared();
    // The user must be able to reach the program and to write where the agent writes.
    let folder = scenario.agent.config_path().parent().expect("it is in a folder").to_owned();
    let copy = folder.join("lb-agent");
    let _ = fs::copy(program(), &copy).expect("the agent can be copied");
    for path in [&folder, &folder.join("state")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("our own folder");
    }
    scenario.agent.use_program(copy);
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    assert_refused(&scenario, &scenario.agent.refused_start_by(&nobody), FAILED, &["CAP_BPF", "CAP_NET_ADMIN", "root"]);
    let without = ["setpriv", "--bounding-set", "-net_admin"];
    assert_refused(&scenario, &scenario.agent.refused_start_by(&without), FAILED, &["CAP_NET_ADMIN"]);
    let without = ["setpriv", "--bounding-set", "-bpf,-sys_admin"];
    assert_refused(&scenario, &scenario.agent.refused_start_by(&without), FAILED, &["CAP_BPF"]);
}

#[test]
fn an_interface_without_native_xdp_falls_back_and_says_so() {
    let mut scenario = prepared();
    // A bridge has no native XDP.
    scenario.lab.balancer.ip("link add plain type bridge\nlink set plain up");
    scenario.agent.settings_mut().interfaces.push(("plain".into(), "native".into()));
    scenario.agent.write_config();
    assert_refused(&scenario, &scenario.agent.refused_start(), FAILED, &["plain", "native", "auto"]);

    scenario.agent.settings_mut().interfaces[2].1 = "auto".into();
    scenario.agent.write_config();
    scenario.agent.launch();
    let interfaces = scenario.agent.status().interfaces;
    let plain = interfaces.iter().find(|interface| interface.name == "plain").expect("it is listed");
    assert_eq!(plain.mode, "generic", "{interfaces:?}");
    assert!(plain.reason.is_some(), "it says why: {interfaces:?}");
    assert!(scenario.agent.log().contains("plain"), "the log says so too: {}", scenario.agent.log());
    scenario.wait_all_up();
    Load::new(scenario.target(), 200).run(scenario.client()).assert_all_ok("beside a generic interface");
}

#[test]
fn a_pin_dir_outside_a_bpffs_gets_one_and_loses_it_again() {
    let mut scenario = prepared();
    let pins = scenario.agent.own_pins();
    let text = scenario.agent.config_text();
    scenario
        .agent
        .write_config_text(&text.replace(&scenario.agent.pin_dir().display().to_string(), &pins.display().to_string()));
    scenario.agent.launch();
    assert!(pins.join("HOST").exists(), "maps are pinned below {}", pins.display());
    scenario.wait_all_up();
    Load::new(scenario.target(), 200).run(scenario.client()).assert_all_ok("with its own bpffs");
    let _ = scenario.agent.unload();
    assert!(!pins.join("HOST").exists());
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the kernel lists mounts");
    assert!(!mounts.contains(&pins.display().to_string()), "the bpffs is unmounted: {mounts}");
}

#[test]
fn a_second_agent_on_the_same_pins_is_refused() {
    let scenario = Setup { weights: vec![100; 2], ..Setup::new(Mode::Nat, Family::V4) }.start();
    let second = Agent::prepare(&scenario.lab.balancer, scenario.agent.settings().clone());
    let (ours, theirs) = (second.pin_dir().display().to_string(), scenario.agent.pin_dir().display().to_string());
    // Only the pins are shared; socket, state and metrics are its own.
    let text = second.config_text().replace(&ours, &theirs).replace("127.0.0.1:9180", "127.0.0.1:9181");
    second.write_config_text(&text);
    let output = second.refused_start();
    assert_eq!(output.status.code(), Some(FAILED), "{}", said(&output));
    assert!(said(&output).contains(&theirs) && said(&output).contains("another lb-agent"), "{}", said(&output));
    Load::new(scenario.target(), 200).run(scenario.client()).assert_all_ok("the first one goes on");
}

#[test]
fn wrong_orders_change_nothing() {
    let mut scenario = prepared();
    let nobody = scenario.agent.cli(&["status"]);
    assert_eq!(nobody.status.code(), Some(NOBODY), "{}", said(&nobody));
    scenario.agent.launch();
    scenario.wait_all_up();
    let (first, before) = (scenario.backend(0).to_string(), scenario.web());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["backend", "drain", "wep", &first], FAILED, "wep"),
        (&["backend", "drain", WEB, "10.9.9.9:80"], FAILED, "10.9.9.9"),
        (&["backend", "weight", WEB, &first, "65536"], WRONG, "65536"),
        (&["backend", "add", WEB, &first], FAILED, &first),
        (&["backend", "add", WEB, "[fd30::1]:8080"], FAILED, "fd30::1"),
        (&["backend", "undrain", WEB, &first], FAILED, &first),
        (&["explain", "tcp", "10.10.1.2", "10.20.0.100:80"], WRONG, "10.10.1.2"),
        (&["bakend", "list"], WRONG, "backend"),
    ];
    for (words, code, mention) in cases {
        let output = scenario.agent.cli(words);
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(mention), "{words:?}: {}", said(&output));
    }
    let after = scenario.web();
    assert!(
        before
            .backends
            .iter()
            .zip(&after.backends)
            .all(|(a, b)| (a.address, a.weight, a.state) == (b.address, b.weight, b.state))
    );
    assert_eq!(before.backends.len(), after.backends.len());
}
