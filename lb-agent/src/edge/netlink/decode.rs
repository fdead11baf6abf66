//! Reads the kernel's messages into what the tables keep: one small record for each, with everything else left out.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::keeper::OURS;
use crate::pure::network::{Interface, LinkKind};

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) interface: Interface,
    /// It resolves no neighbours (tun, loopback, dummy): packets need no MAC address.
    pub(super) no_arp: bool,
}

/// Where a neighbour entry belongs: interface index and address.
pub(super) type NeighbourKey = (u32, IpAddr);

/// One neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its MAC address, if the kernel holds it for usable.
    pub(super) mac: Option<[u8; 6]>,
    /// How far its resolution is.
    pub(super) phase: Phase,
    /// The kernel keeps it fresh by itself.
    pub(super) managed: bool,
    /// Who made it.
    pub(super) owner: Owner,
}

/// How far the resolution of a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Known, and confirmed or being confirmed.
    Fresh,
    /// Known, and not confirmed lately; only interesting where the kernel does not manage it.
    Stale,
    /// Being asked for.
    Resolving,
    /// Nobody answered.
    Failed,
}

/// Who answers for a neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The kernel made it as it needed it.
    Kernel,
    /// It is marked as ours.
    Us,
    /// An operator (static) or another control plane. Not to be touched.
    Other,
}

/// The kernel's routing decision for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Local,
    Unroutable(String),
    Via { ifindex: u32, gateway: Option<IpAddr>, source: Option<IpAddr>, mtu: Option<u32> },
}

/// What one notification, or one line of a dump, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Link(Link),
    LinkGone(u32),
    Address {
        present: bool,
        address: IpAddr,
        prefix: u8,
        ifindex: u32,
    },
    Neighbour(NeighbourKey, Neighbour),
    NeighbourGone(NeighbourKey),
    /// Routes, rules or next-hop groups have changed.
    Routing,
}

/// What `message` says; `None` if it is about nothing that we keep.
pub(super) fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    Some(match message {
        RouteNetlinkMessage::NewLink(m) => Event::Link(link(m)?),
        // A bridge announces a port that leaves it as a deleted link of the family AF_BRIDGE.
        RouteNetlinkMessage::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => {
            Event::LinkGone(m.header.index)
        }
        RouteNetlinkMessage::NewAddress(m) => address(m, true)?,
        RouteNetlinkMessage::DelAddress(m) => address(m, false)?,
        RouteNetlinkMessage::NewNeighbour(m) => {
            let (key, neighbour) = neighbour(m)?;
            Event::Neighbour(key, neighbour)
        }
        RouteNetlinkMessage::DelNeighbour(m) => Event::NeighbourGone(neighbour(m)?.0),
        RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::NewRule(_)
        | RouteNetlinkMessage::DelRule(_) => Event::Routing,
        _ => return None,
    })
}

fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut interface = Interface {
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: flags.contains(LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp),
        kind: if flags.contains(LinkFlags::Loopback) { LinkKind::Loopback } else { LinkKind::Physical },
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            // InfiniBand's 20 bytes are no MAC address, and cannot be sent to by us.
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Controller(index) => interface.master = Some(*index),
            LinkAttribute::LinkInfo(info) => interface.kind = kind(info).unwrap_or(interface.kind),
            _ => {}
        }
    }
    // Events of wireless drivers carry the index and nothing else.
    (!interface.name.is_empty()).then(|| Link {
        ifindex: message.header.index,
        interface,
        no_arp: flags.contains(LinkFlags::Noarp),
    })
}

fn kind(info: &[LinkInfo]) -> Option<LinkKind> {
    info.iter().find_map(|item| match item {
        LinkInfo::Kind(kind) => Some(match kind {
            InfoKind::Veth => LinkKind::Veth,
            InfoKind::Bridge => LinkKind::Bridge,
            InfoKind::Bond => LinkKind::Bond,
            InfoKind::Vlan => LinkKind::Vlan,
            InfoKind::Tun => LinkKind::Tun,
            _ => LinkKind::Other,
        }),
        _ => None,
    })
}

fn address(message: &AddressMessage, present: bool) -> Option<Event> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; elsewhere they are the same, or
            // (IPv6) the first stands alone.
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => own = own.or(Some(*address)),
            _ => {}
        }
    }
    Some(Event::Address { present, address: own?, prefix: message.header.prefix_len, ifindex: message.header.index })
}

fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    // Proxy entries answer for others, and bridges announce their forwarding tables here too (no IP address).
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac, mut managed, mut protocol) = (None, None, false, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(by) => protocol = Some(*by),
            _ => {}
        }
    }
    let state = message.header.state;
    let phase = match state {
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => Phase::Fresh,
        NeighbourState::Stale => Phase::Stale,
        NeighbourState::Incomplete => Phase::Resolving,
        _ => Phase::Failed,
    };
    let fixed = matches!(state, NeighbourState::Permanent | NeighbourState::Noarp)
        || message.header.flags.contains(NeighbourFlags::ExtLearned);
    let owner = match protocol {
        _ if fixed => Owner::Other,
        Some(OURS) => Owner::Us,
        _ if managed => Owner::Other,
        _ => Owner::Kernel,
    };
    let mac = mac.filter(|_| matches!(phase, Phase::Fresh | Phase::Stale));
    let neighbour = Neighbour { mac, phase, managed, owner };
    Some(((message.header.ifindex, address?), neighbour))
}

/// The decision in the kernel's answer to `RTM_GETROUTE`.
pub(super) fn route(message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast => return Route::Local,
        // IPv6 answers with the route that forbids; IPv4 answers with an error.
        RouteType::Unreachable | RouteType::BlackHole => return Route::Unroutable("no route to host".to_owned()),
        RouteType::Prohibit => return Route::Unroutable("route prohibits it".to_owned()),
        other => return Route::Unroutable(format!("its address is not a host's ({other:?})").to_lowercase()),
    }
    let (mut out, mut gateway, mut source, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            // An IPv4 route through an IPv6 gateway (RFC 5549).
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics
                    .iter()
                    .find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None });
            }
            _ => {}
        }
    }
    match out {
        Some(ifindex) => Route::Via { ifindex, gateway, source, mtu },
        None => Route::Unroutable("route names no interface".to_owned()),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::neighbour::NeighbourHeader;

    use super::*;

    #[test]
    fn a_port_that_leaves_a_bridge_is_no_interface_that_is_gone() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        assert_eq!(event(&RouteNetlinkMessage::DelLink(message.clone())), Some(Event::LinkGone(7)));
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(event(&RouteNetlinkMessage::DelLink(message.clone())), None);
        message.attributes.push(LinkAttribute::IfName("eth0".into()));
        assert_eq!(event(&RouteNetlinkMessage::NewLink(message)), None);
    }

    #[test]
    fn an_event_without_a_name_changes_no_interface() {
        assert_eq!(event(&RouteNetlinkMessage::NewLink(LinkMessage::default())), None);
    }

    #[test]
    fn the_mac_of_a_failed_neighbour_is_not_used() {
        let entry = |state| entry(state, NeighbourFlags::empty(), &[]);
        assert_eq!(entry(NeighbourState::Stale).mac, Some([2; 6]));
        assert_eq!(entry(NeighbourState::Probe).mac, Some([2; 6]));
        assert_eq!((entry(NeighbourState::Failed).mac, entry(NeighbourState::Failed).phase), (None, Phase::Failed));
        assert_eq!((entry(NeighbourState::Incomplete).mac, entry(NeighbourState::None).mac), (None, None));
    }

    #[test]
    fn static_learned_and_otherwise_managed_neighbours_belong_to_others() {
        let (none, managed) = (NeighbourFlags::empty(), NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        let owner = |state, flags, attributes: &[NeighbourAttribute]| entry(state, flags, attributes).owner;
        assert_eq!(owner(NeighbourState::Reachable, none, &[]), Owner::Kernel);
        assert_eq!(owner(NeighbourState::Permanent, none, &[]), Owner::Other);
        assert_eq!(owner(NeighbourState::Reachable, NeighbourFlags::ExtLearned, &[]), Owner::Other);
        assert_eq!(owner(NeighbourState::Reachable, none, std::slice::from_ref(&managed)), Owner::Other);
        assert_eq!(owner(NeighbourState::Reachable, none, &[managed, NeighbourAttribute::Protocol(OURS)]), Owner::Us);
    }

    #[test]
    fn an_ipv4_route_may_lead_through_an_ipv6_gateway() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(2));
        message.attributes.push(RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())));
        let gateway = "fe80::1".parse().ok();
        assert_eq!(route(&message), Route::Via { ifindex: 2, gateway, source: None, mtu: None });
    }

    fn entry(state: NeighbourState, flags: NeighbourFlags, more: &[NeighbourAttribute]) -> Neighbour {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader { state, flags, ifindex: 2, ..NeighbourHeader::default() };
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet("10.1.0.9".parse().unwrap())),
            NeighbourAttribute::LinkLayerAddress(vec![2; 6]),
        ];
        message.attributes.extend_from_slice(more);
        neighbour(&message).unwrap().1
    }
}
