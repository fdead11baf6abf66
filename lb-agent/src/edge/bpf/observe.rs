//! Reads the maps back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use lb_common::backend::BackendEntry;
use lb_common::clock::{TICK_NS, Ticks};
use lb_common::flow::FlowEntry;
use lb_common::hash::{flow_v4, flow_v6};
use lb_common::host::{HOST_SNAT, Host};
use lb_common::limits::{MAX_OWNERS, MAX_SERVICES, MAX_SNAT_FLOWS, RING_SIZE};
use lb_common::maps;
use lb_common::reply::{SnatForwardEntry, SnatForwardKey};
use lb_common::slot::{Owner, slot_of};
use nix::time::{ClockId, clock_gettime};
use zerocopy::{FromBytes, IntoBytes};

use super::maps::{BpfDataPlane, Failure, failed, hash, io_error};
use super::mmap::Mapped;
use crate::edge::dataplane::DataPlaneError;
use crate::pure::sweep::TrackedFlow;
use crate::pure::tables::{Endpoint, Observed, ServiceId, Tables};

/// Clients of snat flows, by what their entry in the flow table looks like.
type Clients = BTreeMap<(Owner, u32), (std::net::IpAddr, u16)>;

impl BpfDataPlane {
    pub(super) fn read_all(&mut self) -> Result<Observed, DataPlaneError> {
        let tables = self.read_tables().map_err(|failure| failure.told("read back".to_owned()))?;
        let rings = self.rings.all().map_err(|e| failed(maps::RINGS, e).told("read back".to_owned()))?;
        let slots: BTreeMap<ServiceId, Vec<u32>> = rings
            .into_iter()
            .map(|(id, ring)| (id, ring.iter().take(RING_SIZE).map(|slot| slot.load(Ordering::Acquire)).collect()))
            .collect();
        let rings = slots.keys().copied().collect();
        Ok(Observed { tables: Tables { rings, ..tables }, slots, adopted: self.adopted })
    }

    pub(super) fn read_tables(&self) -> Result<Tables, Failure> {
        let host = self.host.read().unwrap_or_default();
        let mut services: BTreeMap<_, _> = read(&self.services_v4, maps::SERVICES_V4, Endpoint::V4)?;
        services.extend(read(&self.services_v6, maps::SERVICES_V6, Endpoint::V6)?);
        let mut replies: BTreeMap<_, _> = read(&self.replies_v4, maps::REPLIES_V4, Endpoint::V4)?;
        replies.extend(read(&self.replies_v6, maps::REPLIES_V6, Endpoint::V6)?);
        Ok(Tables {
            host_flags: host.flags,
            epoch_shift: host.epoch_shift,
            services,
            rings: BTreeSet::new(),
            schedules: self.read_schedules(),
            backends: self.read_backends(),
            replies,
            vips: read(&self.vips, maps::VIPS, |key| key)?,
            locals: read(&self.locals, maps::LOCALS, |key| key)?.into_keys().collect(),
            interfaces: read(&self.interfaces, maps::INTERFACES, |key| key)?,
            limits: self.admission.read_limits(),
            access: self.admission.read_access()?,
        })
    }

    fn read_backends(&self) -> BTreeMap<Owner, BackendEntry> {
        (0..MAX_OWNERS)
            .filter_map(|n| Some((Owner::try_from(n).ok()?, backend(&self.backends, n)?)))
            .filter(|(_, entry)| *entry != BackendEntry::default())
            .collect()
    }

    fn read_schedules(&self) -> BTreeMap<ServiceId, Vec<Owner>> {
        let turns = |n: usize| {
            let (length, words) = self.schedules.value(n)?.split_first()?;
            let length = usize::try_from(length.load(Ordering::Acquire)).ok()?;
            let bytes: Vec<u64> = words.iter().map(|word| word.load(Ordering::Acquire)).collect();
            let turns = <[Owner]>::ref_from_bytes(bytes.as_bytes()).ok()?;
            Some(turns.iter().take(length).copied().collect::<Vec<_>>())
        };
        (0..MAX_SERVICES)
            .filter_map(|n| Some((ServiceId::try_from(n).ok()?, turns(n)?)))
            .filter(|(_, turns)| !turns.is_empty())
            .collect()
    }

