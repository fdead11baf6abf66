//! `GET /v1/trace` and `GET /v1/capture`: what the packet path tells, in lines or as pcapng, until whoever asked has gone, has
//! seen enough, or the agent ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use lb_common::endpoint::Address;
use lb_common::trace::{EVENT_PACKET, EVENTS, KIND_AFTER, MAX_SNAPLEN, SIGHT_REPLY, Sight};
use lb_common::verdict::Verdict;
use nix::net::if_::if_indextoname;
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::pcapng::{Packet, Place, Stream};
use super::server::{Api, ApiError, ending};
use super::{Seen, Told, Viewing};
use crate::pure::snapshot::Snapshot;
use crate::pure::watch::{LostLine, TraceLine, Watch, all_events, events, is_silent, verdicts};

/// Records that go out in one piece.
const A_PIECE: usize = 256;

/// A piece goes out after this at the latest, and statistics with it.
const PIECE_EVERY: Duration = Duration::from_millis(500);

/// Longer than anybody looks: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What may be asked of both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    service: Option<String>,
    backend: Option<SocketAddr>,
    client: Option<String>,
    #[serde(default)]
    verdict: String,
    event: Option<String>,
    #[serde(default)]
    sample: u32,
    side: Option<String>,
    snaplen: Option<u32>,
    count: Option<u64>,
    seconds: Option<f64>,
}

impl Asked {
    fn watch(&self) -> Result<Watch, ApiError> {
        Ok(Watch {
            service: self.service.clone(),
            backend: self.backend,
            client: self.client.as_deref().map(str::parse).transpose().map_err(ApiError::invalid)?,
            verdicts: verdicts(&self.verdict).map_err(ApiError::invalid)?,
            events: 0,
            sample: 0,
            before: false,
            after: false,
            snaplen: 0,
        })
    }

    fn until(&self) -> Result<Instant, ApiError> {
        let wanted = self.seconds.map_or(Ok(LONGEST), Duration::try_from_secs_f64);
        let wanted = wanted.map_err(|e| ApiError::invalid(format!("seconds: {e}")))?;
        Ok(Instant::now() + wanted.min(LONGEST))
    }
}

