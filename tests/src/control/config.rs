//! The configurations: how many services, how many backends, who is in which pool.

use std::net::{Ipv4Addr, SocketAddr};

use super::ground::{FAILING, PROBE_PORT, server_address};
use crate::agent::settings::{Service, Settings};

/// Services that the failing machine serves.
pub(super) const FAILING_SERVICES: usize = 100;

/// How much there is to load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// Few services, large pools.
    Few,
    /// Many services, small pools.
    Many,
}

impl Scale {
    pub(super) const ALL: [Self; 2] = [Self::Few, Self::Many];

    pub(super) const fn services(self) -> usize {
        match self {
            Self::Few => 32,
            Self::Many => 512,
        }
    }

    /// Backends of each service.
    pub(super) const fn backends(self) -> usize {
        match self {
            Self::Few => 1_000,
            Self::Many => 60,
        }
    }

    pub(super) const fn has_failing_machine(self) -> bool {
        matches!(self, Self::Many)
    }

    pub(super) fn name(self) -> String {
        format!("{} x {}", self.services(), self.backends())
    }
}

/// The configuration. Every machine serves every service on a port of its own, as nat without snat wants it, and is probed on
/// one port for all of them.
pub(super) fn settings(scale: Scale) -> Settings {
    let services = (0..scale.services()).map(|n| service(scale, n)).collect();
    Settings {
        interfaces: vec![("eth0".into(), "auto".into())],
        services,
        flow_table_entries: 1_000_000,
        agent_lines: String::new(),
    }
}

fn service(scale: Scale, n: usize) -> Service {
    let number = u16::try_from(n).expect("at most MAX_SERVICES");
    let port = 10_000 + number;
    let machine = |m: usize| {
        let is_failing = m == 0 && scale.has_failing_machine() && n < FAILING_SERVICES;
        let m = u16::try_from(m).expect("a thousand at most");
        (SocketAddr::from((if is_failing { FAILING } else { server_address(m) }, port)), 100)
    };
    let [high, low] = number.to_be_bytes();
    Service {
        name: format!("s{n}"),
        vip: Ipv4Addr::new(198, 18, high, low).into(),
        port: 80,
        protocol: "tcp",
        forward: "nat",
        snat: false,
        select: "maglev",
        tracking: "full",
        backends: (0..scale.backends()).map(machine).collect(),
        health: format!(
            "kind = \"tcp\"\nport = {PROBE_PORT}\ninterval = \"1s\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2"
        ),
        timeouts: String::new(),
        drain: String::new(),
    }
}
