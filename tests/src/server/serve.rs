//! What a backend's process does: an HTTP/1.1 server and a UDP echo on each of its addresses.
//!
//! Every answer names the server (header `x-backend`), so a client can tell where its flow ended. Paths: `/` (the name),
//! `/health`, `/bye` (the server closes the connection first), `/slow?chunks=N&ms=M` (one chunk per interval), `/echo`
//! (the request's body). Everything else is 404. Its parent rules it by lines on stdin and it ends when stdin does, so
//! it never outlives a killed test.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Collected, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::task::LocalSet;

/// Connections that may wait to be accepted: a burst of a load generator.
const BACKLOG: u32 = 4_096;

/// Largest datagram that is echoed, bytes.
const LARGEST_DATAGRAM: usize = 65_536;

#[derive(Debug)]
struct Server {
    name: String,
    health: Cell<StatusCode>,
    requests: Cell<u64>,
    datagrams: Cell<u64>,
}

/// Serves until stdin ends. Prints `ready` once every address listens.
pub async fn serve(name: String, addresses: Vec<SocketAddr>) -> io::Result<()> {
    let server =
        Rc::new(Server { name, health: Cell::new(StatusCode::OK), requests: Cell::new(0), datagrams: Cell::new(0) });
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            for address in addresses {
                let listener = listen(address)?;
                let echo = UdpSocket::bind(address).await?;
                drop(tokio::task::spawn_local(accept(Rc::clone(&server), listener)));
                drop(tokio::task::spawn_local(answer_datagrams(Rc::clone(&server), echo)));
            }
            obey(&server).await
        })
        .await
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server must not wait for its predecessor's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn obey(server: &Server) -> io::Result<()> {
    let mut out = tokio::io::stdout();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut answer = "ready".to_owned();
    loop {
        out.write_all(answer.as_bytes()).await?;
        out.write_all(b"\n").await?;
        out.flush().await?;
        let Some(line) = lines.next_line().await? else { return Ok(()) };
        let words: Vec<&str> = line.split_whitespace().collect();
        answer = match words.as_slice() {
            ["health", status] => {
                let status = status.parse().map_err(|e| io::Error::other(format!("not a status: {status}: {e}")))?;
                server.health.set(status);
                "ok".to_owned()
            }
            ["requests"] => server.requests.get().to_string(),
            ["datagrams"] => server.datagrams.get().to_string(),
            _ => return Err(io::Error::other(format!("no such order: {line}"))),
        };
    }
}

async fn accept(server: Rc<Server>, listener: TcpListener) {
    // An error (too many files) concerns one connection; the next one may do better.
    while let Ok((stream, _)) = listener.accept().await {
        let server = Rc::clone(&server);
        drop(tokio::task::spawn_local(async move {
            let _: io::Result<()> = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let server = Rc::clone(&server);
                async move { Ok::<_, Infallible>(respond(&server, request).await) }
            });
            let mut builder = http1::Builder::new();
            // A client that has sent its FIN may still read a long answer.
            let connection = builder.half_close(true).serve_connection(TokioIo::new(stream), service);
            // What goes wrong here, the client sees and counts.
            let _: Result<(), hyper::Error> = connection.await;
        }));
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn respond(server: &Server, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path != "/health" {
        server.requests.set(server.requests.get() + 1);
    }
    let mut status = StatusCode::OK;
    let body = match path.as_str() {
        "/" | "/bye" => whole(server.name.clone()),
        "/health" => {
            status = server.health.get();
            whole(status.to_string())
        }
        "/slow" => {
            let query = request.uri().query().unwrap_or_default();
            trickle(number(query, "chunks", 10), Duration::from_millis(number(query, "ms", 100)))
        }
        "/echo" => whole(request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default()),
        _ => {
            status = StatusCode::NOT_FOUND;
            whole("no such path\n")
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(name) = HeaderValue::from_str(&server.name) {
        let _ = response.headers_mut().insert("x-backend", name);
    }
    if path == "/bye" {
        let _ = response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn trickle(chunks: u64, every: Duration) -> Body {
    StreamBody::new(stream::unfold(0, move |sent| async move {
        if sent == chunks {
            return None;
        }
        tokio::time::sleep(every).await;
        Some((Ok(Frame::data(Bytes::from(format!("{sent}\n")))), sent + 1))
    }))
    .boxed()
}

fn number(query: &str, key: &str, default: u64) -> u64 {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == key).then(|| value.parse().ok())?)
        .unwrap_or(default)
}

async fn answer_datagrams(server: Rc<Server>, socket: UdpSocket) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        // An ICMP error for an earlier answer shows up here; it concerns nobody else.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        server.datagrams.set(server.datagrams.get() + 1);
        let answer = [server.name.as_bytes(), b" ", &buffer[..length]].concat();
        let _: io::Result<usize> = socket.send_to(&answer, from).await;
    }
}
