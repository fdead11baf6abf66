//! Values that tests of several rooms start from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use super::encap::Encap;
use super::model::{
    BackendSpec, Forward, HealthCheck, OnDown, ProbeKind, Protocol, Select, ServiceKey, ServiceSpec, Timeouts, Tracking,
};

/// A nat maglev service on 203.0.113.10:8000 with backends 10.0.0.N:8000 of weight 100, without health checks.
pub(crate) fn spec(name: &str, backends: &[u8]) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        key: ServiceKey {
            vip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
            prefix: None,
            port: 8000,
            protocol: Protocol::Tcp,
        },
        forward: Forward::Nat,
        snat: false,
        snat_addresses: Vec::new(),
        snat_ports: (NonZeroU16::MIN, NonZeroU16::MAX),
        encap: Encap::default(),
        select: Select::Maglev,
        tracking: Tracking::Full,
        backends: backends
            .iter()
            .map(|n| BackendSpec { addr: SocketAddr::new(Ipv4Addr::new(10, 0, 0, *n).into(), 8000), weight: 100 })
            .collect(),
        health: HealthCheck {
            kind: ProbeKind::None,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: NonZeroU8::MIN,
            fall: NonZeroU8::MIN,
            panic_percent: 0,
            slow_start: Duration::ZERO,
            on_down: OnDown::Auto,
        },
        timeouts: Timeouts {
            syn: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            fin: Duration::from_secs(10),
            udp: Duration::from_secs(30),
        },
        drain_timeout: Duration::from_secs(300),
        quic: None,
    }
}