    pub(super) fn list_flows(
        &mut self,
        limit: usize,
        keep: &dyn Fn(Owner) -> bool,
    ) -> Result<Vec<TrackedFlow>, DataPlaneError> {
        let host = self.host.read().unwrap_or_default();
        let told = |failure: Failure| failure.told("list flows".to_owned());
        let clients = if host.flags & HOST_SNAT == 0 { Clients::new() } else { self.clients(&host).map_err(told)? };
        let now = now().map_err(|e| told(failed(maps::FLOWS, e)))?;
        let flow = |entry: FlowEntry| {
            let owner = entry.owner();
            let by_source = backend(&self.backends, usize::from(owner)).is_some_and(|b| b.slot_by_source());
            TrackedFlow {
                owner,
                state: entry.state_number(),
                tag: entry.tag(),
                slot: slot_of(entry.tag(), by_source),
                silent_s: u64::from(now.since(entry.time())) * TICK_NS / 1_000_000_000,
                client: clients.get(&(owner, entry.tag())).copied(),
            }
        };
        Ok(self
            .flows
            .iter()
            .map(|word| FlowEntry(word.load(Ordering::Relaxed)))
            .filter(|entry| !entry.is_free() && keep(entry.owner()))
            .take(limit)
            .map(flow)
            .collect())
    }

    /// The flow table holds hashes; the snat map holds clients. Hashing the latter finds the former.
    fn clients(&self, host: &Host) -> Result<Clients, Failure> {
        let map: HashMap<MapData, SnatForwardKey, SnatForwardEntry> =
            hash(&self.pins, maps::SNAT_FORWARD).map_err(|e| failed(maps::SNAT_FORWARD, std::io::Error::other(e)))?;
        let mut clients = Clients::new();
        // Twice its size: a walk begins anew when the key that it stands on is removed under it.
        for key in map.keys().take(2 * MAX_SNAT_FLOWS) {
            let key = key.map_err(|e| failed(maps::SNAT_FORWARD, io_error(&e)))?;
            let by_source = backend(&self.backends, usize::from(key.owner)).is_some_and(|b| b.slot_by_source());
            let address = std::net::Ipv6Addr::from(key.client.0);
            let (client, service) = ((key.client_port, key.vip_port), key.service);
            let flow = match address.to_ipv4_mapped() {
                Some(v4) => flow_v4(&host.seed, v4.octets(), client.0, client.1, service, by_source),
                None => flow_v6(&host.seed, &key.client.0, client.0, client.1, service, by_source),
            };
            let known = (address.to_canonical(), u16::from_be_bytes(key.client_port));
            let _same_tag = clients.insert((key.owner, flow.tag), known);
        }
        Ok(clients)
    }
}

/// Now, as flow entries keep it.
pub(super) fn now() -> std::io::Result<Ticks> {
    Ok(Ticks::from_ns(now_ns()?))
}

/// The same in ns.
pub(super) fn now_ns() -> std::io::Result<u64> {
    Ok(u64::try_from(monotonic()?.as_nanos()).unwrap_or(u64::MAX))
}

/// `CLOCK_MONOTONIC`, which the packet programs read too.
pub(super) fn monotonic() -> std::io::Result<std::time::Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// An owner's backend; `None` beyond the table.
pub(super) fn backend(backends: &Mapped<AtomicU64>, owner: usize) -> Option<BackendEntry> {
    let mut words = [0_u64; size_of::<BackendEntry>() / size_of::<u64>()];
    for (word, place) in words.iter_mut().zip(backends.value(owner)?) {
        *word = place.load(Ordering::Acquire);
    }
    BackendEntry::read_from_bytes(words.as_bytes()).ok()
}

fn read<K: Pod, V: Pod, E: Ord>(
    map: &HashMap<MapData, K, V>,
    name: &'static str,
    wrap: impl Fn(K) -> E,
) -> Result<BTreeMap<E, V>, Failure> {
    map.iter()
        .map(|item| item.map(|(key, value)| (wrap(key), value)))
        .collect::<Result<_, MapError>>()
        .map_err(|e| failed(name, io_error(&e)))
}
