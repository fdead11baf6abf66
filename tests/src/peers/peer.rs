//! What an operator could run in front of two servers, each brought up the way its own manual says.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lb_agent::pure::model::BackendState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::agent::Agent;
use crate::agent::settings::{Service, Settings};
use crate::lab::{DefaultRoute, Family, Lab};
use crate::netns::Netns;

/// Servers and VIP listen on it: l2dsr cannot change ports, so nobody does.
pub(super) const PORT: u16 = 8_080;

/// Servers behind the balancer.
pub(super) const BACKENDS: usize = 2;

/// Roles and the CPUs that they may use: the same for every peer. Forwarding in the kernel runs where a packet is sent from.
pub(super) const CLIENT_CPUS: &str = "0";
pub(super) const SERVER_CPUS: &str = "1";
pub(super) const BALANCER_CPUS: &str = "0,1";

/// Everything is up by then.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A way from the client to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    /// Weir, `forward = "nat"`.
    WeirNat,
    /// Weir, `forward = "l2dsr"`.
    WeirL2dsr,
    /// nftables: DNAT by a jhash map, connection tracking.
    NftDnat,
    /// `HAProxy`, `mode tcp`.
    Haproxy,
    /// nginx, `stream`.
    NginxStream,
    /// No balancer: the client talks to one server.
    Direct,
}

impl Peer {
    pub(super) const ALL: [Self; 6] =
        [Self::WeirNat, Self::WeirL2dsr, Self::NftDnat, Self::Haproxy, Self::NginxStream, Self::Direct];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::WeirNat => "Weir nat",
            Self::WeirL2dsr => "Weir l2dsr",
            Self::NftDnat => "nftables DNAT",
            Self::Haproxy => "HAProxy tcp",
            Self::NginxStream => "nginx stream",
            Self::Direct => "direct",
        }
    }

    pub(super) const fn is_weir(self) -> bool {
        matches!(self, Self::WeirNat | Self::WeirL2dsr)
    }

    /// Where servers send what is not on their link.
    pub(super) const fn route(self) -> DefaultRoute {
        match self {
            Self::WeirNat | Self::NftDnat => DefaultRoute::Balancer,
            Self::WeirL2dsr | Self::Direct => DefaultRoute::Router,
            // They answer the proxy's own address.
            Self::Haproxy | Self::NginxStream => DefaultRoute::None,
        }
    }

    /// Where the client connects to.
    pub(super) fn target(self, lab: &Lab) -> IpAddr {
        if self == Self::Direct { lab.backend_address(0, Family::V4) } else { lab.vip(Family::V4, 0) }
    }

    /// Brings it up.
    pub(super) fn start(self, lab: &Lab, folder: &Path) -> Balancer {
        match self {
            Self::Direct => Balancer::Nothing,
            Self::WeirNat => weir(lab, "nat"),
            Self::WeirL2dsr => {
                (0..BACKENDS).for_each(|backend| lab.hold_vip(backend, lab.vip(Family::V4, 0)));
                weir(lab, "l2dsr")
            }
            Self::NftDnat => {
                hold_vip(lab);
                lab.balancer.sysctl("ipv4/ip_forward", "1");
                feed(&lab.balancer, &["nft", "-f"], folder, &nft_rules(lab));
                Balancer::Nothing
            }
            Self::Haproxy => {
                hold_vip(lab);
                Balancer::Process(daemon(
                    &lab.balancer,
                    BALANCER_CPUS,
                    &["haproxy", "-db", "-f"],
                    folder,
                    &haproxy(lab),
                ))
            }
            Self::NginxStream => {
                hold_vip(lab);
                Balancer::Process(daemon(
                    &lab.balancer,
                    BALANCER_CPUS,
                    &["nginx", "-c"],
                    folder,
                    &nginx_stream(lab, folder),
                ))
            }
        }
    }
}

/// What runs on the balancer's machine.
#[derive(Debug)]
pub(super) enum Balancer {
    /// Nothing, or the kernel alone.
    Nothing,
    Weir(#[expect(dead_code, reason = "it is unloaded when this is dropped")] Agent),
    Process(#[expect(dead_code, reason = "it ends when this is dropped")] Daemon),
}

/// A process that ends, with its children, when this is dropped.
#[derive(Debug)]
pub(super) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It may have ended by itself; its children end with it when it is asked in order.
            let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        drop(self.0.wait());
    }
}

