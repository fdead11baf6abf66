//! What the API answers.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use lb_agent::edge::api::client::ClientError;
use lb_agent::edge::api::socket::{ApiSocket, SocketError};
use lb_agent::edge::api::{COMMANDS_DEPTH, example, metrics};
use lb_agent::pure::command::{BackendChange, Command, Refusal, Reply};
use lb_agent::pure::flows::FlowFilter;
use lb_agent::pure::model::Protocol;
use lb_agent::pure::snapshot::{Explanation, FlowQuery, FlowRow};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::{Room, Server, backend, read_all, split};

#[tokio::test]
async fn reads_come_from_the_latest_snapshot() {
    let server = Server::start();
    assert_eq!(server.client.status().await.unwrap(), example::snapshot());
    let mut changed = example::snapshot();
    changed.agent.problems.push("eth0 is down".to_owned());
    changed.services[0].active_flows = 99;
    drop(server.snapshots.send(Arc::new(changed)));
    assert_eq!(server.client.services().await.unwrap().services[0].active_flows, 99);
    let health = server.client.health().await.unwrap();
    assert_eq!((health.status.as_str(), health.problems.as_slice()), ("degraded", &["eth0 is down".to_owned()][..]));
    let pool = server.client.backends("llm").await.unwrap();
    assert_eq!((pool.service.as_str(), pool.backends.len()), ("llm", 2));
}

#[tokio::test]
async fn changes_reach_the_single_writer_as_commands() {
    let mut server = Server::start();
    let mut commands = server.answering(Ok(Reply::Done("draining".to_owned())));
    let v6: SocketAddr = "[2001:db8::1]:8000".parse().unwrap();
    let changes = [
        (backend(), BackendChange::Drain),
        (v6, BackendChange::Add { weight: 7 }),
        (v6, BackendChange::Remove { force: true }),
        (v6, BackendChange::Weight { weight: 0 }),
    ];
    for (address, change) in changes {
        let reply = server.client.change_backend("llm", address, &change).await.unwrap();
        assert_eq!(reply, Reply::Done("draining".to_owned()));
        let expected = Command::Backend { service: "llm".to_owned(), address, change };
        assert_eq!(commands.recv().await, Some(expected));
    }
    assert_eq!(server.client.reload().await.unwrap(), Reply::Done("draining".to_owned()));
    assert_eq!(commands.recv().await, Some(Command::Reload));
    assert_eq!(server.client.unload().await.unwrap(), Reply::Done("draining".to_owned()));
    assert_eq!(commands.recv().await, Some(Command::Unload));
}

#[tokio::test]
async fn flows_and_explanations_come_back_typed() {
    let server = Server::start();
    let row = FlowRow {
        service: "llm".to_owned(),
        backend: backend(),
        state: "established".to_owned(),
        slot: 4711,
        tag: "deadbeef".to_owned(),
        silent_s: 12,
        client: None,
        vip: None,
        source: None,
    };
    let asked = FlowFilter { service: Some("llm".to_owned()), backend: Some(backend()), ..FlowFilter::default() };
    assert_eq!(server.client.flows(&asked).await.unwrap(), [row.clone(), row.clone()]);
    assert_eq!(server.client.flows(&FlowFilter { limit: Some(1), ..asked.clone() }).await.unwrap(), [row]);
    let counts = server.client.flow_counts(&FlowFilter { protocol: Some(Protocol::Tcp), ..asked }).await.unwrap();
    assert_eq!((counts.len(), counts[0].flows, counts[0].state.as_str()), (1, 2, "established"));

    let mut server = Server::start();
    let explanation = Explanation { verdict: "forward".to_owned(), owner: Some(3), ..Explanation::default() };
    let mut commands = server.answering(Ok(Reply::Explanation(explanation.clone())));
    let query = FlowQuery {
        protocol: Protocol::Tcp,
        client: "192.0.2.7:40000".parse().unwrap(),
        vip: "203.0.113.10:8000".parse().unwrap(),
        syn: true,
    };
    assert_eq!(server.client.explain(&query).await.unwrap(), explanation);
    assert_eq!(commands.recv().await, Some(Command::Explain(query)));
}

