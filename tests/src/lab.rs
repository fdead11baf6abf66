//! Machines and wires: clients, a router, a load balancer host and backends, each a network namespace.
//!
//! ```text
//!  client ── 10.10.1.0/24 ──┐
//!  client ── 10.10.2.0/24 ──┤ wire: router and switch      front: 10.20.0.0/24  (VIPs .100 and up)
//!                           │  ├─ bridge "front" ── lb eth0, backends when there is one NIC
//!                           │  └─ bridge "back"  ── lb eth1, backends when there are two  (10.30.0.0/24)
//! ```
//!
//! IPv6 has the same plan in `fd10:<client>::/64`, `fd20::/64` and `fd30::/64`; containers on the balancer's own bridge
//! are in 10.40.0.0/24 and `fd40::/64`. Every cable is a veth pair with transmit checksums off, because it stands for a wire,
//! and with GRO on, because XDP can only redirect into a veth whose peer polls; the wire's end of the balancer's cables has
//! a program too, see `poll`. Weir's host does not forward (`ip_forward` is off) unless a test asks for it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::netns::Netns;
use crate::poll;

/// Largest number of backends: their host parts are 21 to 99.
const MOST_BACKENDS: usize = 79;

/// Host part of the balancer in every network it is in.
const BALANCER_HOST: u8 = 10;

/// Source addresses per client, host parts 2 and up: more tuples than one address has ports.
pub const CLIENT_ADDRESSES: u8 = 16;

/// The version of IP that a test speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Interfaces of the load balancer host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nics {
    /// Clients and backends through `eth0`.
    One,
    /// Clients through `eth0`, backends through `eth1`.
    Two,
}

/// Where a backend sends what is not on its own link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultRoute {
    /// Through the load balancer: nat without snat.
    Balancer,
    /// Through the router: l2dsr.
    Router,
    /// Nowhere: nat with snat needs none.
    None,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interfaces of the load balancer host.
    pub nics: Nics,
    /// Client machines, at least 1.
    pub clients: u8,
    /// Backend machines, at most 79.
    pub backends: usize,
    /// The backends' way back.
    pub route: DefaultRoute,
}

/// Machines and wires. Dropping it removes them all.
#[derive(Debug)]
pub struct Lab {
    /// Client machines.
    pub clients: Vec<Netns>,
    /// The load balancer host.
    pub balancer: Arc<Netns>,
    /// Backend machines.
    pub backends: Vec<Netns>,
    /// Router and switch.
    pub wire: Netns,
    /// Containers on the load balancer host.
    pub containers: Vec<Netns>,
    polling: Vec<aya::Ebpf>,
    plan: Plan,
}

impl Lab {
    /// Builds it: a few tens of milliseconds a machine.
    pub fn build(plan: Plan) -> Self {
        assert!(plan.backends <= MOST_BACKENDS, "the address plan has room for {MOST_BACKENDS} backends");
        let mut lab = Self {
            wire: Netns::new("wire"),
            balancer: Arc::new(Netns::new("lb")),
            clients: (1..=plan.clients).map(|i| Netns::new(&format!("c{i}"))).collect(),
            backends: (1..=plan.backends).map(|i| Netns::new(&format!("b{i}"))).collect(),
            containers: Vec::new(),
            polling: Vec::new(),
            plan,
        };
        lab.build_wire();
        for (index, _) in lab.clients.iter().enumerate() {
            lab.connect_client(index);
        }
        lab.connect_balancer();
        for (index, _) in lab.backends.iter().enumerate() {
            lab.connect_backend(index);
        }
        let ports = ["lb0", "lb1"].into_iter().take(lab.interfaces().len());
        lab.polling = ports.map(|port| poll::attach(&lab.wire, port)).collect();
        lab
    }

