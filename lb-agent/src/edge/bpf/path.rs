//! The packet path as the single writer sees it: maps, and the programs where packets of local containers come in.
//!
//! Which local interfaces there are is part of what the maps should contain (`INTERFACE_LOCAL`), so that the TC program is
//! attached and detached by the same operations that enter and remove them.

use lb_common::host::INTERFACE_LOCAL;

use super::attach::Links;
use super::maps::BpfDataPlane;
use crate::edge::dataplane::{DataPlane, DataPlaneError};
use crate::pure::snapshot::{Explanation, FlowQuery};
use crate::pure::tables::{Observed, Op, ServiceId};

/// Maps and attachments.
#[derive(Debug)]
pub struct PacketPath {
    maps: BpfDataPlane,
    links: Links,
}

impl PacketPath {
    /// Joins them.
    pub fn new(maps: BpfDataPlane, links: Links) -> Self {
        Self { maps, links }
    }
}

impl DataPlane for PacketPath {
    /// What an earlier run has attached is taken over, with this build's program; what the maps do not name is taken off.
    fn observe(&mut self) -> Result<Observed, DataPlaneError> {
        let observed = self.maps.observe()?;
        let interfaces = &observed.tables.interfaces;
        let locals = interfaces.iter().filter(|(_, entry)| entry.flags & INTERFACE_LOCAL != 0).map(|(i, _)| *i);
        let locals: Vec<u32> = locals.collect();
        for ifindex in &locals {
            // An interface that has gone meanwhile leaves the maps by the plan that follows.
            if let Err(gone) = self.links.attach_local(*ifindex) {
                tracing::debug!("interface {ifindex} takes no program: {gone}");
            }
        }
        let detached = self.links.retain_locals(&locals);
        detached.map_err(|source| DataPlaneError::Attach { ifindex: 0, source: Box::new(source) })?;
        Ok(observed)
    }

    /// An interface is entered once the program is there, and loses it after it is removed: what is in the map is attached.
    fn apply(&mut self, op: &Op) -> Result<(), DataPlaneError> {
        if let Op::SetInterface(ifindex, entry) = op
            && entry.flags & INTERFACE_LOCAL != 0
        {
            let attached = self.links.attach_local(*ifindex);
            attached.map_err(|source| DataPlaneError::Attach { ifindex: *ifindex, source: Box::new(source) })?;
        }
        self.maps.apply(op)?;
        if let Op::RemoveInterface(ifindex) = op {
            let detached = self.links.detach_local(*ifindex);
            detached.map_err(|source| DataPlaneError::Attach { ifindex: *ifindex, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// Rings that are to be made stand beside each other in a plan.
    fn apply_all(&mut self, ops: &[Op]) -> Result<(), (usize, DataPlaneError)> {
        let mut done = 0;
        while let Some(op) = ops.get(done) {
            let rings: Vec<(ServiceId, &[u32])> = ops[done..].iter().map_while(new_ring).collect();
            let result = if rings.len() > 1 { self.maps.create_rings(&rings) } else { self.apply(op) };
            result.map_err(|e| (done, e))?;
            done += rings.len().max(1);
        }
        Ok(())
    }

    fn explain(&mut self, query: &FlowQuery) -> Result<Explanation, DataPlaneError> {
        self.maps.explain(query)
    }
}

fn new_ring(op: &Op) -> Option<(ServiceId, &[u32])> {
    match op {
        Op::CreateRing(service, slots) => Some((*service, slots)),
        _ => None,
    }
}
