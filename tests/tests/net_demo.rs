//! The demo keeps its promises, says so in figures, and leaves nothing behind, also when it is interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weir_tests::agent::program;

/// The shortest acts there are.
const SECONDS_PER_ACT: &str = "5";

/// A demo that is about to begin its first act by then is not slow, it is stuck.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

fn demo(report: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-lab"));
    let _ = command.args(["demo", "--seconds-per-act", SECONDS_PER_ACT, "--report"]).arg(report);
    let _ = command.env("WEIR_AGENT", program()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn report_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("weir-demo-{name}-{}.json", std::process::id()))
}

/// What a demo of this process has made and not removed.
fn left_behind(pid: u32) -> Vec<String> {
    let own = [format!("weir-{pid}-"), format!("weir-test-{pid}-")];
    let folders = ["/run/netns".into(), "/sys/fs/bpf".into(), std::env::temp_dir()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| own.iter().any(|prefix| name.starts_with(prefix))).collect()
}

fn await_first_act(child: &Child) {
    let deadline = Instant::now() + BEGINS_WITHIN;
    let agents = || left_behind(child.id()).iter().filter(|name| name.starts_with("weir-test-")).count();
    // Its folder and its pins: the agent is up, or is about to be.
    while agents() < 2 {
        assert!(Instant::now() < deadline, "the demo has not begun within {BEGINS_WITHIN:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing_behind() {
    let file = report_file("whole");
    let child = demo(&file).spawn().expect("the lab's binary can be started");
    let pid = child.id();
    let output = child.wait_with_output().expect("a child's output can be read");
    assert!(output.status.success(), "{}: {}", output.status, said(&output));
    assert_eq!(left_behind(pid), Vec::<String>::new());
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("the report was written")).expect("JSON");
    fs::remove_file(&file).expect("our own file");
    assert_eq!(report["kept"], true);
    let acts = report["acts"].as_array().expect("a list of acts");
    assert_eq!(acts.len(), 6);
    assert!(acts.iter().all(|act| act["requests"].as_u64() > Some(0)), "{report:#}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let file = report_file("interrupted");
        let child = demo(&file).spawn().expect("the lab's binary can be started");
        let pid = child.id();
        await_first_act(&child);
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("the demo runs");
        let output = child.wait_with_output().expect("a child's output can be read");
        let _: std::io::Result<()> = fs::remove_file(&file);
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        assert!(said(&output).contains("left behind: nothing"), "{}", said(&output));
        assert_eq!(left_behind(pid), Vec::<String>::new());
    }
}
