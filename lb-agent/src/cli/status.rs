//! `status`: everything the agent knows, on one screen.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::output::{Page, Paint, Tone, bytes, grouped};
use super::table::{Cell, Table};
use super::{Context, Failure};
use crate::pure::model::{BackendState, Forward, Select, Tracking};
use crate::pure::snapshot::{BackendStatus, CountQuality, ServiceStatus, Snapshot};

pub(super) async fn execute(context: &Context) -> Result<(), Failure> {
    let snapshot = context.client.status().await?;
    context.output.print(&snapshot, text)
}

fn text(snapshot: &Snapshot, paint: Paint) -> String {
    let mut page = Page::default();
    agent(&mut page, snapshot, paint);
    for service in &snapshot.services {
        page.line("");
        describe(&mut page, service, paint);
    }
    if snapshot.services.is_empty() {
        page.line("\nno services");
    }
    differences(&mut page, snapshot);
    drops(&mut page, snapshot);
    page.finish()
}

fn agent(page: &mut Page, snapshot: &Snapshot, paint: Paint) {
    let agent = &snapshot.agent;
    page.line(format!(
        "weir {}, pid {}, up {}, configuration {}",
        agent.version,
        agent.pid,
        humantime::format_duration(Duration::from_secs(agent.uptime_s)),
        agent.config
    ));
    for problem in &agent.problems {
        page.line(format!("{} {problem}", paint.tint(Tone::Bad, "problem:")));
    }
    for interface in &snapshot.interfaces {
        let reason = interface.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        page.line(format!("interface {}: {}{reason}", interface.name, interface.mode));
    }
    let table = &snapshot.flow_table;
    let sweep = humantime::format_duration(Duration::from_micros(table.sweep_us));
    let (used, room) = (grouped(table.used), grouped(table.room));
    page.line(format!("flow table: {used} of {room} entries, last sweep {sweep}"));
}

fn describe(page: &mut Page, service: &ServiceStatus, paint: Paint) {
    page.line(format!(
        "{} {}  {}  {}{}  {}  tracking {}",
        paint.tint(Tone::Strong, "service"),
        paint.tint(Tone::Strong, &service.name),
        place(service),
        forward(service.forward),
        if service.snat { "+snat" } else { "" },
        select(service.select),
        tracking(service.tracking),
    ));
    let estimate = if service.counts == CountQuality::Estimate { " (estimate)" } else { "" };
    let mut facts = vec![
        format!("{} active flows{estimate}", grouped(service.active_flows)),
        format!("{} half-open", grouped(service.half_open_flows)),
    ];
    if service.slots_in_transition > 0 {
        facts.push(format!("{} slots in transition", grouped(service.slots_in_transition.into())));
    }
    if service.panic {
        facts.push(paint.tint(Tone::Bad, "panic: too few backends are up, flows go to all"));
    }
    page.line(format!("  {}", facts.join(", ")));
    if service.backends.is_empty() {
        page.line("  no backends");
    } else {
        page.block(backends_table(&service.backends).render(2, paint));
    }
}

/// The pool of a service; `backend list` shows the same.
pub(super) fn backends_table(backends: &[BackendStatus]) -> Table {
    let titles = ["BACKEND", "STATE", ">WEIGHT", ">ACTIVE", ">HALF-OPEN", ">NEW", ">PACKETS", ">BYTES", "WHY"];
    let mut table = Table::new(&titles);
    for backend in backends {
        table.row([
            SocketAddr::new(backend.address, backend.port).to_string().into(),
            state(backend.state),
            weight(backend).into(),
            grouped(backend.active_flows).into(),
            grouped(backend.half_open_flows).into(),
            grouped(backend.new_flows).into(),
            grouped(backend.packets).into(),
            bytes(backend.bytes).into(),
            why(backend).into(),
        ]);
    }
    table
}

fn state(state: BackendState) -> Cell {
    let tone = match state {
        BackendState::Up => Tone::Good,
        BackendState::Starting | BackendState::Draining => Tone::Careful,
        BackendState::Down => Tone::Bad,
        BackendState::Disabled => Tone::Faint,
    };
    Cell::tinted(tone, state.name())
}

fn weight(backend: &BackendStatus) -> String {
    let is_partial = backend.state == BackendState::Up && backend.weight_percent < 100;
    if is_partial { format!("{} ({}%)", backend.weight, backend.weight_percent) } else { backend.weight.to_string() }
}

