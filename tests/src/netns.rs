//! One machine of the lab: a network namespace, and a thread that lives in it.
//!
//! In: commands for `ip` and `ethtool`, futures and closures that are to run on that machine. Guarantee: the name is
//! unique on the host, nothing outside the namespace is changed, and the namespace goes when the value is dropped (also
//! by a panic; what a killed process left is removed by the next one). A process that is started through
//! [`Netns::start`] inherits the namespace: only the network differs, mounts are the host's (pins must survive).

use std::any::Any;
use std::fs::{self, File};
use std::future::Future;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::sched::{CloneFlags, setns};
use tokio::sync::mpsc;

/// No single job on a machine may take longer: a stuck test says so instead of hanging.
const LONGEST_JOB: Duration = Duration::from_secs(120);

/// Names of our namespaces start with this, then `<pid>-<number>-<role>`.
const PREFIX: &str = "weir";

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A network namespace with a thread in it that runs futures.
#[derive(Debug)]
pub struct Netns {
    name: String,
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A job that was started on a machine.
#[derive(Debug)]
#[must_use = "a job that nobody waits for may fail unseen"]
pub struct Running<T>(blocking::Receiver<thread::Result<T>>);

impl<T> Running<T> {
    /// Waits for the job's end; panics where the job did, or after two minutes.
    pub fn wait(self) -> T {
        match self.0.recv_timeout(LONGEST_JOB) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => panic!("a job in a namespace did not finish within {LONGEST_JOB:?}: {e}"),
        }
    }
}

impl Netns {
    /// A new, empty namespace with its loopback up. `role` ends its name: `client`, `lb`, `b1`.
    pub fn new(role: &str) -> Self {
        static LEFTOVERS: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        LEFTOVERS.call_once(remove_leftovers);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        let _ = run(Command::new("ip").args(["netns", "add", &name]), "");
        let (jobs, queue) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn({
                let name = name.clone();
                move || work(&name, queue)
            })
            .expect("a thread can be started");
        let netns = Self { name, jobs: Some(jobs), thread: Some(thread) };
        // No duplicate address detection, no router discovery, no redirects: addresses work at once, and nothing but
        // what a test does changes them.
        for (key, value) in [
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv6/conf/default/accept_redirects", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ] {
            netns.sysctl(key, value);
        }
        netns.ip("link set lo up");
        netns
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts `future` on this machine. All futures of a machine share one thread.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let (done, result) = blocking::channel();
        let job = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            // The receiver is gone when the test has already failed for another reason.
            let _: Result<(), _> = done.send(outcome);
        };
        self.jobs
            .as_ref()
            .expect("the thread lives as long as the value")
            .send(Box::pin(job))
            .expect("thread is alive");
        Running(result)
    }

    /// Runs `future` on this machine to its end.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.spawn(future).wait()
    }

    /// Runs `action` on this machine. It blocks the machine's other jobs: keep it short.
    pub fn call<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(async move { action() })
    }

    /// Runs lines of `ip` commands (without the word `ip`), in order, as one batch.
    pub fn ip(&self, lines: &str) {
        let _ = run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines);
    }

    /// Runs lines of `ip` commands; one that fails does not keep the next from running. For what may be gone already.
    pub fn ip_forgiving(&self, lines: &str) {
        let mut command = Command::new("ip");
        let _ = try_run(command.args(["-force", "-n", &self.name, "-batch", "-"]), lines);
    }

    /// What `ip` with these arguments prints.
    pub fn ip_shows(&self, arguments: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()), "")
    }

    /// Changes features of an interface: `features` as `ethtool -K` takes them, for instance `tx off gro on`.
    pub fn offloads(&self, interface: &str, features: &str) {
        let mut command = Command::new("ethtool");
        let _ = command.args(["-K", interface]).args(features.split_whitespace());
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.start(command).wait_with_output().expect("ethtool can be waited for");
        assert!(
            output.status.success(),
            "ethtool -K {interface} {features} in {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Sets `/proc/sys/net/<key>` of this machine.
    pub fn sysctl(&self, key: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/net/{key}"), value.to_owned());
        self.call(move || {
            if let Err(e) = fs::write(&path, &value) {
                panic!("cannot write {value} to {path}: {e}. These tests need root");
            }
        });
    }

    /// Starts a process on this machine. The caller owns it: it is neither waited for nor killed here.
    pub fn start(&self, mut command: Command) -> Child {
        let program = command.get_program().to_owned();
        self.call(move || command.spawn())
            .unwrap_or_else(|e| panic!("cannot start {} in {}: {e}", program.to_string_lossy(), self.name))
    }

    /// Counters of this machine's network stack by name, as `/proc/net/netstat` and `/proc/net/snmp` have them, for
    /// instance `TcpRetransSegs` or `TcpExtListenDrops`.
    pub fn counter(&self, name: &str) -> u64 {
        let name = name.to_owned();
        self.call(move || {
            let text = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"]
                .map(|path| fs::read_to_string(path).expect("the kernel shows its counters"))
                .concat();
            find_counter(&text, &name).unwrap_or_else(|| panic!("this kernel has no counter {name}"))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _: Result<(), Box<dyn Any + Send>> = thread.join();
        }
        let _ = try_run(Command::new("ip").args(["netns", "del", &self.name]), "");
    }
}

/// Moves the calling thread into a namespace by name. Threads that it starts afterwards are born there.
fn enter(name: &str) -> std::io::Result<()> {
    let file = File::open(Path::new("/run/netns").join(name))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(Into::into)
}

/// Removes namespaces of lab processes that no longer live.
pub fn remove_leftovers() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let pid =
            name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = try_run(Command::new("ip").args(["netns", "del", &name]), "");
        }
    }
}

fn work(name: &str, mut queue: mpsc::UnboundedReceiver<Job>) {
    enter(name).unwrap_or_else(|e| panic!("cannot enter namespace {name}: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        while let Some(job) = queue.recv().await {
            drop(tokio::spawn(job));
        }
    });
    // Tasks that still run end here, with the runtime.
}

fn run(command: &mut Command, input: &str) -> String {
    try_run(command, input).unwrap_or_else(|e| panic!("{e}"))
}

fn try_run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {command:?}: {e}. Debian: apt-get install iproute2 ethtool"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let sent = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(|e| format!("{command:?}: {e}"))?;
    if !output.status.success() || sent.is_err() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {complaint}\ninput:\n{input}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn find_counter(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).find_map(|pair| {
        let (heads, values) = (pair.first()?, pair.get(1)?);
        let group = heads.split(':').next()?;
        let column = heads.split_whitespace().skip(1).position(|head| format!("{group}{head}") == name)?;
        values.split_whitespace().nth(column + 1)?.parse().ok()
    })
}
