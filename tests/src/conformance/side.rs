//! The world that the cases happen in, once for each family: a service of every kind, at addresses that differ in their last part.

use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{BACKEND_ALIVE, BACKEND_ON_LINK, BACKEND_REACHABLE};
use lb_common::host::{HOST_LOCAL_INTERFACES, INTERFACE_LOCAL, InterfaceEntry, VIP_ASSIGNED, VipEntry};
use lb_common::quic::QuicConfig;
use lb_common::service::{FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, SERVICE_SNAT, ServiceEntry};
use lb_common::slot::{Owner, Slot};

use super::case::Service;
use crate::everything::LOCAL;
use crate::world::{GUE_PORT, World, address, service_entry};

/// A family, and the addresses that everybody has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both.
pub const BOTH: [Side; 2] = [Side::V4, Side::V6];

/// Source ports that snat lends.
pub const LENT_PORTS: std::ops::Range<u16> = 1_024..5_120;

/// Services of a family.
const SERVICES: u16 = 40;

impl Side {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Whether it is IPv6.
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::V6)
    }

    fn address(self, v4: &str, v6: &str, n: u8) -> IpAddr {
        let text = if self.is_v6() { format!("{v6}{n}") } else { format!("{v4}{n}") };
        text.parse().expect("an address")
    }

    /// The `n`th VIP.
    pub fn vip(self, n: u8) -> IpAddr {
        self.address("203.0.113.", "2001:db8::", n)
    }

    /// The `n`th backend.
    pub fn backend(self, n: u8) -> IpAddr {
        self.address("10.0.0.", "fd00::", n)
    }

    /// The client, on our link.
    pub fn client(self) -> IpAddr {
        self.on_link(7)
    }

    /// Somebody on our link; only number 7 and the gateway, 254, have a known MAC address, and number 1 is us.
    pub fn on_link(self, n: u8) -> IpAddr {
        self.address("192.0.2.", "2001:db8:9::", n)
    }

    /// A router far away.
    pub fn router(self) -> IpAddr {
        self.address("198.18.0.", "2001:db8:18::", 9)
    }

    /// A server that is none of ours.
    pub fn stranger(self) -> IpAddr {
        self.address("198.18.5.", "2001:db8:185::", 5)
    }

    /// A client that no route leads to.
    pub fn unreachable(self) -> IpAddr {
        self.address("198.51.100.", "2001:db8:dead::", 5)
    }

    /// A client behind a link of 1,280 bytes.
    pub fn narrow(self) -> IpAddr {
        self.address("100.64.0.", "2001:db8:64::", 5)
    }

    /// The address that snat uses.
    pub fn lent(self) -> IpAddr {
        self.backend(1)
    }

    /// Our own address on the link.
    pub fn ours(self) -> IpAddr {
        self.on_link(1)
    }

    const fn base(self) -> Owner {
        if self.is_v6() { SERVICES } else { 0 }
    }

    /// The service with this number; what each is stands in [`world`].
    fn service(self, number: Owner, protocol: u8, vip: (u8, u16), backend: (u8, u16)) -> Service {
        Service {
            protocol,
            vip: SocketAddr::new(self.vip(vip.0), vip.1),
            backend: SocketAddr::new(self.backend(backend.0), backend.1),
            owner: self.base() + number,
            client: SocketAddr::new(self.client(), 40_000),
        }
    }

    /// nat, TCP.
    pub fn nat(self) -> Service {
        self.service(1, 6, (10, 80), (11, 8_080))
    }

    /// nat, UDP.
    pub fn nat_udp(self) -> Service {
        self.service(2, 17, (10, 53), (11, 5_353))
    }

    /// l2dsr, TCP.
    pub fn dsr(self) -> Service {
        self.service(3, 6, (20, 80), (21, 80))
    }

    /// l2dsr, UDP.
    pub fn dsr_udp(self) -> Service {
        self.service(4, 17, (20, 53), (21, 53))
    }

    /// nat with snat, TCP.
    pub fn snat(self) -> Service {
        self.service(5, 6, (30, 80), (31, 8_080))
    }

    /// nat with snat, UDP.
    pub fn snat_udp(self) -> Service {
        self.service(6, 17, (30, 53), (31, 5_353))
    }

    /// nat, TCP, every port; the client asks for 4,711.
    pub fn any_port(self) -> Service {
        self.service(7, 6, (40, 4_711), (41, 4_711))
    }

    /// nat, UDP, every port; the client asks for 4,711.
    pub fn any_port_udp(self) -> Service {
        self.service(8, 17, (40, 4_711), (41, 4_711))
    }

    /// nat, TCP; the backend's next hop is unknown.
    pub fn unresolved(self) -> Service {
        self.service(9, 6, (50, 80), (51, 8_080))
    }

    /// nat, TCP; the way to the backend takes 1,280 bytes.
    pub fn narrow_backend(self) -> Service {
        self.service(10, 6, (50, 81), (52, 8_080))
    }

    /// nat, TCP; the backend is dead, and the ring still names it.
    pub fn dead(self) -> Service {
        self.service(11, 6, (50, 82), (53, 8_080))
    }

    /// nat, TCP; the backend is on its clients' link: hairpin.
    pub fn hairpin(self) -> Service {
        self.service(12, 6, (60, 80), (61, 8_080))
    }

    /// nat, UDP; likewise.
    pub fn hairpin_udp(self) -> Service {
        self.service(13, 17, (60, 53), (61, 5_353))
    }

    /// nat, TCP, on the VIP of the any-port service.
    pub fn exact_beside_any(self) -> Service {
        self.service(14, 6, (40, 80), (42, 8_080))
    }

    /// ipip, TCP, to a backend of the same family.
    pub fn ipip(self) -> Service {
        self.service(16, 6, (70, 80), (71, 80))
    }

    /// ipip, UDP.
    pub fn ipip_udp(self) -> Service {
        self.service(17, 17, (70, 53), (71, 53))
    }

    /// gue, TCP.
    pub fn gue(self) -> Service {
        self.service(18, 6, (72, 80), (73, GUE_PORT))
    }

    /// gue, UDP.
    pub fn gue_udp(self) -> Service {
        self.service(19, 17, (72, 53), (73, GUE_PORT))
    }

    /// ipip, TCP, to an IPv6 backend.
    pub fn ipip_over_v6(self) -> Service {
        let backend = SocketAddr::new(Self::V6.backend(75), 80);
        Service { backend, ..self.service(20, 6, (74, 80), (75, 80)) }
    }

    /// gue, TCP, to an IPv6 backend.
    pub fn gue_over_v6(self) -> Service {
        let backend = SocketAddr::new(Self::V6.backend(77), GUE_PORT);
        Service { backend, ..self.service(21, 6, (76, 80), (77, GUE_PORT)) }
    }

    /// nat, UDP, with QUIC connection IDs. The whole ring is this backend's; its server ID is its owner.
    pub fn quic(self) -> Service {
        self.service(22, 17, (80, 443), (81, 443))
    }

    /// The same service; only connection IDs lead to this backend, whose server ID is its owner.
    pub fn quic_named(self) -> Service {
        self.service(23, 17, (80, 443), (82, 443))
    }

    /// l2dsr, TCP port 80, on a prefix of 16 or 48 bits; the client asks for an address in its middle.
    pub fn prefix(self) -> Service {
        let vip = SocketAddr::new(self.in_prefix("198.19.77.4", "2001:db8:19:77::4"), 80);
        Service { vip, ..self.service(24, 6, (0, 80), (84, 80)) }
    }

    /// nat with snat, TCP port 81, on the same prefix.
    pub fn prefix_snat(self) -> Service {
        let vip = SocketAddr::new(self.prefix().vip.ip(), 81);
        Service { vip, ..self.service(25, 6, (0, 81), (85, 8_080)) }
    }

    /// One of two addresses, by family.
    pub fn in_prefix(self, v4: &str, v6: &str) -> IpAddr {
        if self.is_v6() { v6 } else { v4 }.parse().expect("an address")
    }

    /// What encapsulated packets to a backend of this family come from. No bit of it is the flow's.
    pub fn outer_source(self) -> IpAddr {
        self.backend(2)
    }

    /// An empty pool, TCP.
    pub fn empty(self) -> Service {
        self.service(15, 6, (50, 83), (54, 8_080))
    }
}

