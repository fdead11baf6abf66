//! Weir's agent on the balancer: the real binary, started, asked, killed and started again.
//!
//! Each agent has its own folder (configuration, state, socket, log) and its own pin folder, so that tests can run side
//! by side; dropping it unloads everything. When a test fails, the end of the agent's log is printed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lb_agent::pure::command::Reply;
use lb_agent::pure::snapshot::{BackendStatus, Explanation, FlowRow, ServiceStatus, Snapshot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::server::sibling;
use settings::Settings;

mod bpffs;
pub mod settings;

/// Between two looks at something that will change: short against what is waited for, long against a look.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An agent needs a second at most to start; a machine full of tests may be ten times slower.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A process that was asked to end does so by then.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Lines of the log that a failing test shows.
const LOG_TAIL: usize = 60;

/// An agent and everything it was given.
#[derive(Debug)]
pub struct Agent {
    machine: Arc<Netns>,
    program: PathBuf,
    folder: PathBuf,
    pin_dir: PathBuf,
    settings: Settings,
    child: Option<Child>,
}

impl Agent {
    /// Starts an agent on a machine and waits until its API answers.
    pub fn start(machine: &Arc<Netns>, settings: Settings) -> Self {
        let mut agent = Self::prepare(machine, settings);
        agent.launch();
        agent
    }

    /// Writes the configuration and starts nothing.
    pub fn prepare(machine: &Arc<Netns>, settings: Settings) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // First: where it is missing, nothing else has been made yet.
        let program = program();
        bpffs::ensure_mounted();
        let name = format!("{}{}-{}", bpffs::PREFIX, std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(folder.join("state")).expect("the temporary folder can be written to");
        let agent = Self {
            machine: Arc::clone(machine),
            program,
            folder,
            pin_dir: bpffs::root().join(name),
            settings,
            child: None,
        };
        agent.write_config();
        agent
    }

    /// Starts the process and waits until its API answers.
    pub fn launch(&mut self) {
        self.launch_without_waiting();
        let deadline = Instant::now() + READY_WITHIN;
        while !self.answers() {
            if let Some(end) =
                self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"))
            {
                panic!("the agent ended at its start ({end}); its log:\n{}", self.log_tail());
            }
            assert!(Instant::now() < deadline, "the agent is not ready after {READY_WITHIN:?}:\n{}", self.log_tail());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Starts the process; it may not be ready, or may fail.
    pub fn launch_without_waiting(&mut self) {
        assert!(self.child.is_none(), "this agent runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be opened");
        let mut command = self.command(&["run"]);
        let _ = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.child = Some(self.machine.start(command));
    }

    /// `lb-agent run` that is expected to refuse: waits for its end.
    pub fn refused_start(&self) -> Output {
        self.finish(self.command(&["run"]))
    }

    /// The same, started by another program: `wrapper` and its arguments come first (`setpriv --reuid 65534`).
    pub fn refused_start_by(&self, wrapper: &[&str]) -> Output {
        let (first, rest) = wrapper.split_first().expect("a program");
        let plain = self.command(&["run"]);
        let mut command = Command::new(first);
        let _ = command.args(rest).arg(plain.get_program()).args(plain.get_args());
        self.finish(command)
    }

    /// Another binary from the next start on.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The configuration; write it with [`Self::write_config`].
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Writes the configuration file anew.
    pub fn write_config(&self) {
        self.write_config_text(&self.settings.text(&self.folder, &self.pin_dir));
    }

    /// The configuration's text, as it would be written.
    pub fn config_text(&self) -> String {
        self.settings.text(&self.folder, &self.pin_dir)
    }

    /// Writes any text as the configuration file.
    pub fn write_config_text(&self, text: &str) {
        fs::write(self.config_path(), text).expect("the configuration can be written");
    }

    /// Path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("weir.toml")
    }

    /// A folder beside the configuration, for pins outside the host's bpffs.
    pub fn own_pins(&self) -> PathBuf {
        self.folder.join(bpffs::OWN_PINS)
    }

    /// Folder of the pins.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// The agent's process.
    pub fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("the agent runs").id();
        Pid::from_raw(i32::try_from(id).expect("a process id"))
    }

    /// Runs a verb of the command line in the balancer's namespace.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.finish(self.command(arguments))
    }

    /// Starts a verb that goes on until it is ended; its outputs are piped.
    pub fn start_cli(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.machine.start(command)
    }

    /// Waits for the end of a verb that was started.
    pub fn finish_cli(&self, child: Child) -> Output {
        wait_for(child, GONE_WITHIN).unwrap_or_else(|| panic!("it has not ended within {GONE_WITHIN:?}"))
    }

    /// Runs a verb that must succeed; returns what it prints.
    pub fn cli_ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(
            output.status.success(),
            "lb-agent {arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("output is text")
    }

    /// `backend <verb> <service> <address> ...` that must succeed.
    pub fn backend(&self, verb: &str, service: &str, backend: SocketAddr, more: &[&str]) -> String {
        let backend = backend.to_string();
        self.cli_ok(&[&["backend", verb, service, &backend], more].concat())
    }

    /// `status --output json`.
    pub fn status(&self) -> Snapshot {
        serde_json::from_str(&self.cli_ok(&["status", "--output", "json"])).expect("status prints JSON")
    }

    /// One service of `status`.
    pub fn service(&self, name: &str) -> ServiceStatus {
        let status = self.status();
        let found = status.services.into_iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("status shows no service {name}"))
    }

    /// `flow list --output json`.
    pub fn flows(&self) -> Vec<FlowRow> {
        match self.reply(&["flow", "list"]) {
            Reply::Flows(rows) => rows,
            other => panic!("flow list answers {other:?}"),
        }
    }

    /// `explain --output json` of a packet.
    pub fn explain(&self, protocol: &str, client: SocketAddr, vip: SocketAddr) -> Explanation {
        match self.reply(&["explain", protocol, &client.to_string(), &vip.to_string()]) {
            Reply::Explanation(explanation) => explanation,
            other => panic!("explain answers {other:?}"),
        }
    }

    /// Looks at `status` until `wanted` holds; panics after `limit`, showing the last one. Returns it, and how long it
    /// took.
    pub fn wait_until(&self, what: &str, limit: Duration, wanted: impl Fn(&Snapshot) -> bool) -> (Snapshot, Duration) {
        let began = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < limit, "{what}: not within {limit:?}; status:\n{status:#?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// `kill -9`; returns when it is dead.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the agent runs");
        child.kill().expect("our own child can be killed");
        drop(child.wait());
    }

    /// SIGTERM, and waits for its orderly end.
    pub fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
        let child = self.child.take().expect("the agent runs");
        let output =
            wait_for(child, GONE_WITHIN).unwrap_or_else(|| panic!("still there after SIGTERM:\n{}", self.log_tail()));
        assert!(output.status.success(), "the agent ended with {}:\n{}", output.status, self.log_tail());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the agent lives");
    }

    /// `lb-agent unload`, and the end of the process.
    pub fn unload(&mut self) -> String {
        let said = self.cli_ok(&["unload"]);
        if let Some(child) = self.child.take() {
            drop(wait_for(child, GONE_WITHIN).expect("an unloaded agent ends"));
        }
        said
    }

    /// The whole log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    fn reply(&self, arguments: &[&str]) -> Reply {
        let text = self.cli_ok(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("lb-agent {arguments:?} prints no JSON: {e}: {text}"))
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.folder.join("agent.sock")).is_ok()
            && self.cli(&["status", "--output", "json"]).status.success()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let _ = command.args(arguments).arg("--config").arg(self.config_path());
        if arguments != ["run"] {
            // Verbs find the agent even where a test has spoilt the file.
            let _ = command.arg("--api").arg(self.folder.join("agent.sock"));
        }
        command
    }

    fn finish(&self, mut command: Command) -> Output {
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = format!("{command:?}");
        let child = self.machine.start(command);
        wait_for(child, GONE_WITHIN).unwrap_or_else(|| panic!("{words} has not ended within {GONE_WITHIN:?}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of the agent's log ---\n{}\n---", self.log_tail());
        }
        // Asks in order first; what does not obey is taken away by force, so that no test disturbs the next.
        if self.pin_dir.exists() && !thread::panicking() {
            drop(self.cli(&["unload"]));
        }
        if let Some(mut child) = self.child.take() {
            let _: std::io::Result<()> = child.kill();
            drop(child.wait());
        }
        bpffs::remove(&self.pin_dir, &self.folder);
    }
}

