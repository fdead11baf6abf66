//! Everything at once: a lab, servers on its backends, and Weir on its balancer with one service, ready to be asked.
//!
//! A test says what it needs to differ from the usual and gets the rest. The service is called `web` (TCP) and, where a
//! test asks for it, `dns` (UDP); in nat its VIP listens on port 80 and the servers on 8080, so that a port that is not
//! rewritten shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_agent::pure::model::BackendState;
use lb_agent::pure::snapshot::{BackendStatus, ServiceStatus};

use crate::agent::settings::{Service, Settings};
use crate::agent::{Agent, backend_of};
use crate::lab::{DefaultRoute, Family, Lab, Nics, Plan};
use crate::netns::Netns;
use crate::server::Server;

/// Port of the servers.
pub const SERVER_PORT: u16 = 8080;

/// Port of the VIP in nat.
pub const VIP_PORT: u16 = 80;

/// Name of the TCP service.
pub const WEB: &str = "web";

/// Name of the UDP service.
pub const DNS: &str = "dns";

/// Lines of `[service.health]`: a probe every 250 ms that may take as long, three of which must fail.
pub const HEALTH: &str =
    "kind = \"http\"\npath = \"/health\"\ninterval = \"250ms\"\ntimeout = \"250ms\"\nrise = 1\nfall = 3";

/// Every backend has had its first probe by then, on a machine that is busy with other tests too.
const ALL_UP_WITHIN: Duration = Duration::from_secs(20);

/// How packets reach backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// nat; backends route back through the balancer.
    Nat,
    /// nat with our own source addresses; backends have no route to the clients.
    NatSnat,
    /// l2dsr; backends hold the VIP and answer through the router.
    L2dsr,
    /// ipip; as l2dsr, and something takes the outer header off.
    Ipip,
    /// gue; likewise.
    Gue,
}

impl Mode {
    /// Whether backends hold the VIP and answer directly.
    pub fn is_direct(self) -> bool {
        !matches!(self, Self::Nat | Self::NatSnat)
    }

    /// As the configuration writes it.
    fn forward(self) -> &'static str {
        match self {
            Self::Nat | Self::NatSnat => "nat",
            Self::L2dsr => "l2dsr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }
}

/// All modes in which nothing needs to take outer headers off.
pub const MODES: [Mode; 3] = [Mode::Nat, Mode::NatSnat, Mode::L2dsr];

/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What a test wants. Start from [`Setup::new`] and change fields.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How packets reach backends.
    pub mode: Mode,
    /// The version of IP.
    pub family: Family,
    /// ipip, gue: the version of IP of the backends' own addresses.
    pub outer: Family,
    /// Interfaces of the balancer.
    pub nics: Nics,
    /// How XDP is attached.
    pub xdp: &'static str,
    /// Client machines.
    pub clients: u8,
    /// Weights of the backends in the configuration, in order.
    pub weights: Vec<u16>,
    /// Further backends, with servers, that the configuration does not name.
    pub spare: usize,
    /// Policy.
    pub select: &'static str,
    /// Tracking.
    pub tracking: &'static str,
    /// Whether there is a UDP service beside the TCP one.
    pub udp: bool,
    /// Lines of `[service.health]`.
    pub health: String,
    /// Lines of `[service.timeouts]`.
    pub timeouts: String,
    /// Lines of `[service.drain]`.
    pub drain: String,
    /// Flows that must fit.
    pub flow_table_entries: u32,
}

impl Setup {
    /// Four equal backends, one client, maglev, full tracking, probes by [`HEALTH`]; two interfaces in nat, one in l2dsr.
    pub fn new(mode: Mode, family: Family) -> Self {
        Self {
            mode,
            family,
            outer: family,
            nics: if mode.is_direct() { Nics::One } else { Nics::Two },
            xdp: "auto",
            clients: 1,
            weights: vec![100; 4],
            spare: 0,
            select: "maglev",
            tracking: "full",
            udp: false,
            health: HEALTH.into(),
            timeouts: String::new(),
            drain: String::new(),
            flow_table_entries: 100_000,
        }
    }

    /// Builds it, starts it, waits until every configured backend is up.
    pub fn start(self) -> Scenario {
        let mut scenario = self.prepare();
        scenario.agent.launch();
        scenario.wait_all_up();
        scenario
    }

    /// Builds everything, starts the servers, and leaves the agent for the test to start.
    pub fn prepare(self) -> Scenario {
        let route = match self.mode {
            Mode::Nat => DefaultRoute::Balancer,
            Mode::NatSnat => DefaultRoute::None,
            Mode::L2dsr | Mode::Ipip | Mode::Gue => DefaultRoute::Router,
        };
        let backends = self.weights.len() + self.spare;
        let lab = Lab::build(Plan { nics: self.nics, clients: self.clients, backends, route });
        let servers = (0..backends).map(|backend| Some(serve(&lab, backend, &self))).collect();
        let agent = Agent::prepare(&lab.balancer, self.settings(&lab));
        Scenario { agent, servers, lab, setup: self }
    }

