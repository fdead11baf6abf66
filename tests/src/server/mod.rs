//! A backend's server process, seen from the test: start, rule, count, kill.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::netns::Netns;

pub mod serve;

/// A server process. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server that calls itself `name` on a machine, and waits until it listens on all `addresses`.
    pub fn start(machine: &Netns, name: &str, addresses: &[SocketAddr]) -> Self {
        let mut command = Command::new(program());
        let _ = command.args(["serve", "--name", name]);
        for address in addresses {
            let _ = command.args(["--listen", &address.to_string()]);
        }
        let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = machine.start(command);
        let orders = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut server = Self { name: name.to_owned(), child, orders, answers };
        assert_eq!(server.answer(), "ready", "server {name} does not listen on {addresses:?}");
        server
    }

    /// Its name, as its answers carry it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on `/health` answers with this status.
    pub fn set_health(&mut self, status: u16) {
        assert_eq!(self.order(&format!("health {status}")), "ok");
    }

    /// HTTP requests since its start, `/health` apart.
    pub fn requests(&mut self) -> u64 {
        self.order("requests").parse().expect("a number")
    }

    /// Datagrams since its start.
    pub fn datagrams(&mut self) -> u64 {
        self.order("datagrams").parse().expect("a number")
    }

    /// `kill -9`; returns when it is dead: from here on its kernel refuses connections.
    pub fn kill(&mut self) {
        // It may have died by itself; what counts is that it is dead.
        let _: std::io::Result<()> = self.child.kill();
        drop(self.child.wait());
    }

    fn order(&mut self, line: &str) -> String {
        writeln!(self.orders, "{line}").expect("the server lives");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        let _ = self.answers.read_line(&mut line).expect("the server's stdout can be read");
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The `weir-lab` binary: `WEIR_LAB`, or beside the test that runs (cargo builds it with the tests).
fn program() -> PathBuf {
    std::env::var_os("WEIR_LAB").map_or_else(|| sibling("weir-lab"), PathBuf::from)
}

/// Path of a binary of this workspace, in the target folder that the running executable comes from.
pub(crate) fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this process has an executable");
    let folder = own.parent().expect("an executable is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(name)
}
