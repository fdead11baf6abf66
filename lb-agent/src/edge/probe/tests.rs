//! Probes against real servers on the loopback: listeners, hyper over TCP and TLS, HTTP/2.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::pure::model::{FailKind, HttpProbe};

/// Long enough for a loaded machine; probes that are meant to run into a timeout use [`SHORT`].
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_listening_port_passes_and_its_program_never_sees_the_probe() {
    let (listener, addr) = listen().await;
    assert_passes(&probe(addr, ProbeKind::Tcp, LONG).await);
    // The half-open connection was reset: there is nothing to accept.
    assert!(timeout(SHORT, listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let (listener, addr) = listen().await;
    drop(listener);
    for kind in [ProbeKind::Tcp, ProbeKind::Http(get()), grpc("")] {
        assert_fails(probe(addr, kind, LONG).await, FailKind::Answered, "connection refused");
    }
}

#[tokio::test]
async fn a_handshake_that_nobody_answers_is_silent() {
    // A listener whose queue is full drops further SYNs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = timeout(SHORT, TcpStream::connect(addr)).await {
        queued.push(stream);
        assert!(queued.len() < 16, "a backlog of 0 took 16 connections");
    }
    assert_fails(probe(addr, ProbeKind::Tcp, SHORT).await, FailKind::Silent, "no answer within 100ms");
}

#[tokio::test]
async fn no_probe_passes_without_a_packet() {
    assert_passes(&probe(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), ProbeKind::None, LONG).await);
}

#[tokio::test]
async fn a_get_carries_path_host_and_headers_and_passes_on_its_status() {
    let addr = serve_http(|request| {
        let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let seen = format!(
            "{} {} host={} x={} agent={} connection={}",
            request.method(),
            request.uri(),
            header("host"),
            header("x-probe"),
            header("user-agent"),
            header("connection")
        );
        let wanted = "GET /health?deep=1 host=api.example.com x=yes agent=mine connection=close";
        Response::builder().status(if seen == wanted { 204 } else { 400 }).body(seen)
    })
    .await;
    let wanted = HttpProbe {
        path: "/health?deep=1".into(),
        host: Some("api.example.com".into()),
        headers: vec![("X-Probe".into(), "yes".into()), ("user-agent".into(), "mine".into())],
        ..get()
    };
    assert_passes(&probe(addr, ProbeKind::Http(wanted), LONG).await);
}

#[tokio::test]
async fn the_host_is_the_backend_address_unless_configured() {
    let addr = serve_http(|request| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        Response::builder().status(200).body(host)
    })
    .await;
    assert_passes(&probe(addr, body_with(&addr.to_string()), LONG).await);
}

#[tokio::test]
async fn a_wrong_status_fails_and_says_which_was_wanted() {
    let addr = serve_http(|_| Response::builder().status(503).body(String::new())).await;
    assert_fails(probe(addr, ProbeKind::Http(get()), LONG).await, FailKind::Answered, "status 503, wanted 200-399");
    let exact = HttpProbe { status_first: 200, status_last: 200, ..get() };
    assert_fails(probe(addr, ProbeKind::Http(exact), LONG).await, FailKind::Answered, "status 503, wanted 200");
}

#[tokio::test]
async fn a_body_passes_when_it_contains_the_text() {
    let addr = serve_http(|_| Response::builder().status(200).body("all is ready now".to_owned())).await;
    assert_passes(&probe(addr, body_with("ready"), LONG).await);
    assert_fails(probe(addr, body_with("late"), LONG).await, FailKind::Answered, "body of 16 bytes without \"late\"");
}