    fn settings(&self, lab: &Lab) -> Settings {
        let backends: Vec<_> =
            self.weights.iter().enumerate().map(|(i, weight)| (self.server(lab, i), *weight)).collect();
        let web = Service {
            name: WEB.into(),
            vip: lab.vip(self.family, 0),
            port: self.vip_port(),
            protocol: "tcp",
            forward: self.mode.forward(),
            snat: self.mode == Mode::NatSnat,
            select: self.select,
            tracking: self.tracking,
            backends,
            health: self.health.clone(),
            timeouts: self.timeouts.clone(),
            drain: self.drain.clone(),
        };
        let mut services = vec![web.clone()];
        if self.udp {
            // Probed by HTTP on the same port number: the lab's servers speak both.
            services.push(Service { name: DNS.into(), protocol: "udp", ..web });
        }
        Settings {
            interfaces: lab.interfaces().iter().map(|name| ((*name).to_owned(), self.xdp.to_owned())).collect(),
            services,
            flow_table_entries: self.flow_table_entries,
            agent_lines: String::new(),
        }
    }

    fn server(&self, lab: &Lab, backend: usize) -> SocketAddr {
        SocketAddr::new(lab.backend_address(backend, self.outer), SERVER_PORT)
    }

    fn vip_port(&self) -> u16 {
        if self.mode.is_direct() { SERVER_PORT } else { VIP_PORT }
    }
}

/// A running test bed. Fields are dropped in this order: the agent, the servers, the machines.
#[derive(Debug)]
pub struct Scenario {
    /// Weir.
    pub agent: Agent,
    /// Servers by backend; `None` after [`Scenario::kill_server`].
    pub servers: Vec<Option<Server>>,
    /// Machines and wires.
    pub lab: Lab,
    setup: Setup,
}

impl Scenario {
    /// VIP and port.
    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(self.lab.vip(self.setup.family, 0), self.setup.vip_port())
    }

    /// Address and port of a backend, as the configuration names it.
    pub fn backend(&self, index: usize) -> SocketAddr {
        self.setup.server(&self.lab, index)
    }

    /// The first client machine.
    pub fn client(&self) -> &Netns {
        &self.lab.clients[0]
    }

    /// The server of a backend that runs.
    pub fn server(&mut self, index: usize) -> &mut Server {
        self.servers[index].as_mut().expect("this server runs")
    }

    /// Kills a server; its machine refuses connections from here on.
    pub fn kill_server(&mut self, index: usize) {
        self.servers[index].take().expect("this server runs").kill();
    }

    /// Starts a killed server again.
    pub fn revive_server(&mut self, index: usize) {
        assert!(self.servers[index].is_none(), "this server runs");
        self.servers[index] = Some(serve(&self.lab, index, &self.setup));
    }

    /// Status of the TCP service.
    pub fn web(&self) -> ServiceStatus {
        self.agent.service(WEB)
    }

    /// Status of one of its backends.
    pub fn web_backend(&self, index: usize) -> BackendStatus {
        backend_of(&self.web(), self.backend(index)).clone()
    }

    /// Waits until every backend of every service that is to serve is up.
    pub fn wait_all_up(&self) {
        let _ = self.agent.wait_until("all backends up", ALL_UP_WITHIN, |status| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            backends.all(|backend| backend.state == BackendState::Up)
        });
    }

    /// Waits until a backend of the TCP service is in a state; returns how long that took.
    pub fn wait_state(&self, index: usize, state: BackendState, limit: Duration) -> Duration {
        let (address, what) = (self.backend(index), format!("backend {} {}", index + 1, state.name()));
        let seen = self.agent.wait_until(&what, limit, |status| {
            let web = status.services.iter().find(|service| service.name == WEB);
            web.is_some_and(|web| {
                web.backends.iter().any(|b| SocketAddr::new(b.address, b.port) == address && b.state == state)
            })
        });
        seen.1
    }

    /// Waits until no slot of any service is in transition.
    pub fn wait_settled(&self, limit: Duration) -> Duration {
        let seen = self.agent.wait_until("all slots settled", limit, |status| {
            status.services.iter().all(|service| service.slots_in_transition == 0)
        });
        seen.1
    }

    /// Names and weights as [`crate::client::load::Tally::assert_shares`] takes them: what each backend is due.
    pub fn dues(&self) -> Vec<(String, u64)> {
        let weights = self.setup.weights.iter().enumerate();
        weights.map(|(index, weight)| (format!("b{}", index + 1), u64::from(*weight))).collect()
    }

    /// Dropped packets so far, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let verdicts = self.agent.status().verdicts;
        verdicts.into_iter().filter(|(name, count)| name.starts_with("drop_") && *count > 0).collect()
    }

    /// The setup it was made from.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }
}

fn serve(lab: &Lab, backend: usize, setup: &Setup) -> Server {
    let mut addresses = vec![setup.server(lab, backend)];
    if setup.mode.is_direct() {
        let vip = lab.vip(setup.family, 0);
        lab.hold_vip(backend, vip);
        addresses.push(SocketAddr::new(vip, SERVER_PORT));
    }
    Server::start(&lab.backends[backend], &format!("b{}", backend + 1), &addresses)
}
