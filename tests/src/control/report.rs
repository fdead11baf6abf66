//! What was measured, as a table or as JSON, beside what was promised.
#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::Output;

const LOAD_BOUND: Duration = Duration::from_secs(5);
const MEMORY_BOUND_KIB: u64 = 1 << 20;
const SWEEP_BOUND_MS: f64 = 20.0;
const REPROGRAM_BOUND: Duration = Duration::from_millis(10);

/// One start.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub(super) scale: String,
    #[serde(serialize_with = "ms")]
    pub(super) in_force: Duration,
    #[serde(serialize_with = "ms")]
    pub(super) loaded: Duration,
    pub(super) peak_kib: u64,
}

/// One death.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    /// The cable was pulled; else the server was killed and its host refuses.
    pub(super) silent: bool,
    /// Slots that it had.
    pub(super) slots: usize,
    /// From the death to the first ring without it: the probes' doing.
    #[serde(serialize_with = "ms")]
    pub(super) noticed: Duration,
    /// From the first ring without it to the last, seen from outside by a reader that takes turns.
    #[serde(serialize_with = "ms")]
    pub(super) spread: Duration,
    /// From the judgement of the last failed probe to the last slot, by the agent's clock.
    #[serde(serialize_with = "ms")]
    pub(super) inside: Duration,
}

/// One sweep.
#[derive(Debug, Serialize)]
pub(super) struct Sweep {
    pub(super) scale: String,
    /// Live flows that it counted.
    pub(super) flows: u64,
    /// How long it took, milliseconds.
    pub(super) ms: f64,
}

/// Everything.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) loads: Vec<Load>,
    pub(super) failures: Vec<Failure>,
    pub(super) sweeps: Vec<Sweep>,
}

impl Report {
    /// Prints; an exit code that says whether the promises were kept, by the medians.
    pub(super) fn print(&self, output: Output) -> ExitCode {
        match output {
            Output::Json => match serde_json::to_string_pretty(self) {
                Ok(text) => println!("{text}"),
                Err(e) => eprintln!("error: {e}"),
            },
            Output::Table => self.print_table(),
        }
        if self.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn print_table(&self) {
        println!("load                in force      all rings     peak memory");
        for scale in self.scales() {
            let of = |f: fn(&Load) -> f64| self.figures(&scale, f);
            println!(
                "{scale:<18}  {:>10}  {:>13}  {:>14}",
                spread(&of(|l| l.in_force.as_secs_f64()), " s"),
                spread(&of(|l| l.loaded.as_secs_f64()), " s"),
                spread(&of(|l| kib_to_mib(l.peak_kib)), " MiB"),
            );
        }
        println!(
            "\ndeath of a machine with 100 services   slots     noticed after   first to last ring   judgement to last slot"
        );
        for silent in [false, true] {
            let all: Vec<&Failure> = self.failures.iter().filter(|f| f.silent == silent).collect();
            let of = |f: fn(&Failure) -> Duration| all.iter().map(|x| f(x).as_secs_f64() * 1e3).collect::<Vec<_>>();
            if let Some(first) = all.first() {
                println!(
                    "{:<37}  {:>6}  {:>14}  {:>19}  {:>23}",
                    if silent { "silent (cable pulled)" } else { "refusing (server killed)" },
                    first.slots,
                    spread(&of(|f| f.noticed), " ms"),
                    spread(&of(|f| f.spread), " ms"),
                    spread(&of(|f| f.inside), " ms"),
                );
            }
        }
        println!("\nsweep of a million live flows");
        for scale in self.scales() {
            println!("{scale:<18}  {:>10}", spread(&self.sweep_ms(&scale), " ms"));
        }
        println!(
            "\nmedians (least to most); promised: 5 s, 1024 MiB, 10 ms, 20 ms: {}",
            if self.is_kept() { "kept" } else { "NOT kept" }
        );
    }

    fn scales(&self) -> Vec<String> {
        let mut scales: Vec<String> = self.loads.iter().map(|l| l.scale.clone()).collect();
        scales.sort();
        scales.dedup();
        scales
    }

    fn figures(&self, scale: &str, f: fn(&Load) -> f64) -> Vec<f64> {
        self.loads.iter().filter(|l| l.scale == scale).map(f).collect()
    }

    fn sweep_ms(&self, scale: &str) -> Vec<f64> {
        self.sweeps.iter().filter(|s| s.scale == scale).map(|s| s.ms).collect()
    }

    fn is_kept(&self) -> bool {
        let loads = self.scales().iter().all(|scale| {
            median(&self.figures(scale, |l| l.loaded.as_secs_f64())) < LOAD_BOUND.as_secs_f64()
                && median(&self.figures(scale, |l| kib_to_mib(l.peak_kib))) < kib_to_mib(MEMORY_BOUND_KIB)
        });
        let inside: Vec<f64> = self.failures.iter().map(|f| f.inside.as_secs_f64()).collect();
        let sweeps = self.scales().iter().all(|scale| median(&self.sweep_ms(scale)) < SWEEP_BOUND_MS);
        loads && sweeps && median(&inside) < REPROGRAM_BOUND.as_secs_f64()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of pages is small")]
fn kib_to_mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// "1.23 (1.10-1.50) s"
fn spread(figures: &[f64], unit: &str) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.3}-{most:.3}){unit}", median(figures))
}

fn ms<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(d.as_secs_f64() * 1e3)
}
