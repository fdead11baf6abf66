//! Weir beside what an operator would otherwise run, with real clients and servers. `cargo xtask bench peers`.
//!
//! Each measurement has fresh namespaces (no connection that an earlier one left is tracked or waits anywhere), the same
//! machines and wires, the same servers (nginx), the same client (wrk), the same CPUs for each role. Rounds go over all peers, each
//! round begins with another one, and medians are shown with the least and the most.

mod peer;
mod report;
mod wrk;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::peer::{BACKENDS, PORT, Peer};
use self::report::Row;
use self::wrk::Load;
use crate::lab::{Lab, Nics, Plan};

/// What the bench can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// How often each peer is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// How long each measurement takes, in seconds
    #[arg(long, value_name = "N", default_value_t = 3)]
    seconds: u32,
    /// Only peers whose name contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// What is written to stdout
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// An array of objects, one a peer
    Json,
}

/// Measures and prints.
pub fn run(options: &Options) -> ExitCode {
    let is_wanted =
        |peer: &Peer| options.peer.is_empty() || options.peer.iter().any(|name| peer.name().contains(name.as_str()));
    let mut peers: Vec<Peer> = Peer::ALL.into_iter().filter(is_wanted).collect();
    if peers.is_empty() {
        eprintln!("error: no peer is called that; there are {}", Peer::ALL.map(Peer::name).join(", "));
        return ExitCode::from(2);
    }
    let mut rows: BTreeMap<Peer, Row> = BTreeMap::new();
    for round in 1..=options.rounds {
        for peer in &peers {
            eprintln!("round {round} of {}: {}", options.rounds, peer.name());
            measure(*peer, options.seconds, rows.entry(*peer).or_insert_with(|| Row::new(*peer)));
        }
        peers.rotate_left(1);
    }
    report::print(&rows.into_values().collect::<Vec<_>>(), options.output)
}

fn measure(peer: Peer, seconds: u32, row: &mut Row) {
    let lab = Lab::build(Plan { nics: Nics::One, clients: 1, backends: BACKENDS, route: peer.route() });
    let folder = std::env::temp_dir().join(format!("weir-peers-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written to");
    for machine in &lab.backends {
        machine.sysctl("core/somaxconn", "4096");
    }
    let servers: Vec<_> = lab.backends.iter().map(|machine| peer::serve(machine, &folder)).collect();
    let balancer = peer.start(&lab, &folder);
    let target = peer.target(&lab);
    let client = &lab.clients[0];
    client.run(answers((target, PORT).into()));
    for load in [Load::Connections, Load::Requests] {
        row.add(load, wrk::run(client, target, load, seconds));
    }
    drop(balancer);
    drop(servers);
    // What is left there is small, and the next one writes over it.
    let _: std::io::Result<()> = fs::remove_dir_all(&folder);
}

/// Waits until somebody accepts connections there.
async fn answers(target: SocketAddr) {
    for _ in 0..200 {
        if let Ok(Ok(_)) = timeout(Duration::from_millis(200), TcpStream::connect(target)).await {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody answers on {target}");
}
