//! What the demo promises, and whether what was seen keeps it: pure. Correctness is counted, and one failure breaks it; times
//! are allowed what a busy machine costs, and that allowance is shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::record::{Count, Record, Stream, to_f64};
use crate::client::Failure;

/// What a busy machine may add to a time: probes and clients wait for a processor.
pub const BUSY: Duration = Duration::from_millis(750);

/// A share may miss its due by this part of it ...
const SHARE_TOLERANCE: f64 = 0.10;

/// ... or by so many standard deviations, where a short act has few requests: a hash deals them out like dice.
const SIGMAS: f64 = 4.5;

/// A promise and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// What it is about.
    pub what: String,
    /// What must hold.
    pub promised: String,
    /// What was seen.
    pub seen: String,
    /// Whether it held.
    pub kept: bool,
    /// Where it is about a time: what it took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

impl Promise {
    /// One promise.
    pub fn new(what: &str, promised: impl Into<String>, seen: impl Into<String>, kept: bool) -> Self {
        Self { what: what.to_owned(), promised: promised.into(), seen: seen.into(), kept, took_ms: None }
    }

    /// Something happens within a time; `None`: it did not happen while we looked.
    pub fn within(what: &str, bound: Duration, took: Option<Duration>) -> Self {
        let promised = format!("{} (+{} if busy)", seconds(bound), seconds(BUSY));
        let seen = took.map_or_else(|| "not seen".to_owned(), seconds);
        let took_ms = took.map(|took| took.as_secs_f64() * 1e3);
        Self { took_ms, ..Self::new(what, promised, seen, took.is_some_and(|took| took <= bound + BUSY)) }
    }

    /// Every request is answered.
    pub fn no_request_fails(count: &Count) -> Self {
        let seen = if count.failures() == 0 {
            format!("0 of {}", grouped(count.total()))
        } else {
            format!("{} of {}: {}", grouped(count.failures()), grouped(count.total()), reasons(&count.failed))
        };
        Self::new("failed requests", "0", seen, count.failures() == 0 && count.total() > 0)
    }

    /// Equal servers get equal shares.
    pub fn even_shares(count: &Count, servers: &[&str]) -> Self {
        let due = 1.0 / to_f64(u64::try_from(servers.len()).unwrap_or(u64::MAX).max(1));
        let answered = to_f64(count.answered);
        let chance = SIGMAS * (due * (1.0 - due) / answered.max(1.0)).sqrt();
        let tolerance = 100.0 * chance.max(SHARE_TOLERANCE * due);
        let shares: Vec<f64> = servers.iter().map(|server| count.share(server)).collect();
        let kept = count.answered > 0 && shares.iter().all(|share| (share - 100.0 * due).abs() <= tolerance);
        let (least, most) = shares.iter().fold((f64::MAX, 0.0_f64), |(l, m), share| (l.min(*share), m.max(*share)));
        let promised = format!("{:.1} % ± {tolerance:.1}", 100.0 * due);
        Self::new(&format!("share of each of {}", servers.len()), promised, format!("{least:.1} to {most:.1} %"), kept)
    }

    /// Failures are the dead server's own, and end when its death is known. `bound`: how long that may take.
    pub fn fails_only_until_found(count: &Count, died: Instant, bound: Duration) -> Self {
        let window = count.last_failed.map_or(Duration::ZERO, |last| last.saturating_duration_since(died));
        let foreign: u64 = count.failed.iter().filter(|(why, _)| !is_of_a_dead_server(**why)).map(|(_, n)| n).sum();
        let seen = match count.failures() {
            0 => format!("0 of {}", grouped(count.total())),
            failures => format!(
                "{failures} of {} ({}) within {}",
                grouped(count.total()),
                reasons(&count.failed),
                seconds(window)
            ),
        };
        Self::new("failed requests", "only on b2, until found", seen, foreign == 0 && window <= bound + BUSY)
    }

