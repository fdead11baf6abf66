//! What an operator can ask of the running agent, and what it answers. The API carries these types as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::snapshot::{Explanation, FlowCount, FlowQuery, FlowRow};
use super::watch::Watch;

/// A change of one backend at run time. It outlives the agent (state_dir) until the file says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum BackendChange {
    /// A new backend; it serves after its first passed probe.
    Add {
        /// Relative share of new flows, 0..=65535.
        weight: u16,
    },
    /// Drains, then removes. `force` cuts at once and says how many flows that cost.
    Remove {
        /// Cut at once.
        force: bool,
    },
    /// No new flows; old ones finish; then `disabled`.
    Drain,
    /// Takes a drain (or the `disabled` that followed) back.
    Undrain,
    /// Another weight.
    Weight {
        /// Relative share of new flows, 0..=65535; 0: none.
        weight: u16,
    },
    /// No flows, by will: as a drain that does not wait. Established flows are cut.
    Disable,
    /// Back in service after `disable` or a finished drain.
    Enable,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Change one backend.
    Backend {
        /// Service's name.
        service: String,
        /// Backend.
        address: SocketAddr,
        /// What to change.
        change: BackendChange,
    },
    /// Read the configuration file again; all or nothing.
    Reload,
    /// Look at packets: opens a tap.
    Watch(Box<Watch>),
    /// Look no longer.
    Unwatch(u8),
    /// What would become of a packet.
    Explain(FlowQuery),
    /// Take program, maps, links and addresses away and stop.
    Unload,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done; a sentence that says what.
    Done(String),
    /// Rows.
    Flows(Vec<FlowRow>),
    /// Rows of numbers.
    FlowCounts(Vec<FlowCount>),
    /// Number of the tap that was opened.
    Watching(u8),
    /// An explanation.
    Explanation(Explanation),
}

/// Why it was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum Refusal {
    /// No such service, backend or interface.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense in the present state.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The agent could not carry it out.
    #[error("{0}")]
    Failed(String),
}
