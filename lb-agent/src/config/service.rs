//! Reads one `[[service]]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::encap;
use super::environment::Environment;
use super::quic;
use super::report::Report;
use super::scalar;
use super::section::{Section, Value, shown};
use crate::pure::model::{
    BackendSpec, Forward, HealthCheck, HttpProbe, OnDown, ProbeKind, Protocol, Select, ServiceKey, ServiceSpec,
    Timeouts, Tracking,
};
use crate::pure::quic::{QuicSpec, ServerId};

/// Share of new flows of a backend that says nothing about it.
const DEFAULT_WEIGHT: u16 = 100;
/// Flow times wrap at 73 minutes (`lb_common::clock`) and are compared modulo; one hour leaves room for a late sweep.
const LONGEST_FLOW_TIMEOUT: Duration = Duration::from_secs(3600);
/// Four epochs must fit into it, and an epoch has at least one tick of 268 ms.
const SHORTEST_FLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// A week: longer is a forgotten unit rather than a wish.
const LONGEST_DRAIN: Duration = Duration::from_secs(7 * 24 * 3600);

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const FORWARDS: &[(&str, Forward)] =
    &[("nat", Forward::Nat), ("l2dsr", Forward::L2dsr), ("ipip", Forward::Ipip), ("gue", Forward::Gue)];
const SELECTS: &[(&str, Select)] = &[
    ("maglev", Select::Maglev),
    ("round_robin", Select::RoundRobin),
    ("least_conn", Select::LeastConn),
    ("source_hash", Select::SourceHash),
];
const TRACKINGS: &[(&str, Tracking)] =
    &[("full", Tracking::Full), ("minimal", Tracking::Minimal), ("none", Tracking::None)];
const ON_DOWNS: &[(&str, OnDown)] = &[("auto", OnDown::Auto), ("keep", OnDown::Keep), ("move", OnDown::Move)];

/// A service as read, with what the checks must know beyond it.
pub(super) struct Draft {
    /// Path of its section, for errors.
    pub(super) path: String,
    /// The service. Fields that were wrong have their defaults; the file is refused anyway.
    pub(super) spec: ServiceSpec,
    /// Whether the file says how to check its health.
    pub(super) says_health: bool,
    /// What connection IDs call its backends, where the file says so.
    pub(super) server_ids: BTreeMap<SocketAddr, ServerId>,
}

