//! The seam to the kernel: what the agent can do to the packet path. Implemented over BPF maps (`edge::bpf`) and, behind the
//! feature `testing`, in memory.

use lb_common::slot::Owner;

use crate::pure::snapshot::{Explanation, FlowQuery};
use crate::pure::sweep::{SweepReport, SweepRequest, TrackedFlow};
use crate::pure::tables::{Observed, Op};

/// The single writer's handle on the maps.
pub trait DataPlane: Send {
    /// Reads back everything that the agent writes.
    ///
    /// # Errors
    /// A map that cannot be read.
    fn observe(&mut self) -> Result<Observed, DataPlaneError>;
    /// Carries out one operation.
    ///
    /// # Errors
    /// A map that refuses; what it held before is still there.
    fn apply(&mut self, op: &Op) -> Result<(), DataPlaneError>;
    /// Carries out one operation after the other; those that stand beside each other and do not depend on each other may go
    /// together.
    ///
    /// # Errors
    /// As [`Self::apply`], and how many were surely done before it.
    fn apply_all(&mut self, ops: &[Op]) -> Result<(), (usize, DataPlaneError)> {
        ops.iter().enumerate().try_for_each(|(n, op)| self.apply(op).map_err(|e| (n, e)))
    }
    /// At most `limit` entries of the flow table that `keep` wants, in table order.
    ///
    /// # Errors
    /// A map that cannot be read.
    fn flows(&mut self, limit: usize, keep: &dyn Fn(Owner) -> bool) -> Result<Vec<TrackedFlow>, DataPlaneError>;
    /// What the packet path would do with a packet of this flow now; changes nothing.
    ///
    /// # Errors
    /// A map that cannot be read.
    fn explain(&mut self, query: &FlowQuery) -> Result<Explanation, DataPlaneError>;
}

/// Walks the flow table. A second handle, so that a sweep of millions never delays the writer.
pub trait Sweeper: Send {
    /// Counts, expires, deletes what it is asked to, and sets the loads of least_conn right.
    ///
    /// # Errors
    /// A map that cannot be read or written; the next sweep does the rest.
    fn sweep(&mut self, request: &SweepRequest) -> Result<SweepReport, DataPlaneError>;
}

/// What went wrong with the maps.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// A map refused an operation.
    #[error("cannot {operation} in map {map}: {source}. The packet path goes on with what it has; the agent retries")]
    Map {
        /// What was tried, with its subject.
        operation: String,
        /// Which map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The TC program could not be put on a local interface, or taken off it.
    #[error("containers behind interface {ifindex} get no answers through the VIP: {source}. The agent retries")]
    Attach {
        /// Which interface.
        ifindex: u32,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The map is full.
    #[error(
        "map {map} is full ({limit} entries): {operation} refused. Remove services or backends, or raise the limit at build"
    )]
    Full {
        /// What was tried, with its subject.
        operation: String,
        /// Which map.
        map: &'static str,
        /// How many entries it has.
        limit: usize,
    },
}
