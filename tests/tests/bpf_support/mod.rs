//! What the tests of the BPF edge stand on: a network namespace of the test's own thread, and a configuration of its own.
#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "every test crate uses another part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{MapData, MapInfo};
use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};
use lb_agent::config::{AgentConfig, InterfaceConfig, PacketLog, XdpMode};
use lb_agent::edge::bpf::{self, Build, LoadError, Loaded};
use nix::sched::{CloneFlags, unshare};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One host: a network namespace with veth pairs, a state directory, a pin directory. Removes all of it when it goes.
pub struct Host {
    pub agent: AgentConfig,
    root: PathBuf,
}

impl Host {
    /// Moves this thread into a network namespace of its own; it and what is in it end with the thread.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("tests of the kernel side need root: run them with `cargo xtask test`");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!("/run/weir-bpf-{}-{number}", std::process::id()));
        let agent = AgentConfig {
            api: root.join("agent.sock"),
            metrics: None,
            state_dir: root.join("state"),
            pin_dir: root.join("pins"),
            flow_table_entries: 4_096,
            packet_log: PacketLog::Off,
        };
        let host = Self { agent, root };
        host.ip("link set lo up");
        host
    }

    /// `ip` in this host's namespace.
    pub fn ip(&self, arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
        assert!(status.success(), "ip {arguments} (on {})", self.root.display());
    }

    /// A veth pair; `name` is the end that the agent knows.
    pub fn veth(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}p"));
        self.ip(&format!("link set {name} up"));
    }

    /// Opens the packet path on these interfaces.
    pub fn open(&self, interfaces: &[&str]) -> Result<Loaded, LoadError> {
        self.open_build(interfaces, &Build::embedded())
    }

    pub fn open_build(&self, interfaces: &[&str], build: &Build<'_>) -> Result<Loaded, LoadError> {
        bpf::open(&self.agent, &interfaces.iter().map(|name| interface(name, XdpMode::Auto)).collect::<Vec<_>>(), build)
    }

    pub fn pin(&self, name: impl AsRef<Path>) -> PathBuf {
        self.agent.pin_dir.join(name)
    }

    pub fn map_id(&self, name: &str) -> u32 {
        MapInfo::from_pin(self.pin(name)).expect("the map is pinned").id()
    }

    pub fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.pin(name)).expect("the map is pinned")
    }

    pub fn link(&self, name: &str) -> Option<(u32, u32)> {
        let link = FdLink::from(PinnedLink::from_pin(self.pin("links").join(name)).ok()?);
        let info = link.info().expect("a link knows itself");
        Some((info.id(), info.program_id()))
    }

    pub fn program_pins(&self) -> Vec<(String, u32)> {
        let mut pins: Vec<_> = std::fs::read_dir(self.pin("programs"))
            .expect("programs are pinned")
            .map(|entry| entry.expect("readable").path())
            .map(|path| {
                let id = ProgramInfo::from_pin(&path).expect("a program").id();
                (path.file_name().expect("a name").to_string_lossy().into_owned(), id)
            })
            .collect();
        pins.sort();
        pins
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Another test's child, between fork and exec, may hold our descriptors for a moment.
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(e) = bpf::unload(&self.agent) {
            if Instant::now() > deadline {
                eprintln!("left behind in {}: {e}", self.root.display());
                break;
            }
            std::thread::yield_now();
        }
        let _gone = std::fs::remove_dir_all(&self.root);
    }
}

pub fn interface(name: &str, mode: XdpMode) -> InterfaceConfig {
    InterfaceConfig { name: name.to_owned(), mode }
}

/// Another build of the same object: a changed name stands for changed code.
pub fn other_build() -> Build<'static> {
    Build { id: "another", ..Build::embedded() }
}

/// The error of what must not succeed.
pub fn refused(result: Result<Loaded, LoadError>) -> LoadError {
    match result {
        Ok(_) => panic!("must be refused"),
        Err(e) => e,
    }
}
