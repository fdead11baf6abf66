//! Judges one backend by its probes: up after `rise` passes in a row, down after `fall` failures in a row.
//!
//! In: probe outcomes with their moments. Out: when the next probe is due, and a change with its reason when the judgement
//! changes. Nothing is served by a backend before its first pass. The spacing of probes runs from start to start and does
//! not change while they fail, so that a failure is found within what the configuration implies: up to one interval until
//! a probe meets it, `fall - 1` intervals, and one timeout.
//!
//! There is no flap damping beyond `rise` and `fall`: a backend that answers is worth its share, a change costs its own slots
//! alone, and a penalty would add states that an operator must guess at. Who wants damping raises `rise`.

use std::fmt::Write as _;
use std::num::NonZeroU8;
use std::time::Duration;

use super::jitter::Jitter;
use super::model::{FailKind, HealthCheck, OnDown, ProbeKind, ProbeOutcome};

#[cfg(test)]
mod tests;

/// Probes of one backend come this far, in per cent, before or after the mean interval.
const JITTER_PERCENT: u32 = 10;

/// A starting backend is asked at least so often, so that it serves as soon as it can.
const STARTING_INTERVAL: Duration = Duration::from_millis(250);

/// For so long; after it the usual interval will do, for nobody is waiting for this one any more.
const STARTING_FOR: Duration = Duration::from_secs(300);

/// What the probes say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has not passed yet.
    Starting,
    /// It serves.
    Up,
    /// It does not; whether it still answers decides where its established flows go.
    Down(FailKind),
}

/// The judgement has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// From here on.
    pub to: Health,
    /// For the operator: "3 of 3 connects timed out after 250 ms".
    pub reason: String,
}

/// What is known of a backend when its probes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nothing: it must pass first.
    Fresh,
    /// It served when this agent's predecessor ended: it is up until it fails.
    AdoptedUp,
}

/// One backend's machine. All moments are `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub struct HealthMachine {
    pace: Pace,
    health: Health,
    run: Run,
    /// When the next probe is due; `None` while one is under way, and where there are none.
    next: Option<Duration>,
    /// When the last probe began, or this machine.
    last_begun: Duration,
    created: Duration,
    jitter: Jitter,
}

/// The part of a health check that rules the machine.
#[derive(Clone, Copy, Debug)]
struct Pace {
    noun: Option<&'static str>,
    interval: Duration,
    rise: NonZeroU8,
    fall: NonZeroU8,
}

/// Outcomes of one kind in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    passes: u8,
    failures: u8,
    /// Of these failures, the silent ones.
    silent: u8,
    /// Silent failures in a row.
    silent_now: u8,
}

impl HealthMachine {
    /// The machine of a backend whose probes begin at `now`. `seed` spreads its probes; give every backend its own.
    pub fn new(check: &HealthCheck, begin: Begin, now: Duration, seed: u64) -> Self {
        let pace = Pace::of(check);
        let mut jitter = Jitter::new(seed);
        let (health, first) = match begin {
            Begin::Fresh => (Health::Starting, now),
            // A restarted agent finds the whole pool up: there is no hurry, and no reason to ask all at once.
            Begin::AdoptedUp => (Health::Up, now + jitter.within(check.interval)),
        };
        let (health, next) = match pace.noun {
            Some(_) => (health, Some(first)),
            None => (Health::Up, None),
        };
        Self { pace, health, run: Run::default(), next, last_begun: now, created: now, jitter }
    }

    /// Follows a changed health check; the judgement and the outcomes so far stay.
    pub fn set_check(&mut self, check: &HealthCheck, now: Duration) -> Option<HealthChange> {
        let was_probed = self.pace.noun.is_some();
        self.pace = Pace::of(check);
        match (was_probed, self.pace.noun) {
            (_, None) => {
                self.next = None;
                self.run = Run::default();
                self.change_to(Health::Up, "it is not probed".into())
            }
            (false, Some(_)) => {
                self.next = Some(now);
                None
            }
            (true, Some(_)) => {
                self.next = self.next.map(|due| due.min(now + check.interval));
                None
            }
        }
    }

    /// What the probes say now.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// When the next probe is due; `None` while one is under way, and where there are none.
    pub const fn next_due(&self) -> Option<Duration> {
        self.next
    }

