//! Names of maps and programs, once. Tests compare the list with the ELF; the agent pins maps under these names.

/// Exact VIP:port:protocol (or port 0: any port) of IPv4 services: [`crate::endpoint::EndpointV4`] → [`crate::service::ServiceEntry`].
pub const SERVICES_V4: &str = "SERVICES_V4";
/// The same for IPv6: [`crate::endpoint::EndpointV6`] → [`crate::service::ServiceEntry`].
pub const SERVICES_V6: &str = "SERVICES_V6";
/// Array of maps: service id → that service's ring, one array value of [`crate::slot::Ring`].
pub const RINGS: &str = "RINGS";
/// Owner → [`crate::backend::BackendEntry`].
pub const BACKENDS: &str = "BACKENDS";
/// Service id → [`crate::schedule::Schedule`] of round_robin.
pub const SCHEDULES: &str = "SCHEDULES";
/// Per CPU, service id → turns taken (round_robin).
pub const CURSORS: &str = "CURSORS";
/// Owner → flows it has now, for least_conn; corrected by every sweep.
pub const LOADS: &str = "LOADS";
/// The flow table: bucket → [`crate::flow::FlowBucket`].
pub const FLOWS: &str = "FLOWS";
/// Words of the first-packet-of-the-epoch bitmap ([`crate::epoch`]).
pub const EPOCHS: &str = "EPOCHS";
/// cpu × [`crate::limits::MAX_OWNERS`] + owner → [`crate::stats::OwnerCounters`].
pub const COUNTERS: &str = "COUNTERS";
/// cpu → [`crate::stats::VerdictCounters`].
pub const VERDICTS: &str = "VERDICTS";
/// One [`crate::host::Host`].
pub const HOST: &str = "HOST";
/// Every VIP: address → [`crate::host::VipEntry`].
pub const VIPS: &str = "VIPS";
/// Every address of this host itself, and every address that `snat` uses.
pub const LOCALS: &str = "LOCALS";
/// ifindex → [`crate::host::InterfaceEntry`].
pub const INTERFACES: &str = "INTERFACES";
/// nat: backend address:port:protocol → [`crate::reply::ReplyEntry`] (IPv4).
pub const REPLIES_V4: &str = "REPLIES_V4";
/// nat: backend address:port:protocol → [`crate::reply::ReplyEntry`] (IPv6).
pub const REPLIES_V6: &str = "REPLIES_V6";
/// snat: client's flow → the source port it was given.
pub const SNAT_FORWARD: &str = "SNAT_FORWARD";
/// snat: the flow as the backend answers it → the client's flow.
pub const SNAT_REVERSE: &str = "SNAT_REVERSE";
/// Datagrams whose head has been seen → where their tails go.
pub const FRAGMENTS: &str = "FRAGMENTS";

/// One [`crate::trace::Taps`]: what operators look for.
pub const TAPS: &str = "TAPS";
/// Ring buffer of [`crate::trace::Sight`]s, packet bytes after those that are captured.
pub const SIGHTS: &str = "SIGHTS";

/// Prefix VIPs of IPv4: prefix → the key of its services in [`SERVICES_V4`], but for port and protocol.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// Prefix VIPs of IPv6: prefix → the key of its services in [`SERVICES_V6`], but for port and protocol.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// Service id → [`crate::quic::QuicConfig`].
pub const QUIC_CONFIGS: &str = "QUIC_CONFIGS";
/// Service and server ID ([`crate::quic::QuicServerKey`]) → owner.
pub const QUIC_SERVERS: &str = "QUIC_SERVERS";

/// Per CPU, where a record is put together. Not in [`ALL`], as [`WORK`].
pub const RECORD: &str = "RECORD";
/// Per CPU, the working memory of a decision. Not in [`ALL`]: it belongs to one load of the programs, and is never pinned.
pub const WORK: &str = "WORK";

/// Per CPU, what it has at hand of clock and services. Not in [`ALL`] for the same reason.
pub const NEAR: &str = "NEAR";

/// Per CPU, how many ICMP errors it may still send ([`crate::rate::Tokens`]). Not in [`ALL`], for the same reason.
pub const TOKENS: &str = "TOKENS";

/// Every map above but [`RECORD`], [`WORK`], [`NEAR`] and [`TOKENS`], in the order in which a reader meets them.
pub const ALL: [&str; 26] = [
    SERVICES_V4,
    SERVICES_V6,
    RINGS,
    BACKENDS,
    SCHEDULES,
    CURSORS,
    LOADS,
    FLOWS,
    EPOCHS,
    COUNTERS,
    VERDICTS,
    HOST,
    VIPS,
    LOCALS,
    INTERFACES,
    REPLIES_V4,
    REPLIES_V6,
    SNAT_FORWARD,
    SNAT_REVERSE,
    FRAGMENTS,
    TAPS,
    SIGHTS,
    PREFIXES_V4,
    PREFIXES_V6,
    QUIC_CONFIGS,
    QUIC_SERVERS,
];

/// The XDP program of a backend's own decapsulation, in an object of its own.
pub const PROGRAM_DECAP: &str = "weir_decap";
/// Its maps: this host's addresses that outer packets go to.
pub const DECAP_OWN: &str = "OWN";
/// VIPs that inner packets go to.
pub const DECAP_VIPS: &str = "INNER";
/// Per CPU, packets by [`crate::decap::Decapped`].
pub const DECAP_COUNTERS: &str = "DECAPPED";
/// Its global: UDP port of gue, host order.
pub const DECAP_GUE_PORT: &str = "GUE_PORT";

/// The XDP program: everything that comes off a wire.
pub const PROGRAM_INGRESS: &str = "weir_ingress";
/// The TC program: replies of local containers and VMs, and replies whose next hop is not resolved yet.
pub const PROGRAM_REPLY: &str = "weir_reply";
