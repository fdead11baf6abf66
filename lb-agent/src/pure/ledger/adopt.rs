//! Start: what the maps already contain becomes the ledger's past. With empty maps this is a first start; with full ones it is
//! a restart, and no flow notices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lb_common::backend::BackendEntry;
use lb_common::service::{SERVICE_UNTRACKED, ServiceEntry, TRACKING_FULL};
use lb_common::slot::{Owner, Slot};

use super::service::rules;
use super::{DEPARTED, Event, Ledger, Member, Service};
use crate::pure::command::Refusal;
use crate::pure::desired::endpoint;
use crate::pure::health::Health;
use crate::pure::model::ServiceSpec;
use crate::pure::quic::ServerId;
use crate::pure::sweep::SweepReport;
use crate::pure::tables::{Observed, ServiceId};
use crate::pure::transition::{RingState, Rules};
use crate::pure::wanted::RuntimeChanges;

impl Ledger {
    /// A ledger that continues what the maps contain (`first`: what a first sweep saw in them) and wants what file and runtime
    /// changes say. Services and backends that nobody wants any more leave as they would have at run time: services at once,
    /// backends by a drain.
    ///
    /// # Errors
    /// More services or backends than fit on one host.
    pub fn adopt(
        specs: Vec<ServiceSpec>,
        changes: RuntimeChanges,
        observed: &Observed,
        first: &SweepReport,
        now: Duration,
    ) -> Result<Self, Refusal> {
        // What is shown before the next sweep must not look like counters that began anew.
        let mut ledger = Self { verdicts: first.verdicts.clone(), table: first.table, ..Self::default() };
        ledger.known_rings.extend(observed.slots.keys());
        for spec in &specs {
            let entry = observed.tables.services.get(&endpoint(&spec.key));
            if let Some((entry, slots)) = entry.and_then(|entry| Some((entry, observed.slots.get(&entry.id)?))) {
                let id = entry.id;
                let mut members = members(observed, id, slots, now);
                for member in &mut members {
                    member.flows = first.flows.get(&member.owner).copied().unwrap_or_default();
                    member.counters = first.counters.get(&member.owner).copied().unwrap_or_default();
                }
                // What was asked of the table until now may be the ring's to answer from here on: that is a change like any.
                let were = Rules { owner_is_in_table: entry.owner_is_in_table(), ..rules(spec) };
                let (mut ring, mut stores) = RingState::adopt(slots, were, is_all_tracked(entry, &members, first), now);
                stores.extend(ring.set_rules(rules(spec), now));
                ledger.places.extend(members.iter().map(|m| (m.owner, id)));
                let mut service = Service::new(id, spec.clone(), members, ring, stores);
                service.refusals = first.refusals.get(&id).copied().unwrap_or_default();
                service.resume(now);
                let _ = ledger.services.insert(id, service);
            }
        }
        for owner in observed.tables.backends.keys() {
            ledger.owners.claim(*owner);
            if !ledger.services.values().any(|s| s.member(*owner).is_some()) {
                ledger.owners.retire(*owner, now);
            }
        }
        if !ledger.services.is_empty() {
            let backends: usize = ledger.services.values().map(|s| s.members.len()).sum();
            ledger.events.push(Event::info(format!(
                "adopted {} services with {backends} backends from the pinned maps",
                ledger.services.len()
            )));
        }
        ledger.want(specs, changes, now)?;
        Ok(ledger)
    }
}

/// Whether every live flow is in the table: tracked in full for longer than one idle timeout, and none ever refused. Of one that
/// was refused nobody knows when, so that it might be alive.
fn is_all_tracked(entry: &ServiceEntry, members: &[Member], first: &SweepReport) -> bool {
    let refused = |m: &Member| first.counters.get(&m.owner).is_some_and(|c| c.refused + c.evicted > 0);
    entry.tracking == TRACKING_FULL && entry.flags & SERVICE_UNTRACKED == 0 && !members.iter().any(refused)
}

fn members(observed: &Observed, id: ServiceId, slots: &[u32], now: Duration) -> Vec<Member> {
    let mut serves = vec![false; lb_common::limits::MAX_OWNERS];
    for slot in slots {
        if let Some(s) = serves.get_mut(usize::from(Slot(*slot).current())) {
            *s = true;
        }
    }
    let serves = |owner: Owner| serves.get(usize::from(owner)) == Some(&true);
    // Also those without flows or slots (down and silent, drained, disabled): their counters go on. What nobody wants any more
    // was retired, and names no service.
    let of_service = observed.tables.backends.iter().filter(|(_, entry)| entry.service == id);
    of_service
        .map(|(owner, entry)| {
            let named = observed.tables.quic_servers.iter().find(|(key, of)| *of == owner && key.service == id);
            let server_id = named.and_then(|(key, _)| ServerId::of_key(key));
            Member { server_id, ..member(*owner, entry, serves(*owner), now) }
        })
        .collect()
}

fn member(owner: Owner, entry: &BackendEntry, serves: bool, now: Duration) -> Member {
    let mut member = Member::new(owner, socket_addr(entry), entry.weight, DEPARTED);
    if serves {
        member.health = Health::Up;
        member.ever_up = true;
        "was serving when the agent started".clone_into(&mut member.reason);
    }
    if !entry.is_alive() {
        member.dead_since = Some(now);
    }
    member
}

fn socket_addr(entry: &BackendEntry) -> SocketAddr {
    let v6 = Ipv6Addr::from(entry.addr.0);
    let ip = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4));
    SocketAddr::new(ip, u16::from_be_bytes(entry.port))
}
