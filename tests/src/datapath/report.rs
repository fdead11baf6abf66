//! What was measured, as a table for people and as JSON for programs. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::case::Case;

/// What one round found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Cost of a packet, ns.
    pub ns: f64,
    /// Cost of the floor beside it, ns.
    pub floor_ns: f64,
    /// Packets that came back, millions a second.
    pub mpps: f64,
    /// The same of the floor.
    pub floor_mpps: f64,
}

/// The program that a case ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Instructions after verification; the kernel's own are inlined there.
    pub instructions: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Instructions that the verifier went through, over all paths.
    pub verified: u32,
}

/// SYNs of new flows into an empty table, all rounds together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Syns {
    /// That were sent while flows were counted.
    pub sent: u64,
    /// Flows opened by them.
    pub opened: u64,
    /// Flows for which the table had no room.
    pub refused: u64,
    /// Flows pushed out by others.
    pub evicted: u64,
    /// Flows that the table was made for.
    pub capacity: u32,
    /// Its memory.
    pub table_bytes: u64,
}

/// Established flows under a flood, all rounds together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flood {
    /// SYNs that were sent, those included that filled the table before.
    pub syns: u64,
    /// Packets of established flows that came back.
    pub established_packets: u64,
    /// Of those, packets that went elsewhere than before the flood.
    pub moved: u64,
    /// Packets of established flows that did not come back.
    pub lost: u64,
    /// Active flows in the table before the flood.
    pub active_before: u64,
    /// After it.
    pub active_after: u64,
    /// Ordinary packets alone that came back, millions a second, one a round.
    pub ordinary_mpps: Vec<f64>,
}

/// Sweeps over a table full of live flows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sweep {
    /// How long each took, ms of one core.
    pub ms: Vec<f64>,
    /// Active flows that the last one counted.
    pub active_flows: u64,
    /// Places that it looked at.
    pub places: u64,
}

/// A case and everything that its rounds found.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub case: Case,
    /// What ran.
    pub program: Program,
    /// One a round; none of a sweep.
    pub rounds: Vec<Round>,
    /// Of cases with SYNs of new flows.
    pub syn: Option<Syns>,
    /// Of cases with a flood.
    pub flood: Option<Flood>,
    /// Of sweeps.
    pub sweep: Option<Sweep>,
    /// Of the peer: data segments whose flow its LRU did not know, while costs were measured.
    pub lru_misses: Option<u64>,
}

/// A row as JSON has it. What a case has no value for is null.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    forward: &'a str,
    select: &'a str,
    tracking: &'a str,
    flows: u32,
    packet: &'a str,
    slots_in_transition_percent: u8,
    ns: Option<f64>,
    floor_ns: Option<f64>,
    net_ns: Option<f64>,
    /// Lowest and highest of the rounds.
    net_ns_range: Option<[f64; 2]>,
    /// `ns` over `floor_ns`.
    ratio_to_floor: Option<f64>,
    mpps: Option<f64>,
    floor_mpps: Option<f64>,
    rounds: usize,
    program: Program,
    #[serde(skip_serializing_if = "Option::is_none")]
    syn: &'a Option<Syns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flood: &'a Option<Flood>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: &'a Option<Sweep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lru_misses: Option<u64>,
}

impl Row {
    /// Nothing measured yet.
    pub const fn new(case: Case, program: Program) -> Self {
        Self { case, program, rounds: Vec::new(), syn: None, flood: None, sweep: None, lru_misses: None }
    }

    fn line(&self) -> Line<'_> {
        let case = &self.case;
        let median = |value: fn(&Round) -> f64| median(self.rounds.iter().map(value));
        let net = |round: &Round| round.ns - round.floor_ns;
        let nets = || self.rounds.iter().map(net);
        let (ns, floor_ns) = (median(|r| r.ns), median(|r| r.floor_ns));
        Line {
            case: &case.name,
            forward: case.forward(),
            select: case.select(),
            tracking: case.tracking(),
            flows: case.flows,
            packet: case.packet(),
            slots_in_transition_percent: case.slots_in_transition_percent(),
            ns: ns.map(rounded),
            floor_ns: floor_ns.map(rounded),
            net_ns: median(net).map(rounded),
            net_ns_range: nets().reduce(f64::min).zip(nets().reduce(f64::max)).map(|(a, b)| [rounded(a), rounded(b)]),
            ratio_to_floor: ns.zip(floor_ns).map(|(ns, floor)| rounded(ns / floor)),
            mpps: median(|r| r.mpps).map(rounded),
            floor_mpps: median(|r| r.floor_mpps).map(rounded),
            rounds: self.rounds.len(),
            program: self.program,
            syn: &self.syn,
            flood: &self.flood,
            sweep: &self.sweep,
            lru_misses: self.lru_misses,
        }
    }
}

/// An array of objects, one a row.
///
/// # Errors
/// None that values of these types can cause.
pub fn json(rows: &[Row]) -> serde_json::Result<String> {
    let lines: Vec<Line<'_>> = rows.iter().map(Row::line).collect();
    serde_json::to_string_pretty(&lines)
}

