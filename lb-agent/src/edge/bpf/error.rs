//! What can go wrong before the packet path runs: operation, subject, remedy.

use std::io;
use std::path::PathBuf;

/// Why the packet path could not be set up. Nothing that forwards was touched.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process may not do what it must.
    #[error(
        "cannot load the packet programs: missing {missing}. Run as root, or give the service \
         `AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_NET_RAW` (and CAP_SYS_ADMIN where the bpffs must be mounted)"
    )]
    Privilege {
        /// Names of the capabilities.
        missing: String,
    },
    /// Somebody else runs on these pins.
    #[error(
        "cannot use {}: another lb-agent is using it. Stop that one first, or give this one its own `pin_dir` and `state_dir`",
        path.display()
    )]
    Locked {
        /// What both want.
        path: PathBuf,
    },
    /// A directory or file could not be made, read or written.
    #[error("cannot {operation} {}: {source}. {remedy}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Pins would vanish when the agent ends.
    #[error(
        "pin_dir {}: its bpffs belongs to a private mount namespace and would die with the agent, taking every flow with it. Enter \
         network namespaces with `nsenter --net=...` rather than `ip netns exec`, or mount a bpffs that the host sees too",
        path.display()
    )]
    PrivateMount {
        /// The directory.
        path: PathBuf,
    },
    /// No bpffs, and none could be mounted.
    #[error(
        "pin_dir {}: no BPF filesystem there and mounting one at {} failed: {source}. Run `mount -t bpf bpf {}` as root, or set \
         `pin_dir` to a directory on one",
        path.display(), at.display(), at.display()
    )]
    Mount {
        /// The directory.
        path: PathBuf,
        /// Where mounting was tried.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The pins were made by an agent of another layout.
    #[error(
        "the maps pinned in {} have layout {found}, this agent needs layout {wanted}: refused, the packet path goes on as it is. \
         Run the older agent, or `lb-agent unload` first (that ends every flow)",
        path.display()
    )]
    Layout {
        /// Where they are pinned.
        path: PathBuf,
        /// Their `ABI_VERSION`.
        found: u32,
        /// Ours.
        wanted: u32,
    },
    /// A pinned map is not what this agent needs.
    #[error(
        "pinned map {}: {what}: refused, the packet path goes on as it is. Run the agent that made it, or `lb-agent unload` first \
         (that ends every flow)",
        path.display()
    )]
    Map {
        /// The pin.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The kernel does not take the object.
    #[error(
        "cannot load the packet programs: {source}. The kernel must be 5.15 or newer with CONFIG_BPF_SYSCALL and BTF"
    )]
    Object {
        /// What the loader said.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The kernel does not take a program.
    #[error("the kernel refuses program {program}: {reason}. {remedy}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said, with the verifier's last words.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No such interface.
    #[error(
        "interface {name} does not exist in this network namespace. `ip link` shows those that do; correct `[[interface]]`"
    )]
    Interface {
        /// Its name.
        name: String,
    },
    /// A program could not be attached.
    #[error("cannot attach to {interface}: {reason}. {remedy}")]
    Attach {
        /// The interface.
        interface: String,
        /// What was tried and what the kernel said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The host cannot be asked about itself.
    #[error("cannot read {what}: {source}. The agent needs /proc and /sys, and netlink")]
    System {
        /// What was asked.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The error number at the bottom of a chain of errors.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = error.source();
    }
    None
}

/// The kernel's words at the bottom of a chain of errors.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