#[tokio::test]
async fn refusals_keep_their_kind_and_their_words() {
    let refusals = [
        (Refusal::NotFound("no such backend".to_owned()), 404, "not_found"),
        (Refusal::Conflict("drains already".to_owned()), 409, "conflict"),
        (Refusal::Invalid("weir.toml:3: …".to_owned()), 400, "invalid"),
        (Refusal::Failed("map is full".to_owned()), 500, "failed"),
    ];
    for (refusal, code, word) in refusals {
        let mut server = Server::start();
        let _commands = server.answering(Err(refusal.clone()));
        let error = server.client.reload().await.unwrap_err();
        assert_eq!(error.to_string(), refusal.to_string());
        let ClientError::Refused { status, body } = error else { panic!("{error:?}") };
        assert_eq!((status.as_u16(), body.error.as_str()), (code, word));
    }
}

#[tokio::test]
async fn a_full_queue_is_refused_with_busy() {
    let server = Server::start();
    let waiting: Vec<_> = (0..COMMANDS_DEPTH)
        .map(|_| {
            let client = server.client.clone();
            tokio::spawn(async move { client.reload().await })
        })
        .collect();
    let queue = server.commands.as_ref().unwrap();
    while queue.len() < COMMANDS_DEPTH {
        tokio::task::yield_now().await;
    }
    let (status, body) = server.raw("POST /v1/reload HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"busy\"") && body.contains("busy, retry"), "{body}");
    for request in waiting {
        request.abort();
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_what_would() {
    let server = Server::start();
    let ask = async |line: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let (status, body) = server.raw(&request).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["error"].as_str().unwrap().to_owned(), body["message"].as_str().unwrap().to_owned())
    };
    let path = "POST /v1/services/llm/backends/10.0.0.11:8000";
    for (line, body, code, word, hint) in [
        ("GET /v2/status", "", 404, "not_found", "/v1/status"),
        ("GET /v1/reload", "", 405, "method", "POST changes"),
        ("GET /v1/services/llo/backends", "", 404, "not_found", "there are: llm"),
        ("POST /v1/services/llm/backends/localhost", "{\"do\":\"drain\"}", 400, "invalid", "10.0.0.11:8000"),
        (path, "{\"do\":\"explode\"}", 400, "invalid", "explode"),
        (path, "{\"do\":\"weight\",\"weight\":70000}", 400, "invalid", "70000"),
        ("GET /v1/flows?limit=100001", "", 400, "invalid", "at most 100000"),
        ("GET /v1/flows?servce=llm", "", 400, "invalid", "servce"),
        ("GET /v1/flows/count?state=open", "", 400, "invalid", "half_open"),
        ("GET /v1/flows?client=192.0.2.0/24", "", 400, "invalid", "flow show"),
        ("GET /v1/trace?event=opend", "", 400, "invalid", "opened"),
        ("GET /v1/trace?event=", "", 400, "invalid", "nothing would ever be told"),
        ("GET /v1/capture?snaplen=0", "", 400, "invalid", "9216"),
        ("GET /v1/capture?side=left", "", 400, "invalid", "before, after or both"),
    ] {
        let (status, error, message) = ask(line, body).await;
        assert_eq!((status, error.as_str()), (code, word), "{line}: {message}");
        assert!(message.contains(hint), "{line}: {message}");
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let server = Server::start();
    let path = server.room.socket();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_answers_is_never_taken_and_a_stale_one_is_replaced() {
    let server = Server::start();
    let path = server.room.socket();
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::InUse { .. })));
    assert!(server.client.health().await.is_ok());

    let room = Room::new();
    let stale = room.0.join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(ApiSocket::bind(&stale).unwrap());
    assert!(!stale.exists());
    let file = room.file("a-file", "");
    assert!(matches!(ApiSocket::bind(&file), Err(SocketError::NotASocket { .. })));
    assert!(file.exists());
}

#[tokio::test]
async fn metrics_are_served_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_snapshots, snapshot) = watch::channel(Arc::new(example::snapshot()));
    drop(tokio::spawn(metrics::serve(listener, snapshot, std::future::pending())));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await.unwrap();
    let (status, body) = split(&read_all(&mut stream).await);
    assert_eq!(status, 200);
    assert!(body.contains("weir_packets_total{verdict=\"forward\",fate=\"send\"} 91234"), "{body}");
}
