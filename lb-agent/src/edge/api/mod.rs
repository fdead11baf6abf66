//! The API: HTTP/1.1 and JSON on a Unix socket that only its owner may open (mode 0600). The CLI is one client of it; `curl`
//! is another:
//!
//! ```text
//! curl --unix-socket /run/weir/agent.sock http://weir/v1/status
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/health` | [`Health`]: the agent answers; `degraded` and why where something is wrong |
//! | `GET /v1/status` | [`Snapshot`](crate::pure::snapshot::Snapshot): everything |
//! | `GET /v1/services` | [`Services`] |
//! | `GET /v1/services/{name}/backends` | [`Backends`] |
//! | `POST /v1/services/{name}/backends/{address:port}` with a [`BackendChange`](crate::pure::command::BackendChange) | `{"done": "…"}` |
//! | `GET /v1/flows?service=&backend=&client=&state=&protocol=&limit=` | `{"flows": […]}`, at most [`DEFAULT_FLOW_LIMIT`] rows |
//! | `GET /v1/flows/count?service=&backend=&client=&state=&protocol=` | `{"flow_counts": […]}` |
//! | `POST /v1/explain` with a [`FlowQuery`](crate::pure::snapshot::FlowQuery) | `{"explanation": {…}}` |
//! | `GET /v1/trace?service=&backend=&client=&event=&verdict=&sample=&count=&seconds=` | a [`TraceLine`](crate::pure::watch::TraceLine) a line, as it happens; `{"lost": n}` where some are missing |
//! | `GET /v1/capture?service=&backend=&client=&verdict=&side=&snaplen=&count=&seconds=` | pcapng, as it happens |
//! | `POST /v1/reload` | `{"done": "…"}` |
//! | `POST /v1/unload` | `{"done": "…"}`; then the agent ends |
//!
//! What the CLI prints with `--output json` is the same JSON. A change of a backend names what to do: `{"do": "drain"}`,
//! `{"do": "add", "weight": 100}`, `{"do": "remove", "force": false}`, `{"do": "weight", "weight": 50}`, `undrain`, `disable`,
//! `enable`.
//!
//! Errors are `{"error": "…", "message": "…"}`; the message says what to do:
//!
//! | status | `error` | meaning |
//! | --- | --- | --- |
//! | 400 | `invalid` | the request makes no sense |
//! | 404 | `not_found` | no such service, backend or path |
//! | 405 | `method` | the path is there, the method is not |
//! | 409 | `conflict` | not in the present state |
//! | 500 | `failed` | the agent tried and could not |
//! | 503 | `busy` | too many changes are waiting; try again (`Retry-After: 1`) |
//! | 504 | `no_answer` | accepted, but not done in time; ask for the state before repeating it |
//!
//! Fields and paths may be added under `/v1`; none is renamed or removed.

pub mod client;
pub mod metrics;
pub mod server;
pub mod socket;
mod flows;
mod pcapng;
mod view;
#[cfg(any(test, feature = "testing"))]
pub mod example;

use bytes::Bytes;
use lb_common::trace::Sight;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::pure::command::{Command, Refusal, Reply};
use crate::pure::snapshot::{BackendStatus, ServiceStatus};
use crate::pure::watch::Watch;

/// A command on its way to the single writer, with the way back.
pub type Request = (Command, oneshot::Sender<Result<Reply, Refusal>>);

/// A question for packets on its way, with the way back.
pub type WatchRequest = (Watch, oneshot::Sender<Result<Viewing, Refusal>>);

/// What one who looks is given. Dropping it ends the looking.
#[derive(Debug)]
pub struct Viewing {
    /// What there is to see.
    pub told: mpsc::Receiver<Told>,
    /// The events that were asked for.
    pub events: u16,
}

/// What one who looks is told.
#[derive(Debug)]
pub enum Told {
    /// A record.
    Seen(Box<Seen>),
    /// So many have been lost since the beginning.
    Lost(u64),
}

/// A record, and the packet's bytes where it has them.
#[derive(Debug)]
pub struct Seen {
    /// What happened.
    pub sight: Sight,
    /// The packet's first bytes.
    pub bytes: Bytes,
}

/// Questions for packets that may wait: each is answered within a round of the single writer.
pub const WATCHES_DEPTH: usize = 8;

/// Commands that may wait for the single writer; more are refused with `busy`. A queue of 32 is a second of its work at most.
pub const COMMANDS_DEPTH: usize = 32;

/// Most rows of `GET /v1/flows` when the request names no limit.
pub const DEFAULT_FLOW_LIMIT: usize = 100;

/// Most rows it may name: about 30 MB of JSON.
pub const MAX_FLOW_LIMIT: usize = 100_000;

/// Answer of `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `degraded` when there are problems.
    pub status: String,
    /// The agent's version.
    pub version: String,
    /// What is wrong now; empty when all is well.
    pub problems: Vec<String>,
}

/// Answer of `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// Services in the order of the file.
    pub services: Vec<ServiceStatus>,
}

/// Answer of `GET /v1/services/{name}/backends`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backends {
    /// Name of the service.
    pub service: String,
    /// Its pool.
    pub backends: Vec<BackendStatus>,
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of error, one word.
    pub error: String,
    /// What happened and what to do.
    pub message: String,
}
