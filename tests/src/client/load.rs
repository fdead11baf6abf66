//! Load: HTTP requests, each on a connection of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Connection, Failure};
use crate::netns::{Netns, Running};

/// Longer than any request takes here, shorter than the kernel's first retransmission of a SYN (1 s): what takes
/// longer has lost a packet on the way.
const LATE: Duration = Duration::from_millis(900);

/// Failures after which a load that was to end by itself gives up: what is broken need not be waited for 20,000 times.
const ENOUGH_FAILURES: u64 = 100;

/// Who ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client, by FIN.
    Client,
    /// The server, by FIN.
    Server,
    /// The client, by RST.
    Reset,
}

/// What to ask, how often, from where.
#[derive(Clone, Debug)]
pub struct Load {
    /// VIP and port.
    pub target: SocketAddr,
    /// Requests in all; `u64::MAX`: until stopped.
    pub requests: u64,
    /// Requests at once.
    pub concurrency: usize,
    /// Source addresses, in turn; empty: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// Source ports that are used again and again; `None`: the kernel's choice. Needs `sources`.
    pub ports: Option<Range<u16>>,
    /// Who ends each connection.
    pub close: Close,
    /// Limit for connecting and again for the answer.
    pub limit: Duration,
    /// Wait between two requests of one worker.
    pub pause: Duration,
    /// Hears of every request when it has ended; `None`: the tally is enough.
    pub watch: Option<mpsc::Sender<Request>>,
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asked: 0 to `concurrency` - 1. A worker has one request at a time.
    pub worker: usize,
    /// When it began.
    pub began: Instant,
    /// When it was answered or had failed.
    pub ended: Instant,
    /// The server that answered.
    pub outcome: Result<String, Failure>,
}

impl Load {
    /// `requests` requests to `target`, 32 at once, closed by the client, 5 s each.
    pub fn new(target: SocketAddr, requests: u64) -> Self {
        Self {
            target,
            requests,
            concurrency: 32,
            sources: Vec::new(),
            ports: None,
            close: Close::Client,
            limit: Duration::from_secs(5),
            pause: Duration::ZERO,
            watch: None,
        }
    }

    /// Load that goes on until it is stopped: `concurrency` workers with 10 ms between a worker's requests.
    pub fn endless(target: SocketAddr, concurrency: usize) -> Self {
        Self { concurrency, pause: Duration::from_millis(10), ..Self::new(target, u64::MAX) }
    }

    /// Starts on a client machine.
    pub fn start(self, client: &Netns) -> RunningLoad {
        let shared = Arc::new(Shared::default());
        let tally = client.spawn(run(Arc::new(self), Arc::clone(&shared)));
        RunningLoad { shared, tally }
    }

    /// Runs to its end on a client machine.
    pub fn run(self, client: &Netns) -> Tally {
        self.start(client).await_end()
    }
}

/// A request that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// When it began.
    pub began: Instant,
    /// When it failed.
    pub ended: Instant,
    /// Why.
    pub why: Failure,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub ok: u64,
    /// Requests that failed.
    pub failed: Vec<Failed>,
    /// Answered requests by the server's name.
    pub shares: BTreeMap<String, u64>,
    /// Answered requests that took so long that a packet of theirs must have been lost.
    pub late: u64,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Tally {
    /// Failures by reason, for messages.
    pub fn reasons(&self) -> String {
        let mut counts: BTreeMap<Failure, u64> = BTreeMap::new();
        for failed in &self.failed {
            *counts.entry(failed.why).or_default() += 1;
        }
        counts.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
    }

    /// Panics unless every request was answered and none was late.
    pub fn assert_all_ok(&self, what: &str) {
        assert!(self.failed.is_empty(), "{what}: {} of {} failed: {}", self.failed.len(), self.total(), self.reasons());
    }

    /// Panics unless each server's share is within `tolerance` (0.1: ±10 %) of its due; `due` are weights by name.
    pub fn assert_shares(&self, due: &[(String, u64)], tolerance: f64) {
        let weights: u64 = due.iter().map(|(_, weight)| weight).sum();
        for (name, weight) in due {
            let wanted = to_f64(self.ok) * to_f64(*weight) / to_f64(weights);
            let got = to_f64(self.share(name));
            assert!(
                (got - wanted).abs() <= tolerance * wanted,
                "{name} got {got} of {} requests, due are {wanted} ± {} %: {:?}",
                self.ok,
                tolerance * 100.0,
                self.shares
            );
        }
    }

    /// Requests that a server answered.
    pub fn share(&self, name: &str) -> u64 {
        self.shares.get(name).copied().unwrap_or_default()
    }

    /// Requests, answered or not.
    pub fn total(&self) -> u64 {
        self.ok + u64::try_from(self.failed.len()).expect("a count")
    }

    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.late += other.late;
        self.failed.extend(other.failed);
        for (name, count) in other.shares {
            *self.shares.entry(name).or_default() += count;
        }
    }
}

