//! What the demo found, as a table for readers and as JSON for programs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::play::NAMES;
use super::promise::{Promise, grouped, reasons, seconds};
use super::record::Count;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Weir's version.
    pub weir: String,
    /// The kernel.
    pub kernel: String,
    /// Processors of this machine.
    pub cpus: usize,
    /// How XDP is attached, by interface.
    pub interfaces: BTreeMap<String, String>,
    /// The configuration that Weir ran with.
    pub config: String,
    /// Acts that were played.
    pub acts: Vec<ActReport>,
    /// Long answers that came whole, in all.
    pub long_answers_whole: usize,
    /// Long answers that broke, in all.
    pub long_answers_broken: usize,
    /// Promises about the end: what is left when all is taken down.
    pub end: Vec<Promise>,
    /// Whether every promise was kept.
    pub kept: bool,
}

/// One act.
#[derive(Debug, Serialize)]
pub struct ActReport {
    /// Its name.
    pub name: String,
    /// What it is called.
    pub title: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Requests that began in it.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Why, in words.
    pub failures: String,
    /// Answered requests by server.
    pub answers: BTreeMap<String, u64>,
    /// Half of the answers came within this time, milliseconds.
    pub median_ms: f64,
    /// 99 of 100 answers came within this time, milliseconds.
    pub p99_ms: f64,
    /// The longest answer took this time, milliseconds.
    pub max_ms: f64,
    /// What was promised, what was seen.
    pub promises: Vec<Promise>,
}

impl ActReport {
    /// From what clients saw in it.
    pub fn new(name: &str, title: &str, took: Duration, count: &Count, promises: Vec<Promise>) -> Self {
        let ms = |of_hundred| count.quantile(of_hundred).as_secs_f64() * 1e3;
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            seconds: took.as_secs_f64(),
            requests: count.total(),
            failed: count.failures(),
            failures: reasons(&count.failed),
            answers: count.by_server.clone(),
            median_ms: ms(50),
            p99_ms: ms(99),
            max_ms: ms(100),
            promises,
        }
    }

    /// One sentence: what was seen, or which promise was broken.
    pub fn seen(&self) -> String {
        let broken = self.promises.iter().filter(|promise| !promise.kept).count();
        let seen = self.promises.iter().map(|p| format!("{}: {}", p.what, p.seen)).collect::<Vec<_>>().join("; ");
        match broken {
            0 => format!("Seen: {seen}."),
            _ => format!("Seen: {seen}. NOT AS PROMISED."),
        }
    }
}

impl Report {
    /// All promises, with the number of their act; the end has none.
    fn promises(&self) -> impl Iterator<Item = (String, &Promise)> {
        let acts = self.acts.iter().zip(1..);
        let of_acts = acts.flat_map(|(act, n)| act.promises.iter().map(move |promise| (format!("{n}"), promise)));
        of_acts.chain(self.end.iter().map(|promise| ("end".to_owned(), promise)))
    }

    /// Promises, and those of them that were kept.
    pub fn tally(&self) -> (usize, usize) {
        self.promises().fold((0, 0), |(all, kept), (_, promise)| (all + 1, kept + usize::from(promise.kept)))
    }

    /// The tables, line by line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{:3}  {:28} {:>8} {:>6} {:>9}   {}",
            "act",
            "",
            "requests",
            "failed",
            "99 % in",
            NAMES.map(|name| format!("{name:>5}")).join(" ")
        )];
        for (act, number) in self.acts.iter().zip(1..) {
            let shares = NAMES.map(|name| match act.answers.get(name) {
                Some(answers) => format!("{:5.1}", super::record::per_cent(*answers, act.requests - act.failed)),
                None => "    -".to_owned(),
            });
            lines.push(format!(
                "{number:3}  {:28} {:>8} {:>6} {:>9}   {}",
                act.title,
                grouped(act.requests),
                grouped(act.failed),
                format!("{:.1} ms", act.p99_ms),
                shares.join(" ")
            ));
        }
        let sum = |of: fn(&ActReport) -> u64| grouped(self.acts.iter().map(of).sum());
        lines.push(format!("     {:28} {:>8} {:>6}", "all", sum(|act| act.requests), sum(|act| act.failed)));
        lines.push(String::new());
        lines.push(format!("{:3}  {:34} {:24} {}", "act", "promise", "promised", "seen"));
        for (act, promise) in self.promises() {
            let verdict = if promise.kept { "" } else { "   <- BROKEN" };
            lines.push(format!("{act:>3}  {:34} {:24} {}{verdict}", promise.what, promise.promised, promise.seen));
        }
        lines
    }

    /// Writes the JSON.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(path, text + "\n")
    }
}

/// Whether a report can be written there: better known before the demo than after it. What lies there stays.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    let _file = File::options().create(true).append(true).open(path)?;
    if is_new { fs::remove_file(path) } else { Ok(()) }
}

/// `71 s`.
pub fn took(time: Duration) -> String {
    if time < Duration::from_secs(10) { seconds(time) } else { format!("{:.0} s", time.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kept: bool) -> Report {
        let count = Count {
            answered: 4_000,
            by_server: [("b1".to_owned(), 1_000), ("b2".to_owned(), 3_000)].into(),
            took: vec![Duration::from_millis(2); 4_000],
            ..Count::default()
        };
        let promises = vec![Promise::new("failed requests", "0", "0 of 4,000", kept)];
        let act = ActReport::new("steady_load", "Steady load", Duration::from_secs(10), &count, promises);
        Report {
            weir: "0.1.0".into(),
            kernel: "6.18".into(),
            cpus: 2,
            interfaces: [("eth0".to_owned(), "native".to_owned())].into(),
            config: String::new(),
            acts: vec![act],
            long_answers_whole: 40,
            long_answers_broken: 0,
            end: vec![Promise::new("left behind", "nothing", "nothing", true)],
            kept,
        }
    }

    #[test]
    fn the_table_shows_shares_and_promises() {
        let text = report(true).lines().join("\n");
        assert!(
            text.contains("  1  Steady load                     4,000      0    2.0 ms    25.0  75.0     -"),
            "{text}"
        );
        assert!(text.contains("end  left behind                        nothing                  nothing"), "{text}");
        assert!(!text.contains("BROKEN"), "{text}");
        assert_eq!(report(true).tally(), (2, 2));
    }

    #[test]
    fn a_broken_promise_stands_out() {
        assert!(report(false).lines().iter().any(|line| line.ends_with("0 of 4,000   <- BROKEN")));
        assert_eq!(report(false).tally(), (2, 1));
        assert!(report(false).acts[0].seen().ends_with("NOT AS PROMISED."));
    }
}
