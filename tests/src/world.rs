//! A table set in plain values: what both worlds, the kernel's maps and the host's memory, are filled with.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::ABI_VERSION;
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BackendEntry};
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{
    HOST_ANY_PORT, HOST_ENCAP, HOST_PREFIX_VIPS, HOST_REPLIES, HOST_SNAT, Host, InterfaceEntry, VIP_IS_BACKEND,
    VipEntry,
};
use lb_common::limits::{RING_LEN, RING_SIZE, SCHEDULE_TURNS};
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{REPLY_COUNTS_LOAD, REPLY_SLOT_BY_SOURCE, REPLY_TRACKED, ReplyEntry};
use lb_common::schedule::Schedule;
use lb_common::service::{
    FORWARD_NAT, SELECT_LEAST_CONN, SELECT_SOURCE_HASH, SERVICE_PREFIX, SERVICE_QUIC, SERVICE_SLOW, SERVICE_SNAT,
    ServiceEntry, TRACKING_FULL,
};
use lb_common::slot::{Owner, Slot};

/// Buckets of the rigs' flow tables.
pub const BUCKETS: u32 = 1 << 10;

/// Words of the rigs' epoch bitmaps.
pub const EPOCH_WORDS: u32 = 1 << 12;

/// The rigs' fixed time, ns: about an hour after boot, so that nothing is near zero.
pub const NOW_NS: u64 = 13_000 << 28;

/// The interface that packets come in by, in both worlds: loopback, which every namespace has.
pub const WIRE: u32 = 1;

/// Another interface, that some backends are behind.
pub const OTHER: u32 = 77;

/// MAC address of our side of every interface.
pub const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The port that gue usually goes to.
pub const GUE_PORT: u16 = 6_080;

/// An address in the shape of the slow tables.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(a) => Address::v4(a.octets()),
        IpAddr::V6(a) => Address(a.octets()),
    }
}

/// One service and its pool.
#[derive(Clone, Debug)]
pub struct Service {
    /// The VIP.
    pub vip: IpAddr,
    /// Host order; 0: every port.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// As the kernel sees it.
    pub entry: ServiceEntry,
    /// The pool's owners, in turn over the ring.
    pub owners: Vec<Owner>,
}

/// Everything that the agent would have written.
#[derive(Clone)]
pub struct World {
    /// The host's record.
    pub host: Host,
    /// IPv4 services.
    pub services_v4: HashMap<EndpointV4, ServiceEntry>,
    /// IPv6 services.
    pub services_v6: HashMap<EndpointV6, ServiceEntry>,
    /// IPv4 prefix VIPs, without port and protocol.
    pub prefixes_v4: HashSet<EndpointV4>,
    /// IPv6 prefix VIPs, without port and protocol.
    pub prefixes_v6: HashSet<EndpointV6>,
    /// How connection IDs of QUIC services are read.
    pub quic: HashMap<u16, QuicConfig>,
    /// Whom server IDs name.
    pub quic_servers: HashMap<QuicServerKey, Owner>,
    /// Rings by service id.
    pub rings: HashMap<u16, Box<[u32; RING_LEN]>>,
    /// Backends by owner.
    pub backends: HashMap<Owner, BackendEntry>,
    /// Schedules by service id.
    pub schedules: HashMap<u16, Box<Schedule>>,
    /// VIPs and nat backends.
    pub vips: HashMap<Address, VipEntry>,
    /// This host's addresses.
    pub locals: HashSet<Address>,
    /// Interfaces.
    pub interfaces: HashMap<u32, InterfaceEntry>,
    /// nat replies, IPv4.
    pub replies_v4: HashMap<EndpointV4, ReplyEntry>,
    /// nat replies, IPv6.
    pub replies_v6: HashMap<EndpointV6, ReplyEntry>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            host: Host {
                abi_version: ABI_VERSION,
                flags: 0,
                flow_mask: BUCKETS - 1,
                epoch_mask: EPOCH_WORDS - 1,
                epoch_shift: 5,
                cpus: 2,
                route_from: 1,
                generation: 0,
                seed: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211, 0x0f1e_2d3c_4b5a_6978, 0x1357_9bdf_0246_8ace],
            },
            services_v4: HashMap::new(),
            services_v6: HashMap::new(),
            prefixes_v4: HashSet::new(),
            prefixes_v6: HashSet::new(),
            quic: HashMap::new(),
            quic_servers: HashMap::new(),
            rings: HashMap::new(),
            backends: HashMap::new(),
            schedules: HashMap::new(),
            vips: HashMap::new(),
            locals: HashSet::new(),
            interfaces: HashMap::from([
                (WIRE, InterfaceEntry { mac: OUR_MAC, flags: 0 }),
                (OTHER, InterfaceEntry { mac: OUR_MAC, flags: 0 }),
            ]),
            replies_v4: HashMap::new(),
            replies_v6: HashMap::new(),
        }
    }
}

