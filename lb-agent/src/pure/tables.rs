//! What the maps contain, as a value, and the operations that change it. Nouns only: `plan` finds the operations, an edge
//! carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::admission::{AccessV4, AccessV6, Limits};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{InterfaceEntry, VipEntry};
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::ReplyEntry;
use lb_common::service::ServiceEntry;
use lb_common::slot::Owner;

use super::prefix;
use lb_common::trace::Tap;

/// Key of an address in the slow tables.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address(v6.octets()),
    }
}

/// Service id: index of the service's ring, schedule and cursor.
pub type ServiceId = u16;

/// Key of the service and reply maps, either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Lies in the IPv4 map.
    V4(EndpointV4),
    /// Lies in the IPv6 map.
    V6(EndpointV6),
}

/// A prefix of a service's access list, either family; ordered by family, then by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Lies in the IPv4 trie.
    V4 {
        /// Bits of the address that count.
        bits: u8,
        /// Service and network.
        key: AccessV4,
    },
    /// Lies in the IPv6 trie.
    V6 {
        /// Bits of the address that count.
        bits: u8,
        /// Service and network.
        key: AccessV6,
    },
}

impl Source {
    /// Bits of the address that count.
    pub const fn bits(&self) -> u8 {
        match self {
            Self::V4 { bits, .. } | Self::V6 { bits, .. } => *bits,
        }
    }

    /// Service and network; `None` of what no agent has written.
    pub fn parts(&self) -> Option<(ServiceId, IpNet)> {
        let (service, net) = match self {
            Self::V4 { bits, key } => (key.service, Ipv4Net::new(key.addr.into(), *bits).ok()?.into()),
            Self::V6 { bits, key } => (key.service, Ipv6Net::new(key.addr.into(), *bits).ok()?.into()),
        };
        Some((ServiceId::try_from(u32::from_be_bytes(service)).ok()?, net))
    }
}

/// The rule that decides about a source, as the packet path finds it: that of the longest prefix.
pub fn rule_of(rules: &BTreeMap<Source, u32>, id: ServiceId, source: IpAddr) -> Option<(IpNet, u32)> {
    let of_service = rules.iter().filter_map(|(rule, what)| {
        let (service, net) = rule.parts()?;
        (service == id && net.contains(&source)).then_some((net, *what))
    });
    of_service.max_by_key(|(net, _)| net.prefix_len())
}

/// Everything the agent writes, except the slots of rings, which change in place ([`Op::StoreSlots`]) and are compared only
/// when the maps are read back as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `HOST_*` bits.
    pub host_flags: u32,
    /// An epoch lasts `2^epoch_shift` ticks.
    pub epoch_shift: u32,
    /// Services by what they are looked up by.
    pub services: BTreeMap<Endpoint, ServiceEntry>,
    /// Prefix VIPs: network address and length, without port and protocol.
    pub prefixes: BTreeSet<Endpoint>,
    /// QUIC services: how their connection IDs are read.
    pub quic: BTreeMap<ServiceId, QuicConfig>,
    /// QUIC services: whom a server ID names.
    pub quic_servers: BTreeMap<QuicServerKey, Owner>,
    /// Services that have a ring.
    pub rings: BTreeSet<ServiceId>,
    /// round_robin turns; a service without turns is absent.
    pub schedules: BTreeMap<ServiceId, Vec<Owner>>,
    /// Backends by owner; an owner that is nobody's is absent.
    pub backends: BTreeMap<Owner, BackendEntry>,
    /// nat without snat: what replies are rewritten to.
    pub replies: BTreeMap<Endpoint, ReplyEntry>,
    /// VIPs (and addresses of nat backends, see the entry's flags).
    pub vips: BTreeMap<Address, VipEntry>,
    /// This host's own addresses.
    pub locals: BTreeSet<Address>,
    /// Interfaces that we listen on, by ifindex.
    pub interfaces: BTreeMap<u32, InterfaceEntry>,
    /// Limits of services that have any.
    pub limits: BTreeMap<ServiceId, Limits>,
    /// Access lists.
    pub access: BTreeMap<Source, u32>,
    /// What operators look for, by number; `lost` is the packet path's and always 0 here.
    pub taps: BTreeMap<u8, Tap>,
}

impl Tables {
    /// The longest prefix VIP that holds an address.
    pub fn longest_prefix(&self, address: IpAddr) -> Option<&Endpoint> {
        let network = |p: &Endpoint| match p {
            Endpoint::V4(e) => (IpAddr::from(e.addr), e.zero),
            Endpoint::V6(e) => (IpAddr::from(e.addr), e.zero),
        };
        self.prefixes.iter().filter(|p| prefix::holds(network(p), address)).max_by_key(|p| network(p).1)
    }
}

/// What the maps contain, read back.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All tables.
    pub tables: Tables,
    /// Slots of every ring, `RING_SIZE` each.
    pub slots: BTreeMap<ServiceId, Vec<u32>>,
    /// Whether the maps were there before this process (adopted) or made by it.
    pub adopted: bool,
}

/// One change of one map. Each is right by itself; a list of them is safe to cut off after any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stores the host's flags and the epoch's length.
    SetHost {
        /// `HOST_*` bits.
        flags: u32,
        /// An epoch lasts `2^epoch_shift` ticks.
        epoch_shift: u32,
    },
    /// Writes one of this host's addresses.
    SetLocal(Address),
    /// Removes one.
    RemoveLocal(Address),
    /// Writes an interface.
    SetInterface(u32, InterfaceEntry),
    /// Removes one.
    RemoveInterface(u32),
    /// Writes a VIP.
    SetVip(Address, VipEntry),
    /// Removes one.
    RemoveVip(Address),
    /// Writes a backend, word by word.
    SetBackend(Owner, BackendEntry),
    /// Zeroes one: the owner is nobody's.
    ClearBackend(Owner),
    /// Writes what a backend's replies are rewritten to.
    SetReply(Endpoint, ReplyEntry),
    /// Removes it.
    RemoveReply(Endpoint),
    /// Writes the turns of a round_robin service; empty: nobody has a turn.
    SetSchedule(ServiceId, Vec<Owner>),
    /// Makes a ring and puts it in its place in the outer map.
    CreateRing(ServiceId, Vec<u32>),
    /// Stores slots of a ring in place: (index, slot).
    StoreSlots(ServiceId, Vec<(u32, u32)>),
    /// Takes a ring away.
    RemoveRing(ServiceId),
    /// Writes a service: from here on its packets are ours.
    SetService(Endpoint, ServiceEntry),
    /// Removes one.
    RemoveService(Endpoint),
    /// Writes a service's limits; all zeroes: it has none.
    SetLimits(ServiceId, Limits),
    /// Writes a rule of an access list (`ACCESS_*`).
    SetAccess(Source, u32),
    /// Removes one.
    RemoveAccess(Source),
    /// Opens a tap.
    SetTap(u8, Tap),
    /// Closes one.
    ClearTap(u8),
    /// Enters a prefix VIP: from here on packets for its addresses are ours.
    SetPrefix(Endpoint),
    /// Removes one.
    RemovePrefix(Endpoint),
    /// Writes how connection IDs of a service are read; zero: not at all.
    SetQuic(ServiceId, QuicConfig),
    /// Writes whom a server ID names.
    SetQuicServer(QuicServerKey, Owner),
    /// Removes it.
    RemoveQuicServer(QuicServerKey),
}