    /// Adds a container to the load balancer host, on a bridge as Docker makes it. Its checksums stay offloaded: what it
    /// sends carries partial ones. Such a host forwards.
    pub fn add_container(&mut self) {
        let number = self.containers.len() + 1;
        if number == 1 {
            let mut lines = "link add br0 type bridge stp_state 0 forward_delay 0\nlink set br0 up\n".to_owned();
            for family in [Family::V4, Family::V6] {
                let own = address(family, Net::Containers, 1);
                let _ = writeln!(lines, "addr add {own}/{} dev br0 nodad", prefix(family));
            }
            self.balancer.ip(&lines);
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                self.balancer.sysctl(key, "1");
            }
        }
        let container = Netns::new(&format!("k{number}"));
        let (port, host) = (format!("veth{number}"), self.balancer.name());
        container.ip(&format!("link add eth0 type veth peer name {port} netns {host}\nlink set eth0 up"));
        self.balancer.ip(&format!("link set {port} master br0\nlink set {port} up"));
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let own = address(family, Net::Containers, backend_host(number - 1));
            let _ = writeln!(lines, "addr add {own}/{} dev eth0 nodad", prefix(family));
            let _ = writeln!(lines, "route add default via {}", address(family, Net::Containers, 1));
        }
        container.ip(&lines);
        self.containers.push(container);
    }

    /// Address of a container on its host's bridge.
    pub fn container_address(&self, container: usize, family: Family) -> IpAddr {
        address(family, Net::Containers, backend_host(container))
    }

    /// The `number`-th VIP, from 0: an address of the front network that no host owns.
    pub fn vip(&self, family: Family, number: u8) -> IpAddr {
        address(family, Net::Front, 100 + number)
    }

    /// Address of a backend on the network it shares with the balancer.
    pub fn backend_address(&self, backend: usize, family: Family) -> IpAddr {
        address(family, self.backend_net(), backend_host(backend))
    }

    /// Address of the balancer towards the clients.
    pub fn balancer_address(&self, family: Family) -> IpAddr {
        address(family, Net::Front, BALANCER_HOST)
    }

    /// The `number`-th source address of a client, `number < CLIENT_ADDRESSES`.
    pub fn client_address(&self, client: usize, family: Family, number: u8) -> IpAddr {
        address(family, client_net(client), 2 + number)
    }

    /// Interfaces of the balancer, clients' side first.
    pub fn interfaces(&self) -> &'static [&'static str] {
        match self.plan.nics {
            Nics::One => &["eth0"],
            Nics::Two => &["eth0", "eth1"],
        }
    }

    /// Gives a backend the VIP the way l2dsr wants it: on its loopback, never announced.
    pub fn hold_vip(&self, backend: usize, vip: IpAddr) {
        let machine = &self.backends[backend];
        machine.sysctl("ipv4/conf/all/arp_ignore", "1");
        machine.sysctl("ipv4/conf/all/arp_announce", "2");
        // A server that is started again finds it there.
        machine.ip(&format!("addr replace {vip}/{} dev lo nodad", host_prefix(vip)));
    }

    /// Sets where a backend sends what is not on its link.
    pub fn route_backend(&self, backend: usize, route: DefaultRoute) {
        let machine = &self.backends[backend];
        machine.ip_forgiving("route del default\n-6 route del default");
        let gateway_host = match route {
            DefaultRoute::Balancer => BALANCER_HOST,
            DefaultRoute::Router => 1,
            DefaultRoute::None => return,
        };
        for family in [Family::V4, Family::V6] {
            machine.ip(&format!("route add default via {}", address(family, self.backend_net(), gateway_host)));
        }
    }

    /// Pulls a backend's cable: nothing gets through, no error comes back.
    pub fn unplug_backend(&self, backend: usize) {
        self.wire.ip(&format!("link set b{} down", backend + 1));
    }

    /// Puts a backend's cable back.
    pub fn plug_backend(&self, backend: usize) {
        self.wire.ip(&format!("link set b{} up", backend + 1));
    }

    /// Pulls a client's cable: it vanishes without a word.
    pub fn unplug_client(&self, client: usize) {
        self.wire.ip(&format!("link set c{} down", client + 1));
    }

    /// Puts a client's cable back.
    pub fn plug_client(&self, client: usize) {
        self.wire.ip(&format!("link set c{} up", client + 1));
        // The router's addresses on the cable survived; IPv6 lost them with the link.
        self.wire.ip_forgiving(&router_addresses(client));
    }

    /// What the router sends a client may be no larger than `mtu` from here on; the cable itself is as wide as before.
    pub fn narrow_client(&self, client: usize, mtu: u16) {
        for family in [Family::V4, Family::V6] {
            let net = address(family, client_net(client), 0);
            // The kernel's own route, at its own metric; a locked MTU is the router's, not one that path discovery may raise.
            let metric = if family == Family::V4 { 0 } else { 256 };
            let route = format!("{net}/{} dev c{} proto kernel metric {metric}", prefix(family), client + 1);
            self.wire.ip(&format!("route replace {route} mtu lock {mtu}"));
        }
    }

    /// Gives a backend another MAC address, announced as a machine that took over the address would.
    pub fn change_mac(&self, backend: usize, mac: &str) {
        self.backends[backend].ip(&format!("link set eth0 address {mac}"));
    }

    fn backend_net(&self) -> Net {
        match self.plan.nics {
            Nics::One => Net::Front,
            Nics::Two => Net::Back,
        }
    }

    fn build_wire(&self) {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            self.wire.sysctl(key, "1");
        }
        let mut lines = String::new();
        for (bridge, net) in [("front", Net::Front), ("back", Net::Back)] {
            if net == Net::Back && self.plan.nics == Nics::One {
                continue;
            }
            // Snooping would hide neighbour solicitations for VIPs, which nobody has joined a group for.
            let _ = writeln!(lines, "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
            let _ = writeln!(lines, "link set {bridge} up");
        }
        for family in [Family::V4, Family::V6] {
            let _ = writeln!(lines, "addr add {}/{} dev front nodad", address(family, Net::Front, 1), prefix(family));
            // Where forged sources "live": answers to them vanish.
            let nowhere = if family == Family::V4 { "10.66.0.0/16" } else { "fd66::/64" };
            let _ = writeln!(lines, "route add blackhole {nowhere}");
        }
        self.wire.ip(&lines);
    }

    fn connect_client(&self, client: usize) {
        let number = client + 1;
        self.cable(&self.clients[client], "eth0", &format!("c{number}"), None);
        self.wire.ip(&router_addresses(client));
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            for host in 0..CLIENT_ADDRESSES {
                let own = self.client_address(client, family, host);
                let _ = writeln!(lines, "addr add {own}/{} dev eth0 nodad", prefix(family));
            }
            let _ = writeln!(lines, "route add default via {}", address(family, client_net(client), 1));
        }
        self.clients[client].ip(&lines);
        // Tens of thousands of short connections a test: all ports, and waiting ones are used again.
        self.clients[client].sysctl("ipv4/ip_local_port_range", "1024 65535");
        self.clients[client].sysctl("ipv4/tcp_tw_reuse", "1");
    }

    fn connect_balancer(&self) {
        self.cable(&self.balancer, "eth0", "lb0", Some("front"));
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let own = self.balancer_address(family);
            let _ = writeln!(lines, "addr add {own}/{} dev eth0 nodad", prefix(family));
            let _ = writeln!(lines, "route add default via {}", address(family, Net::Front, 1));
        }
        if self.plan.nics == Nics::Two {
            self.cable(&self.balancer, "eth1", "lb1", Some("back"));
            let mut routes = String::new();
            for family in [Family::V4, Family::V6] {
                let own = address(family, Net::Back, BALANCER_HOST);
                let _ = writeln!(lines, "addr add {own}/{} dev eth1 nodad", prefix(family));
                let back = address(family, Net::Back, 0);
                let _ = writeln!(routes, "route add {back}/{} via {}", prefix(family), self.balancer_address(family));
            }
            self.wire.ip(&routes);
        }
        self.balancer.ip(&lines);
    }

    fn connect_backend(&self, backend: usize) {
        let bridge = if self.plan.nics == Nics::One { "front" } else { "back" };
        let machine = &self.backends[backend];
        self.cable(machine, "eth0", &format!("b{}", backend + 1), Some(bridge));
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let own = self.backend_address(backend, family);
            let _ = writeln!(lines, "addr add {own}/{} dev eth0 nodad", prefix(family));
        }
        machine.ip(&lines);
        self.route_backend(backend, self.plan.route);
    }

    /// Joins `interface` of a machine with `port` of the wire, a port of `bridge` where one is given.
    fn cable(&self, machine: &Netns, interface: &str, port: &str, bridge: Option<&str>) {
        cable(machine, interface, &self.wire, port, bridge);
    }
}