impl Draft {
    /// Path of one of its fields.
    pub(super) fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

/// Reads one service; `None` when it cannot even be named and placed.
pub(super) fn read(
    report: &mut Report,
    table: (&DeTable<'_>, Range<usize>),
    number: usize,
    default_snat_ports: (NonZeroU16, NonZeroU16),
) -> Option<Draft> {
    let (table, span) = table;
    let name = table.iter().find(|(key, _)| key.get_ref() == "name").and_then(|(_, value)| value.get_ref().as_str());
    let path = name.map_or_else(|| format!("service #{number}"), |name| format!("service {name:?}"));
    report.place(&path, &span);
    let mut section = Section::new(path.clone(), Some(table));

    let name = section.require(report, "name", scalar::service_name);
    let vip = section.require(report, "vip", scalar::address_or_prefix);
    let port = section.require(report, "port", scalar::number(0_u16, u16::MAX));
    let protocol = section.read(report, "protocol", scalar::choice(PROTOCOLS)).unwrap_or(Protocol::Tcp);
    let forward = section.read(report, "forward", scalar::choice(FORWARDS)).unwrap_or(Forward::Nat);
    let snat = section.read(report, "snat", scalar::flag).unwrap_or(false);
    let snat_addresses = section.read(report, "snat_addresses", scalar::addresses).unwrap_or_default();
    let snat_ports = section.read(report, "snat_ports", scalar::port_range);
    let encap = encap::read(report, &mut section);
    let select = section.read(report, "select", scalar::choice(SELECTS)).unwrap_or(Select::Maglev);
    let tracking = section.read(report, "tracking", scalar::choice(TRACKINGS)).unwrap_or(Tracking::Full);
    let mut server_ids = BTreeMap::new();
    let backends = read_backends(report, &mut section, port.unwrap_or(0), &mut server_ids);
    let quic = section.section(report, "quic");
    let quic = quic::read(report, quic).map(|quic| QuicSpec { server_ids: server_ids.clone(), ..quic });
    let health_value = section.section(report, "health");
    let says_health = health_value.is_there();
    let health = read_health(report, health_value, protocol);
    let timeouts = section.section(report, "timeouts");
    let timeouts = read_timeouts(report, timeouts);
    let drain = section.section(report, "drain");
    let drain_timeout = read_drain(report, drain);
    if let Some(value) = section.get(report, "autoscale") {
        refuse_autoscale(report, &path, value);
    }
    section.finish(report);

    let (vip, prefix) = vip?;
    let key = ServiceKey { vip, prefix, port: port?, protocol };
    let snat_ports = snat_ports.unwrap_or(default_snat_ports);
    let spec = ServiceSpec {
        name: name?,
        key,
        forward,
        snat,
        snat_addresses,
        snat_ports,
        encap,
        select,
        tracking,
        backends,
        health,
        timeouts,
        drain_timeout,
        quic,
    };
    Some(Draft { path, spec, says_health, server_ids })
}

/// The most ports there are outside the host's own; where there are none, a range that the check refuses.
pub(super) fn default_snat_ports(environment: &Environment) -> (NonZeroU16, NonZeroU16) {
    let ends = environment
        .longest_free_ports()
        .and_then(|free| NonZeroU16::new(*free.start()).zip(NonZeroU16::new(*free.end())));
    ends.unwrap_or((NonZeroU16::MAX, NonZeroU16::MAX))
}

fn refuse_autoscale(report: &mut Report, path: &str, value: Value<'_, '_>) {
    let message = "autoscale is not available in this version; remove the section".to_owned();
    report.error_at(Some(&value.span()), &format!("{path}.autoscale"), message);
}

fn read_backends(
    report: &mut Report,
    service: &mut Section<'_, '_>,
    service_port: u16,
    server_ids: &mut BTreeMap<SocketAddr, ServerId>,
) -> Vec<BackendSpec> {
    let mut backends = Vec::new();
    for (at, (table, span)) in service.tables(report, "backend").into_iter().enumerate() {
        let path = format!("{} #{}", service.field("backend"), at + 1);
        report.place(&path, &span);
        let mut section = Section::new(path, Some(table));
        let address = section.require(report, "address", scalar::address);
        let port = section.read(report, "port", scalar::number(0_u16, u16::MAX)).unwrap_or(service_port);
        let weight = section.read(report, "weight", scalar::number(0_u16, u16::MAX)).unwrap_or(DEFAULT_WEIGHT);
        let server_id = section.read(report, "server_id", quic::server_id);
        section.finish(report);
        if let Some(address) = address {
            server_ids.extend(server_id.map(|id| (SocketAddr::new(address, port), id)));
            backends.push(BackendSpec { addr: SocketAddr::new(address, port), weight });
        }
    }
    backends
}

/// What is sent, before the fields of the kind are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Https,
    Grpc,
    None,
}

const KINDS: &[(&str, Kind)] =
    &[("tcp", Kind::Tcp), ("http", Kind::Http), ("https", Kind::Https), ("grpc", Kind::Grpc), ("none", Kind::None)];

fn read_health(report: &mut Report, mut section: Section<'_, '_>, protocol: Protocol) -> HealthCheck {
    // A UDP port answers no handshake: without a wish there is nothing to probe (and the check warns).
    let default_kind = if protocol == Protocol::Udp && !section.is_there() { Kind::None } else { Kind::Tcp };
    let kind = section.read(report, "kind", scalar::choice(KINDS)).unwrap_or(default_kind);
    let bounds = |first: Duration, last_s: u64| scalar::duration(first, Duration::from_secs(last_s));
    let port = section.read(report, "port", scalar::number(1_u16, u16::MAX));
    let ten_ms = Duration::from_millis(10);
    let interval = section.read(report, "interval", bounds(ten_ms, 3600)).unwrap_or(Duration::from_secs(1));
    let timeout = section.read(report, "timeout", bounds(ten_ms, 3600)).unwrap_or(Duration::from_millis(500));
    let rise = section.read(report, "rise", scalar::run_length);
    let fall = section.read(report, "fall", scalar::run_length);
    let panic_percent = section.read(report, "panic", scalar::percent).unwrap_or(0);
    let slow_start = section.read(report, "slow_start", bounds(Duration::ZERO, 3600)).unwrap_or(Duration::ZERO);
    let on_down = section.read(report, "on_down", scalar::choice(ON_DOWNS)).unwrap_or(OnDown::Auto);
    let kind = match kind {
        Kind::Tcp => ProbeKind::Tcp,
        Kind::Http => ProbeKind::Http(read_http(report, &mut section, false)),
        Kind::Https => ProbeKind::Https(read_http(report, &mut section, true)),
        Kind::Grpc => {
            let service = section.read(report, "grpc_service", |value| {
                value.as_str().map(str::to_owned).ok_or_else(|| "wanted a gRPC service's name in quotes".to_owned())
            });
            ProbeKind::Grpc { service: service.unwrap_or_default() }
        }
        Kind::None => ProbeKind::None,
    };
    refuse_fields_of_other_kinds(report, &mut section);
    section.finish(report);
    HealthCheck {
        kind,
        port,
        interval,
        timeout,
        rise: rise.unwrap_or(NonZeroU8::MIN.saturating_add(1)),
        fall: fall.unwrap_or(NonZeroU8::MIN.saturating_add(2)),
        panic_percent,
        slow_start,
        on_down,
    }
}

/// Fields that only some kinds have, with those kinds.
const KIND_FIELDS: &[(&str, &str)] = &[
    ("path", "http and https"),
    ("host", "http and https"),
    ("headers", "http and https"),
    ("status", "http and https"),
    ("body_contains", "http and https"),
    ("tls_insecure", "https"),
    ("grpc_service", "grpc"),
];

fn refuse_fields_of_other_kinds(report: &mut Report, section: &mut Section<'_, '_>) {
    for (field, kinds) in KIND_FIELDS {
        if section.knows(field) {
            continue;
        }
        if let Some(value) = section.get_refused(report, field) {
            let message = format!("means nothing here: only kind {kinds} has it");
            report.error_at(Some(&value.span()), &section.field(field), message);
        }
    }
}

fn read_http(report: &mut Report, section: &mut Section<'_, '_>, over_tls: bool) -> HttpProbe {
    let (status_first, status_last) = section.read(report, "status", scalar::statuses).unwrap_or((200, 399));
    let tls_insecure = if over_tls { section.read(report, "tls_insecure", scalar::flag) } else { None };
    HttpProbe {
        path: section.read(report, "path", http_path).unwrap_or_else(|| "/".to_owned()),
        host: section.read(report, "host", http_host),
        headers: section.read(report, "headers", headers).unwrap_or_default(),
        status_first,
        status_last,
        body_contains: section.read(report, "body_contains", scalar::text),
        tls_insecure: tls_insecure.unwrap_or(true),
    }
}

fn http_path(value: &DeValue<'_>) -> Result<String, String> {
    let fits = |path: &&str| path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    let path = value.as_str().filter(fits).map(str::to_owned);
    path.ok_or_else(|| "wanted a path in quotes that starts with /, such as \"/health\"".to_owned())
}

/// A name or an address, with or without a port: it becomes the Host header, and in https the name that TLS asks for.
fn http_host(value: &DeValue<'_>) -> Result<String, String> {
    let fits = |host: &&str| host.parse::<http::uri::Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    let host = value.as_str().filter(fits).map(str::to_owned);
    host.ok_or_else(|| "wanted a host in quotes, such as \"llm.example.org\"".to_owned())
}

fn headers(value: &DeValue<'_>) -> Result<Vec<(String, String)>, String> {
    let wanted = "wanted headers: { \"X-Probe\" = \"weir\" }";
    let table = value.as_table().ok_or_else(|| wanted.to_owned())?;
    let mut headers = Vec::new();
    for (name, value) in table {
        let content = value.get_ref().as_str().filter(|text| http::HeaderValue::from_str(text).is_ok());
        match (http::HeaderName::from_bytes(name.get_ref().as_bytes()), content) {
            (Ok(name), Some(content)) => headers.push((name.to_string(), content.to_owned())),
            _ => return Err(format!("with {:?} = {} in it, {wanted}", name.get_ref(), shown(value.get_ref()))),
        }
    }
    Ok(headers)
}

fn read_timeouts(report: &mut Report, mut section: Section<'_, '_>) -> Timeouts {
    let flow = || scalar::duration(SHORTEST_FLOW_TIMEOUT, LONGEST_FLOW_TIMEOUT);
    let timeouts = Timeouts {
        syn: section.read(report, "syn", flow()).unwrap_or(Duration::from_secs(5)),
        idle: section.read(report, "idle", flow()).unwrap_or(Duration::from_secs(15 * 60)),
        fin: section.read(report, "fin", flow()).unwrap_or(Duration::from_secs(10)),
        udp: section.read(report, "udp", flow()).unwrap_or(Duration::from_secs(30)),
    };
    section.finish(report);
    timeouts
}

fn read_drain(report: &mut Report, mut section: Section<'_, '_>) -> Duration {
    let timeout = section.read(report, "timeout", scalar::duration(Duration::ZERO, LONGEST_DRAIN));
    section.finish(report);
    timeout.unwrap_or(Duration::from_secs(5 * 60))
}

/// Whether both addresses are of one family.
pub(super) fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