/// A service entry with the default timeouts; `id` also numbers the ring.
pub fn service_entry(id: u16) -> ServiceEntry {
    ServiceEntry {
        id,
        forward: FORWARD_NAT,
        select: 0,
        tracking: TRACKING_FULL,
        flags: 0,
        syn_ticks: 19,
        idle_ticks: 3_353,
        fin_ticks: 38,
        snat_port_first: 1_024,
        snat_port_count: 4_096,
    }
}

/// A reachable backend of `service`, MAC address by owner.
pub fn backend_entry(owner: Owner, service: u16, addr: IpAddr, port: u16) -> BackendEntry {
    let [high, low] = owner.to_be_bytes();
    BackendEntry {
        dst_mac: [0x02, 0, 0, 0xbe, high, low],
        flags: BACKEND_ALIVE | BACKEND_REACHABLE,
        src_mac: OUR_MAC,
        service,
        addr: address(addr),
        ifindex: WIRE,
        port: port.to_be_bytes(),
        link_prefix: 0,
        source_bits: 0,
        snat_addr: Address::default(),
        weight: 100,
        mtu: 1_500,
        zero2: 0,
    }
}

/// Reads `address:port`.
pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

impl World {
    /// Enters a service at `vip`, with `backends` as owner and address. Returns itself, so that worlds can be written in one go.
    pub fn pool(mut self, vip: &str, protocol: u8, entry: ServiceEntry, backends: &[(Owner, &str)]) -> Self {
        let owners = backends.iter().map(|(owner, _)| *owner).collect();
        let service = Service { vip: at(vip).ip(), port: at(vip).port(), protocol, entry, owners };
        let entries: Vec<_> = backends
            .iter()
            .map(|(owner, addr)| (*owner, backend_entry(*owner, entry.id, at(addr).ip(), at(addr).port())))
            .collect();
        self.add(&service, &entries);
        self
    }

    /// Makes the service at `vip` one on the prefix of that length (`vip` is its network address).
    pub fn on_prefix(mut self, vip: &str, protocol: u8, len: u8) -> Self {
        let (vip, port) = (at(vip).ip(), at(vip).port().to_be_bytes());
        match vip {
            IpAddr::V4(a) => {
                let key = EndpointV4 { addr: a.octets(), port, protocol, zero: 0 };
                let mut entry = self.services_v4.remove(&key).expect("the service is in the world");
                entry.flags |= SERVICE_PREFIX;
                let _old = self.services_v4.insert(EndpointV4 { zero: len, ..key }, entry);
                let _new = self.prefixes_v4.insert(EndpointV4 { port: [0, 0], protocol: 0, zero: len, ..key });
            }
            IpAddr::V6(a) => {
                let key = EndpointV6 { addr: a.octets(), port, protocol, zero: 0 };
                let mut entry = self.services_v6.remove(&key).expect("the service is in the world");
                entry.flags |= SERVICE_PREFIX;
                let _old = self.services_v6.insert(EndpointV6 { zero: len, ..key }, entry);
                let _new = self.prefixes_v6.insert(EndpointV6 { port: [0, 0], protocol: 0, zero: len, ..key });
            }
        }
        let _vip = self.vips.remove(&address(vip));
        self.host.flags |= HOST_PREFIX_VIPS;
        self
    }

    /// Lets connection IDs of a service name owners.
    pub fn with_quic(mut self, service: u16, config: QuicConfig, servers: &[(&[u8], Owner)]) -> Self {
        let mark = |entry: &mut ServiceEntry| {
            if entry.id == service {
                entry.flags |= SERVICE_QUIC | SERVICE_SLOW;
            }
        };
        self.services_v4.values_mut().for_each(mark);
        self.services_v6.values_mut().for_each(mark);
        let _old = self.quic.insert(service, config);
        for (server, owner) in servers {
            let mut id = [0; 16];
            id[..server.len()].copy_from_slice(server);
            let key = QuicServerKey { service, len: config.server_id_len(), zero: 0, id };
            let _old = self.quic_servers.insert(key, *owner);
        }
        self
    }

