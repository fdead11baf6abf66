//! What the kernel has told us, and the view that follows from it. No sockets: events in, view out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::decode::{Event, Link, Neighbour, NeighbourKey, Owner, Route};
use crate::pure::network::{NetworkView, NextHop};

/// Links, addresses and neighbours as last announced, and the routing decisions as last asked for.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(IpAddr, u8, u32)>,
    neighbours: BTreeMap<NeighbourKey, Neighbour>,
    routes: BTreeMap<IpAddr, Route>,
}

impl Table {
    /// Takes in one event. True if routing may have changed by it: interfaces and addresses decide about routes too, and the
    /// kernel announces no route that it drops because its interface went down.
    pub(super) fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Link(link) => {
                let ifindex = link.ifindex;
                let same = self.links.get(&ifindex) == Some(&link);
                drop(self.links.insert(ifindex, link));
                !same
            }
            Event::LinkGone(gone) => {
                drop(self.links.remove(&gone));
                self.addresses.retain(|(_, _, ifindex)| *ifindex != gone);
                self.neighbours.retain(|(ifindex, _), _| *ifindex != gone);
                true
            }
            Event::Address { present, address, prefix, ifindex } => {
                let _changed: bool = if present {
                    self.addresses.insert((address, prefix, ifindex))
                } else {
                    self.addresses.remove(&(address, prefix, ifindex))
                };
                // Also without a change here: an IPv6 address is announced again when its duplicate detection ends.
                true
            }
            Event::Neighbour(key, neighbour) => {
                let _before: Option<Neighbour> = self.neighbours.insert(key, neighbour);
                false
            }
            Event::NeighbourGone(key) => {
                let _before: Option<Neighbour> = self.neighbours.remove(&key);
                false
            }
            Event::Routing => true,
        }
    }

    /// Forgets everything but the routes, before everything is listed anew.
    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.addresses.clear();
        self.neighbours.clear();
    }

    /// Keeps the routing decisions of `watched` alone, and says which of them have none yet.
    pub(super) fn watch(&mut self, watched: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        self.routes.retain(|address, _| watched.contains(address));
        watched.iter().copied().filter(|address| !self.routes.contains_key(address)).collect()
    }

    /// Takes in the kernel's decision for `address`.
    pub(super) fn decided(&mut self, address: IpAddr, route: Route) {
        drop(self.routes.insert(address, route));
    }

    /// The neighbours that the watched addresses need now, each with its entry.
    pub(super) fn needed(&self) -> BTreeMap<NeighbourKey, Option<Neighbour>> {
        let keys = self.routes.iter().filter_map(|(address, route)| {
            let Route::Via { ifindex, gateway, .. } = route else { return None };
            let link = self.links.get(ifindex)?;
            (link.interface.up && !link.no_arp).then_some((*ifindex, gateway.unwrap_or(*address)))
        });
        keys.map(|key| (key, self.neighbours.get(&key).copied())).collect()
    }

    /// Whether the neighbour `key` is there and marked as ours.
    pub(super) fn is_ours(&self, key: &NeighbourKey) -> bool {
        self.neighbours.get(key).is_some_and(|neighbour| neighbour.owner == Owner::Us)
    }

    /// The view that follows from all this.
    pub(super) fn view(&self) -> NetworkView {
        NetworkView {
            interfaces: self.links.iter().map(|(index, link)| (*index, link.interface.clone())).collect(),
            addresses: self.addresses.clone(),
            next_hops: self.routes.iter().map(|(address, route)| (*address, self.next_hop(*address, route))).collect(),
        }
    }

    fn next_hop(&self, address: IpAddr, route: &Route) -> NextHop {
        let unroutable = |reason: String| NextHop::Unroutable { reason };
        let (ifindex, gateway, source, route_mtu) = match route {
            Route::Local => return NextHop::Local,
            Route::Unroutable(reason) => return unroutable(reason.clone()),
            Route::Via { ifindex, gateway, source, mtu } => (*ifindex, *gateway, *source, *mtu),
        };
        let Some(link) = self.links.get(&ifindex) else {
            return unroutable(format!("its interface (index {ifindex}) is gone or cannot be read"));
        };
        let Some(source) = source else {
            return unroutable(format!("this host has no address to reach it from on {}", link.interface.name));
        };
        let on_link = if gateway.is_none() { Some(self.prefix_of(address, ifindex)) } else { None };
        let mtu = route_mtu.unwrap_or(u32::MAX).min(link.interface.mtu);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let mac = if link.no_arp {
            Some([0; 6])
        } else {
            self.neighbours.get(&(ifindex, gateway.unwrap_or(address))).and_then(|neighbour| neighbour.mac)
        };
        match mac {
            Some(dst_mac) if link.interface.up => {
                NextHop::Resolved { ifindex, dst_mac, src_mac: link.interface.mac, source, on_link, mtu }
            }
            _ => NextHop::Unresolved { ifindex, source, on_link, mtu },
        }
    }

    /// Length of the longest prefix on interface `ifindex` that `address` is in. An address that is on the link by a route alone
    /// (`ip route add ... scope link`) is a link of one.
    fn prefix_of(&self, address: IpAddr, ifindex: u32) -> u8 {
        let containing = self
            .addresses
            .iter()
            .filter_map(|(own, prefix, on)| (*on == ifindex && same_prefix(*own, address, *prefix)).then_some(*prefix));
        containing.max().unwrap_or(if address.is_ipv4() { 32 } else { 128 })
    }
}