/// One backend of a service's status.
pub fn backend_of(service: &ServiceStatus, address: SocketAddr) -> &BackendStatus {
    let found = service.backends.iter().find(|b| SocketAddr::new(b.address, b.port) == address);
    found.unwrap_or_else(|| panic!("service {} has no backend {address}: {:#?}", service.name, service.backends))
}

/// Waits for the end of a process; kills it and returns `None` when it takes longer than `limit`.
fn wait_for(child: Child, limit: Duration) -> Option<Output> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (done, output) = mpsc::channel();
    // Its output must be read while it runs: a full pipe would stop it.
    let reader = thread::spawn(move || done.send(child.wait_with_output()));
    let output = output.recv_timeout(limit).ok();
    if output.is_none() {
        // It may have ended this very moment.
        let _: nix::Result<()> = kill(pid, Signal::SIGKILL);
    }
    drop(reader.join());
    output.map(|output| output.expect("a child's output can be read"))
}

/// The agent's binary: `WEIR_AGENT`, or beside the test that runs.
pub fn program() -> PathBuf {
    let program = std::env::var_os("WEIR_AGENT").map_or_else(|| sibling("lb-agent"), PathBuf::from);
    assert!(program.exists(), "{} does not exist: run `cargo build -p lb-agent`, or set WEIR_AGENT", program.display());
    program
}