/// Joins `interface` of one machine with `port` of another, which is put into that machine's `bridge` where one is given.
pub(crate) fn cable(machine: &Netns, interface: &str, other: &Netns, port: &str, bridge: Option<&str>) {
    machine.ip(&format!("link add {interface} type veth peer name {port} netns {}", other.name()));
    // Segments, not the large buffers of a local stack, travel on a wire.
    machine.offloads(interface, "tx off tso off gso off gro on");
    other.offloads(port, "tx off tso off gso off gro on");
    let joined = bridge.map(|bridge| format!("link set {port} master {bridge}\n")).unwrap_or_default();
    other.ip(&format!("{joined}link set {port} up"));
    machine.ip(&format!("link set {interface} up"));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Net {
    Client(u8),
    Front,
    Back,
    Containers,
}

fn client_net(client: usize) -> Net {
    Net::Client(u8::try_from(client + 1).expect("a handful of clients"))
}

fn backend_host(backend: usize) -> u8 {
    u8::try_from(21 + backend).expect("checked by Lab::build")
}

const fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// Prefix length that means one address alone.
const fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn address(family: Family, net: Net, host: u8) -> IpAddr {
    let (v4, v6) = match net {
        Net::Client(number) => ([10, 10, number], [0xfd10, u16::from(number)]),
        Net::Front => ([10, 20, 0], [0xfd20, 0]),
        Net::Back => ([10, 30, 0], [0xfd30, 0]),
        Net::Containers => ([10, 40, 0], [0xfd40, 0]),
    };
    match family {
        Family::V4 => Ipv4Addr::new(v4[0], v4[1], v4[2], host).into(),
        Family::V6 => Ipv6Addr::new(v6[0], v6[1], 0, 0, 0, 0, 0, u16::from(host)).into(),
    }
}

fn router_addresses(client: usize) -> String {
    let mut lines = String::new();
    for family in [Family::V4, Family::V6] {
        let own = address(family, client_net(client), 1);
        let _ = writeln!(lines, "addr add {own}/{} dev c{} nodad", prefix(family), client + 1);
    }
    lines
}
