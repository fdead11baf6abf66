//! Long answers that arrive bit by bit: what an inference server sends. The client's half may be closed long before.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Connection, Failure};
use crate::netns::{Netns, Running};

/// Slow answers to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// VIP and port.
    pub target: SocketAddr,
    /// Streams at once.
    pub count: usize,
    /// Chunks of each.
    pub chunks: u64,
    /// Time between chunks.
    pub every: Duration,
    /// Send FIN as soon as the first chunk has come.
    pub half_close: bool,
}

/// How one stream ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The server it came from; empty when not even the head came.
    pub server: String,
    /// `Ok` when the whole answer came.
    pub outcome: Result<(), Failure>,
}

impl Streams {
    /// Starts them on a client; returns when each has its first bytes.
    pub fn start(self, client: &Netns) -> Running<Vec<Ended>> {
        let (begun, all_begun) = std::sync::mpsc::channel();
        let running = client.spawn(async move {
            let streams = (0..self.count).map(|_| {
                let begun = begun.clone();
                tokio::spawn(async move { self.follow(begun).await })
            });
            let mut ended = Vec::new();
            for stream in streams.collect::<Vec<_>>() {
                ended.push(stream.await.expect("a stream's task does not panic"));
            }
            ended
        });
        for _ in 0..self.count {
            all_begun.recv_timeout(Duration::from_secs(10)).expect("every stream begins within 10 s");
        }
        running
    }

    async fn follow(self, begun: std::sync::mpsc::Sender<()>) -> Ended {
        // The receiver is gone when the test has failed already.
        self.one(|_| {
            let _: Result<(), _> = begun.send(());
        })
        .await
    }

    /// One stream to its end, whatever `count` says. `begun` hears the server's name when the first bytes have come. To
    /// be run on a client machine.
    pub async fn one(self, begun: impl FnOnce(&str)) -> Ended {
        let mut server = String::new();
        let outcome = self.read(&mut server, begun).await;
        Ended { server, outcome }
    }

    async fn read(self, server: &mut String, begun: impl FnOnce(&str)) -> Result<(), Failure> {
        // Silence of several intervals is a stall.
        let limit = self.every * 4 + Duration::from_secs(5);
        let mut connection = Connection::open(self.target, None, limit).await?;
        connection.ask(&format!("/slow?chunks={}&ms={}", self.chunks, self.every.as_millis())).await?;
        let answer = connection.answer().await?;
        *server = answer.backend;
        begun(server);
        if self.half_close {
            connection.half_close().await?;
        }
        let mut body = answer.body;
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            let more = tokio::time::timeout(limit, connection.read_some()).await.map_err(|_| Failure::TimedOut)??;
            if more.is_empty() {
                return Err(Failure::Cut);
            }
            body.extend(more);
        }
        Ok(())
    }
}
