//! Serves the API: reads come from the latest snapshot, changes go to the single writer as commands. Holds no state and takes
//! no decision.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::socket::ApiSocket;
use super::{Backends, ErrorBody, Health, Request, Services, WatchRequest, flows, view};
use crate::edge::dataplane::FlowTable;
use crate::pure::command::{BackendChange, Command, Refusal, Reply};
use crate::pure::snapshot::{FlowQuery, Snapshot};

/// A command must be done by then: an unload of a thousand services takes a few seconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// Sweeps take milliseconds. Where they fail, an older state is better than none.
const FRESH_DEADLINE: Duration = Duration::from_millis(500);

/// What the API stands on.
#[derive(Clone)]
pub struct Api {
    /// The latest state.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The way to the single writer, of depth [`super::COMMANDS_DEPTH`].
    pub commands: mpsc::Sender<Request>,
    /// Asks for a sweep: counts that are shown are as of the question, not of the last turn.
    pub hurry: Arc<Notify>,
    /// The way to what the packet path tells, of depth [`super::WATCHES_DEPTH`].
    pub watches: mpsc::Sender<WatchRequest>,
    /// The flow table.
    pub flows: Arc<dyn FlowTable>,
}

/// Serves until `shutdown` is done and the answers under way have been given; then the socket's file is gone.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    socket: ApiSocket,
    api: Api,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (listener, _file) = socket.into_parts();
    axum::serve(listener, router(api)).with_graceful_shutdown(shutdown).await
}

/// All paths.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}/backends", get(backends))
        .route("/v1/services/{name}/backends/{address}", post(change_backend))
        .route("/v1/flows", get(flows::list))
        .route("/v1/flows/count", get(flows::count))
        .route("/v1/explain", post(explain))
        .route("/v1/trace", get(view::trace))
        .route("/v1/capture", get(view::capture))
        .route("/v1/reload", post(reload))
        .route("/v1/unload", post(unload))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    word: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, word: &'static str, message: impl Into<String>) -> Self {
        Self { status, word, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.word.to_owned(), message: self.message };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let _ = response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(message) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            Refusal::Conflict(message) => Self::new(StatusCode::CONFLICT, "conflict", message),
            Refusal::Invalid(message) => Self::invalid(message),
            Refusal::Failed(message) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl Api {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The state with counts that are younger than the question; after `FRESH_DEADLINE` whatever there is.
    pub(super) async fn fresh(&self) -> Arc<Snapshot> {
        let asked = self.snapshot().flow_table.sweeps;
        self.hurry.notify_one();
        let mut snapshots = self.snapshots.clone();
        // The next sweep to end may have begun before the question; the one after it has not.
        let fresh = snapshots.wait_for(|snapshot| snapshot.flow_table.sweeps >= asked + 2);
        match tokio::time::timeout(FRESH_DEADLINE, fresh).await {
            Ok(Ok(snapshot)) => Arc::clone(&snapshot),
            _ => self.snapshot(),
        }
    }

    /// Hands a command over and waits for what comes of it.
    async fn command(&self, command: Command) -> Result<Json<Reply>, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.commands.try_send((command, answer)).map_err(|error| match error {
            TrySendError::Full(_) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many changes are waiting: busy, retry")
            }
            TrySendError::Closed(_) => ending(),
        })?;
        match tokio::time::timeout(COMMAND_DEADLINE, answered).await {
            Ok(Ok(outcome)) => Ok(Json(outcome?)),
            Ok(Err(_)) => Err(ending()),
            Err(_) => {
                let message = format!(
                    "not done within {} s, and it may still be carried out: see `lb-agent status` before repeating it",
                    COMMAND_DEADLINE.as_secs()
                );
                Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no_answer", message))
            }
        }
    }
}

pub(super) fn ending() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the agent is ending; start it again, then retry")
}

async fn health(State(api): State<Api>) -> Json<Health> {
    let agent = &api.snapshot().agent;
    let status = if agent.problems.is_empty() { "ok" } else { "degraded" };
    Json(Health { status: status.to_owned(), version: agent.version.clone(), problems: agent.problems.clone() })
}

async fn status(State(api): State<Api>) -> Response {
    json(&*api.fresh().await)
}

async fn services(State(api): State<Api>) -> Json<Services> {
    Json(Services { services: api.fresh().await.services.clone() })
}

async fn backends(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Backends>, ApiError> {
    let snapshot = api.fresh().await;
    let Some(service) = snapshot.services.iter().find(|service| service.name == name) else {
        let names: Vec<_> = snapshot.services.iter().map(|service| service.name.as_str()).collect();
        let message = format!("there is no service {name:?}; there are: {}", names.join(", "));
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    Ok(Json(Backends { service: name, backends: service.backends.clone() }))
}

async fn change_backend(
    State(api): State<Api>,
    Path((service, address)): Path<(String, String)>,
    change: Result<Json<BackendChange>, JsonRejection>,
) -> Result<Json<Reply>, ApiError> {
    let Json(change) = change?;
    let address = address.parse().map_err(|_| not_an_address(&address))?;
    api.command(Command::Backend { service, address, change }).await
}

fn not_an_address(found: &str) -> ApiError {
    ApiError::invalid(format!(
        "{found:?} is no backend: wanted address:port, such as 10.0.0.11:8000 or [2001:db8::1]:8000"
    ))
}

async fn explain(
    State(api): State<Api>,
    query: Result<Json<FlowQuery>, JsonRejection>,
) -> Result<Json<Reply>, ApiError> {
    let Json(query) = query?;
    api.command(Command::Explain(query)).await
}

async fn reload(State(api): State<Api>) -> Result<Json<Reply>, ApiError> {
    api.command(Command::Reload).await
}

async fn unload(State(api): State<Api>) -> Result<Json<Reply>, ApiError> {
    api.command(Command::Unload).await
}

async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    let message = format!(
        "there is no {}; the API has /v1/health, /v1/status, /v1/services, /v1/flows, /v1/explain, \
         /v1/trace, /v1/capture",
        uri.path()
    );
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    let message = format!("{} does not take {method}: GET reads, POST changes", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
}

/// A large value, written without a copy of it.
fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            let message = format!("cannot write the state as JSON: {error}. Please report this");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).into_response()
        }
    }
}