#[tokio::test]
async fn a_text_that_is_split_between_two_segments_is_found() {
    let addr = serve_raw(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nxxre\r\n").await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(b"5\r\nadyyy\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    assert_passes(&probe(addr, body_with("ready"), LONG).await);
}

#[tokio::test]
async fn only_the_first_64_kib_of_a_body_are_searched() {
    let addr = serve_http(|_| Response::builder().status(200).body("x".repeat(64 * 1024) + "ready")).await;
    assert_fails(
        probe(addr, body_with("ready"), LONG).await,
        FailKind::Answered,
        "body without \"ready\" in its first 65536 bytes",
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_hangs_has_answered_and_is_let_go() {
    for kind in [ProbeKind::Http(get()), ProbeKind::Https(get()), grpc("")] {
        let (listener, addr) = listen().await;
        let outcome = probe(addr, kind, SHORT).await;
        assert_fails(outcome, FailKind::Answered, "connected, but no answer within 100ms");
        let (mut stream, _) = listener.accept().await.unwrap();
        // The probe is over, so its end of the connection is gone: reading comes to an end (or a reset).
        drop(timeout(LONG, stream.read_to_end(&mut Vec::new())).await.expect("the probe's socket is still open"));
    }
}

#[tokio::test]
async fn a_dropped_probe_lets_its_connection_go() {
    for kind in [ProbeKind::Http(get()), grpc("")] {
        let (listener, addr) = listen().await;
        let running = tokio::spawn(probe(addr, kind, LONG));
        let (mut stream, _) = listener.accept().await.unwrap();
        running.abort();
        drop(timeout(LONG, stream.read_to_end(&mut Vec::new())).await.expect("the probe's socket is still open"));
    }
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let addr = serve_raw(|mut stream| async move {
        drop(stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await);
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let http = probe(addr, ProbeKind::Http(get()), LONG).await;
    assert_fails(http, FailKind::Answered, "answer is not HTTP/1.1");
    assert_fails(probe(addr, grpc(""), LONG).await, FailKind::Answered, "answer is not HTTP/2");
    assert_fails(probe(addr, ProbeKind::Https(get()), LONG).await, FailKind::Answered, "TLS: ");
}

#[tokio::test]
async fn half_an_answer_fails() {
    let head = serve_raw(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
    })
    .await;
    let wanted = "connection closed before the answer was complete";
    assert_fails(probe(head, ProbeKind::Http(get()), LONG).await, FailKind::Answered, wanted);
    let body = serve_raw(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nrea").await.unwrap();
    })
    .await;
    assert_fails(probe(body, body_with("ready"), LONG).await, FailKind::Answered, wanted);
    assert_passes(&probe(body, ProbeKind::Http(get()), LONG).await);
}

#[tokio::test]
async fn a_reset_fails_and_is_called_one() {
    let addr = serve_raw(|mut stream| async move {
        read_request(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    assert_fails(probe(addr, ProbeKind::Http(get()), LONG).await, FailKind::Answered, "connection reset");
}

#[tokio::test]
async fn https_takes_any_certificate_when_told_so_and_only_then() {
    let addr = serve_https().await;
    let named = HttpProbe { host: Some("api.example.com".into()), ..get() };
    assert_passes(&probe(addr, ProbeKind::Https(named.clone()), LONG).await);
    assert_passes(&probe(addr, ProbeKind::Https(get()), LONG).await);
    let strict = HttpProbe { tls_insecure: false, ..named };
    let outcome = probe(addr, ProbeKind::Https(strict), LONG).await;
    let ProbeOutcome::Fail { kind: FailKind::Answered, reason } = outcome else { panic!("{outcome:?}") };
    // Either the host's roots do not know the certificate, or the host has none: both name the remedy's place.
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn grpc_passes_on_serving_and_only_on_serving() {
    let addr = serve_grpc().await;
    assert_passes(&probe(addr, grpc(""), LONG).await);
    assert_passes(&probe(addr, grpc("good.Service"), LONG).await);
    for (service, reason) in [
        ("bad.Service", "NOT_SERVING, wanted SERVING"),
        ("no.Service", "server does not know the service \"no.Service\" (NOT_FOUND)"),
        ("trailers.Only", "server does not offer grpc.health.v1.Health (UNIMPLEMENTED)"),
        ("no.Status", "answer without a grpc-status"),
        ("not.grpc", "status 404, wanted 200 of a gRPC server"),
        ("reset.Stream", "HTTP/2: server refused"),
    ] {
        assert_fails(probe(addr, grpc(service), LONG).await, FailKind::Answered, reason);
    }
}

async fn probe(addr: SocketAddr, kind: ProbeKind, timeout: Duration) -> ProbeOutcome {
    NetProber::new().probe(Target { addr, kind, timeout }).await
}

#[track_caller]
fn assert_passes(outcome: &ProbeOutcome) {
    assert!(matches!(outcome, ProbeOutcome::Pass { .. }), "{outcome:?}");
}

#[track_caller]
fn assert_fails(outcome: ProbeOutcome, wanted: FailKind, start: &str) {
    match outcome {
        ProbeOutcome::Fail { kind, reason } if kind == wanted && reason.starts_with(start) => {}
        other => panic!("wanted {wanted:?} {start:?}, got {other:?}"),
    }
}

fn get() -> HttpProbe {
    HttpProbe {
        path: "/".into(),
        host: None,
        headers: vec![],
        status_first: 200,
        status_last: 399,
        body_contains: None,
        tls_insecure: true,
    }
}

fn body_with(text: &str) -> ProbeKind {
    ProbeKind::Http(HttpProbe { body_contains: Some(text.into()), ..get() })
}

fn grpc(service: &str) -> ProbeKind {
    ProbeKind::Grpc { service: service.into() }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Runs `serve` on every connection, each in a task that ends with the test's runtime.
async fn serve_raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, addr) = listen().await;
    drop(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(tokio::spawn(serve(stream)));
        }
    }));
    addr
}

async fn read_request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
}

async fn http1<S, A>(stream: S, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<hyper::body::Incoming>) -> ::http::Result<Response<String>> + Copy,
{
    let service = service_fn(move |request| async move {
        Ok::<_, Infallible>(answer(request).unwrap().map(|text| Full::new(Bytes::from(text))))
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn serve_http<A>(answer: A) -> SocketAddr
where
    A: Fn(Request<hyper::body::Incoming>) -> ::http::Result<Response<String>> + Copy + Send + Sync + 'static,
{
    serve_raw(move |stream| http1(stream, answer)).await
}

async fn serve_https() -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(vec!["api.example.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve_raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                http1(stream, |_| Response::builder().status(200).body(String::new())).await;
            }
        }
    })
    .await
}

/// A health server whose answer depends on the name that is asked for.
async fn serve_grpc() -> SocketAddr {
    serve_raw(|stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            drop(tokio::spawn(answer_health(request, respond)));
        }
    })
    .await
}

