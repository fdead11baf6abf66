//! The seam to the kernel: what the agent can do to the packet path. Implemented over BPF maps (`edge::bpf`) and, behind the
//! feature `testing`, in memory.

use std::ops::ControlFlow;

use lb_common::trace::Sight;

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

/// Reads the flow table beside everybody else: a third handle, so that a look at a million entries delays neither the writer
/// nor the sweep.
pub trait FlowTable: Send + Sync {
    /// Shows every entry, in table order, until `visit` has had enough. `with_tuples`: also between whom it is, where that is
    /// known, which takes a walk through another map.
    ///
    /// # Errors
    /// A map that cannot be read.
    fn scan(
        &self,
        with_tuples: bool,
        visit: &mut dyn FnMut(&TrackedFlow) -> ControlFlow<()>,
    ) -> Result<(), DataPlaneError>;
}

/// What the packet path tells of packets, while somebody looks.
pub trait Sights: Send {
    /// Waits until there is something to take.
    ///
    /// # Errors
    /// It cannot be waited for.
    fn ready(&mut self) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Shows at most `most` records with their packets' bytes, oldest first; how many.
    fn take(&mut self, most: usize, visit: &mut dyn FnMut(&Sight, &[u8])) -> usize;
    /// Records that a tap has lost since it was opened.
    fn lost(&self, tap: u8) -> u64;
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
