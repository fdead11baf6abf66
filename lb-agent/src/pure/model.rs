//! The nouns everybody shares: service, backend, health, state. Values that cannot be wrong; no behaviour beyond reading them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::duration_text;
use super::encap::Encap;
use super::quic::QuicSpec;

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// VIP, port and protocol: what a service is looked up by. Port 0 means every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The virtual address; of a prefix its network address.
    pub vip: IpAddr,
    /// Length of a prefix, every address of which belongs to the service; `None`: the VIP is one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// The port clients connect to; 0: every port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            None => write!(f, "{}/{}", SocketAddr::new(self.vip, self.port), self.protocol.name()),
            Some(len) => write!(f, "{}/{len} port {}/{}", self.vip, self.port, self.protocol.name()),
        }
    }
}

impl ServiceKey {
    /// The VIP as the configuration writes it: an address, or a prefix.
    pub fn vip_text(&self) -> String {
        self.prefix.map_or_else(|| self.vip.to_string(), |len| format!("{}/{len}", self.vip))
    }

    /// Whether the address is the VIP, or one of the prefix's.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.prefix.map_or(address == self.vip, |len| super::prefix::holds((self.vip, len), address))
    }
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// The destination is rewritten; replies come back through us.
    Nat,
    /// The MAC address is rewritten; the backend holds the VIP and replies directly.
    L2dsr,
    /// An outer IP header goes in front; the backend takes it off, holds the VIP and replies directly.
    Ipip,
    /// The same with a UDP header between.
    Gue,
}

impl Forward {
    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::L2dsr => "l2dsr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }

    /// Whether packets get an outer header.
    pub const fn encapsulates(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }

    /// Whether the backend gets the client's packet as it is, so that it must listen on the VIP's own port.
    pub const fn keeps_port(self) -> bool {
        !matches!(self, Self::Nat)
    }

    /// Whether a packet to `vip` can be brought to a backend at `backend`. Into an outer header fits every packet, but a backend
    /// that answers IPv6 clients has an IPv6 address, and so 6in4 is not offered.
    pub const fn joins(self, vip: IpAddr, backend: IpAddr) -> bool {
        vip.is_ipv4() == backend.is_ipv4() || (self.encapsulates() && vip.is_ipv4())
    }
}

/// How a new flow's backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// Weighted Maglev hashing of the flow.
    Maglev,
    /// In turn, by weight.
    RoundRobin,
    /// The less loaded, per weight, of two hashed candidates.
    LeastConn,
    /// Maglev hashing of the client's address alone.
    SourceHash,
}

/// How much of the flows the table remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tracking {
    /// Every flow from its first packet to its end: counts are true.
    Full,
    /// In transitions only: counts are estimates.
    Minimal,
    /// Never: the hash alone.
    None,
}

/// What happens to the established flows of a backend that health declares down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// Stay where the backend still answers (refused, HTTP error), move where it is silent.
    Auto,
    /// Always stay.
    Keep,
    /// Always move.
    Move,
}

/// One probe, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ProbeKind {
    /// A completed TCP handshake passes.
    Tcp,
    /// A GET whose status (and body) is as wanted passes.
    Http(HttpProbe),
    /// The same over TLS.
    Https(HttpProbe),
    /// `grpc.health.v1.Health/Check` that answers SERVING passes.
    Grpc {
        /// Name of the gRPC service asked for; empty: the server as a whole.
        service: String,
    },
    /// No probes: the backend counts as up.
    None,
}

/// What an HTTP(S) probe sends and wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    /// Path and query, starting with `/`.
    pub path: String,
    /// Host header (and TLS server name); `None`: the backend's address.
    pub host: Option<String>,
    /// Further headers to send.
    pub headers: Vec<(String, String)>,
    /// First status that passes.
    pub status_first: u16,
    /// Last status that passes.
    pub status_last: u16,
    /// The body's first 64 KiB must contain this.
    pub body_contains: Option<String>,
    /// HTTPS: accept any certificate (probes judge liveness, not identity). Default true.
    pub tls_insecure: bool,
}

/// Health check of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What is sent.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// Port that is probed; `None`: the backend's own.
    pub port: Option<u16>,
    /// Mean time between probes of one backend.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// A probe without an answer by then has failed.
    #[serde(with = "duration_text")]
    pub timeout: Duration,
    /// Consecutive passes that bring a backend up.
    pub rise: NonZeroU8,
    /// Consecutive failures that take it down.
    pub fall: NonZeroU8,
    /// When fewer than this share (percent) are up, serve with all that have ever been up; 0: off.
    pub panic_percent: u8,
    /// Time over which a backend that came up grows to its weight; zero: at once.
    #[serde(with = "duration_text")]
    pub slow_start: Duration,
    /// Established flows of a backend that went down.
    pub on_down: OnDown,
}

