//! What the maps should contain, but only as far as judgements, sweeps and time can change it: pools and the network are as they
//! were. A failure among thirty thousand backends does not wait until all of them are compared.

use std::time::Duration;

use lb_common::backend::BackendEntry;
use lb_common::service::ServiceEntry;
use lb_common::slot::Owner;

use super::desired::{backend_entry, endpoint, service_entry};
use super::ledger::{Changed, Ledger, Service};
use super::lookup;
use super::tables::{Endpoint, ServiceId};

/// The part of [`super::desired::desired`] that judgements, sweeps and time can change: entries of services, and of these owners and turns of
/// these services. `epoch_shift` is the tables'.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Every service.
    pub services: Vec<(Endpoint, ServiceEntry)>,
    /// Turns; empty where there are none.
    pub schedules: Vec<(ServiceId, Vec<Owner>)>,
    /// Entries of owners that have a backend.
    pub backends: Vec<(Owner, BackendEntry)>,
}

/// Reads off what may have changed, so that a failure among thirty thousand backends does not wait for all of them.
pub fn desired_part(ledger: &Ledger, changed: &Changed, epoch_shift: u32, now: Duration) -> Part {
    let services = ledger.services();
    let entry = |s: &Service| (endpoint(&s.spec.key), service_entry(s, epoch_shift, now));
    let turns = |id: &ServiceId| services.get(id).map(|s| (*id, s.turns.clone()));
    let backend = |owner: &Owner| {
        let service = ledger.service_of(*owner)?;
        Some((*owner, backend_entry(service, service.member(*owner)?, ledger, now).0))
    };
    let inherited = lookup::inherited(ledger).into_iter().filter_map(|(at, of)| {
        let service = services.values().find(|s| s.spec.key == of)?;
        Some((endpoint(&at), service_entry(service, epoch_shift, now)))
    });
    Part {
        services: services.values().map(entry).chain(inherited).collect(),
        schedules: changed.services.iter().filter_map(turns).collect(),
        backends: changed.owners.iter().filter_map(backend).collect(),
    }
}
