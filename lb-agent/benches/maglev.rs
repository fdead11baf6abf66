//! How long a ring takes to build, in release mode: `cargo bench -p lb-agent --bench maglev`. Prints median and 95th
//! percentile; ends with an error when the ring of 1,000 backends is over its bound at the median.
#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lb_agent::pure::maglev::{Member, build, identity};

/// The bound that the project promises for 1,000 backends.
const BOUND: Duration = Duration::from_millis(10);
const ROUNDS: usize = 101;

fn main() -> ExitCode {
    let mut kept = true;
    for (n, weighted) in [(4, false), (100, false), (400, false), (1_000, false), (1_000, true), (10_000, false)] {
        let members: Vec<Member> = (0..n).map(|i| member(i, weighted)).collect();
        let (median, p95) = measure(|| build(&members).len());
        println!("ring of {n:>6} backends, {} weights: median {median:>9.1?}, p95 {p95:>9.1?}", kind(weighted));
        kept &= n != 1_000 || median < BOUND;
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const fn kind(weighted: bool) -> &'static str {
    if weighted { "mixed" } else { "equal" }
}

fn member(i: u16, weighted: bool) -> Member {
    let [high, low] = i.to_be_bytes();
    let weight = if weighted { 1 + u32::from(i) * 7 % 100 } else { 100 };
    Member { key: identity(&SocketAddr::from(([10, 1, high, low], 8_000))), owner: i + 1, weight }
}

fn measure<T>(mut work: impl FnMut() -> T) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let _ = black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[ROUNDS / 2], times[ROUNDS * 95 / 100])
}