/// An HTTP server on one machine: nginx, one process, the same for every peer.
pub(super) fn serve(machine: &Netns, folder: &Path) -> Daemon {
    let text = format!(
        "daemon off;\nmaster_process off;\npid {pid};\nerror_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000;\n\
         server {{ listen {PORT} backlog=4096; location / {{ return 200 'ok'; }} }} }}\n",
        pid = folder.join("server.pid").display(),
    );
    daemon(machine, SERVER_CPUS, &["nginx", "-c"], folder, &text)
}

fn weir(lab: &Lab, forward: &'static str) -> Balancer {
    let service = Service {
        name: "web".into(),
        vip: lab.vip(Family::V4, 0),
        port: PORT,
        protocol: "tcp",
        forward,
        snat: false,
        select: "maglev",
        tracking: "full",
        backends: addresses(lab).into_iter().map(|ip| ((ip, PORT).into(), 100)).collect(),
        health: "kind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"500ms\"\nrise = 1\nfall = 3".into(),
        timeouts: String::new(),
        drain: String::new(),
    };
    let settings = Settings {
        interfaces: vec![("eth0".into(), "native".into())],
        services: vec![service],
        flow_table_entries: 1_000_000,
        agent_lines: String::new(),
    };
    let agent = Agent::start(&lab.balancer, settings);
    let _ = agent.wait_until("both servers up", READY_WITHIN, |status| {
        status.services.iter().flat_map(|s| &s.backends).all(|b| b.state == BackendState::Up)
    });
    Balancer::Weir(agent)
}

fn nft_rules(lab: &Lab) -> String {
    let vip = lab.vip(Family::V4, 0);
    let places: Vec<String> = addresses(lab).iter().enumerate().map(|(n, ip)| format!("{n} : {ip}")).collect();
    format!(
        "table ip lb {{\n chain pre {{\n  type nat hook prerouting priority dstnat;\n  \
         ip daddr {vip} tcp dport {PORT} dnat to jhash ip saddr . tcp sport mod {BACKENDS} map {{ {} }} : {PORT}\n }}\n}}\n",
        places.join(", ")
    )
}

fn haproxy(lab: &Lab) -> String {
    let servers: Vec<String> =
        addresses(lab).iter().enumerate().map(|(n, ip)| format!("    server b{n} {ip}:{PORT}\n")).collect();
    format!(
        "global\n    nbthread 2\n    maxconn 4000\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
         frontend vip\n    bind {}:{PORT} backlog 4096\n    default_backend servers\n\
         backend servers\n    balance roundrobin\n{}",
        lab.vip(Family::V4, 0),
        servers.concat()
    )
}

fn nginx_stream(lab: &Lab, folder: &Path) -> String {
    let servers: Vec<String> = addresses(lab).iter().map(|ip| format!("server {ip}:{PORT}; ")).collect();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nworker_processes 2;\npid {};\nerror_log /dev/null;\n\
         events {{ worker_connections 8192; }}\n\
         stream {{ upstream servers {{ {}}} server {{ listen {}:{PORT} backlog=4096 reuseport; proxy_pass servers; }} }}\n",
        folder.join("stream.pid").display(),
        servers.concat(),
        lab.vip(Family::V4, 0),
    )
}

fn addresses(lab: &Lab) -> Vec<IpAddr> {
    (0..BACKENDS).map(|backend| lab.backend_address(backend, Family::V4)).collect()
}

/// The balancer's own kernel holds the VIP; a proxy there opens as many connections as the client does.
fn hold_vip(lab: &Lab) {
    lab.balancer.ip(&format!("addr add {}/32 dev eth0", lab.vip(Family::V4, 0)));
    lab.balancer.sysctl("ipv4/ip_local_port_range", "1024 65535");
    lab.balancer.sysctl("ipv4/tcp_tw_reuse", "1");
    lab.balancer.sysctl("core/somaxconn", "4096");
}

/// Starts a program whose last argument is its configuration file.
fn daemon(machine: &Netns, cpus: &str, words: &[&str], folder: &Path, text: &str) -> Daemon {
    let path = write(machine, words, folder, text);
    let log = File::create(path.with_extension("log")).expect("the temporary folder can be written to");
    let mut command = Command::new("taskset");
    let _ = command.args(["-c", cpus]).args(words).arg(path);
    let _ = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
    Daemon(machine.start(command))
}

/// Runs a program to its end that reads a file.
fn feed(machine: &Netns, words: &[&str], folder: &Path, text: &str) {
    let path = write(machine, words, folder, text);
    let mut command = Command::new(words[0]);
    let _ = command.args(&words[1..]).arg(path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = machine.start(command).wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(machine: &Netns, words: &[&str], folder: &Path, text: &str) -> PathBuf {
    let path = folder.join(format!("{}-{}.conf", machine.name(), words[0]));
    fs::write(&path, text).expect("the temporary folder can be written to");
    path
}