async fn answer_health(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let mut body = request.into_body();
    let mut asked = Vec::new();
    while let Some(data) = body.data().await {
        asked.extend_from_slice(&data.unwrap());
    }
    let name = if asked.len() > 5 { String::from_utf8(asked[7..].to_vec()).unwrap() } else { String::new() };
    let head = |status: u16| Response::builder().status(status).header("content-type", "application/grpc");
    match name.as_str() {
        "trailers.Only" => {
            let answer = head(200).header("grpc-status", "12").body(()).unwrap();
            drop(respond.send_response(answer, true).unwrap());
        }
        "not.grpc" => drop(respond.send_response(head(404).body(()).unwrap(), true).unwrap()),
        "reset.Stream" => respond.send_reset(h2::Reason::REFUSED_STREAM),
        _ => {
            let mut stream = respond.send_response(head(200).body(()).unwrap(), false).unwrap();
            let serving = if name == "bad.Service" { 2 } else { 1 };
            if name != "no.Service" {
                stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, serving]), name == "no.Status").unwrap();
            }
            if name != "no.Status" {
                let mut trailers = HeaderMap::new();
                let status = if name == "no.Service" { "5" } else { "0" };
                drop(trailers.insert("grpc-status", HeaderValue::from_static(status)));
                stream.send_trailers(trailers).unwrap();
            }
        }
    }
}
