//! A world with everything in it: every service that `check` lets through, in both families, and pools with every flaw.

use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{BACKEND_ALIVE, BACKEND_ON_LINK, BACKEND_REACHABLE, BACKEND_VIA_TC, BackendEntry};
use lb_common::host::{HOST_LOCAL_INTERFACES, INTERFACE_LOCAL, InterfaceEntry, VIP_ASSIGNED, VipEntry};
use lb_common::quic::{QUIC_LENGTH_IN_FIRST_OCTET, QuicConfig};
use lb_common::service::{
    FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN,
    SELECT_SOURCE_HASH, SERVICE_PREFIX, SERVICE_QUIC, SERVICE_SNAT, ServiceEntry, TRACKING_FULL, TRACKING_MINIMAL,
    TRACKING_NONE,
};
use lb_common::slot::Owner;

use crate::world::{OTHER, World, address, at, service_entry};

/// A service as clients and backends know it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where clients connect to; port 0: anywhere.
    pub vip: SocketAddr,
    /// TCP or UDP.
    pub protocol: u8,
    /// As the kernel sees it.
    pub entry: ServiceEntry,
    /// Length of the prefix whose network address `vip` has.
    pub prefix: Option<u8>,
    /// Its backends.
    pub backends: Vec<(Owner, SocketAddr)>,
}

/// Selection and tracking that go together.
const POLICIES: [(u8, u8); 8] = [
    (SELECT_MAGLEV, TRACKING_FULL),
    (SELECT_MAGLEV, TRACKING_MINIMAL),
    (SELECT_MAGLEV, TRACKING_NONE),
    (SELECT_SOURCE_HASH, TRACKING_FULL),
    (SELECT_SOURCE_HASH, TRACKING_MINIMAL),
    (SELECT_SOURCE_HASH, TRACKING_NONE),
    (SELECT_ROUND_ROBIN, TRACKING_FULL),
    (SELECT_LEAST_CONN, TRACKING_FULL),
];

/// An interface whose packets XDP leaves to TC.
pub const LOCAL: u32 = 78;

/// A VIP that the host holds itself, without services.
pub const ASSIGNED: [&str; 2] = ["203.0.113.99", "2001:db8::99"];

/// Addresses of ours that snat uses.
pub const LENT: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// Outer sources of ipip and gue, 16 bits of which are the flow's.
pub const OUTER: [&str; 2] = ["172.16.0.0", "fd00:172:16::"];

/// The world, and its services.
pub fn everything() -> (World, Vec<Known>) {
    let mut maker = Maker { world: World::default(), known: Vec::new() };
    for is_v6 in [false, true] {
        for protocol in [6, 17] {
            for (select, tracking) in POLICIES {
                maker.service(is_v6, protocol, ServiceEntry { select, tracking, ..service_entry(0) });
                maker.service(
                    is_v6,
                    protocol,
                    ServiceEntry { select, tracking, forward: FORWARD_L2DSR, ..service_entry(0) },
                );
                let forward = if select % 2 == 0 { FORWARD_IPIP } else { FORWARD_GUE };
                maker.service(is_v6, protocol, ServiceEntry { select, tracking, forward, ..service_entry(0) });
                if tracking == TRACKING_FULL {
                    maker.service(is_v6, protocol, ServiceEntry { select, flags: SERVICE_SNAT, ..service_entry(0) });
                }
            }
        }
    }
    maker.prefixes();
    maker.quic();
    maker.flaws();
    let Maker { mut world, known } = maker;
    for vip in ASSIGNED {
        let vip: IpAddr = vip.parse().expect("an address");
        let _new = world.vips.insert(address(vip), VipEntry { flags: VIP_ASSIGNED });
    }
    let _new = world.interfaces.insert(LOCAL, InterfaceEntry { mac: [2; 6], flags: INTERFACE_LOCAL });
    world.host.flags |= HOST_LOCAL_INTERFACES;
    (world, known)
}

struct Maker {
    world: World,
    known: Vec<Known>,
}

impl Maker {
    fn service(&mut self, is_v6: bool, protocol: u8, mut entry: ServiceEntry) {
        entry.id = u16::try_from(self.known.len() + 1).expect("a small number");
        // A few ports for many clients: snat must find them taken.
        entry.snat_port_count = 64;
        entry.snat_port_first = 1_024 + entry.id * 64;
        let any_port = entry.id.is_multiple_of(7);
        let port = if any_port { 0 } else { 8_000 + entry.id };
        // Services share VIPs, but one that takes every port shares none of its protocol.
        let host = if any_port { 100 + entry.id / 7 } else { 10 + entry.id % 3 };
        let vip = if is_v6 { format!("[2001:db8::{host}]:{port}") } else { format!("203.0.113.{host}:{port}") };
        self.place(&vip, protocol, entry, if any_port { 0 } else { 9_000 });
    }

