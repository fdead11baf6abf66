//! What the CLI prints, and how it ends.

use std::path::Path;
use std::sync::Arc;

use lb_agent::edge::api::example;
use lb_agent::pure::command::{BackendChange, Command, Reply};
use lb_agent::pure::model::BackendState;
use lb_agent::pure::snapshot::Snapshot;
use serde_json::Value;

use crate::harness::{Room, Server, backend, cli, stderr, stdout};

#[tokio::test]
async fn the_command_line_prints_the_apis_json() {
    let server = Server::start();
    let output = server.cli(&["status", "--output", "json"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let printed: Snapshot = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(printed, example::snapshot());
    let (_, body) = server.raw("GET /v1/services HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await;
    let listed = stdout(&server.cli(&["service", "list", "-o", "json"]).await);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap(), serde_json::from_str::<Value>(&body).unwrap());
}

#[tokio::test]
async fn the_command_line_prints_tables_without_colours_into_pipes() {
    let server = Server::start();
    let text = stdout(&server.cli(&["status"]).await);
    assert!(text.contains("service llm  203.0.113.10:8000/tcp"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    let text = stdout(&server.cli(&["backend", "list", "llm"]).await);
    assert!(text.lines().nth(2).unwrap().starts_with("10.0.0.12:8000  draining"), "{text}");
}

#[tokio::test]
async fn a_backend_is_meant_by_its_address_alone() {
    let mut server = Server::start();
    let mut commands = server.answering(Ok(Reply::Done("10.0.0.11:8000 has weight 5".to_owned())));
    let output = server.cli(&["backend", "weight", "llm", "10.0.0.11", "5"]).await;
    assert_eq!(stdout(&output), "10.0.0.11:8000 has weight 5\n", "{}", stderr(&output));
    let expected =
        Command::Backend { service: "llm".to_owned(), address: backend(), change: BackendChange::Weight { weight: 5 } };
    assert_eq!(commands.recv().await, Some(expected));
    let output = server.cli(&["backend", "drain", "llm", "10.0.0.99"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no backend 10.0.0.99"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_drain_is_waited_for() {
    let mut server = Server::start();
    let mut commands = server.answering(Ok(Reply::Done("draining".to_owned())));
    let snapshots = server.snapshots.clone();
    let agent = tokio::spawn(async move {
        let command = commands.recv().await;
        let pool_with = |state| {
            let mut snapshot = example::snapshot();
            snapshot.services[0].backends[0].state = state;
            Arc::new(snapshot)
        };
        drop(snapshots.send(pool_with(BackendState::Draining)));
        // Long enough for the waiting side to see it draining at least once; the outcome does not depend on it.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        drop(snapshots.send(pool_with(BackendState::Disabled)));
        command
    });
    let output = server.cli(&["backend", "drain", "llm", "10.0.0.11:8000", "--wait"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(agent.is_finished(), "the command returned before the drain had ended");
}

#[tokio::test]
async fn a_wait_that_is_too_short_says_how_many_flows_are_left() {
    let mut server = Server::start();
    let _commands = server.answering(Ok(Reply::Done("draining".to_owned())));
    let arguments = ["backend", "drain", "llm", "10.0.0.12:8000", "--wait", "--timeout", "200ms"];
    let output = server.cli(&arguments).await;
    assert_eq!(output.status.code(), Some(1));
    let words = stderr(&output);
    assert!(words.contains("10.0.0.12:8000 still has 0 active flows after 200ms; it drains on"), "{words}");
}

#[tokio::test]
async fn nobody_there_is_one_clear_message_and_exit_3() {
    let room = Room::new();
    let config = room.file("weir.toml", "[agent]\napi = \"unix:/nonexistent/weir.sock\"\n");
    let output = cli(&["status", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(3));
    let words = stderr(&output);
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(words.contains("no agent answers on /nonexistent/weir.sock (there is no such socket)"), "{words}");
    assert!(words.contains("lb-agent run"), "{words}");
}

#[tokio::test]
async fn a_wrong_configuration_is_told_line_by_line_and_ends_with_2() {
    let room = Room::new();
    let text = "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"llm\"\nvip = \"0.0.0.0\"\nport = 80\nselct = 1\n";
    let config = room.file("weir.toml", text);
    let path = config.to_str().unwrap();
    for verb in ["check", "run"] {
        let output = cli(&[verb, "--config", path]).await;
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let words = stderr(&output);
        assert!(words.contains(&format!("{path}:5: service \"llm\".vip: found \"0.0.0.0\"")), "{words}");
        assert!(
            words.contains(&format!("{path}:7: service \"llm\".selct: unknown field. Did you mean \"select\"?")),
            "{words}"
        );
    }
    let output = cli(&["check", "--config", path, "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(2));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((json["ok"].as_bool(), json["errors"][0]["line"].as_u64()), (Some(false), Some(5)));
}

#[tokio::test]
async fn a_right_configuration_is_summed_up() {
    let room = Room::new();
    let text = "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"llm\"\nvip = \"203.0.113.10\"\nport = 80\n";
    let config = room.file("weir.toml", text);
    let output = cli(&["check", "--config", config.to_str().unwrap()]).await;
    assert!(output.status.success());
    let words = stdout(&output);
    assert!(words.contains("warning: ") && words.contains("has no backend"), "{words}");
    assert!(words.ends_with("weir.toml: ok, 1 service, 0 backends, 1 interface\n"), "{words}");
}

#[tokio::test]
async fn doctor_examines_this_host_and_names_remedies() {
    let room = Room::new();
    let text = "[agent]\napi = \"unix:/nonexistent/weir.sock\"\n[[interface]]\nname = \"no-such-if\"\n";
    let config = room.file("weir.toml", text);
    let output = cli(&["doctor", "--config", config.to_str().unwrap(), "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let missing = findings.iter().find(|finding| finding["subject"] == "interface no-such-if").unwrap();
    assert_eq!((&missing["level"], &missing["message"]), (&"fail".into(), &"does not exist".into()));
    assert!(findings.iter().filter(|f| f["level"] != "ok").all(|f| f["remedy"].is_string()), "{json:#}");
}

#[tokio::test]
async fn completions_and_usage_errors_need_no_agent() {
    for shell in ["bash", "zsh", "fish"] {
        let output = cli(&["completions", shell]).await;
        assert!(output.status.success());
        assert!(stdout(&output).contains("undrain"), "{shell}");
    }
    assert_eq!(cli(&["backend", "weight", "llm", "10.0.0.1", "70000"]).await.status.code(), Some(2));
    assert_eq!(cli(&["explain", "tcp", "192.0.2.7:40000", "[2001:db8::1]:80"]).await.status.code(), Some(2));
    let output = cli(&["status", "--config", "/nonexistent/weir.toml"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no /nonexistent/weir.toml"));
    assert!(!Path::new("/nonexistent").exists());
}