/// A table, and sentences on what does not fit into it.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.case.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$} {:>8} {:>8} {:>8} {:>16} {:>7} {:>7} {:>7}\n",
        "case", "ns", "floor", "net ns", "(lowest-highest)", "/floor", "Mpps", "floor"
    );
    for row in rows.iter().filter(|row| !row.rounds.is_empty()) {
        let line = row.line();
        let shown = |value: Option<f64>, digits| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
        let range = line.net_ns_range.map_or_else(String::new, |[low, high]| format!("({low:.1}-{high:.1})"));
        let _infallible = writeln!(
            text,
            "{:width$} {:>8} {:>8} {:>8} {range:>16} {:>7} {:>7} {:>7}",
            line.case,
            shown(line.ns, 1),
            shown(line.floor_ns, 1),
            shown(line.net_ns, 1),
            shown(line.ratio_to_floor, 2),
            shown(line.mpps, 2),
            shown(line.floor_mpps, 2),
        );
    }
    for sentence in rows.iter().flat_map(sentences) {
        text.push('\n');
        text.push_str(&sentence);
    }
    let mut told: Vec<(bool, Program)> = Vec::new();
    for row in rows {
        let (is_peer, program) = (row.case.service.is_none(), row.program);
        if !told.iter().any(|(known, _)| *known == is_peer) {
            told.push((is_peer, program));
            let Program { instructions, jited_bytes, verified } = program;
            let _infallible = write!(
                text,
                "\n{}: {instructions} instructions, {jited_bytes} bytes of machine code; the verifier went through {verified}",
                if is_peer { "the peer's program" } else { "our program" }
            );
        }
    }
    text.push('\n');
    text
}

fn sentences(row: &Row) -> Vec<String> {
    let name = &row.case.name;
    let mut sentences = Vec::new();
    if let Some(syn) = &row.syn {
        let Syns { sent, opened, refused, evicted, capacity, table_bytes } = syn;
        let rate = median(row.rounds.iter().map(|r| r.mpps)).unwrap_or_default();
        sentences.push(format!(
            "{name}: {sent} SYNs opened {opened} flows, {refused} refused, {evicted} evicted, {rate:.2} million a second; the table is \
             made for {capacity} flows and takes {:.1} MiB",
            as_f64(*table_bytes) / f64::from(1 << 20)
        ));
    }
    if let Some(flood) = &row.flood {
        let Flood { syns, established_packets, moved, lost, active_before, active_after, ordinary_mpps } = flood;
        let flooded = median(row.rounds.iter().map(|r| r.mpps)).unwrap_or_default();
        let ordinary = median(ordinary_mpps.iter().copied()).unwrap_or_default();
        sentences.push(format!(
            "{name}: among {syns} SYNs {established_packets} packets of established flows came back, {moved} moved, {lost} lost; active \
             flows {active_before} before and {active_after} after; throughput {:.0} % of ordinary packets' ({flooded:.2} of {ordinary:.2} \
             million a second)",
            100.0 * flooded / ordinary
        ));
    }
    if let Some(Sweep { ms, active_flows, places }) = &row.sweep {
        sentences.push(format!(
            "{name}: {:.2} ms of one core over {places} places with {active_flows} active flows",
            median(ms.iter().copied()).unwrap_or_default()
        ));
    }
    if let Some(misses) = row.lru_misses.filter(|misses| *misses > 0) {
        sentences
            .push(format!("{name}: {misses} segments of flows that the LRU did not know, while the cost was measured"));
    }
    sentences
}

/// The middle one, or the mean of the two in the middle; `None` of none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// To hundredths: nothing here is known better.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^52")]
const fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    fn row(name: &str, rounds: &[(f64, f64)]) -> Row {
        let case = case::choose(case::all(true), &[name.to_owned()]).unwrap().remove(0);
        let mut row = Row::new(case, Program { instructions: 9, jited_bytes: 50, verified: 70 });
        row.rounds =
            rounds.iter().map(|(ns, floor_ns)| Round { ns: *ns, floor_ns: *floor_ns, ..Round::default() }).collect();
        row
    }

    #[test]
    fn json_is_an_array_of_objects_with_the_promised_fields() {
        let rows = [row("nat/maglev/full/10k/data", &[(100.0, 40.0), (130.0, 60.0), (110.0, 41.0)]), row("sweep", &[])];
        let lines: serde_json::Value = serde_json::from_str(&json(&rows).unwrap()).unwrap();
        let lines = lines.as_array().unwrap();
        assert_eq!(lines.len(), 2);
        for line in lines {
            for field in
                ["case", "forward", "tracking", "flows", "packet", "ns", "floor_ns", "net_ns", "mpps", "floor_mpps"]
            {
                assert!(line.get(field).is_some(), "{field} is missing in {line}");
            }
        }
        let [first, second] = [&lines[0], &lines[1]];
        assert_eq!((&first["case"], &first["flows"]), (&"nat/maglev/full/10k/data".into(), &10_000.into()));
        assert_eq!((&first["ns"], &first["floor_ns"], &first["net_ns"]), (&110.0.into(), &41.0.into(), &69.0.into()));
        assert!(second["ns"].is_null() && second["mpps"].is_null());
    }

    #[test]
    fn net_is_taken_round_by_round_because_the_floor_is_measured_beside_it() {
        let line = row("nat/maglev/full/1/data", &[(100.0, 40.0), (200.0, 140.0)]);
        let line = line.line();
        assert_eq!((line.net_ns, line.net_ns_range), (Some(60.0), Some([60.0, 60.0])));
    }

    #[test]
    fn the_table_has_a_line_for_every_case_with_packets_and_a_sentence_for_a_sweep() {
        let mut sweep = row("sweep", &[]);
        sweep.sweep = Some(Sweep { ms: vec![9.0, 11.0, 10.0], active_flows: 1_000_000, places: 2_097_152 });
        let text = table(&[row("nat/maglev/full/1/data", &[(100.0, 40.0)]), sweep]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("nat/maglev/full/1/data"), "{text}");
        assert!(lines[1].contains(" 60.0 ") && lines[1].contains(" 2.50 "), "{text}");
        assert!(text.contains("nat/maglev/full/1M/sweep: 10.00 ms of one core over 2097152 places"), "{text}");
    }
}