    /// Prefixes, one within the other, with one port and with all of them.
    fn prefixes(&mut self) {
        let dsr = ServiceEntry { forward: FORWARD_L2DSR, ..service_entry(0) };
        let snat = ServiceEntry { flags: SERVICE_SNAT, ..service_entry(0) };
        for (is_v6, networks) in [
            (false, ["198.19.0.0", "198.19.1.0", "198.19.2.0"]),
            (true, ["[2001:db8:19::]", "[2001:db8:19:1::]", "[2001:db8:19:2::]"]),
        ] {
            for (n, (len, port, protocol, entry)) in [
                (if is_v6 { 48 } else { 16 }, 80, 6, dsr),
                (if is_v6 { 64 } else { 24 }, 80, 17, ServiceEntry { select: SELECT_LEAST_CONN, ..snat }),
                (if is_v6 { 64 } else { 24 }, 0, 6, ServiceEntry { select: SELECT_SOURCE_HASH, ..snat }),
                (if is_v6 { 64 } else { 24 }, 80, 6, ServiceEntry { tracking: TRACKING_MINIMAL, ..dsr }),
            ]
            .into_iter()
            .enumerate()
            {
                let vip = format!("{}:{port}", networks[n.min(2)]);
                let id = u16::try_from(self.known.len() + 1).expect("a small number");
                let entry = ServiceEntry { id, snat_port_first: 30_000 + id * 64, snat_port_count: 64, ..entry };
                self.place(&vip, protocol, entry, if port == 0 { 0 } else { 9_000 });
                self.world = std::mem::take(&mut self.world).on_prefix(&vip, protocol, len);
                let known = self.known.last_mut().expect("placed above");
                known.prefix = Some(len);
                known.entry.flags |= SERVICE_PREFIX;
            }
        }
    }

    /// QUIC services: a server ID is its owner's number.
    fn quic(&mut self) {
        for is_v6 in [false, true] {
            for (n, (select, tracking)) in POLICIES.into_iter().enumerate() {
                let id = u16::try_from(self.known.len() + 1).expect("a small number");
                let forward = if n % 2 == 0 { FORWARD_NAT } else { FORWARD_L2DSR };
                let entry = ServiceEntry { select, tracking, forward, ..service_entry(id) };
                let vip =
                    if is_v6 { format!("[2001:db8::40]:{}", 443 + n) } else { format!("203.0.113.40:{}", 443 + n) };
                self.place(&vip, 17, entry, 443);
                let known = self.known.last_mut().expect("placed above");
                known.entry.flags |= SERVICE_QUIC;
                let servers: Vec<([u8; 2], Owner)> =
                    known.backends.iter().map(|(owner, _)| (owner.to_be_bytes(), *owner)).collect();
                let servers: Vec<(&[u8], Owner)> =
                    servers.iter().map(|(server, owner)| (&server[..], *owner)).collect();
                let flags = if n % 3 == 0 { QUIC_LENGTH_IN_FIRST_OCTET } else { 0 };
                let config = QuicConfig::new(0, 2, 5, flags);
                self.world = std::mem::take(&mut self.world).with_quic(id, config, &servers);
            }
        }
    }

    fn place(&mut self, vip: &str, protocol: u8, entry: ServiceEntry, to: u16) {
        let (vip, id, is_v6) = (vip.to_owned(), entry.id, vip.starts_with('['));
        let backends: Vec<(Owner, SocketAddr)> = (1..=3)
            .map(|n| (id * 4 + n, if is_v6 { format!("[fd00:{id}::{n}]:{to}") } else { format!("10.{id}.0.{n}:{to}") }))
            .map(|(owner, text)| (owner, at(&text)))
            .collect();
        let texts: Vec<(Owner, String)> = backends.iter().map(|(owner, at)| (*owner, at.to_string())).collect();
        let texts: Vec<(Owner, &str)> = texts.iter().map(|(owner, text)| (*owner, text.as_str())).collect();
        self.world = std::mem::take(&mut self.world).pool(&vip, protocol, entry, &texts);
        if entry.forward == FORWARD_NAT {
            let owners: Vec<Owner> = backends.iter().map(|(owner, _)| *owner).collect();
            let snat = LENT[usize::from(is_v6)].parse().expect("an address");
            self.world = std::mem::take(&mut self.world).lend(&owners, snat);
        }
        if entry.encapsulates() {
            let owners: Vec<Owner> = backends.iter().map(|(owner, _)| *owner).collect();
            // Every other IPv4 service is carried by IPv6.
            let outer_v6 = is_v6 || id % 2 == 0;
            let source = if outer_v6 { OUTER[1] } else { OUTER[0] };
            self.world = std::mem::take(&mut self.world).wrap(&owners, source.parse().expect("an address"), 16);
            for owner in owners.iter().filter(|_| outer_v6 && !is_v6) {
                let outer = format!("fd00:{id}::{}", owner % 4).parse().expect("an address");
                self.world.backend(*owner).addr = address(outer);
            }
        }
        self.known.push(Known { vip: at(&vip), protocol, entry, prefix: None, backends });
    }

    /// Backends that cannot be reached, are dead, are behind a container's veth, on a narrow way, on their clients' link.
    fn flaws(&mut self) {
        let pools: Vec<_> = self.known.iter().map(|k| k.backends.clone()).collect();
        for (n, pool) in pools.iter().enumerate() {
            let (owner, addr) = pool[n % 3];
            let backend: &mut BackendEntry = self.world.backend(owner);
            match n % 8 {
                0 => backend.flags &= !BACKEND_REACHABLE,
                1 => backend.flags &= !BACKEND_ALIVE,
                2 => backend.flags |= BACKEND_VIA_TC,
                3 => backend.mtu = 576,
                4 => {
                    backend.flags |= BACKEND_ON_LINK;
                    backend.link_prefix = if addr.is_ipv4() { 24 } else { 64 };
                }
                5 => backend.ifindex = OTHER,
                6 => backend.snat_addr = lb_common::endpoint::Address::default(),
                _ => {}
            }
        }
    }
}
