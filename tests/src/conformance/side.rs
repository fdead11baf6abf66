//! The world that the cases happen in, once for each family: a service of every kind, at addresses that differ in their last part.

use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{BACKEND_ALIVE, BACKEND_ON_LINK, BACKEND_REACHABLE};
use lb_common::host::{HOST_LOCAL_INTERFACES, INTERFACE_LOCAL, InterfaceEntry, VIP_ASSIGNED, VipEntry};
use lb_common::service::{FORWARD_L2DSR, SERVICE_SNAT, ServiceEntry};
use lb_common::slot::Owner;

use super::case::Service;
use crate::everything::LOCAL;
use crate::world::{World, address, service_entry};

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
const SERVICES: u16 = 20;

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

fn enter(world: World, s: &Service, entry: ServiceEntry) -> World {
    let backend = s.backend.to_string();
    world.pool(&s.vip.to_string(), s.protocol, entry, &[(s.owner, &backend)])
}
