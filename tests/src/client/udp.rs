//! Datagram flows: each sends, waits for its answer, sends again; where answers come from is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::netns::Netns;

/// An answer that has not come by then is lost: nothing here takes longer.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Flows to make.
#[derive(Clone, Copy, Debug)]
pub struct Flows {
    /// VIP and port.
    pub target: SocketAddr,
    /// Flows: sockets of their own.
    pub flows: usize,
    /// Datagrams of each flow.
    pub datagrams: usize,
    /// Bytes of each datagram; above the MTU it travels in fragments.
    pub size: usize,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Datagrams that were answered with what was sent, from the address that was asked.
    pub answered: usize,
    /// Datagrams without an answer.
    pub lost: usize,
    /// Answers from elsewhere, or with other content.
    pub wrong: Vec<String>,
    /// Flows that more than one server answered.
    pub moved: usize,
    /// Flows by server.
    pub shares: BTreeMap<String, usize>,
}

impl Flows {
    /// Runs all flows at once on a client machine.
    pub fn run(self, client: &Netns) -> Tally {
        client.run(async move {
            let flows: Vec<_> = (0..self.flows).map(|index| tokio::spawn(self.follow(index))).collect();
            let mut tally = Tally::default();
            for flow in flows {
                let (part, servers) = flow.await.expect("a flow's task does not panic");
                tally.answered += part.answered;
                tally.lost += part.lost;
                tally.wrong.extend(part.wrong);
                tally.moved += usize::from(servers.len() > 1);
                for server in servers {
                    *tally.shares.entry(server).or_default() += 1;
                }
            }
            tally
        })
    }

    async fn follow(self, index: usize) -> (Tally, BTreeSet<String>) {
        let any: SocketAddr =
            if self.target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        // Not connected: a connected socket would hide an answer from a wrong address.
        let socket = UdpSocket::bind(any).await.expect("a UDP socket can be bound");
        let (mut tally, mut servers) = (Tally::default(), BTreeSet::new());
        let mut buffer = vec![0; 65_536];
        for number in 0..self.datagrams {
            let mut payload = format!("flow {index} datagram {number} ").into_bytes();
            payload.resize(payload.len().max(self.size), b'.');
            if socket.send_to(&payload, self.target).await.is_err() {
                tally.lost += 1;
                continue;
            }
            let Ok(Ok((length, from))) = timeout(LOST_AFTER, socket.recv_from(&mut buffer)).await else {
                tally.lost += 1;
                continue;
            };
            let answer = &buffer[..length];
            let space = answer.iter().position(|byte| *byte == b' ').unwrap_or(0);
            if from != self.target || answer.get(space + 1..) != Some(payload.as_slice()) {
                tally.wrong.push(format!("{length} bytes from {from}"));
                continue;
            }
            let _ = servers.insert(String::from_utf8_lossy(&answer[..space]).into_owned());
            tally.answered += 1;
        }
        (tally, servers)
    }
}
