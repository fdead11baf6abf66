//! Reads what humans write: TOML, strictly. What it finds goes through the checks and comes out as values that cannot be
//! wrong, or as every error there is.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::environment::Environment;
use super::error::{ConfigErrors, Warning};
use super::report::Report;
use super::section::Section;
use super::{AgentConfig, Config, InterfaceConfig, PacketLog, XdpMode, check, scalar, service};

/// The configuration file that every command reads when none is named.
pub const DEFAULT_PATH: &str = "/etc/weir/weir.toml";
/// The socket on which agent and CLI meet when the file names none.
pub const DEFAULT_API: &str = "/run/weir/agent.sock";

const PACKET_LOGS: &[(&str, PacketLog)] =
    &[("off", PacketLog::Off), ("error", PacketLog::Error), ("info", PacketLog::Info), ("debug", PacketLog::Debug)];
const MODES: &[(&str, XdpMode)] =
    &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

/// Reads and checks a file. All or nothing.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub fn load(path: &Path, environment: &Environment) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path, environment),
        Err(source) => Err(ConfigErrors::unreadable(path, &source)),
    }
}

/// The same of a text; `path` is named in what it says.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let mut report = Report::new(path, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            report.error_at(error.span().as_ref(), "", format!("not TOML: {}", error.message()));
        }
        return report.conclude(None);
    }
    let config = read(&mut report, document.get_ref(), path, environment);
    report.conclude(Some(config))
}

/// The API socket that a file names, however wrong the rest of it is: whoever asks a running agent must not depend on a file
/// that is being edited. A file that is absent or says nothing means [`DEFAULT_API`].
pub fn api_socket(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    let agent = document.get_ref().iter().find(|(key, _)| key.get_ref() == "agent").map(|(_, value)| value.get_ref());
    let api = agent.and_then(|agent| agent.get("api")).and_then(|api| scalar::socket(api.get_ref()).ok());
    api.unwrap_or_else(|| PathBuf::from(DEFAULT_API))
}

fn read(report: &mut Report, document: &DeTable<'_>, path: &Path, environment: &Environment) -> Config {
    let mut top = Section::new(String::new(), Some(document));
    let agent = top.section(report, "agent");
    let agent = read_agent(report, agent);
    let interfaces = read_interfaces(report, &mut top);
    let mut drafts = Vec::new();
    let snat_ports = service::default_snat_ports(environment);
    for (at, table) in top.tables(report, "service").into_iter().enumerate() {
        drafts.extend(service::read(report, table, at + 1, snat_ports));
    }
    top.finish(report);
    check::check(report, &interfaces, &drafts, environment);
    let services = drafts.into_iter().map(|draft| draft.spec).collect();
    Config { path: path.to_owned(), agent, interfaces, services }
}

fn read_agent(report: &mut Report, mut section: Section<'_, '_>) -> AgentConfig {
    let default_metrics = || Some(([127, 0, 0, 1], 9180).into());
    let agent = AgentConfig {
        api: section.read(report, "api", scalar::socket).unwrap_or_else(|| DEFAULT_API.into()),
        metrics: section.read(report, "metrics", scalar::listen_address).unwrap_or_else(default_metrics),
        state_dir: section.read(report, "state_dir", scalar::path).unwrap_or_else(|| "/var/lib/weir".into()),
        pin_dir: section.read(report, "pin_dir", scalar::path).unwrap_or_else(|| "/sys/fs/bpf/weir".into()),
        // Below a thousand a table saves nothing; 100 million flows are 1.6 GB at two entries each.
        flow_table_entries: section
            .read(report, "flow_table_entries", scalar::number(1_000, 100_000_000_u32))
            .unwrap_or(1_000_000),
        packet_log: section.read(report, "packet_log", scalar::choice(PACKET_LOGS)).unwrap_or(PacketLog::Off),
    };
    section.finish(report);
    agent
}

fn read_interfaces(report: &mut Report, top: &mut Section<'_, '_>) -> Vec<InterfaceConfig> {
    let mut interfaces = Vec::new();
    for (at, (table, span)) in top.tables(report, "interface").into_iter().enumerate() {
        let path = format!("interface #{}", at + 1);
        report.place(&path, &span);
        let mut section = Section::new(path, Some(table));
        let name = section.require(report, "name", scalar::interface_name);
        let mode = section.read(report, "mode", scalar::choice(MODES)).unwrap_or(XdpMode::Auto);
        section.finish(report);
        // One without a name was reported; it still counts as one.
        interfaces.push(InterfaceConfig { name: name.unwrap_or_default(), mode });
    }
    interfaces
}