    /// No stream breaks, save those of `except`, a server that died.
    pub fn streams_survive(record: &Record, since: Instant, except: Option<&str>) -> Self {
        let is_excused = |s: &Stream| {
            let refused = matches!(&s.end, Some((_, Err(why))) if is_of_a_dead_server(*why));
            except.is_some_and(|dead| s.server == dead || s.server.is_empty() && refused)
        };
        let (mut all, mut broken) = (0_u64, BTreeMap::new());
        for stream in record.streams_since(since).filter(|s| !is_excused(s)) {
            all += 1;
            if let Some((_, Err(why))) = &stream.end {
                *broken.entry(*why).or_default() += 1;
            }
        }
        let what = if except.is_some() { "broken long answers on the others" } else { "broken long answers" };
        let seen = if broken.is_empty() {
            format!("0 of {all}")
        } else {
            format!("{} of {all}: {}", broken.values().sum::<u64>(), reasons(&broken))
        };
        Self::new(what, "0", seen, broken.is_empty() && all > 0)
    }
}

/// What clients of a server see whose process is dead and whose kernel still answers.
fn is_of_a_dead_server(why: Failure) -> bool {
    matches!(why, Failure::Refused | Failure::Reset | Failure::Cut)
}

/// `3 refused, 1 reset`.
pub fn reasons(failed: &BTreeMap<Failure, u64>) -> String {
    failed.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
}

/// `0.58 s`; `4.2 ms` below a tenth of a second.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// `12,345`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (index, digit) in digits[first..].char_indices() {
        if index % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(by_server: &[(&str, u64)]) -> Count {
        let by_server: BTreeMap<String, u64> = by_server.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Count { answered: by_server.values().sum(), by_server, ..Count::default() }
    }

    #[test]
    fn shares_are_even_within_a_tenth() {
        let even = answered(&[("b1", 2_600), ("b2", 2_450), ("b3", 2_500), ("b4", 2_450)]);
        let promise = Promise::even_shares(&even, &["b1", "b2", "b3", "b4"]);
        assert!(promise.kept, "{promise:?}");
        assert_eq!((promise.promised.as_str(), promise.seen.as_str()), ("25.0 % ± 2.5", "24.5 to 26.0 %"));
        let uneven = answered(&[("b1", 2_900), ("b2", 2_300), ("b3", 2_400), ("b4", 2_400)]);
        assert!(!Promise::even_shares(&uneven, &["b1", "b2", "b3", "b4"]).kept);
        assert!(!Promise::even_shares(&Count::default(), &["b1"]).kept, "no requests prove nothing");
    }

    #[test]
    fn failures_of_a_dead_server_are_excused_until_it_is_found_and_others_never() {
        let (died, bound) = (Instant::now(), Duration::from_millis(720));
        let failing = |why, after: Duration| Count {
            answered: 100,
            failed: BTreeMap::from([(why, 3)]),
            last_failed: Some(died + after),
            ..Count::default()
        };
        let judge = |count: &Count| Promise::fails_only_until_found(count, died, bound).kept;
        assert!(judge(&failing(Failure::Refused, bound)));
        assert!(!judge(&failing(Failure::Refused, bound + BUSY * 2)));
        assert!(!judge(&failing(Failure::TimedOut, Duration::ZERO)));
        assert!(judge(&Count::default()));
    }

    #[test]
    fn one_failed_request_breaks_a_promise_and_none_at_all_does_too() {
        assert!(Promise::no_request_fails(&answered(&[("b1", 12_345)])).kept);
        let failed = BTreeMap::from([(Failure::Reset, 1)]);
        let promise = Promise::no_request_fails(&Count { failed, ..answered(&[("b1", 1_233)]) });
        assert_eq!((promise.kept, promise.seen.as_str()), (false, "1 of 1,234: 1 reset"));
        assert!(!Promise::no_request_fails(&Count::default()).kept);
    }

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(seconds(Duration::from_millis(580)), "0.58 s");
        assert_eq!(seconds(Duration::from_micros(4_230)), "4.2 ms");
    }
}
