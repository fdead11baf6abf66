//! A snapshot in the making: service by service, so that facts need not wait until the last of thirty thousand backends is
//! listed. Waits for nothing by itself; the single writer carries it on between facts.

use std::time::Duration;

use crate::pure::ledger::Ledger;
use crate::pure::report;
use crate::pure::snapshot::ServiceStatus;
use crate::pure::tables::ServiceId;

/// Backends listed in one go: about a tenth of a millisecond.
const AT_ONCE: usize = 256;

/// Services listed so far, and those that are to come.
#[derive(Debug)]
pub(super) struct Publication {
    left: std::vec::IntoIter<ServiceId>,
    services: Vec<ServiceStatus>,
}

impl Publication {
    /// Begins with the services that there are now, in the order of the file.
    pub(super) fn begin(ledger: &Ledger) -> Self {
        let ids = ledger.ids_in_file_order();
        Self { services: Vec::with_capacity(ids.len()), left: ids.into_iter() }
    }

    /// Lists some more services; all of them, once it is done. One that has gone meanwhile is left out.
    pub(super) fn go_on(&mut self, ledger: &Ledger, now: Duration) -> Option<Vec<ServiceStatus>> {
        let mut listed = 0;
        while listed < AT_ONCE {
            let Some(id) = self.left.next() else { return Some(std::mem::take(&mut self.services)) };
            if let Some(service) = ledger.services().get(&id) {
                listed += service.members.len() + 1;
                self.services.push(report::service(service, ledger, now));
            }
        }
        None
    }
}
