//! This host's network, as far as forwarding needs it. Nouns only; an edge fills them in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A complete view, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// Interfaces by ifindex.
    pub interfaces: BTreeMap<u32, Interface>,
    /// This host's addresses: address, prefix length, ifindex.
    pub addresses: BTreeSet<(IpAddr, u8, u32)>,
    /// Ways to the addresses that were asked for.
    pub next_hops: BTreeMap<IpAddr, NextHop>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address; zeroes where it has none.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Up, with carrier.
    pub up: bool,
    /// What it is.
    pub kind: LinkKind,
    /// The bridge it belongs to.
    pub master: Option<u32>,
}

/// What an interface is, as far as we care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge: its ports are local containers or VMs.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// A tap or tun device.
    Tun,
    /// The loopback.
    Loopback,
    /// A NIC, or anything else.
    Other,
}

/// The way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// All known.
    Resolved {
        /// The way out.
        way: Way,
        /// Next hop's MAC address.
        dst_mac: [u8; 6],
    },
    /// The way is known, the next hop's MAC address is not (yet).
    Unresolved {
        /// The way out.
        way: Way,
        /// Why, for the operator: "neighbour 10.0.0.1 on eth0 does not answer".
        reason: String,
    },
    /// No route leads there.
    Unroutable {
        /// What the kernel said.
        reason: String,
    },
    /// An address of this host itself.
    Local,
}

/// The way out towards an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Interface.
    pub ifindex: u32,
    /// Our MAC address there.
    pub src_mac: [u8; 6],
    /// Our address towards it.
    pub source: Option<IpAddr>,
    /// Prefix length of the link that the address is on; `None` behind a gateway.
    pub on_link: Option<u8>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
}
