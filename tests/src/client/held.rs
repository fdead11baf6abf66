//! Held connections: opened once, kept, and asked again and again whether they still reach the server they began with.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::{Connection, Failure};
use crate::netns::{Netns, Running};

/// Limit for one exchange on a held connection.
const LIMIT: Duration = Duration::from_secs(10);

/// Exchanges at once: enough to be quick, few enough that none waits for the others.
const AT_ONCE: usize = 64;

/// A set of established connections that have each answered at least once.
#[derive(Debug, Default)]
pub struct Held {
    connections: Vec<(String, Connection)>,
    faults: Vec<Fault>,
}

/// A held connection that did not survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its client end.
    pub client: SocketAddr,
    /// The server it began with.
    pub server: String,
    /// What happened: `reset`, `moved to b3`.
    pub what: String,
}

impl Held {
    /// Opens `count` connections to `target` from `client`, from `sources` in turn (empty: the kernel's choice), and
    /// lets each answer once. Panics when one fails.
    pub fn open(client: &Netns, target: SocketAddr, count: usize, sources: &[IpAddr]) -> Self {
        let sources = sources.to_vec();
        client.run(async move {
            let connections = stream::iter(0..count)
                .map(|index| {
                    let source = sources.get(index % sources.len().max(1)).map(|ip| SocketAddr::new(*ip, 0));
                    async move {
                        let mut connection = Connection::open(target, source, LIMIT).await?;
                        let answer = connection.get("/", LIMIT).await?;
                        Ok::<_, Failure>((answer.backend, connection))
                    }
                })
                .buffer_unordered(AT_ONCE)
                .map(|opened| opened.unwrap_or_else(|e| panic!("a connection to {target} could not be opened: {e}")))
                .collect()
                .await;
            Self { connections, faults: Vec::new() }
        })
    }

    /// Connections that live.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Connections by server.
    pub fn shares(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for (server, _) in &self.connections {
            *shares.entry(server.clone()).or_default() += 1;
        }
        shares
    }

    /// Client ends of the connections.
    pub fn tuples(&self) -> Vec<SocketAddr> {
        self.connections.iter().map(|(_, connection)| connection.local()).collect()
    }

    /// What went wrong so far.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Panics when a connection was reset, moved or cut.
    pub fn assert_unharmed(&self, what: &str) {
        let first = &self.faults[..self.faults.len().min(5)];
        assert!(self.faults.is_empty(), "{what}: {} of {} harmed: {first:?}", self.faults.len(), self.len());
    }

    /// Takes up to `count` connections out, the latest first.
    pub fn take(&mut self, count: usize) -> Self {
        let at = self.connections.len().saturating_sub(count);
        Self { connections: self.connections.split_off(at), faults: Vec::new() }
    }

    /// Takes the connections to one server out.
    pub fn take_on(&mut self, server: &str) -> Self {
        let all = std::mem::take(&mut self.connections);
        let (taken, kept) = all.into_iter().partition(|(name, _)| name == server);
        self.connections = kept;
        Self { connections: taken, faults: Vec::new() }
    }

    /// Puts the connections of another set into this one.
    pub fn join(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.faults.extend(other.faults);
    }

    /// One exchange on each connection; those that fail or answer from elsewhere become faults.
    pub fn check(self, client: &Netns) -> Self {
        client.run(self.exchange())
    }

    /// Exchanges on each connection in turn until `stop`, with `pause` between rounds.
    pub fn talk(self, client: &Netns, stop: Arc<AtomicBool>, pause: Duration) -> Running<Self> {
        client.spawn(async move {
            let mut held = self;
            while !stop.load(Ordering::Relaxed) {
                held = held.exchange().await;
                tokio::time::sleep(pause).await;
            }
            held
        })
    }

    /// Looks, without sending anything, for connections that have been reset or ended by the other side.
    pub fn look(self, client: &Netns) -> Self {
        client.run(async move {
            // Lets the reactor notice what has arrived.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut held = Self { faults: self.faults, ..Self::default() };
            for (server, connection) in self.connections {
                if connection.is_quiet() {
                    held.connections.push((server, connection));
                } else {
                    held.faults.push(Fault {
                        client: connection.local(),
                        server,
                        what: "ended while silent".to_owned(),
                    });
                }
            }
            held
        })
    }

    /// Closes all by FIN from the client.
    pub fn close(self, client: &Netns) {
        client.call(move || drop(self));
    }

    /// Closes all by FIN from the server, then by ours.
    pub fn close_by_server(self, client: &Netns) {
        client.run(async move {
            stream::iter(self.connections)
                .for_each_concurrent(AT_ONCE, |(_, mut connection)| async move {
                    let _ = connection.get("/bye", LIMIT).await.expect("the server answers before it closes");
                    let _ = connection.read_to_end(LIMIT).await.expect("the server closes");
                })
                .await;
        });
    }

    /// Closes all by RST from the client.
    pub fn reset(self, client: &Netns) {
        client.call(move || self.connections.into_iter().for_each(|(_, connection)| connection.reset()));
    }

    async fn exchange(self) -> Self {
        let outcomes: Vec<_> = stream::iter(self.connections)
            .map(|(server, mut connection)| async move {
                let what = match connection.get("/", LIMIT).await {
                    Ok(answer) if answer.backend == server => return Ok((server, connection)),
                    Ok(answer) => format!("moved to {}", answer.backend),
                    Err(why) => why.to_string(),
                };
                Err(Fault { client: connection.local(), server, what })
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut held = Self { connections: Vec::with_capacity(outcomes.len()), faults: self.faults };
        for outcome in outcomes {
            match outcome {
                Ok(alive) => held.connections.push(alive),
                Err(fault) => held.faults.push(fault),
            }
        }
        held
    }
}
