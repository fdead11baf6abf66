//! The typed client of the API, as the CLI uses it: one connection per request.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Backends, ErrorBody, Health, Services};
use crate::pure::command::{BackendChange, Reply};
use crate::pure::flows::FlowFilter;
use crate::pure::snapshot::{Explanation, FlowCount, FlowQuery, FlowRow, Snapshot};

/// A little longer than the agent itself gives a command, so that its own words arrive.
const DEADLINE: Duration = Duration::from_secs(35);

/// Largest answer: a status of 32,767 backends has about 25 MB.
const LARGEST_ANSWER: usize = 128 << 20;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no agent answers on {path} ({})", nobody(source))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// We may not ask.
    #[error("no permission to open {path}: the agent's socket belongs to root. Run this as root (sudo)")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The agent says no.
    #[error("{}", body.message)]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Kind and message.
        body: ErrorBody,
    },
    /// It was accepted, and then there was silence.
    #[error("the agent on {path} did not answer within {} s: see its log (journalctl -u weir)", DEADLINE.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// What answers there does not speak as an agent of this version does.
    #[error("what answers on {path} is no agent of this version: {reason}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

/// An agent's socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// For the agent at this socket; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the agent is well.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("/v1/health").await
    }

    /// Everything.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn status(&self) -> Result<Snapshot, ClientError> {
        self.get("/v1/status").await
    }

    /// All services.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn services(&self) -> Result<Services, ClientError> {
        self.get("/v1/services").await
    }

    /// The pool of one.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn backends(&self, service: &str) -> Result<Backends, ClientError> {
        self.get(&format!("/v1/services/{}/backends", segment(service))).await
    }

    /// Changes a backend; the sentence says what happened.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn change_backend(
        &self,
        service: &str,
        backend: SocketAddr,
        change: &BackendChange,
    ) -> Result<Reply, ClientError> {
        let path = format!("/v1/services/{}/backends/{}", segment(service), segment(&backend.to_string()));
        self.post(&path, change).await
    }

    /// Entries of the flow table.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn flows(&self, filter: &FlowFilter) -> Result<Vec<FlowRow>, ClientError> {
        match self.get(&format!("/v1/flows?{}", asked(filter))).await? {
            Reply::Flows(rows) => Ok(rows),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Entries of the flow table, counted.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn flow_counts(&self, filter: &FlowFilter) -> Result<Vec<FlowCount>, ClientError> {
        match self.get(&format!("/v1/flows/count?{}", asked(filter))).await? {
            Reply::FlowCounts(rows) => Ok(rows),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What would become of a packet.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn explain(&self, query: &FlowQuery) -> Result<Explanation, ClientError> {
        match self.post("/v1/explain", query).await? {
            Reply::Explanation(explanation) => Ok(explanation),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Reads the configuration file again.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn reload(&self) -> Result<Reply, ClientError> {
        self.post("/v1/reload", &()).await
    }

    /// Takes everything away.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, or the agent refuses.
    pub async fn unload(&self) -> Result<Reply, ClientError> {
        self.post("/v1/unload", &()).await
    }

    /// Lines or bytes that come as they happen, until the agent ends the answer or `take` has had enough.
    ///
    /// # Errors
    /// [`ClientError`]: nobody answers, the agent refuses, or it goes away in the middle; and what `take` says.
    pub async fn stream<E: From<ClientError>>(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let answer = async |mut sender: SendRequest<Full<Bytes>>, request| {
            let response = sender.send_request(request).await.map_err(|error| self.protocol(&error))?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let body = Limited::new(body, LARGEST_ANSWER).collect().await;
                let body = body.map_err(|error| self.protocol(&error))?.to_bytes();
                return Err(self.refused(status, &body).into());
            }
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.protocol(&error))?;
                if let Some(bytes) = frame.data_ref()
                    && take(bytes)?.is_break()
                {
                    break;
                }
            }
            Ok(())
        };
        self.connected(Method::GET, path, Bytes::new(), answer).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.protocol(&error))?;
        self.request(Method::POST, path, body.into()).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let exchange = tokio::time::timeout(DEADLINE, self.exchange(method, path, body));
        let (status, body) = exchange.await.map_err(|_| ClientError::Silent { path: self.path.clone() })??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.protocol(&error));
        }
        Err(self.refused(status, &body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(body) => ClientError::Refused { status, body },
            Err(_) => self.protocol(&format!("status {status} without an explanation")),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let answer = async |mut sender: SendRequest<Full<Bytes>>, request| {
            let response = sender.send_request(request).await.map_err(|error| self.protocol(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|error| self.protocol(&error))?.to_bytes();
            Ok((status, body))
        };
        self.connected(method, path, body, answer).await
    }

    /// Opens a connection for one request, and keeps it moving until `answer` is complete.
    async fn connected<T, E: From<ClientError>>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        answer: impl AsyncFnOnce(SendRequest<Full<Bytes>>, Request<Full<Bytes>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let stream = UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            ErrorKind::PermissionDenied => ClientError::Denied { path: self.path.clone() },
            _ => ClientError::Unreachable { path: self.path.clone(), source },
        })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| self.protocol(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            // There is no host on a Unix socket, and HTTP/1.1 wants one.
            .header(header::HOST, "weir")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.protocol(&error))?;
        let answer = answer(sender, request);
        // The connection moves the bytes; the answer is complete or failed before it can end otherwise.
        let mut answer = std::pin::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        let mut is_open = true;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    }

    fn protocol(&self, reason: &impl ToString) -> ClientError {
        ClientError::Protocol { path: self.path.clone(), reason: reason.to_string() }
    }

    fn unexpected(&self, reply: &Reply) -> ClientError {
        self.protocol(&format!("it answered something else: {reply:?}"))
    }
}

fn nobody(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "its socket is left over, nobody listens".to_owned(),
        _ => error.to_string(),
    }
}

/// A filter as a query.
fn asked(filter: &FlowFilter) -> String {
    let FlowFilter { service, backend, client, state, protocol, limit } = filter;
    let words = [
        ("service", service.clone()),
        ("backend", backend.map(|backend| backend.to_string())),
        ("client", client.clone()),
        ("state", state.clone()),
        ("protocol", protocol.map(|protocol| protocol.name().to_owned())),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    let words = words.iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_ref()?))));
    words.collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything but what RFC 3986 calls unreserved, so that any name is one segment or one value.
pub(crate) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_segment_of_a_path() {
        assert_eq!(segment("[2001:db8::1]:80"), "%5B2001%3Adb8%3A%3A1%5D%3A80");
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
        assert_eq!(segment("llm-1.b_c~"), "llm-1.b_c~");
    }
}