/// When flows end. All times are silence, except where said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// A flow that has only sent its SYN.
    #[serde(with = "duration_text")]
    pub syn: Duration,
    /// An established TCP flow.
    #[serde(with = "duration_text")]
    pub idle: Duration,
    /// A DSR flow whose client has sent FIN.
    #[serde(with = "duration_text")]
    pub fin: Duration,
    /// A UDP flow.
    #[serde(with = "duration_text")]
    pub udp: Duration,
}

/// One backend of a service, as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Where it listens. Port 0 (any-port services): the client's port is kept.
    pub addr: SocketAddr,
    /// Relative share of new flows; 0: none.
    pub weight: u16,
    /// Most flows at once, 0: no limit; `None`: the service's.
    pub max_connections: Option<u32>,
}

/// How fast a service takes new flows, and how many a backend holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLimits {
    /// New flows a second that are entered into the flow table; 0: no limit.
    pub new_flows: u32,
    /// New flows a second of one source; 0: no limit.
    pub new_flows_per_source: u32,
    /// Bits of an IPv4 address that make a source.
    pub source_prefix_v4: u8,
    /// Bits of an IPv6 address that make a source.
    pub source_prefix_v6: u8,
    /// Most flows at once of a backend that does not say otherwise; 0: no limit.
    pub max_connections: u32,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self { new_flows: 0, new_flows_per_source: 0, source_prefix_v4: 32, source_prefix_v6: 64, max_connections: 0 }
    }
}

/// Whose packets a service takes: the longest prefix decides; where some are allowed, all others are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Sources that may.
    pub allow: Vec<IpNet>,
    /// Sources that may not.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether it says nothing.
    pub const fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// One service, as wanted: everything that does not change by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceSpec {
    /// Unique name.
    pub name: String,
    /// What it is looked up by.
    pub key: ServiceKey,
    /// How packets reach its backends.
    pub forward: Forward,
    /// nat: give every flow one of our source addresses.
    pub snat: bool,
    /// Source addresses for snat; empty: our own address towards each backend.
    pub snat_addresses: Vec<IpAddr>,
    /// Source ports for snat, first and last.
    pub snat_ports: (NonZeroU16, NonZeroU16),
    /// ipip, gue: outer sources, and gue's port.
    pub encap: Encap,
    /// How a new flow's backend is chosen.
    pub select: Select,
    /// How much the flow table remembers.
    pub tracking: Tracking,
    /// The pool, in the order of the file; addresses are unique.
    pub backends: Vec<BackendSpec>,
    /// Health check.
    pub health: HealthCheck,
    /// When flows end.
    pub timeouts: Timeouts,
    /// A drain is cut at this age.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    /// How fast it takes new flows, and how many a backend holds.
    pub limits: ServiceLimits,
    /// Whose packets it takes.
    pub access: Access,
    /// QUIC: connection IDs name backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic: Option<QuicSpec>,
}

impl ServiceSpec {
    /// The idle timeout that rules a flow of this service.
    pub const fn idle_timeout(&self) -> Duration {
        match self.key.protocol {
            Protocol::Tcp => self.timeouts.idle,
            Protocol::Udp => self.timeouts.udp,
        }
    }
}

/// State of a backend, as `status` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// No probe has passed yet.
    Starting,
    /// Gets new flows.
    Up,
    /// Health took it out.
    Down,
    /// Gets no new flows, keeps its old ones.
    Draining,
    /// Gets no flows, by the operator's will.
    Disabled,
}

impl BackendState {
    /// As `status` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It passed, after this long.
    Pass {
        /// From the first packet to the verdict.
        latency: Duration,
    },
    /// It failed.
    Fail {
        /// Whether the backend answered at all.
        kind: FailKind,
        /// For the operator: "connection refused", "status 503, wanted 200-399".
        reason: String,
    },
    /// This host could not send it (no descriptor, no free port, a local firewall): it says nothing about the backend.
    NotRun {
        /// What the system said.
        reason: String,
    },
}

/// Whether a failed probe was answered: decides where established flows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailKind {
    /// Its kernel or its server answered (refused, reset, wrong status): its established flows are its own affair.
    Answered,
    /// Nothing came back in time, or the network said that it cannot be reached.
    Silent,
}
