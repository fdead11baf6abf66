//! What the clients saw, request by request and stream by stream: pure. Everything the demo says about traffic is counted
//! here, from the clients' side; the agent's own figures are never taken for it.
//!
//! In: events of the load and of the streams, in the order in which they ended. Out: figures of any span of time. A request
//! belongs to the span in which it began.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Failure;
use crate::client::load::Request;

/// A long answer, from its first bytes to its end.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who sends it; empty when not even its head came.
    pub server: String,
    /// When it was asked for.
    pub began: Instant,
    /// When and how it ended; `None`: it runs.
    pub end: Option<(Instant, Result<(), Failure>)>,
}

impl Stream {
    /// Whether all of it came; `None`: it runs.
    pub fn is_whole(&self) -> Option<bool> {
        self.end.as_ref().map(|(_, outcome)| outcome.is_ok())
    }
}

/// What happens to the stream of a worker, which has one at a time.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// Its first bytes have come.
    Began {
        /// Whose.
        worker: usize,
        /// When it was asked for.
        at: Instant,
        /// Who sends it.
        server: String,
    },
    /// It is over. Without a [`StreamEvent::Began`] before: it could not be opened.
    Ended {
        /// Whose.
        worker: usize,
        /// When it was asked for.
        began: Instant,
        /// When it ended.
        at: Instant,
        /// Whether all of it came.
        outcome: Result<(), Failure>,
    },
}

/// Requests and streams since the demo began.
#[derive(Debug, Default)]
pub struct Record {
    requests: Vec<Request>,
    streams: Vec<Stream>,
    /// By worker of the load: when its latest request ended.
    latest: Vec<Option<Instant>>,
    /// By worker: its running stream.
    running: BTreeMap<usize, usize>,
}

/// What the requests of a span came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Count {
    /// Answered.
    pub answered: u64,
    /// Answered, by server.
    pub by_server: BTreeMap<String, u64>,
    /// Failed, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// When the last one that failed began.
    pub last_failed: Option<Instant>,
    /// How long answers took, shortest first.
    pub took: Vec<Duration>,
}

impl Record {
    /// For a load of so many workers.
    pub fn new(workers: usize) -> Self {
        Self { latest: vec![None; workers], ..Self::default() }
    }

    /// Takes in a request.
    pub fn request(&mut self, request: Request) {
        if let Some(latest) = self.latest.get_mut(request.worker) {
            *latest = Some(request.ended);
        }
        self.requests.push(request);
    }

    /// Takes in what happened to a stream.
    pub fn stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Began { worker, at, server } => {
                let _ = self.running.insert(worker, self.streams.len());
                self.streams.push(Stream { server, began: at, end: None });
            }
            StreamEvent::Ended { worker, began, at, outcome } => {
                let end = Some((at, outcome));
                match self.running.remove(&worker).and_then(|index| self.streams.get_mut(index)) {
                    Some(stream) => stream.end = end,
                    None => self.streams.push(Stream { server: String::new(), began, end }),
                }
            }
        }
    }

    /// Whether every request that began before `moment` is in the record: each worker has ended one since.
    pub fn is_complete_to(&self, moment: Instant) -> bool {
        self.latest.iter().all(|latest| latest.is_some_and(|latest| latest >= moment))
    }

    /// Requests that began from `from` on and before `to`.
    pub fn count(&self, from: Instant, to: Instant) -> Count {
        let mut count = Count::default();
        // They are in the order in which they ended: what ended before the span did not begin in it.
        let recent = self.requests.iter().rev().take_while(|r| r.ended >= from);
        for request in recent.filter(|r| r.began >= from && r.began < to) {
            match &request.outcome {
                Ok(server) => {
                    count.answered += 1;
                    match count.by_server.get_mut(server) {
                        Some(answers) => *answers += 1,
                        None => drop(count.by_server.insert(server.clone(), 1)),
                    }
                    count.took.push(request.ended - request.began);
                }
                Err(why) => {
                    *count.failed.entry(*why).or_default() += 1;
                    count.last_failed = count.last_failed.max(Some(request.began));
                }
            }
        }
        count.took.sort_unstable();
        count
    }

    /// The first request that this server answered after `moment`: how long after it began.
    pub fn first_answer(&self, server: &str, moment: Instant) -> Option<Duration> {
        let answers = self.requests.iter().filter(|r| r.began >= moment && r.outcome.as_deref() == Ok(server));
        answers.map(|r| r.ended - moment).min()
    }

    /// Requests that ended in the second before `now`, by server, and how many.
    pub fn last_second(&self, now: Instant) -> (BTreeMap<&str, u64>, u64) {
        let mut by_server = BTreeMap::new();
        let mut all = 0;
        // Requests end in order, and none takes longer than a few seconds: no need to look far back.
        for request in self.requests.iter().rev().take_while(|r| now - r.ended < Duration::from_secs(1)) {
            all += 1;
            if let Ok(server) = &request.outcome {
                *by_server.entry(server.as_str()).or_default() += 1;
            }
        }
        (by_server, all)
    }

    /// Streams that ran at some time from `from` on.
    pub fn streams_since(&self, from: Instant) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |s| s.end.as_ref().is_none_or(|(at, _)| *at >= from))
    }

    /// Streams from one server that ran at some time from `from` on.
    pub fn streams_of<'a>(&'a self, server: &'a str, from: Instant) -> impl Iterator<Item = &'a Stream> {
        self.streams_since(from).filter(move |stream| stream.server == server)
    }

    /// Streams that run.
    pub fn streams_running(&self) -> usize {
        self.running.len()
    }

    /// Streams that came whole, and streams that did not, since the beginning.
    pub fn streams_ended(&self) -> (usize, usize) {
        let ended = self.streams.iter().filter_map(|s| s.end.as_ref());
        ended.fold(
            (0, 0),
            |(whole, broken), (_, how)| if how.is_ok() { (whole + 1, broken) } else { (whole, broken + 1) },
        )
    }
}