    /// Gives every backend in `owners` a source address of ours that its flows get.
    pub fn lend(mut self, owners: &[Owner], snat: IpAddr) -> Self {
        for owner in owners {
            self.backend(*owner).snat_addr = address(snat);
        }
        let _known = self.locals.insert(address(snat));
        self.host.flags |= HOST_SNAT;
        self
    }

    /// Gives every backend in `owners` an outer source, whose `bits` low bits are the flow's, and gue's usual port.
    pub fn wrap(mut self, owners: &[Owner], source: IpAddr, bits: u8) -> Self {
        for owner in owners {
            let backend = self.backend(*owner);
            backend.snat_addr = address(source);
            backend.source_bits = bits;
            backend.port = GUE_PORT.to_be_bytes();
        }
        self
    }

    /// A backend, to be changed.
    pub fn backend(&mut self, owner: Owner) -> &mut BackendEntry {
        self.backends.get_mut(&owner).expect("the backend is in the world")
    }

    /// Changes every slot of a ring.
    pub fn turn_ring(&mut self, service: u16, change: impl Fn(Slot) -> Slot) {
        let ring = self.rings.get_mut(&service).expect("the service is in the world");
        for slot in ring.iter_mut().take(RING_SIZE) {
            *slot = change(Slot(*slot)).0;
        }
    }

    /// Enters a service whose pool shares the ring in turn, its VIP, its backends and, in nat without snat, their replies.
    pub fn add(&mut self, service: &Service, backends: &[(Owner, BackendEntry)]) {
        let port = service.port.to_be_bytes();
        match service.vip {
            IpAddr::V4(a) => {
                let key = EndpointV4 { addr: a.octets(), port, protocol: service.protocol, zero: 0 };
                let _old = self.services_v4.insert(key, service.entry);
            }
            IpAddr::V6(a) => {
                let key = EndpointV6 { addr: a.octets(), port, protocol: service.protocol, zero: 0 };
                let _old = self.services_v6.insert(key, service.entry);
            }
        }
        let _old = self.vips.insert(address(service.vip), VipEntry { flags: 0 });
        if service.port == 0 {
            self.host.flags |= HOST_ANY_PORT;
        }
        if service.entry.encapsulates() {
            self.host.flags |= HOST_ENCAP;
        }
        let mut ring: Box<[u32; RING_LEN]> =
            vec![0; RING_LEN].into_boxed_slice().try_into().expect("made with this length");
        for (i, slot) in ring.iter_mut().take(RING_SIZE).enumerate() {
            *slot = match service.owners.len() {
                0 => 0,
                n => Slot::settled(service.owners[i % n]).0,
            };
        }
        let _old = self.rings.insert(service.entry.id, ring);
        let mut schedule = Box::new(Schedule { len: 0, zero: 0, turns: [0; SCHEDULE_TURNS] });
        for (turn, owner) in schedule.turns.iter_mut().zip(&service.owners) {
            *turn = *owner;
        }
        schedule.len = u32::try_from(service.owners.len()).expect("a pool is small");
        let _old = self.schedules.insert(service.entry.id, schedule);
        for (owner, backend) in backends {
            let _old = self.backends.insert(*owner, *backend);
            if service.entry.forward == FORWARD_NAT && service.entry.flags & SERVICE_SNAT == 0 {
                self.add_reply(service, *owner, backend);
                let _old = self.vips.entry(backend.addr).or_insert(VipEntry { flags: VIP_IS_BACKEND });
            }
        }
    }

    fn add_reply(&mut self, service: &Service, owner: Owner, backend: &BackendEntry) {
        let mut flags = if service.entry.select == SELECT_SOURCE_HASH { REPLY_SLOT_BY_SOURCE } else { 0 };
        flags |= if service.entry.tracking == TRACKING_FULL { REPLY_TRACKED } else { 0 };
        flags |= if service.entry.select == SELECT_LEAST_CONN { REPLY_COUNTS_LOAD } else { 0 };
        let entry = ReplyEntry {
            vip: address(service.vip),
            vip_port: service.port.to_be_bytes(),
            service: service.entry.id,
            owner,
            flags,
            zero: 0,
        };
        self.host.flags |= HOST_REPLIES;
        let (port, protocol) = (backend.port, service.protocol);
        match service.vip {
            IpAddr::V4(_) => {
                let key = EndpointV4 { addr: backend.addr.as_v4(), port, protocol, zero: 0 };
                let _old = self.replies_v4.insert(key, entry);
            }
            IpAddr::V6(_) => {
                let key = EndpointV6 { addr: backend.addr.0, port, protocol, zero: 0 };
                let _old = self.replies_v6.insert(key, entry);
            }
        }
    }
}
