//! Reads the flow table for those who want to see it, as mapped memory and beside everybody else.

use std::collections::{BTreeSet, HashMap as StdMap};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::{HashMap, MapData};
use lb_common::backend::BackendEntry;
use lb_common::clock::TICK_NS;
use lb_common::endpoint::{EndpointV4, EndpointV6};
use lb_common::flow::FlowEntry;
use lb_common::hash::{flow_v4, flow_v6, to_vip_v4, to_vip_v6};
use lb_common::host::{HOST_SNAT, Host};
use lb_common::limits::{MAX_OWNERS, MAX_SNAT_FLOWS};
use lb_common::maps;
use lb_common::reply::{SnatForwardEntry, SnatForwardKey};
use lb_common::service::{SERVICE_PREFIX, ServiceEntry};
use lb_common::slot::{Owner, slot_of};

use super::error::LoadError;
use super::host_record::HostRecord;
use super::maps::{Failure, address, failed, hash, io_error, mapped};
use super::mmap::Mapped;
use super::observe::{backend, now};
use super::pin::Pins;
use crate::edge::dataplane::{DataPlaneError, FlowTable};
use crate::pure::sweep::{KnownTuple, TrackedFlow};

/// Tuples of snat flows, by what their entry in the flow table looks like.
type Tuples = StdMap<(Owner, u32), KnownTuple>;

/// The flow table, for looking.
pub struct FlowReader {
    host: HostRecord,
    backends: Mapped<AtomicU64>,
    flows: Mapped<AtomicU64>,
    snat: HashMap<MapData, SnatForwardKey, SnatForwardEntry>,
    services_v4: HashMap<MapData, EndpointV4, ServiceEntry>,
    services_v6: HashMap<MapData, EndpointV6, ServiceEntry>,
}

impl fmt::Debug for FlowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowReader").finish_non_exhaustive()
    }
}

impl FlowReader {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let unmapped =
            |e: std::io::Error| LoadError::Map { path: pins.map(maps::HOST), what: format!("cannot be mapped: {e}") };
        Ok(Self {
            host: HostRecord::map(&pins.open(maps::HOST)?).map_err(unmapped)?,
            backends: mapped(pins, maps::BACKENDS)?,
            flows: mapped(pins, maps::FLOWS)?,
            snat: hash(pins, maps::SNAT_FORWARD)?,
            services_v4: hash(pins, maps::SERVICES_V4)?,
            services_v6: hash(pins, maps::SERVICES_V6)?,
        })
    }

    /// The flow table holds hashes; the snat map holds tuples. Hashing the latter finds the former.
    fn tuples(&self, host: &Host, backends: &[BackendEntry]) -> Result<Tuples, Failure> {
        let mut tuples = Tuples::new();
        if host.flags & HOST_SNAT == 0 {
            return Ok(tuples);
        }
        let services = read(&self.services_v4, maps::SERVICES_V4)?.into_iter();
        let services = services.chain(read(&self.services_v6, maps::SERVICES_V6)?);
        let prefixes: BTreeSet<_> = services.filter(|s| s.flags & SERVICE_PREFIX != 0).map(|s| s.id).collect();
        // Twice its size: a walk begins anew when the key that it stands on is removed under it.
        for item in self.snat.iter().take(2 * MAX_SNAT_FLOWS) {
            let (key, lent) = item.map_err(|e| failed(maps::SNAT_FORWARD, io_error(&e)))?;
            let Some(backend) = backends.get(usize::from(key.owner)) else { continue };
            let (by_source, ports) = (backend.slot_by_source(), (key.client_port, key.vip_port));
            let client = Ipv6Addr::from(key.client.0);
            let in_prefix = prefixes.contains(&key.service);
            let flow = if let Some(v4) = client.to_ipv4_mapped() {
                let flow = flow_v4(&host.seed, v4.octets(), ports.0, ports.1, key.service, by_source);
                if in_prefix { to_vip_v4(&host.seed, flow, key.vip.as_v4(), by_source) } else { flow }
            } else {
                let flow = flow_v6(&host.seed, &key.client.0, ports.0, ports.1, key.service, by_source);
                if in_prefix { to_vip_v6(&host.seed, flow, &key.vip.0, by_source) } else { flow }
            };
            let known = KnownTuple {
                client: SocketAddr::new(client.to_canonical(), u16::from_be_bytes(key.client_port)),
                vip: SocketAddr::new(address(&key.vip), u16::from_be_bytes(key.vip_port)),
                source: SocketAddr::new(address(&backend.snat_addr), u16::from_be_bytes(lent.port)),
            };
            let _same_tag = tuples.insert((key.owner, flow.tag), known);
        }
        Ok(tuples)
    }
}

impl FlowTable for FlowReader {
    fn scan(
        &self,
        with_tuples: bool,
        visit: &mut dyn FnMut(&TrackedFlow) -> ControlFlow<()>,
    ) -> Result<(), DataPlaneError> {
        let told = |failure: Failure| failure.told("look at flows".to_owned());
        let host = self.host.read().unwrap_or_default();
        let backends: Vec<_> = (0..MAX_OWNERS).map(|n| backend(&self.backends, n).unwrap_or_default()).collect();
        let tuples = if with_tuples { self.tuples(&host, &backends).map_err(told)? } else { Tuples::new() };
        let now = now().map_err(|e| told(failed(maps::FLOWS, e)))?;
        for word in self.flows.iter() {
            let entry = FlowEntry(word.load(Ordering::Relaxed));
            if entry.is_free() {
                continue;
            }
            let owner = entry.owner();
            let by_source = backends.get(usize::from(owner)).is_some_and(BackendEntry::slot_by_source);
            let flow = TrackedFlow {
                owner,
                state: entry.state_number(),
                tag: entry.tag(),
                slot: slot_of(entry.tag(), by_source),
                silent_s: u64::from(now.since(entry.time())) * TICK_NS / 1_000_000_000,
                known: tuples.get(&(owner, entry.tag())).copied(),
            };
            if visit(&flow).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn read<K: Pod>(map: &HashMap<MapData, K, ServiceEntry>, name: &'static str) -> Result<Vec<ServiceEntry>, Failure> {
    let entries = map.iter().map(|item| item.map(|(_, service)| service));
    entries.collect::<Result<_, _>>().map_err(|e| failed(name, io_error(&e)))
}