/// The tables for both families. A service's id and its backend's owner are the same number.
pub fn world() -> World {
    let mut world = World::default();
    for side in BOTH {
        let entry =
            |s: &Service| ServiceEntry { snat_port_count: LENT_PORTS.end - LENT_PORTS.start, ..service_entry(s.owner) };
        let dsr = |s: &Service| ServiceEntry { forward: FORWARD_L2DSR, ..entry(s) };
        let snat = |s: &Service| ServiceEntry { flags: SERVICE_SNAT, ..entry(s) };
        let any = |s: Service| Service {
            vip: SocketAddr::new(s.vip.ip(), 0),
            backend: SocketAddr::new(s.backend.ip(), 0),
            ..s
        };
        for s in
            [side.nat(), side.nat_udp(), side.unresolved(), side.narrow_backend(), side.dead(), side.exact_beside_any()]
        {
            world = enter(world, &s, entry(&s));
        }
        for s in [side.dsr(), side.dsr_udp()] {
            world = enter(world, &s, dsr(&s));
        }
        for s in [side.snat(), side.snat_udp()] {
            world = enter(world, &s, snat(&s)).lend(&[s.owner], side.lent());
        }
        for s in [any(side.any_port()), any(side.any_port_udp())] {
            world = enter(world, &s, entry(&s));
        }
        for s in [side.hairpin(), side.hairpin_udp()] {
            world = enter(world, &s, entry(&s)).lend(&[s.owner], side.lent());
            let backend = world.backend(s.owner);
            backend.flags |= BACKEND_ON_LINK;
            backend.link_prefix = if side.is_v6() { 64 } else { 24 };
        }
        let wrapping = [
            (side.ipip(), FORWARD_IPIP),
            (side.ipip_udp(), FORWARD_IPIP),
            (side.gue(), FORWARD_GUE),
            (side.gue_udp(), FORWARD_GUE),
            (side.ipip_over_v6(), FORWARD_IPIP),
            (side.gue_over_v6(), FORWARD_GUE),
        ];
        for (s, forward) in wrapping {
            let outer = if s.backend.is_ipv4() { Side::V4 } else { Side::V6 };
            let entry = ServiceEntry { forward, ..entry(&s) };
            world = enter(world, &s, entry).wrap(&[s.owner], outer.outer_source(), 0);
        }
        world = lookups(world, side, &entry);
        let empty = side.empty();
        world = world.pool(&empty.vip.to_string(), 6, entry(&empty), &[]);
        world.backend(side.unresolved().owner).flags &= !BACKEND_REACHABLE;
        world.backend(side.narrow_backend().owner).mtu = 1_280;
        world.backend(side.dead().owner).flags &= !BACKEND_ALIVE;
        let _new = world.vips.insert(address(side.vip(99)), VipEntry { flags: VIP_ASSIGNED });
        let _new = world.locals.insert(address(side.ours()));
    }
    let _new = world.interfaces.insert(LOCAL, InterfaceEntry { mac: [2; 6], flags: INTERFACE_LOCAL });
    world.host.flags |= HOST_LOCAL_INTERFACES;
    world
}

