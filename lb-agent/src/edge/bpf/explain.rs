//! Placeholder until the decision core lands.
use super::maps::BpfDataPlane;
use crate::edge::dataplane::DataPlaneError;
use crate::pure::snapshot::{Explanation, FlowQuery};

impl BpfDataPlane {
    pub(super) fn explain_flow(&mut self, _query: &FlowQuery) -> Result<Explanation, DataPlaneError> {
        Ok(Explanation::default())
    }
}