fn why(backend: &BackendStatus) -> String {
    let mut reasons = vec![backend.reason.clone()];
    if backend.next_hop != "ok" {
        reasons.push(format!("next hop: {}", backend.next_hop));
    }
    if let Some(seconds) = backend.drain_deadline_s {
        let left = humantime::format_duration(Duration::from_secs(seconds));
        reasons.push(format!("cut in {left}"));
    }
    reasons.retain(|reason| !reason.is_empty());
    reasons.join("; ")
}

/// `203.0.113.10:8000/tcp`, `203.0.113.0/24 port 8000/tcp`; port 0 is every port.
pub(super) fn place(service: &ServiceStatus) -> String {
    let protocol = service.protocol.name();
    if service.vip_prefix.is_some() {
        let port = if service.port == 0 { "*".to_owned() } else { service.port.to_string() };
        return format!("{} port {port}/{protocol}", service.vip_text());
    }
    match (service.vip, service.port) {
        (IpAddr::V4(vip), 0) => format!("{vip}:*/{protocol}"),
        (IpAddr::V6(vip), 0) => format!("[{vip}]:*/{protocol}"),
        (vip, port) => format!("{}/{protocol}", SocketAddr::new(vip, port)),
    }
}

/// As the configuration writes it.
pub(super) fn forward(forward: Forward) -> &'static str {
    forward.name()
}

/// As the configuration writes it.
pub(super) fn select(select: Select) -> &'static str {
    match select {
        Select::Maglev => "maglev",
        Select::RoundRobin => "round_robin",
        Select::LeastConn => "least_conn",
        Select::SourceHash => "source_hash",
    }
}

fn tracking(tracking: Tracking) -> &'static str {
    match tracking {
        Tracking::Full => "full",
        Tracking::Minimal => "minimal",
        Tracking::None => "none",
    }
}

fn differences(page: &mut Page, snapshot: &Snapshot) {
    if snapshot.differences.is_empty() {
        return;
    }
    let mut table = Table::new(&["SERVICE", "BACKEND", "WHAT", "FILE", "NOW"]);
    for difference in &snapshot.differences {
        table.row([
            difference.service.as_str().into(),
            difference.backend.map(|backend| backend.to_string()).unwrap_or_default().into(),
            difference.what.as_str().into(),
            difference.file.as_str().into(),
            difference.runtime.as_str().into(),
        ]);
    }
    page.line("\nruntime changes that the file does not have:");
    page.block(table.render(2, Paint::Plain));
}

fn drops(page: &mut Page, snapshot: &Snapshot) {
    let mut table = Table::new(&["DROPPED", ">PACKETS"]);
    let dropped = snapshot.verdicts.iter().filter(|(name, packets)| name.starts_with("drop_") && **packets > 0);
    let mut any = false;
    for (name, packets) in dropped {
        table.row([name.as_str().into(), grouped(*packets).into()]);
        any = true;
    }
    if any {
        page.line("");
        page.block(table.render(0, Paint::Plain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::api::example;

    #[test]
    fn one_screen_shows_what_an_operator_asks_first() {
        let mut snapshot = example::snapshot();
        let _ = snapshot.verdicts.insert("drop_no_backend".to_owned(), 3);
        let text = text(&snapshot, Paint::Plain);
        for line in [
            "weir 0.1.0, pid 4242, up 1h 2m 5s, configuration /etc/weir/weir.toml",
            "interface eth0: native",
            "flow table: 13 of 2,000,000 entries, last sweep 1ms 500us",
            "service llm  203.0.113.10:8000/tcp  nat  least_conn  tracking full",
            "  12 active flows, 1 half-open, 3 slots in transition",
            "  10.0.0.11:8000  up           100      12          1  340   91,234  5.2 MiB  2 of 2 probes passed",
            "  10.0.0.12:8000  draining     100       0          1  340   91,234  5.2 MiB  2 of 2 probes passed; cut in 4m 50s",
            "runtime changes that the file does not have:",
            "drop_no_backend        3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn every_port_is_a_star() {
        let mut service = example::snapshot().services.remove(0);
        service.port = 0;
        assert_eq!(place(&service), "203.0.113.10:*/tcp");
        service.vip = "2001:db8::10".parse().unwrap();
        assert_eq!(place(&service), "[2001:db8::10]:*/tcp");
    }
}
