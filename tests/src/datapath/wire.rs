//! The ground that packets are measured on: one namespace that sends and receives, one that the programs under test live in, and
//! veth pairs between them. All of it goes with the value, and the thread is back where it was.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, setns};
use nix::unistd::Pid;

use crate::netns::Netns;

/// Two namespaces. The thread that makes them stays in the sender's, on one CPU, until they go.
#[derive(Debug)]
pub struct Wires {
    sender: Netns,
    device: Netns,
    pairs: Cell<u32>,
    home: File,
    cpus: CpuSet,
}

/// One veth pair.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Interface index of the sender's end.
    pub near: u32,
    /// Interface index of the end that the program under test is attached to.
    pub far: u32,
    /// That end's name.
    pub far_name: String,
}

impl Wires {
    /// Lays them and moves the calling thread there.
    pub fn lay() -> Result<Self> {
        let home = File::open("/proc/thread-self/ns/net").context("this thread's namespace")?;
        let cpus = sched_getaffinity(Pid::from_raw(0)).context("this thread's CPUs")?;
        let wires =
            Self { sender: Netns::new("sender"), device: Netns::new("device"), pairs: Cell::new(0), home, cpus };
        enter(wires.sender.name())?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu()?)?;
        // What frames cost is what they cost on one CPU: the kernel's half of the work follows the sender.
        sched_setaffinity(Pid::from_raw(0), &here).context("this thread stays on its CPU")?;
        Ok(wires)
    }

    /// One more pair, both ends up.
    pub fn pair(&self) -> Result<Pair> {
        let n = self.pairs.replace(self.pairs.get() + 1);
        let (near, far) = (format!("near{n}"), format!("far{n}"));
        self.sender.ip(&format!(
            "link add {near} type veth peer name {far} netns {device}\nlink set {near} addrgenmode none up",
            device = self.device.name()
        ));
        self.device.ip(&format!("link set {far} addrgenmode none up"));
        let near_index = if_nametoindex(near.as_str())?;
        let far_index = self.in_device(|| Ok(if_nametoindex(far.as_str())?))?;
        Ok(Pair { near: near_index, far: far_index, far_name: far })
    }

    /// Does something in the namespace of the programs under test.
    pub fn in_device<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let name = self.device.name();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                enter(name)?;
                action()
            });
            worker.join().map_err(|_| anyhow!("what was to be done in {name} panicked"))?
        })
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        if let Err(e) = setns(&self.home, CloneFlags::CLONE_NEWNET) {
            eprintln!("this thread stays in the sender's namespace: {e}");
        }
        let _still_bound = sched_setaffinity(Pid::from_raw(0), &self.cpus);
    }
}

fn enter(name: &str) -> Result<()> {
    let file = File::open(Path::new("/run/netns").join(name)).with_context(|| format!("namespace {name}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {name}"))
}
