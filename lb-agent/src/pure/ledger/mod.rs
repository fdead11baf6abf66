//! The single state value: what is wanted, what is known, what follows. Facts go in with the time they were stated; `desired`
//! reads from it what the maps should contain. No map, no clock: the same facts give the same ledger.

mod adopt;
mod event;
mod member;
mod follow;
mod owners;
mod ring;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::limits::{MAX_OWNERS, MAX_SERVICES, RING_SIZE};
use lb_common::slot::{NOBODY, Owner};

pub use event::{Event, Level};
pub use follow::Changed;
pub use member::{Member, Phase};
pub use service::Service;

use super::command::{BackendChange, Refusal};
use super::desired;
use super::model::{HealthCheck, ServiceSpec};
use super::network::NetworkView;
use super::plan::RingChanges;
use super::sweep::{SweepReport, SweepRequest, TableUse};
use super::tables::ServiceId;
use super::transition::RingState;
use super::wanted::{Origin, RuntimeChanges, WantedBackend};
use super::watch::Watches;
use owners::Owners;
use service::rules;

/// Reply mappings and fragments are walked this often: they expire in seconds, and the walk costs system calls.
const WALK_REPLY_MAPS_EVERY: Duration = Duration::from_secs(2);

/// Everything the agent knows.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The file's services, in its order.
    specs: Vec<ServiceSpec>,
    /// What was changed at run time.
    changes: RuntimeChanges,
    /// By service id.
    services: BTreeMap<ServiceId, Service>,
    owners: Owners,
    /// Names of the interfaces that we listen on.
    interfaces: Vec<String>,
    network: NetworkView,
    /// When the last sweep that was taken in began.
    swept: Duration,
    /// When reply maps were last asked to be walked.
    walked: Duration,
    /// How packets ended, by the last sweep.
    verdicts: Vec<u64>,
    table: TableUse,
    sweep_took: Duration,
    sweeps: u64,
    events: Vec<Event>,
    /// Who looks at packets.
    pub watches: Watches,
    /// Ids whose ring the map has, or may have.
    known_rings: BTreeSet<ServiceId>,
    /// Where an owner is, or was last.
    places: BTreeMap<Owner, ServiceId>,
    /// Services of which something was stated since they were last looked at.
    unseen: BTreeSet<ServiceId>,
    /// Where the search for a ring that must be made anew goes on.
    rebuilt: ServiceId,
    changed: Changed,
}

/// What a backend is probed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Where.
    pub addr: SocketAddr,
    /// How.
    pub check: HealthCheck,
    /// Whether it counts as up until a probe says otherwise (it was serving before we came).
    pub is_up: bool,
    /// Changes whenever its health is to be judged afresh.
    pub round: u64,
}

impl ProbeTarget {
    /// Where the probe connects to.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.check.port.unwrap_or(self.addr.port()))
    }

    /// Whether both are probed alike, and judged in the same round.
    pub fn is_same_check(&self, other: &Self) -> bool {
        self.addr == other.addr && self.check == other.check && self.round == other.round
    }
}

impl Ledger {
    /// The file's services, in its order.
    pub fn specs(&self) -> &[ServiceSpec] {
        &self.specs
    }

    /// What was changed at run time.
    pub const fn changes(&self) -> &RuntimeChanges {
        &self.changes
    }

    /// Services by id.
    pub const fn services(&self) -> &BTreeMap<ServiceId, Service> {
        &self.services
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.values().find(|s| s.spec.name == name)
    }

    /// Ids of the services, in the order of the file.
    pub fn ids_in_file_order(&self) -> Vec<ServiceId> {
        let ids: BTreeMap<_, _> = self.services.values().map(|s| (s.spec.key, s.id)).collect();
        self.specs.iter().filter_map(|spec| ids.get(&spec.key).copied()).collect()
    }

    /// The service that an owner serves.
    pub fn service_of(&self, owner: Owner) -> Option<&Service> {
        self.services.get(self.places.get(&owner)?)
    }

    /// This host's network.
    pub const fn network(&self) -> &NetworkView {
        &self.network
    }

