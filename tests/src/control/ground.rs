//! The machines of the control bench: the balancer, one network full of servers, and one machine that will fail.
//!
//! ```text
//!  lb 10.9.0.10 ── 10.9.0.0/24 ── 10.9.0.1 net ── 10.65.0.1 machine that fails
//!                                          └─ 10.64.0.0/16: every address of it answers
//! ```
//!
//! All of 10.64.0.0/16 is local to `net` (a local route), so that a thousand servers are one listener; the balancer reaches
//! them through one gateway, as it would reach other racks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::lab;
use crate::netns::{Netns, Running};
use crate::server::Server;

/// Every probe goes to this port, whatever port the backend serves on.
pub(super) const PROBE_PORT: u16 = 9_000;

/// The machine that fails.
pub(super) const FAILING: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 1);

/// The `n`-th server of the rest.
pub(super) fn server_address(n: u16) -> Ipv4Addr {
    let [high, low] = (n + 1).to_be_bytes();
    Ipv4Addr::new(10, 64, high, low)
}

/// The machines. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Ground {
    /// The server on the machine that fails.
    pub(super) server: Option<Server>,
    failing: Netns,
    /// The listener of all others.
    _listener: Running<()>,
    net: Netns,
    /// Weir's host.
    pub(super) balancer: Arc<Netns>,
}

impl Ground {
    /// Lays the wires and starts the servers.
    pub(super) fn lay() -> Self {
        let (balancer, net, failing) = (Netns::new("lb"), Netns::new("net"), Netns::new("x"));
        lab::cable(&balancer, "eth0", &net, "lb0", None);
        lab::cable(&failing, "eth0", &net, "x0", None);
        balancer.ip("addr add 10.9.0.10/24 dev eth0\nroute add default via 10.9.0.1");
        net.sysctl("ipv4/ip_forward", "1");
        net.ip("addr add 10.9.0.1/24 dev lb0\naddr add 10.65.0.254/24 dev x0\nroute add local 10.64.0.0/16 dev lo");
        failing.ip("addr add 10.65.0.1/24 dev eth0\nroute add default via 10.65.0.254");
        let listener = net.spawn(accept());
        let mut ground = Self { server: None, failing, _listener: listener, net, balancer: Arc::new(balancer) };
        ground.revive();
        ground
    }

    /// Starts the server that was killed.
    pub(super) fn revive(&mut self) {
        self.server = Some(Server::start(&self.failing, "x", &[SocketAddr::from((FAILING, PROBE_PORT))]));
    }

    /// `kill -9` of the server: its host refuses connections from here on.
    pub(super) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Pulls the failing machine's cable: silence from here on.
    pub(super) fn unplug(&self) {
        self.net.ip("link set x0 down");
    }

    /// Puts it back.
    pub(super) fn plug(&self) {
        self.net.ip("link set x0 up");
    }
}

async fn accept() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PROBE_PORT)).await.expect("nobody else listens here");
    loop {
        // A probe that has gone again is no reason to stop.
        drop(listener.accept().await);
    }
}
