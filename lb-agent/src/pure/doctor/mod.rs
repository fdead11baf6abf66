//! Judges a host: from facts about it and the services it is to serve, what stands in the way and what to do about it.

pub mod facts;
mod interface;
mod pool;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::model::ServiceSpec;
use facts::Facts;

/// Oldest kernel that Weir is tested on: 5.15 has XDP links, BPF atomics and `bpf_redirect_neigh`.
const OLDEST_KERNEL: (u32, u32) = (5, 15);
/// Since then BPF memory counts against cgroups rather than RLIMIT_MEMLOCK.
const MEMLOCK_MATTERS_BEFORE: (u32, u32) = (5, 11);

/// Capabilities that the agent needs, by their numbers in `linux/capability.h`; CAP_SYS_ADMIN stands for CAP_BPF.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, worse than it could; or it may not be meant.
    Warn,
    /// It cannot work.
    Fail,
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: `kernel`, `interface eth0`, `backend 10.0.0.11:8000`.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do about it; absent when nothing is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well with it.
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), message: message.into(), remedy: None }
    }

    /// It could be better.
    pub fn warn(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, subject: subject.into(), message: message.into(), remedy: Some(remedy.into()) }
    }

    /// It cannot work.
    pub fn fail(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, subject: subject.into(), message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Everything there is to say about a host that is to serve these services, from the kernel up.
pub fn judge(facts: &Facts, services: &[ServiceSpec]) -> Vec<Finding> {
    let mut findings = vec![privileges(facts), kernel(facts), btf(facts), jit(facts), bpffs(facts)];
    findings.extend(memlock(facts));
    findings.extend(clock(facts));
    for interface in &facts.interfaces {
        interface::judge(&mut findings, interface, facts);
    }
    findings.extend(interface::mtus(facts));
    findings.extend(pool::forwarding(facts, services));
    for service in services {
        findings.push(pool::vip(facts, service));
        pool::judge_backends(&mut findings, facts, service);
    }
    findings
}

fn privileges(facts: &Facts) -> Finding {
    let Some(effective) = facts.capabilities else {
        return Finding::warn("privileges", "unknown: /proc/self/status cannot be read", "mount /proc");
    };
    let has = |capability: u32| effective >> capability & 1 != 0;
    let mut missing = Vec::new();
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if missing.is_empty() {
        return Finding::ok("privileges", "CAP_BPF and CAP_NET_ADMIN are there");
    }
    let message = format!("{} missing: programs can be neither loaded nor attached", missing.join(" and "));
    Finding::fail(
        "privileges",
        message,
        "run as root, or give the unit AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
    )
}

/// Major and minor of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(facts: &Facts) -> Finding {
    let release = &facts.kernel;
    let (major, minor) = OLDEST_KERNEL;
    match version(release) {
        Some(found) if found >= OLDEST_KERNEL => Finding::ok("kernel", release),
        Some(_) => {
            Finding::fail("kernel", format!("{release} is too old"), format!("use Linux {major}.{minor} or later"))
        }
        None => Finding::warn(
            "kernel",
            format!("{release:?} is no release known here"),
            format!("Linux {major}.{minor} is needed"),
        ),
    }
}

fn btf(facts: &Facts) -> Finding {
    if facts.has_btf {
        return Finding::ok("BTF", "the kernel describes its types");
    }
    Finding::warn(
        "BTF",
        "/sys/kernel/btf/vmlinux is missing",
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y if `run` refuses to load",
    )
}

fn jit(facts: &Facts) -> Finding {
    match facts.bpf_jit {
        Some(0) => Finding::warn(
            "BPF JIT",
            "off: every packet is interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::ok("BPF JIT", "on"),
        // The sysctl is absent where the kernel always compiles (CONFIG_BPF_JIT_ALWAYS_ON) or hides it from containers.
        None => Finding::ok("BPF JIT", "not switchable here"),
    }
}

fn bpffs(facts: &Facts) -> Finding {
    let pin_dir = &facts.pin_dir;
    if facts.on_bpffs {
        return Finding::ok("bpffs", format!("{pin_dir} lies on a BPF filesystem"));
    }
    Finding::warn(
        "bpffs",
        format!("{pin_dir} does not lie on a BPF filesystem; `run` tries to mount one"),
        "mount -t bpf bpf /sys/fs/bpf (and in /etc/fstab: bpf /sys/fs/bpf bpf defaults 0 0)",
    )
}

fn memlock(facts: &Facts) -> Option<Finding> {
    if version(&facts.kernel)? >= MEMLOCK_MATTERS_BEFORE {
        return None;
    }
    let limit = facts.memlock_bytes?;
    let message = format!("{limit} bytes may be locked, and this kernel counts maps against it");
    Some(Finding::fail("memlock", message, "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"))
}

fn clock(facts: &Facts) -> Option<Finding> {
    let source = facts.clock_source.as_deref()?;
    if matches!(source, "hpet" | "acpi_pm" | "refined-jiffies" | "jiffies") {
        let message = format!("clock source {source} is slow to read");
        return Some(Finding::warn(
            "clock",
            message,
            "see why the kernel gave up the TSC: dmesg | grep -i clocksource",
        ));
    }
    Some(Finding::ok("clock", source))
}
