//! A world with everything in it: every service that `check` lets through, in both families, and pools with every flaw.

use std::net::{IpAddr, SocketAddr};

use lb_common::admission::{ACCESS_ALLOW, ACCESS_DENY, Limits};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_ON_LINK, BACKEND_REACHABLE, BACKEND_VIA_TC, BackendEntry};
use lb_common::host::{HOST_LOCAL_INTERFACES, INTERFACE_LOCAL, InterfaceEntry, VIP_ASSIGNED, VipEntry};
use lb_common::service::{
    FORWARD_L2DSR, FORWARD_NAT, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN, SELECT_SOURCE_HASH,
    SERVICE_ACCESS, SERVICE_CAPPED, SERVICE_LIMITED, SERVICE_SLOW, SERVICE_SNAT, ServiceEntry, TRACKING_FULL,
    TRACKING_MINIMAL, TRACKING_NONE,
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
                if tracking == TRACKING_FULL {
                    maker.service(is_v6, protocol, ServiceEntry { select, flags: SERVICE_SNAT, ..service_entry(0) });
                    maker.limited(is_v6, protocol, select);
                }
            }
        }
    }
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
        let (to, id) = (if any_port { 0 } else { 9_000 }, entry.id);
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
        self.known.push(Known { vip: at(&vip), protocol, entry, backends });
    }

    /// Services with every limit alone and with all of them together, so tight that they refuse often.
    fn limited(&mut self, is_v6: bool, protocol: u8, select: u8) {
        for flags in
            [SERVICE_ACCESS, SERVICE_LIMITED, SERVICE_CAPPED, SERVICE_ACCESS | SERVICE_LIMITED | SERVICE_CAPPED]
        {
            self.service(is_v6, protocol, ServiceEntry { select, flags: flags | SERVICE_SLOW, ..service_entry(0) });
            let Some(Known { entry, backends, .. }) = self.known.last() else { continue };
            let id = entry.id;
            if flags & SERVICE_LIMITED != 0 {
                let _none = self.world.limits.insert(id, Limits::per_second(9, 3, 24, 64));
            }
            if flags & SERVICE_CAPPED != 0 {
                for ((owner, _), most) in backends.iter().zip([2, 5, 0]) {
                    self.world.backend(*owner).max_flows = if flags & SERVICE_ACCESS == 0 { most } else { 2 };
                }
            }
            if flags & SERVICE_ACCESS != 0 {
                let (all, friends, foe) = if is_v6 {
                    ("::/0", "2001:db8::/32", "2001:db8:9::66/128")
                } else {
                    ("0.0.0.0/0", "192.0.2.0/24", "192.0.2.66/32")
                };
                let world = std::mem::take(&mut self.world);
                self.world =
                    world.rule(id, all, ACCESS_DENY).rule(id, friends, ACCESS_ALLOW).rule(id, foe, ACCESS_DENY);
            }
        }
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
