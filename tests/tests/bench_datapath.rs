//! The datapath benchmark: packets flow, every promised field is there, SYNs are counted, and nothing is left behind, also when it
//! is interrupted. No figure is judged here: this machine is whatever it is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weir_tests::datapath::{case, measure};

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    let _ = command.arg("datapath").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a benchmark of this process has made and not removed.
fn left_behind(pid: u32) -> Vec<String> {
    let own = [format!("weir-{pid}-"), format!("weir-bench-{pid}-")];
    let entries = ["/run/netns", "/run"].iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| own.iter().any(|prefix| name.starts_with(prefix))).collect()
}

#[test]
fn a_case_is_measured_in_json_with_every_promised_field() {
    let child = bench(&["--case", "nat/maglev/full/1/data", "--seconds", "0.2", "--rounds", "2", "--output", "json"])
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let [line] = &lines[..] else { panic!("one case, one object: {lines:?}") };
    assert_eq!((&line["case"], &line["forward"]), (&"nat/maglev/full/1/data".into(), &"nat".into()));
    assert_eq!((&line["tracking"], &line["flows"], &line["packet"]), (&"full".into(), &1.into(), &"tcp data".into()));
    for field in ["ns", "floor_ns", "mpps", "floor_mpps"] {
        assert!(line[field].as_f64().unwrap() > 0.0, "{field} of {line}");
    }
    assert!(line["net_ns"].is_f64() && line["program"]["instructions"].as_u64().unwrap() > 0, "{line}");
    assert_eq!(left_behind(pid), [""; 0]);
}

#[test]
fn syns_open_as_many_flows_as_were_sent_and_the_table_was_made_for() {
    let cases = case::choose(case::all(false), &["nat/maglev/full/1M/syn".to_owned()]).unwrap();
    let plan = measure::Plan { time: Duration::from_millis(100), rounds: 1, capacity: 4_096, peer: None };
    let rows = measure::run(&cases, &plan, &|| false).unwrap();
    let syn = rows[0].syn.unwrap();
    assert_eq!((syn.sent, syn.opened, syn.refused, syn.evicted), (4_096, 4_096, 0, 0));
}

#[test]
fn established_flows_stay_where_they_are_under_a_flood() {
    let cases = case::choose(case::all(false), &["nat/least_conn/full/100k/flood".to_owned()]).unwrap();
    let cases: Vec<_> = cases.into_iter().map(|case| case::Case { flows: 1_000, ..case }).collect();
    let plan = measure::Plan { time: Duration::from_millis(100), rounds: 2, capacity: 4_096, peer: None };
    let rows = measure::run(&cases, &plan, &|| false).unwrap();
    let flood = rows[0].flood.as_ref().unwrap();
    assert!(flood.syns > 3 * 4_096 && flood.established_packets > 0, "{flood:?}");
    assert_eq!((flood.moved, flood.active_after), (0, flood.active_before), "{flood:?}");
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let mut child =
        bench(&["--case", "l2dsr/maglev/full/1/data", "--seconds", "3600", "--rounds", "1000"]).spawn().unwrap();
    let pid = child.id();
    // Kept until it has ended: it still says something.
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.by_ref().map_while(Result::ok).any(|line| line.starts_with("round 2 ")), "it begins to measure");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left_behind(pid), [""; 0]);
}
