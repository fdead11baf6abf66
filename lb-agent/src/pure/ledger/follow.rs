//! How services follow what was stated: what cannot wait at once, rings that must be made anew one by one, and what of the maps that
//! may have changed.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_common::slot::Owner;

use super::{Ledger, Service};
use crate::pure::health::HealthChange;
use crate::pure::tables::ServiceId;

/// What may differ from the maps since the last time.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Pools, the network, indices: everything has to be compared.
    pub everything: bool,
    /// Else these owners' entries and these services' turns, beside the slots of rings and the services' own entries.
    pub owners: BTreeSet<Owner>,
    /// Services whose turns may have changed.
    pub services: BTreeSet<ServiceId>,
}

impl Ledger {
    /// A probe has changed the judgement of a backend. What follows from it, [`Self::look`] finds: many judgements of one
    /// service come together, and are followed once.
    pub fn health(&mut self, owner: Owner, change: &HealthChange, now: Duration) {
        let Some(id) = self.places.get(&owner) else { return };
        let Some(service) = self.services.get_mut(id) else { return };
        if let Some(event) = service.health(owner, change, now) {
            self.events.push(event);
            let _ = self.unseen.insert(*id);
            let _ = self.changed.owners.insert(owner);
        }
    }

    /// Lets what cannot wait follow what was stated: slots of backends that have failed go to others. Rings that have to be
    /// made anew are left to [`Self::rebuild_next`].
    pub fn look(&mut self, now: Duration) {
        for id in std::mem::take(&mut self.unseen) {
            self.look_at(id, now);
        }
    }

    fn look_at(&mut self, id: ServiceId, now: Duration) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let touched = service.look(now, self.swept);
        if !touched.is_empty() {
            self.changed.owners.extend(touched);
            let _ = self.changed.services.insert(id);
        }
    }

    /// Whether a ring waits to be made anew.
    pub fn is_stale(&self) -> bool {
        self.services.values().any(Service::is_stale)
    }

    /// Makes one ring anew that waits for it, another one each time.
    pub fn rebuild_next(&mut self, now: Duration) {
        let stale = |range: std::ops::RangeInclusive<ServiceId>| {
            self.services.range(range).find(|(_, s)| s.is_stale()).map(|(id, _)| *id)
        };
        let after = self.rebuilt.saturating_add(1);
        if let Some(id) = stale(after..=ServiceId::MAX).or_else(|| stale(0..=self.rebuilt)) {
            self.rebuilt = id;
            self.rebuild(id, now);
        }
    }

    fn rebuild(&mut self, id: ServiceId, now: Duration) {
        if let Some(service) = self.services.get_mut(&id) {
            service.rebuild(now);
            let _ = self.changed.services.insert(id);
        }
    }

    /// Lets everything follow that time alone has changed, but for rings that have to be made anew.
    pub fn look_at_all(&mut self, now: Duration) {
        self.unseen.clear();
        for id in self.services.keys().copied().collect::<Vec<_>>() {
            self.look_at(id, now);
        }
    }

    /// The same, rings included: afterwards nothing waits.
    pub fn tick(&mut self, now: Duration) {
        self.look_at_all(now);
        while self.is_stale() {
            self.rebuild_next(now);
        }
    }

    /// What may differ from the maps since this was last asked.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }
}
