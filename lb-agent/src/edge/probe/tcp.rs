//! Opens a probe's TCP connection; for a `tcp` probe the completed handshake is the whole check.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::failure::Failure;
use crate::pure::model::ProbeKind;

/// Completes a TCP handshake with `addr`.
pub(super) async fn connect(addr: SocketAddr, kind: &ProbeKind) -> Result<TcpStream, Failure> {
    let socket = open(addr, kind).map_err(|error| Failure::io(&error))?;
    socket.connect(addr).await.map_err(|error| Failure::io(&error))
}

fn open(addr: SocketAddr, kind: &ProbeKind) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if *kind == ProbeKind::Tcp {
        // As HAProxy's connect check: SYN, SYN-ACK, RST. With a zero linger the close is an RST, so that we, who close
        // first, keep no TIME_WAIT: at a thousand probes a second one minute of them is more than all ephemeral ports.
        // With quick ACK off the handshake's ACK waits for data that never comes, so the RST finds the connection half
        // open and the server's program is neither woken nor has anything to log.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_quickack(false)?;
    }
    // In the other checks the server closes first (`connection: close`), or we have seen enough and close in order.
    Ok(TcpSocket::from_std_stream(StdStream::from(socket)))
}
