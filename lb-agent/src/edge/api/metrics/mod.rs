//! Prometheus: renders a snapshot as OpenMetrics text, anew for every scrape, so that nothing has to be kept in step.
//!
//! Format: OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), by the `prometheus-client` crate.

use std::fmt::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use lb_common::verdict::{Fate, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics_limits::limits;
use crate::pure::model::BackendState;
use crate::pure::snapshot::{BackendStatus, LATENCY_BOUNDS_US, LatencyStatus, ServiceStatus, Snapshot};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` until `shutdown` is done.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(metrics)).route("/", get(index)).with_state(snapshots);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn index() -> Html<&'static str> {
    Html("<!doctype html><title>Weir</title><a href=\"/metrics\">metrics</a>")
}

async fn metrics(State(snapshots): State<watch::Receiver<Arc<Snapshot>>>) -> Response {
    let snapshot = Arc::clone(&snapshots.borrow());
    match render(&snapshot) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write metrics: {error}\n")).into_response(),
    }
}

/// The snapshot as OpenMetrics text.
///
/// # Errors
/// Never in practice: a `String` takes whatever is written.
pub fn render(snapshot: &Arc<Snapshot>) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(Metrics(Arc::clone(snapshot))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

type Label<'a> = (&'static str, &'a str);

#[derive(Debug)]
struct Metrics(Arc<Snapshot>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = &*self.0;
        agent(&mut encoder, snapshot)?;
        services(&mut encoder, &snapshot.services)?;
        backends(&mut encoder, &snapshot.services)?;
        limits(&mut encoder, &snapshot.services)?;
        packets(&mut encoder, snapshot)
    }
}

fn agent(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let agent = &snapshot.agent;
    let abi = agent.abi.to_string();
    let build = [("version", agent.version.as_str()), ("abi", &abi), ("program", &agent.program)];
    info(encoder, "build", "The agent and the packet program that it runs", [build])?;
    let seconds = Some(&Unit::Seconds);
    gauge(encoder, "uptime", "Time since the agent started", seconds, &agent.uptime_s.cast_signed())?;
    counter(encoder, "reconciles", "Times that the maps were brought into line with what is wanted", agent.reconciles)?;
    reprogram(encoder, &agent.reprogram)?;
    let problems = count(agent.problems.len());
    gauge(encoder, "problems", "Things that are wrong now; `lb-agent status` names them", None, &problems)?;
    let differences = count(snapshot.differences.len());
    gauge(encoder, "config_differences", "Ways in which runtime changes differ from the file", None, &differences)?;
    let table = &snapshot.flow_table;
    gauge(encoder, "flow_table_entries", "Entries of the flow table in use", None, &table.used.cast_signed())?;
    gauge(encoder, "flow_table_room", "Entries of the flow table that there are", None, &table.room.cast_signed())?;
    counter(encoder, "flow_sweeps", "Sweeps of the flow table", table.sweeps)?;
    gauge(encoder, "flow_sweep_duration", "Time that the last sweep took", seconds, &as_seconds(table.sweep_us))?;
    let interfaces = snapshot.interfaces.iter().map(|i| [("interface", i.name.as_str()), ("mode", i.mode.as_str())]);
    info(encoder, "interface", "Interfaces that Weir listens on", interfaces)
}

fn services(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceStatus]) -> Result<(), Error> {
    let described: Vec<_> = services.iter().map(|s| (s, s.vip_text(), s.port.to_string())).collect();
    let labels = described.iter().map(|(service, vip, port)| {
        [
            ("service", service.name.as_str()),
            ("vip", vip.as_str()),
            ("port", port.as_str()),
            ("protocol", service.protocol.name()),
        ]
    });
    info(encoder, "service", "Services", labels)?;
    let mut each = |name, help, read: fn(&ServiceStatus) -> i64| {
        family(encoder, name, help, services.iter().map(|s| ([("service", s.name.as_str())], ConstGauge::new(read(s)))))
    };
    each("service_active_flows", "Flows now: confirmed and not ended", |s| s.active_flows.cast_signed())?;
    each("service_half_open_flows", "Flows now of which only the SYN has been seen", |s| {
        s.half_open_flows.cast_signed()
    })?;
    each("service_slots_in_transition", "Slots of the ring in transition", |s| i64::from(s.slots_in_transition))?;
    each("service_panic", "1 while too few backends are up and flows go to all that have ever been", |s| {
        i64::from(s.panic)
    })
}

fn backends(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceStatus]) -> Result<(), Error> {
    let rows: Vec<_> = services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (service.name.as_str(), backend)))
        .map(|(service, backend)| {
            (service, std::net::SocketAddr::new(backend.address, backend.port).to_string(), backend)
        })
        .collect();
    let labels =
        |row: &'_ (&'_ str, String, &BackendStatus)| [("service", row.0.to_owned()), ("backend", row.1.clone())];
    let mut now = |name, help, read: fn(&BackendStatus) -> i64| {
        family(encoder, name, help, rows.iter().map(|row| (labels(row), ConstGauge::new(read(row.2)))))
    };
    now("backend_up", "1 while the backend gets new flows", |b| i64::from(b.state == BackendState::Up))?;
    now("backend_weight", "Relative share of new flows, as wanted", |b| i64::from(b.weight))?;
    now("backend_weight_percent", "Share of its weight that it is given now", |b| i64::from(b.weight_percent))?;
    now("backend_active_flows", "Flows now: confirmed and not ended", |b| b.active_flows.cast_signed())?;
    now("backend_half_open_flows", "Flows now of which only the SYN has been seen", |b| {
        b.half_open_flows.cast_signed()
    })?;
    let states = rows.iter().flat_map(|row| {
        STATES.iter().map(move |state| {
            let [service, backend] = labels(row);
            ([service, backend, ("state", state.name().to_owned())], ConstGauge::new(i64::from(row.2.state == *state)))
        })
    });
    family(encoder, "backend_state", "1 for the state that the backend is in", states)?;
    let mut total = |name, help, read: fn(&BackendStatus) -> u64| {
        family(encoder, name, help, rows.iter().map(|row| (labels(row), ConstCounter::new(read(row.2)))))
    };
    total("backend_new_flows", "Flows opened", |b| b.new_flows)?;
    total("backend_confirmed_flows", "Flows whose client answered", |b| b.confirmed_flows)?;
    total("backend_closed_flows", "Flows ended by FINs", |b| b.closed_flows)?;
    total("backend_reset_flows", "Flows ended by an RST", |b| b.reset_flows)?;
    total("backend_expired_flows", "Flows ended by silence", |b| b.expired_flows)?;
    total("backend_refused_flows", "Flows for which the flow table had no room", |b| b.refused_flows)?;
    total("backend_evicted_flows", "Flows pushed out of the flow table", |b| b.evicted_flows)?;
    total("backend_packets", "Packets towards the backend", |b| b.packets)?;
    total("backend_bytes", "Bytes towards the backend, from the IP header on", |b| b.bytes)?;
    total("backend_reply_packets", "Packets from the backend (nat)", |b| b.reply_packets)?;
    total("backend_reply_bytes", "Bytes from the backend, from the IP header on (nat)", |b| b.reply_bytes)?;
    total("backend_messages", "Segments with PSH, or datagrams", |b| b.messages)
}

/// Every state that a backend can be in.
const STATES: [BackendState; 5] =
    [BackendState::Starting, BackendState::Up, BackendState::Down, BackendState::Draining, BackendState::Disabled];

/// One series for every way a packet can end, those that no packet has taken yet included.
fn packets(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let series = Verdict::ALL.iter().map(|verdict| {
        let fate = match verdict.fate() {
            Fate::Pass => "pass",
            Fate::Drop => "drop",
            Fate::Send => "send",
        };
        let seen = snapshot.verdicts.get(verdict.name()).copied().unwrap_or(0);
        ([("verdict", verdict.name()), ("fate", fate)], ConstCounter::new(seen))
    });
    family(encoder, "packets", "Packets seen, by how they ended", series)
}

/// Writes a family: its description once, then its series.
pub(super) fn family<M: EncodeMetric, L: prometheus_client::encoding::EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (L, M)>,
) -> Result<(), Error> {
    let mut series = series.peekable();
    let Some((_, first)) = series.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    series.try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
}

fn gauge<N: prometheus_client::encoding::EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &N,
) -> Result<(), Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(value)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

/// Prometheus wants its buckets to end with infinity.
fn reprogram(encoder: &mut DescriptorEncoder<'_>, latency: &LatencyStatus) -> Result<(), Error> {
    let help = "Time from the judgement that a backend is down until the last of its slots was another's";
    let mut metric = encoder.encode_descriptor("reprogram", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    let counted = LATENCY_BOUNDS_US.iter().zip(latency.within).map(|(bound, n)| (as_seconds(*bound), n));
    let beyond = latency.count.saturating_sub(latency.within.iter().sum());
    let buckets: Vec<(f64, u64)> = counted.chain([(f64::MAX, beyond)]).collect();
    metric.encode_histogram::<NoLabelSet>(as_seconds(latency.sum_us), latency.count, &buckets, None)
}

fn info<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = [Label<'a>; N]>,
) -> Result<(), Error> {
    let mut series = series.into_iter().peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
    series.try_for_each(|labels| family.encode_info(&labels))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a sweep of more than 2^53 µs would take 285 years")]
fn as_seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests;