/// Services that are found otherwise than by an exact key.
fn lookups(mut world: World, side: Side, entry: &impl Fn(&Service) -> ServiceEntry) -> World {
    let (quic, named) = (side.quic(), side.quic_named());
    let pool = [quic, named].map(|s| (s.owner, s.backend.to_string()));
    let pool = [(pool[0].0, pool[0].1.as_str()), (pool[1].0, pool[1].1.as_str())];
    let ids = [quic, named].map(|s| s.owner.to_be_bytes());
    world = world.pool(&quic.vip.to_string(), 17, entry(&quic), &pool);
    world = world.with_quic(quic.owner, QUIC, &[(&ids[0], quic.owner), (&ids[1], named.owner)]);
    world.turn_ring(quic.owner, |_| Slot::settled(quic.owner));
    let len = if side.is_v6() { 48 } else { 16 };
    let network = side.in_prefix("198.19.0.0", "2001:db8:19::");
    for (s, forward, flags) in [(side.prefix(), FORWARD_L2DSR, 0), (side.prefix_snat(), FORWARD_NAT, SERVICE_SNAT)] {
        let vip = SocketAddr::new(network, s.vip.port());
        let at_network = Service { vip, ..s };
        world = enter(world, &at_network, ServiceEntry { forward, flags, ..entry(&s) });
        world = world.on_prefix(&vip.to_string(), 6, len);
    }
    world = world.lend(&[side.prefix_snat().owner], side.lent());
    let _new = world.locals.insert(address(side.in_prefix("198.19.0.250", "2001:db8:19::250")));
    world
}

/// Rotation 0, server IDs of two octets, nonces of five: connection IDs of eight.
pub const QUIC: QuicConfig = QuicConfig::new(0, 2, 5, 0);

fn enter(world: World, s: &Service, entry: ServiceEntry) -> World {
    let backend = s.backend.to_string();
    world.pool(&s.vip.to_string(), s.protocol, entry, &[(s.owner, &backend)])
}