impl Count {
    /// Failed, whatever the reason.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Answered and failed.
    pub fn total(&self) -> u64 {
        self.answered + self.failures()
    }

    /// Answered by this server.
    pub fn of(&self, server: &str) -> u64 {
        self.by_server.get(server).copied().unwrap_or_default()
    }

    /// This server's part of the answered requests, per cent.
    pub fn share(&self, server: &str) -> f64 {
        per_cent(self.of(server), self.answered)
    }

    /// Of a hundred answers, so many came within this time; zero of none.
    pub fn quantile(&self, of_hundred: usize) -> Duration {
        let index = (self.took.len().saturating_sub(1) * of_hundred).div_ceil(100);
        self.took.get(index).copied().unwrap_or_default()
    }
}

/// `part` of `whole` in per cent; 0 of nothing.
pub fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * to_f64(part) / to_f64(whole) }
}

/// A count as a number to calculate with.
pub fn to_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(worker: usize, at: Instant, ms: u64, outcome: Result<&str, Failure>) -> Request {
        let ended = at + Duration::from_millis(ms);
        Request { worker, began: at, ended, outcome: outcome.map(str::to_owned) }
    }

    #[test]
    fn a_request_belongs_to_the_span_in_which_it_began() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut record = Record::new(1);
        record.request(request(0, start, 10, Ok("b1")));
        record.request(request(0, start + second / 2, 900, Err(Failure::Refused)));
        record.request(request(0, start + second * 2, 30, Ok("b2")));
        let first = record.count(start, start + second);
        assert_eq!((first.answered, first.failures(), first.total()), (1, 1, 2));
        assert_eq!(first.last_failed, Some(start + second / 2));
        let second = record.count(start + second, start + second * 3);
        assert_eq!((second.of("b1"), second.of("b2"), second.failures()), (0, 1, 0));
        assert_eq!(second.quantile(99), Duration::from_millis(30));
    }

    #[test]
    fn a_span_is_complete_when_every_worker_has_ended_a_request_since() {
        let start = Instant::now();
        let mut record = Record::new(2);
        record.request(request(0, start, 50, Ok("b1")));
        assert!(!record.is_complete_to(start), "the second worker may still wait for an answer");
        record.request(request(1, start, 20, Ok("b1")));
        assert!(record.is_complete_to(start + Duration::from_millis(20)));
        assert!(!record.is_complete_to(start + Duration::from_millis(30)));
    }

    #[test]
    fn a_stream_that_could_not_be_opened_is_a_broken_one_of_nobody() {
        let start = Instant::now();
        let mut record = Record::new(0);
        record.stream(StreamEvent::Began { worker: 3, at: start, server: "b2".into() });
        assert_eq!(record.streams_running(), 1);
        record.stream(StreamEvent::Ended { worker: 3, began: start, at: start, outcome: Ok(()) });
        record.stream(StreamEvent::Ended { worker: 3, began: start, at: start, outcome: Err(Failure::Refused) });
        assert_eq!((record.streams_running(), record.streams_ended()), (0, (1, 1)));
        assert_eq!(record.streams_since(start).last().map(|s| s.server.as_str()), Some(""));
    }
}