pub(super) async fn trace(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked?;
    if asked.side.is_some() || asked.snaplen.is_some() {
        return Err(ApiError::invalid("side and snaplen are for /v1/capture"));
    }
    let named = asked.event.as_deref().map(events).transpose().map_err(ApiError::invalid)?;
    let events = named.unwrap_or_else(all_events) | if asked.sample > 0 { EVENT_PACKET } else { 0 };
    if is_silent(events, asked.sample) {
        return Err(ApiError::invalid("no event and no sample: nothing would ever be told"));
    }
    let watch = Watch { events, sample: asked.sample, ..asked.watch()? };
    let until = asked.until()?;
    let viewing = api.view(watch).await?;
    let view = View::new(&api, viewing, asked.count, until);
    let pieces = unfold(view, |mut view| async move {
        let told = view.next().await?;
        let mut text = Vec::new();
        for told in told {
            view.write_lines(told, &mut text);
        }
        Some((Ok::<_, Infallible>(Bytes::from(text)), view))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
}

pub(super) async fn capture(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked?;
    if asked.event.is_some() || asked.sample > 0 {
        return Err(ApiError::invalid("event and sample are for /v1/trace"));
    }
    if !crate::edge::bpf::can_capture() {
        return Err(ApiError::invalid("captures need Linux 5.18 (bpf_xdp_load_bytes); `lb-agent trace` works here"));
    }
    let most = u32::try_from(MAX_SNAPLEN).unwrap_or(u32::MAX);
    let snaplen = asked.snaplen.unwrap_or(most);
    if snaplen == 0 || snaplen > most {
        return Err(ApiError::invalid(format!("snaplen is {snaplen}, wanted 1 to {most}")));
    }
    let (before, after) = match asked.side.as_deref() {
        None | Some("both") => (true, true),
        Some("before") => (true, false),
        Some("after") => (false, true),
        Some(other) => return Err(ApiError::invalid(format!("side is {other:?}, wanted before, after or both"))),
    };
    let watch = Watch { before, after, snaplen, ..asked.watch()? };
    let what = format!("lb-agent capture: {}", described(&asked));
    let begun = |e: pcap_file::PcapError| ApiError::invalid(format!("cannot begin a pcapng stream: {e}"));
    let stream = Stream::begin(snaplen, &what).map_err(begun)?;
    let until = asked.until()?;
    let viewing = api.view(watch).await?;
    let state = (View::new(&api, viewing, asked.count, until), stream, false);
    let pieces = unfold(state, move |(mut view, mut stream, is_over)| async move {
        if is_over {
            return None;
        }
        let told = view.next().await;
        let is_over = told.is_none();
        let mut is_whole = true;
        for told in told.into_iter().flatten() {
            match told {
                Told::Seen(seen) => is_whole &= stream.packet(view.packet(&seen, snaplen)).is_ok(),
                Told::Lost(lost) => view.lost = lost,
            }
        }
        let counted = (stream.packets(), view.lost);
        if is_over || (counted != view.counted && view.statistics_at <= Instant::now()) {
            view.counted = counted;
            view.statistics_at = Instant::now() + PIECE_EVERY;
            is_whole &= stream.statistics(view.now(), view.lost).is_ok();
        }
        // A Vec takes every write; should it not, the stream ends where it is still whole.
        is_whole.then(|| (Ok::<_, Infallible>(Bytes::from(stream.take())), (view, stream, is_over)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-pcapng")], Body::from_stream(pieces)).into_response())
}

fn described(asked: &Asked) -> String {
    let words = [
        asked.service.as_ref().map(|name| format!("service {name}")),
        asked.backend.map(|backend| format!("backend {backend}")),
        asked.client.as_ref().map(|client| format!("client {client}")),
        (!asked.verdict.is_empty()).then(|| format!("verdict {}", asked.verdict)),
    ];
    let words: Vec<_> = words.into_iter().flatten().collect();
    if words.is_empty() { "everything of ours".to_owned() } else { words.join(", ") }
}

impl Api {
    async fn view(&self, watch: Watch) -> Result<Viewing, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.watches.send((watch, reply)).await.map_err(|_| ending())?;
        Ok(answer.await.map_err(|_| ending())??)
    }
}

/// One who looks, and what it takes to put what it sees into words.
struct View {
    viewing: Viewing,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    names: Names,
    /// Lines or packets still wanted.
    left: u64,
    until: Instant,
    /// From `CLOCK_MONOTONIC` to the time since 1970, as of the beginning: two records' distance is then what it was.
    since_1970: Duration,
    lost: u64,
    /// Packets and losses in the last statistics.
    counted: (u64, u64),
    statistics_at: Instant,
}

impl View {
    fn new(api: &Api, viewing: Viewing, count: Option<u64>, until: Instant) -> Self {
        let clock = |id| clock_gettime(id).map_or(Duration::ZERO, Duration::from);
        Self {
            viewing,
            snapshots: api.snapshots.clone(),
            names: Names::new(api.snapshot()),
            left: count.unwrap_or(u64::MAX),
            until,
            since_1970: clock(ClockId::CLOCK_REALTIME).saturating_sub(clock(ClockId::CLOCK_MONOTONIC)),
            lost: 0,
            counted: (0, 0),
            statistics_at: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from) + self.since_1970
    }

    /// What there is, as soon as there is something, or nothing after a while; `None`: it is over.
    async fn next(&mut self) -> Option<Vec<Told>> {
        if self.left == 0 || Instant::now() >= self.until {
            return None;
        }
        let most = usize::try_from(self.left).unwrap_or(A_PIECE).min(A_PIECE);
        let mut told = Vec::with_capacity(most);
        let deadline = self.until.min(Instant::now() + PIECE_EVERY);
        if let Ok(0) = timeout_at(deadline, self.viewing.told.recv_many(&mut told, most)).await {
            return None;
        }
        self.names.follow(&self.snapshots);
        let seen = told.iter().filter(|told| matches!(told, Told::Seen(_))).count();
        self.left = self.left.saturating_sub(u64::try_from(seen).unwrap_or(u64::MAX));
        Some(told)
    }

    fn write_lines(&mut self, told: Told, text: &mut Vec<u8>) {
        let mut line = |value: serde_json::Result<Vec<u8>>| {
            // Strings and numbers: there is nothing that JSON could not say.
            text.extend(value.unwrap_or_default());
            text.push(b'\n');
        };
        match told {
            Told::Lost(lost) => line(serde_json::to_vec(&LostLine { lost })),
            Told::Seen(seen) => {
                let sight = &seen.sight;
                let wanted = self.viewing.events;
                let mut happened: Vec<_> = EVENTS.iter().filter(|(bit, _)| sight.events & wanted & bit != 0).collect();
                if happened.is_empty() {
                    happened.extend(EVENTS.iter().filter(|(bit, _)| *bit == EVENT_PACKET));
                }
                for (_, event) in happened {
                    line(serde_json::to_vec(&self.line(sight, event)));
                }
            }
        }
    }

    fn line(&self, sight: &Sight, event: &str) -> TraceLine {
        let ends = |address: &Address, port: [u8; 2]| {
            let is_known = sight.protocol != 0;
            is_known.then(|| SocketAddr::new(ip(address), u16::from_be_bytes(port)))
        };
        let time = std::time::UNIX_EPOCH + Duration::from_nanos(sight.time_ns) + self.since_1970;
        TraceLine {
            time: humantime::format_rfc3339_nanos(time).to_string(),
            event: event.to_owned(),
            protocol: protocol(sight.protocol),
            client: ends(&sight.client, sight.client_port),
            vip: ends(&sight.vip, sight.vip_port),
            from: if sight.flags & SIGHT_REPLY == 0 { "client" } else { "backend" }.to_owned(),
            service: self.names.services.get(&sight.service).cloned(),
            backend: self.names.backends.get(&sight.owner).copied(),
            verdict: verdict(sight).to_owned(),
            bytes: sight.bytes,
            interface: interface(sight.arrival),
        }
    }

    fn packet<'a>(&self, seen: &'a Seen, snaplen: u32) -> Packet<'a> {
        let sight = &seen.sight;
        let is_out = sight.kind == KIND_AFTER;
        let service = self.names.services.get(&sight.service).map(|name| format!(" {name}")).unwrap_or_default();
        let backend = self.names.backends.get(&sight.owner).map(|at| format!(" {at}")).unwrap_or_default();
        let length = seen.bytes.len().min(usize::try_from(snaplen).unwrap_or(usize::MAX));
        Packet {
            place: Place { interface: interface(if is_out { sight.departure } else { sight.arrival }), is_out },
            time: Duration::from_nanos(sight.time_ns) + self.since_1970,
            frame_len: sight.frame_len,
            bytes: &seen.bytes[..length],
            comment: format!("{}{service}{backend}", verdict(sight)),
        }
    }
}

/// What numbers are called, by the latest state.
struct Names {
    services: BTreeMap<u16, String>,
    backends: BTreeMap<u16, SocketAddr>,
    of: Arc<Snapshot>,
}

impl Names {
    fn new(of: Arc<Snapshot>) -> Self {
        let backends = of.services.iter().flat_map(|s| &s.backends);
        Self {
            services: of.services.iter().map(|s| (s.id, s.name.clone())).collect(),
            backends: backends.map(|b| (b.owner, SocketAddr::new(b.address, b.port))).collect(),
            of,
        }
    }

    fn follow(&mut self, snapshots: &watch::Receiver<Arc<Snapshot>>) {
        let latest = Arc::clone(&snapshots.borrow());
        if !Arc::ptr_eq(&latest, &self.of) {
            *self = Self::new(latest);
        }
    }
}

fn ip(address: &Address) -> IpAddr {
    std::net::Ipv6Addr::from(address.0).to_canonical()
}

fn verdict(sight: &Sight) -> &'static str {
    Verdict::ALL.get(usize::from(sight.verdict)).map_or("unknown", |verdict| verdict.name())
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

fn interface(index: u32) -> String {
    if_indextoname(index).map_or_else(|_| index.to_string(), |name| name.to_string_lossy().into_owned())
}
