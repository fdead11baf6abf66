//! What clients do: one HTTP connection here; load, held connections, datagrams and floods beside it.
//!
//! Everything in this folder is async code that must run on a client machine (`Netns::run`, `Netns::spawn`). Nothing
//! retries: what fails once is counted as failed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

pub mod echo;
pub mod flood;
pub mod held;
pub mod load;
pub mod stream;
pub mod udp;

/// Bytes read at once; an answer of the lab's servers is smaller.
const CHUNK: usize = 4_096;

/// No answer head of the lab's servers is longer.
const LONGEST_HEAD: usize = 65_536;

/// How often to ask this machine's kernel whether a tuple is free again.
const TUPLE_HELD: Duration = Duration::from_millis(2);

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The handshake was answered by an RST.
    Refused,
    /// An established connection got an RST.
    Reset,
    /// Nothing came back in time.
    TimedOut,
    /// The connection ended before the answer did.
    Cut,
    /// The network said that the target cannot be reached.
    Unreachable,
    /// What came back is not what was asked for.
    Wrong,
    /// This machine could not send: a fault of the test, not of what it tests.
    Local,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed out",
            Self::Cut => "cut",
            Self::Unreachable => "unreachable",
            Self::Wrong => "wrong answer",
            Self::Local => "could not be sent",
        })
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Local,
        }
    }
}

/// An answer's head, and its body where it says how long that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Name of the server that answered.
    pub backend: String,
    /// The body; for a chunked one, what of it had come with the head.
    pub body: Vec<u8>,
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    target: SocketAddr,
}

impl Connection {
    /// Connects, from `source` where one is given (port 0: any).
    pub async fn open(target: SocketAddr, source: Option<SocketAddr>, limit: Duration) -> Result<Self, Failure> {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            // A test that names ports uses the same tuple again and again.
            socket.set_reuseaddr(source.port() != 0)?;
            socket.bind(source)?;
        }
        let stream = timeout(limit, socket.connect(target)).await.map_err(|_| Failure::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, target })
    }

    /// As `open`, from a tuple that an earlier connection of this machine may still hold: the server's last ACK is on its way,
    /// and no event says when it has come. Waits for that within `limit`; nothing is sent meanwhile.
    pub async fn open_again(target: SocketAddr, source: SocketAddr, limit: Duration) -> Result<Self, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match Self::open(target, Some(source), limit).await {
                Err(Failure::Local) if Instant::now() < deadline => sleep(TUPLE_HELD).await,
                outcome => return outcome,
            }
        }
    }

    /// This end's address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Asks for `path` and reads the answer.
    pub async fn get(&mut self, path: &str, limit: Duration) -> Result<Answer, Failure> {
        timeout(limit, async {
            self.ask(path).await?;
            self.answer().await
        })
        .await
        .map_err(|_| Failure::TimedOut)?
    }

    /// Sends a request and does not wait.
    pub async fn ask(&mut self, path: &str) -> Result<(), Failure> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.target);
        Ok(self.stream.write_all(request.as_bytes()).await?)
    }

    /// Reads until the server ends the connection.
    pub async fn read_to_end(&mut self, limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut rest = Vec::new();
        let _ = timeout(limit, self.stream.read_to_end(&mut rest)).await.map_err(|_| Failure::TimedOut)??;
        Ok(rest)
    }

    /// Reads what comes next; empty: the server has ended its half.
    pub async fn read_some(&mut self) -> Result<Vec<u8>, Failure> {
        let mut chunk = vec![0; CHUNK];
        let length = self.stream.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok(chunk)
    }

    /// Sends FIN; the server may go on.
    pub async fn half_close(&mut self) -> Result<(), Failure> {
        Ok(self.stream.shutdown().await?)
    }

    /// Ends the connection by an RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger can be set on a TCP socket");
    }

    /// Whether neither FIN nor RST nor data has come, without sending anything.
    pub fn is_quiet(&self) -> bool {
        self.stream.try_read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads an answer.
    pub async fn answer(&mut self) -> Result<Answer, Failure> {
        let mut bytes = Vec::with_capacity(CHUNK);
        let head_length = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if bytes.len() > LONGEST_HEAD {
                return Err(Failure::Wrong);
            }
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return Err(Failure::Cut);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_length]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(Failure::Wrong)?;
        let backend = header(&head, "x-backend").ok_or(Failure::Wrong)?.to_owned();
        let mut body = bytes.split_off(head_length);
        if let Some(length) = header(&head, "content-length") {
            let length: usize = length.parse().map_err(|_| Failure::Wrong)?;
            while body.len() < length {
                if self.stream.read_buf(&mut body).await? == 0 {
                    return Err(Failure::Cut);
                }
            }
        }
        Ok(Answer { status, backend, body })
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
