//! The network as the kernel sees it: this host's interfaces and addresses, and the next hop towards each address that somebody
//! asked for. Plain data, whole every time: a view says all there is, not what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One complete view of the host's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// Interfaces by their index.
    pub interfaces: BTreeMap<u32, Interface>,
    /// This host's addresses: address, prefix length, interface index.
    pub addresses: BTreeSet<(IpAddr, u8, u32)>,
    /// The way to each watched address.
    pub next_hops: BTreeMap<IpAddr, NextHop>,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name ("eth0").
    pub name: String,
    /// Its MAC address; zero where it has none (tun, loopback).
    pub mac: [u8; 6],
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Switched on, with carrier, and able to send.
    pub up: bool,
    /// What it is.
    pub kind: LinkKind,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
}

/// What an interface is, as far as anything depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// `lo`.
    Loopback,
    /// A real or virtualised NIC (a driver's own device).
    Physical,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A bond.
    Bond,
    /// An 802.1Q sub-interface.
    Vlan,
    /// tun or tap.
    Tun,
    /// Any other software device.
    Other,
}

/// The way to one address, by the kernel's own routing decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Packets can be sent.
    Resolved {
        /// The interface they leave by.
        ifindex: u32,
        /// MAC address of the host, or of the gateway towards it; zero on interfaces that have no neighbours (tun).
        dst_mac: [u8; 6],
        /// MAC address of the interface.
        src_mac: [u8; 6],
        /// This host's preferred address towards it.
        source: IpAddr,
        /// The host is on a link of ours: prefix length of that link. `None`: behind a gateway.
        on_link: Option<u8>,
        /// Largest packet on this way, in bytes, as far as the kernel knows (interface, route, learned path MTU).
        mtu: u16,
    },
    /// There is a route, but its interface is down or nobody answers for the MAC address (yet).
    Unresolved {
        /// The interface they would leave by.
        ifindex: u32,
        /// As in `Resolved`.
        source: IpAddr,
        /// As in `Resolved`.
        on_link: Option<u8>,
        /// As in `Resolved`.
        mtu: u16,
    },
    /// There is no route.
    Unroutable {
        /// For the operator: "no route to host".
        reason: String,
    },
    /// The address is one of this host's own.
    Local,
}
