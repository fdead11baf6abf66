//! The configuration as values that cannot be wrong. `file` reads what humans write.

pub mod file;
pub mod error;
pub mod environment;
mod check;
mod check_lookup;
mod encap;
mod service;
mod limits;
mod quic;
mod section;
mod scalar;
mod report;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod limits_tests;

pub use environment::Environment;
pub use error::{ConfigErrors, Finding, Warning};
pub use file::{DEFAULT_API, DEFAULT_PATH, api_socket, load};

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::pure::model::ServiceSpec;

/// Everything the file says, checked and with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[agent]`.
    pub agent: AgentConfig,
    /// `[[interface]]`, in the order of the file; at least one; names are unique.
    pub interfaces: Vec<InterfaceConfig>,
    /// `[[service]]`, in the order of the file; names and keys are unique.
    pub services: Vec<ServiceSpec>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Unix socket of the API.
    pub api: PathBuf,
    /// Prometheus; `None`: off.
    pub metrics: Option<SocketAddr>,
    /// What must outlive the agent.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned; on a bpffs.
    pub pin_dir: PathBuf,
    /// Flows that must fit without a refusal.
    pub flow_table_entries: u32,
    /// What the packet programs log; `off` costs nothing.
    pub packet_log: PacketLog,
}

/// Level of the packet programs' log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketLog {
    /// Nothing, at no cost.
    Off,
    /// Tables that contradict each other.
    Error,
    /// Drops too.
    Info,
    /// Every decision.
    Debug,
}

/// `[[interface]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// How XDP is attached.
    pub mode: XdpMode,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver has it, else generic.
    Auto,
    /// Native or not at all.
    Native,
    /// Generic.
    Generic,
}
