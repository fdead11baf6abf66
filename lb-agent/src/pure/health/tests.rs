use super::*;

const MS: Duration = Duration::from_millis(1);
const START: Duration = Duration::from_secs(1_000);

fn check(rise: u8, fall: u8) -> HealthCheck {
    HealthCheck {
        kind: ProbeKind::Tcp,
        port: None,
        interval: 1_000 * MS,
        timeout: 250 * MS,
        rise: NonZeroU8::new(rise).expect("tests ask for at least one"),
        fall: NonZeroU8::new(fall).expect("tests ask for at least one"),
        panic_percent: 0,
        slow_start: Duration::ZERO,
        on_down: OnDown::Auto,
    }
}

const PASS: ProbeOutcome = ProbeOutcome::Pass { latency: Duration::from_micros(800) };

fn refused() -> ProbeOutcome {
    ProbeOutcome::Fail { kind: FailKind::Answered, reason: "connection refused".into() }
}

fn silent() -> ProbeOutcome {
    ProbeOutcome::Fail { kind: FailKind::Silent, reason: "timed out after 250 ms".into() }
}

fn up(fall: u8) -> HealthMachine {
    HealthMachine::new(&check(2, fall), Begin::AdoptedUp, START, 1)
}

/// Plays outcomes; what changed, with the number of outcomes it took.
fn play(machine: &mut HealthMachine, outcomes: &[ProbeOutcome]) -> Vec<(usize, Health, String)> {
    let mut changes = Vec::new();
    for (n, outcome) in outcomes.iter().enumerate() {
        let due = machine.next_due().expect("a probe is due after every outcome");
        assert!(machine.begin_if_due(due), "due at {due:?}");
        assert!(!machine.begin_if_due(due + START), "one at a time");
        changes.extend(machine.observe(outcome, due + MS).map(|c| (n + 1, c.to, c.reason)));
    }
    changes
}

#[test]
fn a_fresh_backend_serves_after_rise_passes_in_a_row() {
    let mut machine = HealthMachine::new(&check(2, 3), Begin::Fresh, START, 1);
    assert_eq!(machine.health(), Health::Starting);
    assert_eq!(machine.next_due(), Some(START), "the first probe is sent at once");
    let changes = play(&mut machine, &[PASS, refused(), PASS, PASS, PASS]);
    assert_eq!(changes, [(4, Health::Up, "2 of 2 connects passed, the last one in 0.8 ms".into())]);
}

#[test]
fn a_backend_that_has_never_passed_stays_starting_however_often_it_fails() {
    let mut machine = HealthMachine::new(&check(2, 3), Begin::Fresh, START, 1);
    assert_eq!(play(&mut machine, &vec![silent(); 20]), []);
    assert_eq!(machine.health(), Health::Starting);
}

#[test]
fn failures_are_counted_in_a_row() {
    let changes = play(&mut up(3), &[silent(), silent(), PASS, silent(), silent(), silent(), silent()]);
    let reason = "3 of 3 connects timed out after 250 ms".to_owned();
    assert_eq!(changes, [(6, Health::Down(FailKind::Silent), reason)]);
}

#[test]
fn a_refusal_is_an_answer_and_says_so() {
    let changes = play(&mut up(2), &[refused(), refused()]);
    let reason = "2 of 2 connects failed: connection refused".to_owned();
    assert_eq!(changes, [(2, Health::Down(FailKind::Answered), reason)]);
}

#[test]
fn one_lost_packet_among_refusals_does_not_make_a_host_dead() {
    let changes = play(&mut up(3), &[refused(), refused(), silent()]);
    assert_eq!(changes[0].1, Health::Down(FailKind::Answered));
    let changes = play(&mut up(3), &[refused(), silent(), silent()]);
    assert_eq!(changes[0].1, Health::Down(FailKind::Silent));
    let changes = play(&mut up(3), &[silent(), silent(), refused()]);
    assert_eq!(changes[0].1, Health::Down(FailKind::Answered));
}

#[test]
fn a_host_that_falls_silent_after_its_process_is_reported_again() {
    let mut machine = up(2);
    let changes = play(&mut machine, &[refused(), refused(), silent(), refused(), silent(), silent(), silent()]);
    let kinds: Vec<_> = changes.iter().map(|(n, to, _)| (*n, *to)).collect();
    assert_eq!(kinds, [(2, Health::Down(FailKind::Answered)), (6, Health::Down(FailKind::Silent))]);
    assert_eq!(play(&mut machine, &[refused(), refused()]), [], "its flows have moved: it makes no difference");
}

