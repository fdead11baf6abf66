//! What was measured: medians with the least and the most, as a table or as JSON, and whether Weir is ahead.
#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::process::ExitCode;

use serde::Serialize;

use super::Output;
use super::peer::Peer;
use super::wrk::{Figures, Load};

/// All that was measured of one peer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    peer: Peer,
    /// New connections, one request each.
    connections: Vec<Figures>,
    /// Requests on connections that stay open.
    requests: Vec<Figures>,
}

impl Row {
    pub(super) const fn new(peer: Peer) -> Self {
        Self { peer, connections: Vec::new(), requests: Vec::new() }
    }

    pub(super) fn add(&mut self, load: Load, figures: Figures) {
        match load {
            Load::Connections => self.connections.push(figures),
            Load::Requests => self.requests.push(figures),
        }
    }
}

/// One peer's medians, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: &'a Row,
    connections_median: Figures,
    requests_median: Figures,
}

pub(super) fn print(rows: &[Row], output: Output) -> ExitCode {
    match output {
        Output::Table => print_table(rows),
        Output::Json => {
            let shown: Vec<Shown<'_>> = rows
                .iter()
                .map(|row| Shown {
                    row,
                    connections_median: median(&row.connections),
                    requests_median: median(&row.requests),
                })
                .collect();
            match serde_json::to_string_pretty(&shown) {
                Ok(text) => println!("{text}"),
                Err(e) => eprintln!("error: {e}"),
            }
        }
    }
    ExitCode::SUCCESS
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<14} {:>24} {:>20} {:>20} {:>26} {:>20} {:>20} {:>6}",
        "", "connections/s", "p50 ms", "p99 ms", "requests/s (kept open)", "p50 ms", "p99 ms", "errors"
    );
    for row in rows {
        let errors: u64 = row.connections.iter().chain(&row.requests).map(|f| f.errors).sum();
        println!(
            "{:<14} {:>24} {:>20} {:>20} {:>26} {:>20} {:>20} {errors:>6}",
            row.peer.name(),
            spread(&row.connections, |f| f.per_second, 0),
            spread(&row.connections, |f| f.p50_us / 1e3, 2),
            spread(&row.connections, |f| f.p99_us / 1e3, 2),
            spread(&row.requests, |f| f.per_second, 0),
            spread(&row.requests, |f| f.p50_us / 1e3, 2),
            spread(&row.requests, |f| f.p99_us / 1e3, 2),
        );
    }
    println!("medians (least-most) of {} rounds", rows.first().map_or(0, |row| row.connections.len()));
    for weir in rows.iter().filter(|row| row.peer.is_weir()) {
        for other in rows.iter().filter(|row| !row.peer.is_weir()) {
            let ratio = |of: fn(&Row) -> &[Figures], f: fn(&Figures) -> f64| middle(of(weir), f) / middle(of(other), f);
            println!(
                "{} against {}: connections/s x {:.2}, their p99 x {:.2}; requests/s x {:.2}, their p99 x {:.2}",
                weir.peer.name(),
                other.peer.name(),
                ratio(|r| &r.connections, |f| f.per_second),
                ratio(|r| &r.connections, |f| f.p99_us),
                ratio(|r| &r.requests, |f| f.per_second),
                ratio(|r| &r.requests, |f| f.p99_us),
            );
        }
    }
}

fn median(figures: &[Figures]) -> Figures {
    Figures {
        per_second: middle(figures, |f| f.per_second),
        p50_us: middle(figures, |f| f.p50_us),
        p99_us: middle(figures, |f| f.p99_us),
        errors: figures.iter().map(|f| f.errors).sum(),
    }
}

fn middle(figures: &[Figures], f: impl Fn(&Figures) -> f64) -> f64 {
    let mut sorted: Vec<f64> = figures.iter().map(f).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// "12345 (11000-13000)"
fn spread(figures: &[Figures], f: impl Fn(&Figures) -> f64, digits: usize) -> String {
    let least = figures.iter().map(&f).fold(f64::INFINITY, f64::min);
    let most = figures.iter().map(&f).fold(0.0, f64::max);
    format!("{:.digits$} ({least:.digits$}-{most:.digits$})", middle(figures, &f))
}