/// A load that goes on.
#[derive(Debug)]
#[must_use = "a load that nobody stops is counted by nobody"]
pub struct RunningLoad {
    shared: Arc<Shared>,
    tally: Running<Tally>,
}

impl RunningLoad {
    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests have been answered; panics after 30 s.
    pub fn await_answers(&self, more: u64) {
        let (from, deadline) = (self.answered(), Instant::now() + Duration::from_secs(30));
        while self.answered() < from + more {
            assert!(Instant::now() < deadline, "{} of {more} requests answered in 30 s", self.answered() - from);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until all requests of a load that ends by itself are done.
    pub fn await_end(self) -> Tally {
        self.tally.wait()
    }

    /// Lets the requests under way finish, begins no more.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.tally.wait()
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

async fn run(load: Arc<Load>, shared: Arc<Shared>) -> Tally {
    let began = Instant::now();
    let workers = (0..load.concurrency).map(|index| tokio::spawn(work(Arc::clone(&load), Arc::clone(&shared), index)));
    let mut tally = Tally::default();
    for worker in join_all(workers).await {
        tally.add(worker.expect("a worker does not panic"));
    }
    tally.took = began.elapsed();
    tally
}

async fn work(load: Arc<Load>, shared: Arc<Shared>, worker: usize) -> Tally {
    let mut tally = Tally::default();
    let mut round = 0;
    while !shared.stop.load(Ordering::Relaxed) && shared.begun.fetch_add(1, Ordering::Relaxed) < load.requests {
        let began = Instant::now();
        let outcome = request(&load, source(&load, worker, round)).await;
        let ended = Instant::now();
        if let Some(watch) = &load.watch {
            // Whoever watched may have seen enough.
            let _: Result<(), _> = watch.send(Request { worker, began, ended, outcome: outcome.clone() });
        }
        match outcome {
            Ok(backend) => {
                tally.ok += 1;
                *tally.shares.entry(backend).or_default() += 1;
                tally.late += u64::from(ended - began > LATE);
                let _ = shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                tally.failed.push(Failed { began, ended, why });
                let failures = shared.failed.fetch_add(1, Ordering::Relaxed) + 1;
                if failures >= ENOUGH_FAILURES && load.requests < u64::MAX {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        round += 1;
        if !load.pause.is_zero() {
            tokio::time::sleep(load.pause).await;
        }
    }
    tally
}

async fn request(load: &Load, source: Option<SocketAddr>) -> Result<String, Failure> {
    let mut connection = match source {
        Some(source) if source.port() != 0 => Connection::open_again(load.target, source, load.limit).await?,
        _ => Connection::open(load.target, source, load.limit).await?,
    };
    let path = if load.close == Close::Server { "/bye" } else { "/" };
    let answer = connection.get(path, load.limit).await?;
    if answer.status != 200 {
        return Err(Failure::Wrong);
    }
    match load.close {
        Close::Client => {}
        Close::Server => drop(connection.read_to_end(load.limit).await?),
        Close::Reset => connection.reset(),
    }
    Ok(answer.backend)
}

/// Workers share the ports: worker `w` of `n` uses every `n`-th, so no two use one at the same time.
fn source(load: &Load, worker: usize, round: usize) -> Option<SocketAddr> {
    let turn = worker + round * load.concurrency;
    let address = *load.sources.get(turn % load.sources.len().max(1))?;
    let port = load.ports.as_ref().map_or(0, |ports| {
        let own = ports.len() / load.concurrency;
        assert!(own > 0, "{} ports are too few for {} workers", ports.len(), load.concurrency);
        ports.start + u16::try_from(worker * own + round % own).expect("within the range")
    });
    Some(SocketAddr::new(address, port))
}

fn to_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("a test counts less than 4 billion"))
}
