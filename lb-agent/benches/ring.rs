//! How long a ring takes to build and to change, in release mode: `cargo bench -p lb-agent --bench ring`. Prints median and
//! 95th percentile; ends with an error when a median is over its bound.
#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lb_agent::pure::maglev::{Member, build, identity};
use lb_agent::pure::model::Tracking;
use lb_agent::pure::transition::{RingState, Rules, Stores};
use lb_common::limits::RING_SIZE;
use lb_common::slot::Owner;

/// The bound that the project promises for the ring of 1,000 backends.
const BUILD_BOUND: Duration = Duration::from_millis(10);
/// From a failed probe to the last misrouted new flow there are 10 ms; the decision may take a tenth of them.
const CHANGE_BOUND: Duration = Duration::from_millis(1);
const ROUNDS: usize = 101;

fn main() -> ExitCode {
    let mut kept = true;
    for (n, weighted) in [(4, false), (100, false), (400, false), (1_000, false), (1_000, true), (10_000, false)] {
        let members: Vec<Member> = (0..n).map(|i| member(i, weighted)).collect();
        let (median, p95) = measure(|| (), |()| build(&members).len());
        println!("ring of {n:>6} backends, {} weights: median {median:>9.1?}, p95 {p95:>9.1?}", kind(weighted));
        kept &= n != 1_000 || median < BUILD_BOUND;
    }
    let (here, there) = (vec![1; RING_SIZE], vec![2; RING_SIZE]);
    let rules = Rules { tracking: Tracking::Full, idle: Duration::from_secs(900), owner_is_in_table: false };
    let ring = RingState::new(&here, rules, Duration::ZERO);
    for (name, change) in [
        ("retarget every slot", RingState::retarget as fn(&mut RingState, &[Owner], Duration) -> Stores),
        ("lose every slot's owner", |ring, heirs, now| ring.bereave(1, heirs, now)),
    ] {
        let (median, p95) =
            measure(|| ring.clone(), |mut ring| change(&mut ring, &there, Duration::from_secs(1)).len());
        println!("{name:<37}: median {median:>9.1?}, p95 {p95:>9.1?}");
        kept &= median < CHANGE_BOUND;
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

/// Median and 95th percentile of `work`, which `prepare` hands its input.
fn measure<I, T>(prepare: impl Fn() -> I, work: impl Fn(I) -> T) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let input = prepare();
            let start = Instant::now();
            let _ = black_box(work(black_box(input)));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[ROUNDS / 2], times[ROUNDS * 95 / 100])
}
