//! The HTTP/1.1 check: one GET, judged by its status and, if wanted, by the beginning of its body.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::failure::Failure;
use crate::pure::model::HttpProbe;

/// As much of a body as is looked at: health pages are short, and an endless one must not occupy memory or the probe.
const BODY_LIMIT: usize = 64 * 1024;
/// What probes call themselves in the logs of backends.
pub(super) const AGENT: &str = concat!("weir-probe/", env!("CARGO_PKG_VERSION"));

/// Sends `wanted`'s request over `stream` and judges the answer. Without a body match the status alone decides: the body is
/// not read.
pub(super) async fn check<S>(stream: S, addr: SocketAddr, wanted: &HttpProbe) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(addr, wanted)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failure(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failure(&error))?;
        judge(response, wanted).await
    };
    // The connection is driven here and not in a task of its own, so that it ends with the probe. When it is done first (the
    // server has closed), what it has read is still waiting in the exchange.
    let mut broken = None;
    let driver = async {
        broken = connection.await.err().map(|error| failure(&error));
        pending::<Infallible>().await
    };
    let verdict = tokio::select! {
        verdict = exchange => verdict,
        never = driver => match never {},
    };
    // A connection that broke before the request was taken up (the server spoke first) tells the exchange only that there will
    // be no answer; why, it keeps for its driver.
    verdict.map_err(|consequence| broken.unwrap_or(consequence))
}

fn request(addr: SocketAddr, wanted: &HttpProbe) -> Result<Request<Empty<Bytes>>, Failure> {
    let unsendable = |what: &str, why: &dyn std::fmt::Display| {
        Failure::answered(format!("cannot send {what}: {why}. Correct it in the health check"))
    };
    let host = wanted.host.clone().unwrap_or_else(|| addr.to_string());
    let host = HeaderValue::try_from(&host).map_err(|e| unsendable(&format!("host {host:?}"), &e))?;
    let mut request = Request::get(&wanted.path)
        .body(Empty::new())
        .map_err(|e| unsendable(&format!("path {:?}", wanted.path), &e))?;
    let headers = request.headers_mut();
    drop(headers.insert(HOST, host));
    drop(headers.insert(USER_AGENT, HeaderValue::from_static(AGENT)));
    drop(headers.insert(CONNECTION, HeaderValue::from_static("close")));
    // A configured header replaces ours of that name; one that is configured twice is sent twice.
    for (name, _) in &wanted.headers {
        drop(headers.remove(name));
    }
    for (name, value) in &wanted.headers {
        let key = HeaderName::try_from(name).map_err(|e| unsendable(&format!("header {name:?}"), &e))?;
        let value = HeaderValue::try_from(value).map_err(|e| unsendable(&format!("header {name:?}"), &e))?;
        let _replaced: bool = headers.append(key, value);
    }
    Ok(request)
}

async fn judge(response: Response<Incoming>, wanted: &HttpProbe) -> Result<(), Failure> {
    let status = response.status().as_u16();
    if !(wanted.status_first..=wanted.status_last).contains(&status) {
        return Err(Failure::answered(format!("status {status}, wanted {}", range(wanted))));
    }
    match &wanted.body_contains {
        None => Ok(()),
        Some(text) => search(response.into_body(), text).await,
    }
}

/// Reads the body until `text` has been seen, [`BODY_LIMIT`] bytes have been looked at, or it ends.
async fn search(mut body: Incoming, text: &str) -> Result<(), Failure> {
    let needle = text.as_bytes();
    let mut seen: Vec<u8> = Vec::new();
    loop {
        if needle.is_empty() {
            return Ok(());
        }
        let Some(frame) = body.frame().await else {
            return Err(Failure::answered(format!("body of {} bytes without {text:?}", seen.len())));
        };
        let frame = frame.map_err(|error| failure(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        // Only what the last frame could not yet decide is searched again.
        let from = seen.len().saturating_sub(needle.len() - 1);
        seen.extend_from_slice(&data[..data.len().min(BODY_LIMIT - seen.len())]);
        if seen[from..].windows(needle.len()).any(|window| window == needle) {
            return Ok(());
        }
        if seen.len() == BODY_LIMIT {
            return Err(Failure::answered(format!("body without {text:?} in its first {BODY_LIMIT} bytes")));
        }
    }
}

fn range(wanted: &HttpProbe) -> String {
    if wanted.status_first == wanted.status_last {
        wanted.status_first.to_string()
    } else {
        format!("{}-{}", wanted.status_first, wanted.status_last)
    }
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        Failure::answered(format!("answer is not HTTP/1.1: {error}"))
    } else if error.is_incomplete_message() {
        Failure::answered("connection closed before the answer was complete")
    } else {
        Failure::caused_by(error, "answer is not HTTP/1.1")
    }
}
