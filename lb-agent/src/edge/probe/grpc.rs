//! The gRPC check: one unary `grpc.health.v1.Health/Check` over HTTP/2 with prior knowledge; SERVING passes.
//!
//! Sources: gRPC over HTTP/2 (grpc/grpc, `doc/PROTOCOL-HTTP2.md`: request headers, the 5-byte message prefix, `grpc-status` in
//! trailers or, trailers-only, in the headers) and `grpc/health/v1/health.proto`. The two messages have one field each, so
//! they are written and read by hand:
//! ```text
//! message HealthCheckRequest  { string service = 1; }
//! message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
//!                               ServingStatus status = 1; }
//! ```

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri, Version};
use tokio::net::TcpStream;

use super::failure::Failure;
use super::http::AGENT;

/// A health answer is 7 bytes; a server that sends more than this is not answering the question.
const ANSWER_LIMIT: usize = 4 * 1024;
/// The message prefix: one byte "compressed", four bytes length.
const PREFIX_BYTES: usize = 5;
const SERVING: u64 = 1;

/// Asks the server at the other end of `stream` for the health of `service` (empty: the server as a whole).
pub(super) async fn check(stream: TcpStream, addr: SocketAddr, service: &str) -> Result<(), Failure> {
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| failure(&error))?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(|error| failure(&error))?;
        let (answer, mut body) = sender.send_request(request(addr)?, false).map_err(|error| failure(&error))?;
        body.send_data(message(service)?, true).map_err(|error| failure(&error))?;
        judge(answer.await.map_err(|error| failure(&error))?, service).await
    };
    // Driven here and not in a task of its own, so that it ends with the probe; its errors reach the exchange.
    let driver = async {
        drop(connection.await);
        pending::<Infallible>().await
    };
    tokio::select! {
        verdict = exchange => verdict,
        never = driver => match never {},
    }
}

fn request(addr: SocketAddr) -> Result<Request<()>, Failure> {
    let uri = Uri::builder().scheme("http").authority(addr.to_string()).path_and_query("/grpc.health.v1.Health/Check");
    let uri = uri.build().map_err(|error| Failure::answered(format!("cannot name {addr} in a request: {error}")))?;
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .body(())
        .map_err(|error| Failure::answered(format!("cannot build the request: {error}")))
}

/// The prefixed `HealthCheckRequest`.
fn message(service: &str) -> Result<Bytes, Failure> {
    let too_long = |_| Failure::answered("name of the gRPC service is too long. Correct it in the health check");
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(1 << 3 | 2); // field 1, length-delimited
        put_varint(&mut field, u32::try_from(service.len()).map_err(too_long)?);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + field.len());
    message.put_u8(0); // not compressed
    message.put_u32(u32::try_from(field.len()).map_err(too_long)?);
    message.put_slice(&field);
    Ok(message.freeze())
}

async fn judge(answer: http::Response<h2::RecvStream>, service: &str) -> Result<(), Failure> {
    let (head, mut body) = answer.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Failure::answered(format!("status {}, wanted 200 of a gRPC server", head.status.as_u16())));
    }
    // Trailers-only: an error without a message has its status among the headers.
    judge_status(&head.headers, service)?;
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| failure(&error))?;
        // The window is given back at once: the limit below bounds what is kept.
        body.flow_control().release_capacity(data.len()).map_err(|error| failure(&error))?;
        message.put_slice(&data);
        if message.len() > ANSWER_LIMIT {
            return Err(Failure::answered(format!("answer of more than {ANSWER_LIMIT} bytes is no health answer")));
        }
    }
    match body.trailers().await.map_err(|error| failure(&error))? {
        Some(trailers) => judge_status(&trailers, service)?,
        None if !head.headers.contains_key("grpc-status") => {
            return Err(Failure::answered("answer without a grpc-status"));
        }
        None => {}
    }
    match serving_status(&message) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(Failure::answered(format!("{}, wanted SERVING", status_name(status)))),
        None => Err(Failure::answered("answer is not a grpc.health.v1.HealthCheckResponse")),
    }
}

/// The call's own status, if `headers` has it: 0 is OK.
fn judge_status(headers: &HeaderMap, service: &str) -> Result<(), Failure> {
    let Some(status) = headers.get("grpc-status") else { return Ok(()) };
    let said = headers.get("grpc-message").and_then(|m| m.to_str().ok()).unwrap_or_default();
    // Codes of grpc/grpc, `doc/statuscodes.md`.
    Err(Failure::answered(match status.to_str().unwrap_or_default() {
        "0" => return Ok(()),
        "5" => format!("server does not know the service {service:?} (NOT_FOUND)"),
        "12" => "server does not offer grpc.health.v1.Health (UNIMPLEMENTED)".to_owned(),
        code if said.is_empty() => format!("grpc-status {code}, wanted 0"),
        code => format!("grpc-status {code} ({said}), wanted 0"),
    }))
}

/// Field 1 of the `HealthCheckResponse` in a prefixed message; `None` if it cannot be read as one.
fn serving_status(message: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = message.split_at_checked(PREFIX_BYTES)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut status = 0; // proto3: the default is not on the wire
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let skipped = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(skipped..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// Takes a base-128 varint (at most ten bytes) off the front of `rest`.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

fn status_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("serving status {other}"),
    }
}

fn failure(error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        return Failure::io(io);
    }
    if error.is_remote() {
        return Failure::answered(format!("HTTP/2: server refused: {error}"));
    }
    Failure::answered(format!("answer is not HTTP/2: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_service_name_in_field_one() {
        assert_eq!(&message("").unwrap()[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab").unwrap()[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300)).unwrap();
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2], "300 is the varint ac 02");
    }

    #[test]
    fn an_answer_is_read_with_unknown_fields_and_without_the_default() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2]), Some(2));
    }

    #[test]
    fn a_malformed_answer_is_no_answer() {
        for bad in
            [&[][..], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 2, 0x12, 9]]
        {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
        assert_eq!(serving_status(&[&[0, 0, 0, 0, 12, 8][..], &[0xff; 11]].concat()), None);
    }
}
