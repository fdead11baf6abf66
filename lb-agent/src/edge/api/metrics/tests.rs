use std::collections::BTreeMap;

use super::*;
use crate::edge::api::example;

/// Series by name and sorted labels, and types by family: what a scraper would understand.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                let into = match kind {
                    "TYPE" => &mut scrape.types,
                    "HELP" => &mut scrape.helps,
                    "UNIT" => continue,
                    other => panic!("unknown comment {other}"),
                };
                assert_eq!(into.insert(name.to_owned(), rest.to_owned()), None, "{name} is described twice");
                continue;
            }
            let (name, labels, value) = sample(line);
            assert_eq!(scrape.series.insert((name, labels), value), None, "twice: {line}");
        }
        scrape
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.series.get(&(name.to_owned(), labels)).copied()
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if rest.starts_with('{') {
        rest = &rest[1..];
        while !rest.starts_with('}') {
            let (key, tail) = rest.trim_start_matches(',').split_once("=\"").unwrap();
            let (value, tail) = unescape(tail);
            let _ = labels.insert(key.to_owned(), value);
            rest = tail;
        }
        rest = &rest[1..];
    }
    (name.to_owned(), labels, rest.trim().parse().unwrap())
}

fn unescape(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    panic!("a label value without an end");
}

fn scrape(snapshot: Snapshot) -> Scrape {
    Scrape::parse(&render(&Arc::new(snapshot)).unwrap())
}

#[test]
fn every_verdict_has_a_series_even_when_no_packet_took_it() {
    let scrape = scrape(example::snapshot());
    for verdict in Verdict::ALL {
        let fate = verdict.name().split('_').next().filter(|word| matches!(*word, "pass" | "drop")).unwrap_or("send");
        let labels = [("verdict", verdict.name()), ("fate", fate)];
        let expected = if *verdict == Verdict::Forward { 91_234.0 } else { 0.0 };
        assert_eq!(scrape.value("weir_packets_total", &labels), Some(expected), "{labels:?}");
    }
}

#[test]
fn a_backend_is_found_by_service_and_address() {
    let scrape = scrape(example::snapshot());
    let labels = [("service", "llm"), ("backend", "10.0.0.11:8000")];
    assert_eq!(scrape.value("weir_backend_up", &labels), Some(1.0));
    assert_eq!(scrape.value("weir_backend_active_flows", &labels), Some(12.0));
    assert_eq!(scrape.value("weir_backend_new_flows_total", &labels), Some(340.0));
    assert_eq!(scrape.value("weir_backend_bytes_total", &labels), Some(5_512_345.0));
    let drained = [("service", "llm"), ("backend", "10.0.0.12:8000")];
    assert_eq!(scrape.value("weir_backend_up", &drained), Some(0.0));
    let [service, backend] = drained;
    assert_eq!(scrape.value("weir_backend_state", &[service, backend, ("state", "draining")]), Some(1.0));
    assert_eq!(scrape.value("weir_backend_state", &[service, backend, ("state", "up")]), Some(0.0));
}

#[test]
fn every_series_belongs_to_a_described_family_of_its_type() {
    let scrape = scrape(example::snapshot());
    for (name, _) in scrape.series.keys() {
        let is_histogram = |family: &&str| scrape.types.get(*family).is_some_and(|kind| kind == "histogram");
        let histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).filter(is_histogram);
        let plain = || name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
        let family = histogram.unwrap_or_else(plain);
        let wanted = if histogram.is_some() {
            "histogram"
        } else if name.ends_with("_total") {
            "counter"
        } else if name.ends_with("_info") {
            "info"
        } else {
            "gauge"
        };
        assert_eq!(scrape.types.get(family).map(String::as_str), Some(wanted), "{name}");
        assert!(scrape.helps.contains_key(family), "{name} has no HELP");
        assert!(family.starts_with("weir_"), "{name}");
    }
}

#[test]
fn label_values_survive_quotes_backslashes_and_newlines() {
    let mut snapshot = example::snapshot();
    let odd = "a\"b\\c\nd";
    snapshot.services[0].name = odd.to_owned();
    let scrape = scrape(snapshot);
    assert_eq!(scrape.value("weir_service_active_flows", &[("service", odd)]), Some(12.0));
}

#[test]
fn the_agent_and_its_sweeps_are_shown() {
    let scrape = scrape(example::snapshot());
    let build = [("version", "0.1.0"), ("abi", "1"), ("program", "abc123")];
    assert_eq!(scrape.value("weir_build_info", &build), Some(1.0));
    assert_eq!(scrape.value("weir_flow_sweep_duration_seconds", &[]), Some(0.001_5));
    assert_eq!(scrape.value("weir_interface_info", &[("interface", "eth0"), ("mode", "native")]), Some(1.0));
}

#[test]
fn an_agent_without_services_still_has_metrics() {
    let scrape = scrape(Snapshot::default());
    assert_eq!(scrape.value("weir_problems", &[]), Some(0.0));
}