    /// Names of the interfaces that we listen on.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// Indices whose backend is gone, and which something may still name.
    pub fn retired(&self) -> impl Iterator<Item = Owner> + '_ {
        self.owners.retired()
    }

    /// How packets ended, by number of `Verdict`.
    pub fn verdicts(&self) -> &[u64] {
        &self.verdicts
    }

    /// How full the flow table is, how long the last sweep took, and how many there were.
    pub const fn sweep_summary(&self) -> (TableUse, Duration, u64) {
        (self.table, self.sweep_took, self.sweeps)
    }

    /// Slots that existing rings must store, in order.
    pub fn take_ring_changes(&mut self) -> RingChanges {
        let changes = self.services.values_mut().map(|s| (s.id, s.take_stores()));
        changes.filter(|(_, stores)| !stores.is_empty()).collect()
    }

    /// The whole ring of a service.
    pub fn ring(&self, id: ServiceId) -> Option<Vec<u32>> {
        self.services.get(&id).map(|s| s.ring.values())
    }

    /// Rings as they were read back from the maps; what differs will be stored again.
    pub fn reconcile_rings(&mut self, slots: &BTreeMap<ServiceId, Vec<u32>>) {
        for service in self.services.values_mut() {
            if let Some(slots) = slots.get(&service.id) {
                service.compare(slots);
            }
        }
    }

    /// The round in which a backend's health is judged; `None`: nobody has this index.
    pub fn probe_round(&self, owner: Owner) -> Option<u64> {
        self.service_of(owner)?.member(owner).map(|m| m.round)
    }

    /// Takes what there is to tell since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Makes the file and the runtime changes what is wanted. All or nothing.
    ///
    /// # Errors
    /// More services or backends than fit on one host; nothing has changed then.
    pub fn want(&mut self, specs: Vec<ServiceSpec>, mut changes: RuntimeChanges, now: Duration) -> Result<(), Refusal> {
        changes.tidy(&specs);
        self.check_room(&specs, &changes)?;
        let removed: Vec<ServiceId> =
            self.services.values().filter(|s| !specs.iter().any(|w| w.key == s.spec.key)).map(|s| s.id).collect();
        for id in removed {
            let Some(service) = self.services.remove(&id) else { continue };
            service.members.iter().for_each(|m| self.owners.retire(m.owner, now));
            self.events.push(Event::info(format!("service {} removed", service.spec.name)));
        }
        for spec in &specs {
            self.want_service(spec, &changes.pool(spec), now);
        }
        self.specs = specs;
        self.changes = changes;
        self.changed.everything = true;
        self.tick(now);
        Ok(())
    }

    fn check_room(&self, specs: &[ServiceSpec], changes: &RuntimeChanges) -> Result<(), Refusal> {
        if specs.len() > MAX_SERVICES {
            return Err(Refusal::Invalid(format!("{} services wanted; {MAX_SERVICES} fit", specs.len())));
        }
        let wanted: usize = specs.iter().map(|s| changes.pool(s).len()).sum();
        let departing = self.services.values().flat_map(|s| &s.members).filter(|m| !matches!(m.phase, Phase::Serving));
        let taken = wanted + departing.count() + self.owners.retired().count();
        if taken >= MAX_OWNERS {
            return Err(Refusal::Invalid(format!(
                "{wanted} backends wanted, {taken} with those that are still leaving; {} fit on one host",
                MAX_OWNERS - 1
            )));
        }
        Ok(())
    }

    fn want_service(&mut self, spec: &ServiceSpec, pool: &[WantedBackend], now: Duration) {
        let known = self.services.values().find(|s| s.spec.key == spec.key).map(|s| s.id);
        let id = known.unwrap_or_else(|| {
            let id = (0..ServiceId::MAX).find(|id| !self.services.contains_key(id)).unwrap_or_default();
            let ring = RingState::new(&vec![NOBODY; RING_SIZE], rules(spec), now);
            let service = if self.known_rings.insert(id) {
                Service::unmade(id, spec.clone(), ring)
            } else {
                // The id may have been another service's until now: what its ring holds is written over.
                let stores = (0_u32..).zip(ring.values()).collect();
                Service::new(id, spec.clone(), Vec::new(), ring, stores)
            };
            let _ = self.services.insert(id, service);
            self.events.push(Event::info(format!("service {} added on {}", spec.name, spec.key)));
            id
        });
        let Some(service) = self.services.get_mut(&id) else { return };
        service.set_spec(spec, now);
        service.depart_all_but(pool, now, &mut self.events);
        let known: BTreeSet<SocketAddr> = service.members.iter().map(|m| m.addr).collect();
        for wanted in pool {
            if !known.contains(&wanted.addr) {
                let Some(owner) = self.owners.allocate() else { continue };
                let _ = self.places.insert(owner, id);
                service.join(Member::new(owner, wanted.addr, wanted.weight, wanted.origin), &mut self.events);
            }
            service.steer(wanted, now, &mut self.events);
        }
        service.order_by(pool);
    }

    /// What `change` would make of the runtime changes. Changes nothing.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn prepare(&self, service: &str, addr: SocketAddr, change: &BackendChange) -> Result<RuntimeChanges, Refusal> {
        self.changes.with(&self.specs, service, addr, change).map_err(|refusal| match refusal {
            Refusal::NotFound(_) if self.is_leaving(service, addr) => Refusal::Conflict(format!(
                "backend {addr} of {service} is being removed; `lb-agent backend add {service} {addr}` takes it back"
            )),
            other => other,
        })
    }

    fn is_leaving(&self, service: &str, addr: SocketAddr) -> bool {
        self.service(service).is_some_and(|s| s.members.iter().any(|m| m.addr == addr))
    }

    /// Takes a backend out without waiting for its flows; how many were cut.
    pub fn cut(&mut self, service: &str, addr: SocketAddr, now: Duration) -> u64 {
        let Some(service) = self.services.values_mut().find(|s| s.spec.name == service) else { return 0 };
        let Some(member) = service.members.iter().find(|m| m.addr == addr) else { return 0 };
        let (owner, flows) = (member.owner, member.flows_at_stake());
        service.remove(owner, now);
        self.owners.retire(owner, now);
        self.changed.everything = true;
        self.events.push(Event::warn(format!(
            "backend {addr} removed by force, {flows} flows cut (service {})",
            service.spec.name
        )));
        self.tick(now);
        flows
    }

    /// The network is now like this.
    pub fn set_network(&mut self, view: NetworkView) {
        self.network = view;
        self.changed.everything = true;
    }

    /// We listen on these interfaces.
    pub fn set_interfaces(&mut self, names: Vec<String>) {
        self.interfaces = names;
        self.changed.everything = true;
    }

    /// A sweep has ended.
    pub fn swept(&mut self, report: &SweepReport, now: Duration) {
        let retired = self.owners.retired().count();
        for service in self.services.values_mut() {
            let (gone, events) = service.swept(report, now);
            // A drain has ended: who is probed may have changed.
            self.changed.everything |= !events.is_empty();
            self.events.extend(events);
            for owner in gone {
                service.remove(owner, now);
                self.owners.retire(owner, now);
            }
        }
        if report.walked_reply_maps {
            let services = &self.services;
            self.owners.free_unnamed(report.started, |owner| {
                report.flows.get(&owner).is_some_and(|f| f.named > 0)
                    || services.values().any(|s| s.ring.is_named(owner))
            });
        }
        self.changed.everything |= self.owners.retired().count() != retired;
        self.swept = report.started;
        self.verdicts.clone_from(&report.verdicts);
        self.table = report.table;
        self.sweep_took = report.took;
        self.sweeps += 1;
        self.look_at_all(now);
    }

    /// When something changes by itself, if nothing else happens.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        self.services.values().filter_map(|s| s.next_deadline(now)).min()
    }

    /// What the next sweep is asked.
    pub fn sweep_request(&mut self, now: Duration) -> SweepRequest {
        // Not those that are merely dead: they may live again while a sweep that was asked earlier is still under way, and it
        // would take their new flows. The sweep looks at each entry's owner itself.
        let purge: BTreeSet<Owner> = self.owners.retired().collect();
        let walk = now >= self.walked + WALK_REPLY_MAPS_EVERY || self.owners.retired().next().is_some();
        if walk {
            self.walked = now;
        }
        let epoch_shift = desired::epoch_shift(self);
        SweepRequest {
            services: self.services.values().map(|s| (s.id, desired::service_entry(s, epoch_shift, now))).collect(),
            in_transition: self.services.values().filter(|s| s.ring.in_transition() > 0).map(|s| s.id).collect(),
            forget: self
                .services
                .values_mut()
                .filter_map(|s| s.ring.to_forget(now).map(|slots| (s.id, slots.clone())))
                .collect(),
            purge,
            walk_reply_maps: walk,
        }
    }

    /// Whether somebody waits for the next sweep: a drain, a transition, an index to come free, a backend to live again.
    pub fn is_sweep_urgent(&self) -> bool {
        self.owners.retired().next().is_some()
            || self.services.values().any(|s| {
                s.ring.in_transition() > 0
                    || s.spec.select == super::model::Select::LeastConn
                    || super::limits::is_capped(&s.spec)
                    || s.members.iter().any(|m| {
                        matches!(m.phase, Phase::Draining { .. }) || !m.is_alive() && m.phase == Phase::Serving
                    })
            })
    }

    /// Who is to be probed, and how.
    pub fn probe_targets(&self) -> BTreeMap<Owner, ProbeTarget> {
        let mut targets = BTreeMap::new();
        for service in self.services.values().filter(|s| !s.needs_no_probe()) {
            for m in service.members.iter().filter(|m| m.is_probed()) {
                let check = service.spec.health.clone();
                let target = ProbeTarget { addr: m.addr, check, is_up: m.is_up(), round: m.round };
                let _ = targets.insert(m.owner, target);
            }
        }
        targets
    }

    /// Addresses whose next hops must be known.
    pub fn watched_addresses(&self) -> BTreeSet<IpAddr> {
        self.services.values().flat_map(|s| &s.members).map(|m| m.addr.ip()).collect()
    }
}

/// Where a departed backend came from does not matter any more.
pub(super) const DEPARTED: Origin = Origin::Runtime;
