//! The demo's clients: short requests, a connection each, and long answers that arrive bit by bit, as an inference server
//! sends them. Runs on the client machine; what comes of it arrives in a [`Record`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::record::{Record, StreamEvent};
use crate::client::load::{Load, Request, RunningLoad};
use crate::client::stream::Streams;
use crate::netns::{Netns, Running};

/// Clients that ask one request after the other.
pub const WORKERS: usize = 16;

/// Between two requests of one of them: they leave the processor to everybody else.
const PAUSE: Duration = Duration::from_millis(20);

/// Longer than an answer can take here, and than the retransmission of a lost SYN (1 s).
pub const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// Long answers at once.
pub const STREAMS: usize = 40;

/// Between two chunks of one.
const CHUNK_EVERY: Duration = Duration::from_millis(200);

/// Before a stream that broke is asked for anew.
const STREAM_AGAIN: Duration = Duration::from_millis(200);

/// Clients at work.
#[derive(Debug)]
pub struct Traffic {
    load: Option<RunningLoad>,
    streams: Vec<Running<()>>,
    stop: Arc<AtomicBool>,
    requests: Receiver<Request>,
    events: Receiver<StreamEvent>,
    record: Record,
}

impl Traffic {
    /// Starts them. A long answer takes about `length`; they begin one after the other, so that some end all the time.
    pub fn start(client: &Netns, target: SocketAddr, length: Duration) -> Self {
        let (watch, requests) = mpsc::channel();
        let load = Load { pause: PAUSE, limit: REQUEST_LIMIT, watch: Some(watch), ..Load::endless(target, WORKERS) };
        let (told, events) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let chunks = length.as_millis() / CHUNK_EVERY.as_millis();
        let stream = Streams {
            target,
            count: 1,
            chunks: u64::try_from(chunks).unwrap_or(u64::MAX),
            every: CHUNK_EVERY,
            half_close: false,
        };
        let stagger = length / u32::try_from(STREAMS).unwrap_or(u32::MAX);
        let streams = (0..STREAMS).zip(0_u32..).map(|(worker, turn)| {
            client.spawn(follow(stream, worker, stagger * turn, Arc::clone(&stop), told.clone()))
        });
        let streams = streams.collect();
        Self { load: Some(load.start(client)), streams, stop, requests, events, record: Record::new(WORKERS) }
    }

    /// What the clients have seen so far.
    pub fn record(&mut self) -> &Record {
        while let Ok(request) = self.requests.try_recv() {
            self.record.request(request);
        }
        while let Ok(event) = self.events.try_recv() {
            self.record.stream(event);
        }
        &self.record
    }

    /// Ends requests; long answers that are under way come whole, and no new ones begin.
    pub fn let_end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _tally = self.load.take().map(RunningLoad::stop);
    }

    /// Waits until the last long answer has come.
    pub fn wait_for_end(&mut self) {
        self.streams.drain(..).for_each(Running::wait);
    }
}

/// One long answer after the other.
async fn follow(stream: Streams, worker: usize, wait: Duration, stop: Arc<AtomicBool>, told: Sender<StreamEvent>) {
    tokio::time::sleep(wait).await;
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let begun = |server: &str| tell(&told, StreamEvent::Began { worker, at, server: server.to_owned() });
        let outcome = stream.one(begun).await.outcome;
        let broken = outcome.is_err();
        tell(&told, StreamEvent::Ended { worker, began: at, at: Instant::now(), outcome });
        if broken {
            tokio::time::sleep(STREAM_AGAIN).await;
        }
    }
}

fn tell(told: &Sender<StreamEvent>, event: StreamEvent) {
    // The demo may have seen enough.
    let _: Result<(), _> = told.send(event);
}