    /// Whether a probe is to be sent now. From a yes until its outcome is observed, none is due.
    pub fn begin_if_due(&mut self, now: Duration) -> bool {
        let is_due = self.next.is_some_and(|due| due <= now);
        if is_due {
            self.next = None;
            self.last_begun = now;
        }
        is_due
    }

    /// Takes a probe's outcome at `now`.
    pub fn observe(&mut self, outcome: &ProbeOutcome, now: Duration) -> Option<HealthChange> {
        let noun = self.pace.noun?;
        self.run.count(outcome);
        let change = match outcome {
            ProbeOutcome::Pass { latency } => self.passed(noun, *latency),
            ProbeOutcome::Fail { kind, reason } => self.failed(noun, *kind, reason),
            // What was not asked was not answered: the judgement stands.
            ProbeOutcome::NotRun { .. } => None,
        };
        // Start to start: a slow answer does not stretch the interval.
        self.next = Some((self.last_begun + self.spacing(now)).max(now));
        change
    }

    fn passed(&mut self, noun: &str, latency: Duration) -> Option<HealthChange> {
        let rise = self.pace.rise.get();
        if self.health == Health::Up || self.run.passes < rise {
            return None;
        }
        let ms = latency.as_secs_f64() * 1_000.0;
        self.change_to(Health::Up, format!("{rise} of {rise} {noun} passed, the last one in {ms:.1} ms"))
    }

    fn failed(&mut self, noun: &str, kind: FailKind, reason: &str) -> Option<HealthChange> {
        let fall = self.pace.fall.get();
        let to = match self.health {
            Health::Up if self.run.failures >= fall => Health::Down(self.run.kind(kind)),
            // Its process was gone, now its host is: flows that were left to its kernel must go too.
            Health::Down(FailKind::Answered) if self.run.silent_now >= fall => Health::Down(FailKind::Silent),
            _ => return None,
        };
        let mut text = format!("{fall} of {fall} {noun} ");
        let verb = if reason.starts_with("timed out") { "" } else { "failed: " };
        let _ = write!(text, "{verb}{reason}");
        self.change_to(to, text)
    }

    fn change_to(&mut self, to: Health, reason: String) -> Option<HealthChange> {
        if self.health == to {
            return None;
        }
        self.health = to;
        Some(HealthChange { to, reason })
    }

    fn spacing(&mut self, now: Duration) -> Duration {
        let is_starting = self.health == Health::Starting && now < self.created + STARTING_FOR;
        let mean = if is_starting { self.pace.interval.min(STARTING_INTERVAL) } else { self.pace.interval };
        self.jitter.around(mean, JITTER_PERCENT)
    }
}

impl Pace {
    const fn of(check: &HealthCheck) -> Self {
        let noun = match check.kind {
            ProbeKind::Tcp => Some("connects"),
            ProbeKind::Http(_) | ProbeKind::Https(_) => Some("requests"),
            ProbeKind::Grpc { .. } => Some("calls"),
            ProbeKind::None => None,
        };
        Self { noun, interval: check.interval, rise: check.rise, fall: check.fall }
    }
}

impl Run {
    /// Passes and failures are counted consecutively: one of the other kind begins anew.
    fn count(&mut self, outcome: &ProbeOutcome) {
        match outcome {
            ProbeOutcome::Pass { .. } => *self = Self { passes: self.passes.saturating_add(1), ..Self::default() },
            ProbeOutcome::Fail { kind, .. } => {
                let is_silent = u8::from(*kind == FailKind::Silent);
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                self.silent = self.silent.saturating_add(is_silent);
                self.silent_now = self.silent_now.saturating_add(1) * is_silent;
            }
            ProbeOutcome::NotRun { .. } => {}
        }
    }

    /// A run of failures is silent when the last one is and at least half of them are: one lost packet among refusals does
    /// not make a host dead, and one refusal by a host that then fell silent does not keep it alive.
    const fn kind(self, last: FailKind) -> FailKind {
        match last {
            FailKind::Silent if self.silent >= self.failures.div_ceil(2) => FailKind::Silent,
            _ => FailKind::Answered,
        }
    }
}

/// Whether the established flows of a backend that went down stay with it.
pub const fn flows_stay(on_down: OnDown, kind: FailKind) -> bool {
    match on_down {
        OnDown::Keep => true,
        OnDown::Move => false,
        OnDown::Auto => matches!(kind, FailKind::Answered),
    }
}