/// Whether `a` and `b` are of one family and agree in their first `length` bits.
fn same_prefix(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let differing = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::super::decode::Phase;
    use super::*;
    use crate::pure::network::{Interface, LinkKind};

    const BACKEND: &str = "10.1.0.9";
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    #[test]
    fn a_backend_with_a_usable_neighbour_is_resolved() {
        let table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        assert_eq!(
            hop(&table),
            NextHop::Resolved {
                ifindex: 2,
                dst_mac: MAC,
                src_mac: [2, 0, 0, 0, 0, 1],
                source: "10.1.0.1".parse().unwrap(),
                on_link: Some(24),
                mtu: 1500,
            }
        );
    }

    #[test]
    fn a_neighbour_that_failed_or_vanished_is_unresolved() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        let _routing =
            table.apply(Event::Neighbour(key(BACKEND), Neighbour { mac: None, phase: Phase::Failed, ..neighbour() }));
        assert!(matches!(hop(&table), NextHop::Unresolved { ifindex: 2, .. }));
        let _routing = table.apply(Event::NeighbourGone(key(BACKEND)));
        assert!(matches!(hop(&table), NextHop::Unresolved { ifindex: 2, .. }));
        assert_eq!(table.needed(), BTreeMap::from([(key(BACKEND), None)]));
    }

    #[test]
    fn an_interface_without_carrier_resolves_nothing_and_needs_no_neighbour() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        let mut down = link();
        down.interface.up = false;
        assert!(table.apply(Event::Link(down)), "an interface that goes down may change routing");
        assert!(matches!(hop(&table), NextHop::Unresolved { ifindex: 2, .. }));
        assert!(table.needed().is_empty());
    }

    #[test]
    fn behind_a_gateway_the_gateways_neighbour_counts_and_no_link_is_shared() {
        let route =
            Route::Via { ifindex: 2, gateway: Some(ip("10.1.0.254")), source: Some(ip("10.1.0.1")), mtu: Some(1400) };
        let mut table = table(route);
        assert!(matches!(hop(&table), NextHop::Unresolved { on_link: None, mtu: 1400, .. }));
        let _routing = table.apply(Event::Neighbour(key("10.1.0.254"), neighbour()));
        assert!(matches!(hop(&table), NextHop::Resolved { on_link: None, dst_mac: MAC, mtu: 1400, .. }));
    }

    #[test]
    fn the_mtu_is_the_smallest_known_and_fits_a_packet() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: Some(9000) });
        assert!(matches!(hop(&table), NextHop::Resolved { mtu: 1500, .. }));
        table.decided(ip(BACKEND), Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        let mut huge = link();
        huge.interface.mtu = 65_536;
        let _routing = table.apply(Event::Link(huge));
        assert!(matches!(hop(&table), NextHop::Resolved { mtu: u16::MAX, .. }));
    }

    #[test]
    fn the_longest_prefix_of_the_interface_is_the_link() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        let address = |text: &str, prefix, ifindex| Event::Address {
            present: true,
            address: text.parse().unwrap(),
            prefix,
            ifindex,
        };
        let _routing = table.apply(address("10.1.0.2", 16, 2));
        let _routing = table.apply(address("10.1.0.8", 31, 3));
        assert!(matches!(hop(&table), NextHop::Resolved { on_link: Some(24), .. }));
        let _routing = table.apply(address("10.1.0.8", 29, 2));
        assert!(matches!(hop(&table), NextHop::Resolved { on_link: Some(29), .. }));
    }

    #[test]
    fn an_address_that_only_a_route_puts_on_the_link_is_a_link_of_one() {
        let mut table = Table::default();
        let _routing = table.apply(Event::Link(link()));
        let far: IpAddr = "203.0.113.5".parse().unwrap();
        table.decided(far, Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        assert!(matches!(table.view().next_hops[&far], NextHop::Unresolved { on_link: Some(32), .. }));
    }

    #[test]
    fn tunnels_need_no_neighbour() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        let _routing = table.apply(Event::Link(Link { no_arp: true, ..link() }));
        let _routing = table.apply(Event::NeighbourGone(key(BACKEND)));
        assert!(matches!(hop(&table), NextHop::Resolved { dst_mac: [0, 0, 0, 0, 0, 0], .. }));
        assert!(table.needed().is_empty());
    }

    #[test]
    fn an_interface_that_is_gone_takes_its_addresses_and_neighbours_along() {
        let mut table = table(Route::Via { ifindex: 2, gateway: None, source: Some(ip("10.1.0.1")), mtu: None });
        assert!(table.apply(Event::LinkGone(2)));
        let view = table.view();
        assert!(view.interfaces.is_empty() && view.addresses.is_empty());
        assert!(matches!(&hop(&table), NextHop::Unroutable { reason } if reason.contains("is gone")));
        assert!(!table.is_ours(&key(BACKEND)));
    }

    #[test]
    fn an_address_that_is_no_longer_watched_leaves_the_view() {
        let mut table = table(Route::Local);
        let other: IpAddr = "10.1.0.10".parse().unwrap();
        assert_eq!(table.watch(&BTreeSet::from([other])), [other]);
        assert!(table.view().next_hops.is_empty());
    }

    fn table(route: Route) -> Table {
        let mut table = Table::default();
        let _routing = table.apply(Event::Link(link()));
        let address = "10.1.0.1".parse().unwrap();
        let _routing = table.apply(Event::Address { present: true, address, prefix: 24, ifindex: 2 });
        let _routing = table.apply(Event::Neighbour(key(BACKEND), neighbour()));
        table.decided(ip(BACKEND), route);
        table
    }

    fn link() -> Link {
        let interface = Interface {
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            kind: LinkKind::Physical,
            master: None,
        };
        Link { ifindex: 2, interface, no_arp: false }
    }

    fn neighbour() -> Neighbour {
        Neighbour { mac: Some(MAC), phase: Phase::Fresh, managed: true, owner: Owner::Us }
    }

    fn key(address: &str) -> NeighbourKey {
        (2, address.parse().unwrap())
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn hop(table: &Table) -> NextHop {
        table.view().next_hops[&ip(BACKEND)].clone()
    }
}
