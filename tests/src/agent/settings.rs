//! Configuration text for the agent, as an operator would write it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// A configuration in the making. Everything is text on purpose: tests of wrong input write wrong text.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interfaces and how XDP is attached there: `auto`, `native`, `generic`.
    pub interfaces: Vec<(String, String)>,
    /// Services.
    pub services: Vec<Service>,
    /// Flows that must fit.
    pub flow_table_entries: u32,
    /// Further lines of `[agent]`.
    pub agent_lines: String,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Virtual address.
    pub vip: IpAddr,
    /// Port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `nat`, `l2dsr`, `ipip` or `gue`.
    pub forward: &'static str,
    /// nat: with our own source addresses.
    pub snat: bool,
    /// Policy.
    pub select: &'static str,
    /// Tracking.
    pub tracking: &'static str,
    /// Backends and their weights.
    pub backends: Vec<(SocketAddr, u16)>,
    /// Lines of `[service.health]`.
    pub health: String,
    /// Lines of `[service.timeouts]`.
    pub timeouts: String,
    /// Lines of `[service.drain]`.
    pub drain: String,
}

impl Settings {
    /// The file's text. `folder` holds the API's socket and the state; pins go to `pin_dir`.
    pub fn text(&self, folder: &Path, pin_dir: &Path) -> String {
        let mut text = format!(
            "[agent]\napi = \"unix:{folder}/agent.sock\"\nmetrics = \"127.0.0.1:9180\"\nstate_dir = \"{folder}/state\"\n\
             pin_dir = \"{pins}\"\nflow_table_entries = {entries}\n{more}\n",
            folder = folder.display(),
            pins = pin_dir.display(),
            entries = self.flow_table_entries,
            more = self.agent_lines,
        );
        for (name, mode) in &self.interfaces {
            let _ = writeln!(text, "[[interface]]\nname = \"{name}\"\nmode = \"{mode}\"\n");
        }
        for service in &self.services {
            service.write(&mut text);
        }
        text
    }
}

impl Service {
    fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "[[service]]\nname = \"{}\"\nvip = \"{}\"\nport = {}\nprotocol = \"{}\"\nforward = \"{}\"\nselect = \"{}\"\n\
             tracking = \"{}\"",
            self.name, self.vip, self.port, self.protocol, self.forward, self.select, self.tracking
        );
        if self.snat {
            let _ = writeln!(text, "snat = true");
        }
        for (address, weight) in &self.backends {
            let _ = writeln!(
                text,
                "[[service.backend]]\naddress = \"{}\"\nport = {}\nweight = {weight}",
                address.ip(),
                address.port()
            );
        }
        for (table, lines) in [("health", &self.health), ("timeouts", &self.timeouts), ("drain", &self.drain)] {
            if !lines.is_empty() {
                let _ = writeln!(text, "[service.{table}]\n{lines}");
            }
        }
        text.push('\n');
    }
}
