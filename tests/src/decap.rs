//! `lb-agent decap` on a backend of the lab.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::program;
use crate::netns::Netns;

/// A running decapsulation. Dropping it ends it.
#[derive(Debug)]
pub struct Decap {
    child: Child,
    out: BufReader<ChildStdout>,
}

/// How one ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code 0.
    pub was_success: bool,
    /// Packets whose outer header it took off.
    pub decapsulated: u64,
    /// Everything it printed after its start.
    pub text: String,
}

impl Decap {
    /// Starts it, and waits until it is attached.
    pub fn start(machine: &Netns, interface: &str, vip: IpAddr) -> Self {
        let mut child = machine.start(command(&["--interface", interface, "--vip", &vip.to_string()]));
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        let _ = out.read_line(&mut line).expect("its output can be read");
        assert!(line.contains("takes ipip and gue"), "decap did not start: {line:?}");
        Self { child, out }
    }

    /// What it says where it refuses to start.
    pub fn refused(machine: &Netns, arguments: &[&str]) -> String {
        let mut command = command(arguments);
        let _ = command.stderr(Stdio::piped());
        let output = machine.start(command).wait_with_output().expect("it ends");
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Ends it by SIGTERM, as an operator's service manager would.
    pub fn stop(mut self) -> Ended {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        kill(pid, Signal::SIGTERM).expect("it lives");
        let mut text = String::new();
        let _ = self.out.read_to_string(&mut text).expect("its output can be read");
        let was_success = self.child.wait().expect("it can be waited for").success();
        let counted = text.lines().find_map(|line| line.trim().strip_suffix("  decapsulated"));
        let decapsulated = counted.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        Ended { was_success, decapsulated, text }
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        // It may have ended by itself; what counts is that it is gone.
        let _: std::io::Result<()> = self.child.kill();
        drop(self.child.wait());
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    let _ = command.arg("decap").args(arguments);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}
