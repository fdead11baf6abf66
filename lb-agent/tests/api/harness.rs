//! An API whose agent is the test itself.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lb_agent::edge::api::client::Client;
use lb_agent::edge::api::socket::ApiSocket;
use lb_agent::edge::api::{COMMANDS_DEPTH, Request, example, server};
use lb_agent::edge::dataplane::{DataPlaneError, FlowTable};
use lb_agent::pure::command::{Command, Refusal, Reply};
use lb_agent::pure::snapshot::Snapshot;
use lb_agent::pure::sweep::TrackedFlow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A directory of its own that goes with the test.
pub(crate) struct Room(pub(crate) PathBuf);

impl Room {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-api-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("run/agent.sock")
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A flow table of three entries: two of the example's first backend, one of nobody.
pub(crate) struct Entries;

impl FlowTable for Entries {
    fn scan(&self, _: bool, visit: &mut dyn FnMut(&TrackedFlow) -> ControlFlow<()>) -> Result<(), DataPlaneError> {
        let owner = example::snapshot().services[0].backends[0].owner;
        for (owner, state) in [(owner, 3), (owner, 3), (9_999, 3)] {
            let flow = TrackedFlow { owner, state, tag: 0xdead_beef, slot: 4_711, silent_s: 12, known: None };
            if visit(&flow).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// An API without an agent behind it: the test answers commands itself.
pub(crate) struct Server {
    pub(crate) room: Room,
    pub(crate) client: Client,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) commands: Option<mpsc::Receiver<Request>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let room = Room::new();
        let socket = ApiSocket::bind(&room.socket()).unwrap();
        let (snapshots, snapshot) = watch::channel(Arc::new(example::snapshot()));
        let (commands, requests) = mpsc::channel(COMMANDS_DEPTH);
        let shutdown = CancellationToken::new();
        let api = server::Api {
            snapshots: snapshot,
            commands,
            hurry: std::sync::Arc::default(),
            watches: mpsc::channel(1).0,
            flows: Arc::new(Entries),
        };
        let task = tokio::spawn(server::serve(socket, api, shutdown.clone().cancelled_owned()));
        let client = Client::new(room.socket());
        Self { room, client, snapshots, commands: Some(requests), shutdown, task }
    }

    /// Answers every command with the same; the commands come out in order.
    pub(crate) fn answering(&mut self, answer: Result<Reply, Refusal>) -> mpsc::UnboundedReceiver<Command> {
        let (seen, commands) = mpsc::unbounded_channel();
        let mut requests = self.commands.take().unwrap();
        drop(tokio::spawn(async move {
            while let Some((command, reply)) = requests.recv().await {
                seen.send(command).unwrap();
                reply.send(answer.clone()).unwrap();
            }
        }));
        commands
    }

    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let socket = self.room.socket();
        cli(&[&["--api", socket.to_str().unwrap()], arguments].concat()).await
    }

    /// One request by hand: status and body.
    pub(crate) async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.room.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        split(&read_all(&mut stream).await)
    }
}

pub(crate) async fn cli(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lb-agent"));
    let command = command.args(arguments).stdin(Stdio::null()).env_remove("WEIR_API").env_remove("WEIR_CONFIG");
    command.output().await.unwrap()
}

pub(crate) async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _length = stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn split(response: &str) -> (u16, String) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn backend() -> SocketAddr {
    "10.0.0.11:8000".parse().unwrap()
}
