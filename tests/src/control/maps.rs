//! What the packet path has been told, read from outside the agent: its pinned maps.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, Map, MapData};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::{Address, EndpointV4};
use lb_common::limits::{MAX_OWNERS, RING_SIZE};
use lb_common::maps;
use lb_common::service::ServiceEntry;
use lb_common::slot::{NOBODY, Owner, Ring, Slot};

/// The pins of an agent.
#[derive(Debug)]
pub(super) struct Pins(pub(super) PathBuf);

impl Pins {
    /// Ids of the services that are in force; none before the maps are there.
    pub(super) fn services(&self) -> Vec<u16> {
        let Ok(map) = MapData::from_pin(self.0.join(maps::SERVICES_V4)) else { return Vec::new() };
        let map: HashMap<_, EndpointV4, ServiceEntry> =
            HashMap::try_from(Map::HashMap(map)).expect("services are in a hash");
        let mut ids: Vec<u16> = map.iter().filter_map(Result::ok).map(|(_, entry)| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    /// A service's ring, open for reading.
    pub(super) fn ring(&self, service: u16) -> Option<OpenRing> {
        let map = MapData::from_pin(self.0.join("rings").join(service.to_string())).ok()?;
        Some(OpenRing(Array::try_from(Map::Array(map)).expect("a ring is an array")))
    }

    /// Owners whose backend has this address.
    pub(super) fn owners_at(&self, address: Ipv4Addr) -> BTreeSet<Owner> {
        let map = MapData::from_pin(self.0.join(maps::BACKENDS)).expect("backends are pinned");
        let map: Array<_, BackendEntry> = Array::try_from(Map::Array(map)).expect("backends are in an array");
        let wanted = Address::v4(address.octets());
        let entry = |n: usize| map.get(&u32::try_from(n).expect("an index"), 0).expect("it is within the array");
        (1..MAX_OWNERS)
            .filter(|n| entry(*n).addr == wanted)
            .map(|n| Owner::try_from(n).expect("owners are 15 bits"))
            .collect()
    }
}

/// A ring.
pub(super) struct OpenRing(Array<MapData, Ring>);

impl OpenRing {
    /// Number of its current owners; 0 while any slot is nobody's.
    pub(super) fn owners(&self) -> usize {
        let mut seen = vec![false; MAX_OWNERS];
        for slot in self.slots() {
            let owner = slot.current();
            if owner == NOBODY {
                return 0;
            }
            seen[usize::from(owner)] = true;
        }
        seen.into_iter().filter(|s| *s).count()
    }

    /// Slots whose current owner is one of these.
    pub(super) fn slots_of(&self, owners: &BTreeSet<Owner>) -> usize {
        let mut is_one = vec![false; MAX_OWNERS];
        for owner in owners {
            is_one[usize::from(*owner)] = true;
        }
        self.slots().into_iter().filter(|slot| is_one[usize::from(slot.current())]).count()
    }

    fn slots(&self) -> Vec<Slot> {
        let ring = self.0.get(&0, 0).expect("a ring has one value");
        ring.iter().take(RING_SIZE).map(|value| Slot(*value)).collect()
    }
}