#[test]
fn a_failure_is_found_within_what_the_configuration_implies() {
    let machine = up(3);
    for seed in 0..100 {
        let mut machine = HealthMachine { jitter: Jitter::new(seed), ..machine.clone() };
        let mut probe = |now: Duration, outcome: &ProbeOutcome| {
            assert!(machine.begin_if_due(now));
            let change = machine.observe(outcome, now + if *outcome == PASS { MS } else { 250 * MS });
            (machine.next_due().expect("a probe is due after every outcome"), change)
        };
        let (mut next, _) = probe(START + 1_000 * MS, &PASS);
        let failed_at = START + 1_001 * MS;
        let found = loop {
            let (after, change) = probe(next, &silent());
            if change.is_some() {
                break next + 250 * MS;
            }
            next = after;
        };
        let implied = 1_100 * MS * 3 + 250 * MS;
        let took = found.saturating_sub(failed_at);
        assert!(took <= implied, "seed {seed}: found after {took:?}");
    }
}

#[test]
fn a_starting_backend_is_asked_often_and_not_for_ever() {
    let mut machine = HealthMachine::new(&check(2, 3), Begin::Fresh, START, 1);
    let _ = play(&mut machine, &[refused()]);
    let spacing = machine.next_due().expect("due").saturating_sub(START);
    assert!(spacing <= 275 * MS, "{spacing:?}");
    let late = START + STARTING_FOR;
    assert!(machine.begin_if_due(late));
    let _ = machine.observe(&refused(), late);
    let spacing = machine.next_due().expect("due").saturating_sub(late);
    assert!(spacing >= 900 * MS, "{spacing:?}");
}

#[test]
fn a_probe_slower_than_the_interval_is_followed_at_once() {
    let mut machine = up(3);
    let due = machine.next_due().expect("due");
    assert!(machine.begin_if_due(due));
    let _ = machine.observe(&silent(), due + 5_000 * MS);
    assert_eq!(machine.next_due(), Some(due + 5_000 * MS));
}

#[test]
fn adopted_backends_are_up_and_probed_spread_over_an_interval() {
    let dues: Vec<Duration> = (0..100)
        .filter_map(|seed| HealthMachine::new(&check(2, 3), Begin::AdoptedUp, START, seed).next_due())
        .map(|due| due.saturating_sub(START))
        .collect();
    assert!(dues.len() == 100 && dues.iter().all(|d| *d <= 1_000 * MS));
    assert!(dues.iter().filter(|d| **d < 500 * MS).count().abs_diff(50) < 20);
    assert_eq!(up(3).health(), Health::Up);
}

#[test]
fn without_probes_a_backend_is_up() {
    let none = HealthCheck { kind: ProbeKind::None, ..check(2, 3) };
    let mut machine = HealthMachine::new(&none, Begin::Fresh, START, 1);
    assert_eq!((machine.health(), machine.next_due()), (Health::Up, None));
    assert_eq!(machine.observe(&silent(), START), None);
}

#[test]
fn a_check_that_is_switched_off_brings_its_backend_up_and_on_again_keeps_it() {
    let none = HealthCheck { kind: ProbeKind::None, ..check(2, 3) };
    let mut machine = up(1);
    let _ = play(&mut machine, &[silent()]);
    let change = machine.set_check(&none, START).expect("it was down");
    assert_eq!((change.to, machine.next_due()), (Health::Up, None));
    assert_eq!(machine.set_check(&check(2, 3), START), None);
    assert_eq!((machine.health(), machine.next_due()), (Health::Up, Some(START)));
}

#[test]
fn a_shorter_interval_takes_effect_before_the_next_probe() {
    let mut machine = up(3);
    let _ = play(&mut machine, &[PASS]);
    let now = START + 1_500 * MS;
    let _ = machine.set_check(&HealthCheck { interval: 100 * MS, ..check(2, 3) }, now);
    assert!(machine.next_due().expect("due") <= now + 100 * MS);
}

#[test]
fn established_flows_stay_where_somebody_answers() {
    assert!(flows_stay(OnDown::Auto, FailKind::Answered) && !flows_stay(OnDown::Auto, FailKind::Silent));
    assert!(flows_stay(OnDown::Keep, FailKind::Silent) && !flows_stay(OnDown::Move, FailKind::Answered));
}

#[test]
fn a_probe_that_was_not_run_changes_nothing() {
    let mut machine = up(2);
    let not_run = || ProbeOutcome::NotRun { reason: "too many open files".into() };
    assert_eq!(play(&mut machine, &[not_run(), not_run(), not_run(), refused(), not_run()]), []);
    assert_eq!(play(&mut machine, &[refused()]).len(), 1, "nor does it begin the count anew");
}
