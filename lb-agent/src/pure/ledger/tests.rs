use lb_common::slot::{NOBODY, Slot};
use lb_common::stats::OwnerCounters;

use super::*;
use crate::pure::desired::desired;
use crate::pure::health::{Health, HealthChange};
use crate::pure::model::{BackendState, FailKind, OnDown, ProbeKind, Tracking};
use crate::pure::sweep::{FlowCounts, SlotSet};
use crate::pure::tables::Observed;
use crate::pure::testing::spec;

const START: Duration = Duration::from_secs(1_000);

fn seconds(s: u64) -> Duration {
    START + Duration::from_secs(s)
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::new(10, 0, 0, last).into(), 8000)
}

fn ledger(spec: ServiceSpec) -> Ledger {
    Ledger::adopt(vec![spec], RuntimeChanges::default(), &Observed::default(), &SweepReport::default(), START)
        .expect("fits")
}

fn command(l: &mut Ledger, last: u8, change: &BackendChange, now: Duration) {
    let changes = l.prepare("web", addr(last), change).expect("makes sense");
    l.want(l.specs().to_vec(), changes, now).expect("fits");
}

fn probed(backends: &[u8]) -> ServiceSpec {
    let mut s = spec("web", backends);
    s.health.kind = ProbeKind::Tcp;
    s
}

fn web(l: &Ledger) -> &Service {
    l.service("web").expect("there is one")
}

fn member(l: &Ledger, last: u8) -> &Member {
    web(l).members.iter().find(|m| m.addr == addr(last)).expect("a member")
}

fn state(l: &Ledger, last: u8) -> BackendState {
    member(l, last).state()
}

fn judge(l: &mut Ledger, last: u8, to: Option<FailKind>, now: Duration) {
    let owner = member(l, last).owner;
    let to = to.map_or(Health::Up, Health::Down);
    l.health(owner, &HealthChange { to, reason: "as the test has it".to_owned() }, now);
    l.tick(now);
}

/// A sweep that began 100 ms before `now` and saw `flows` active on each of the owners named, and nobody elsewhere.
fn sweep(l: &mut Ledger, flows: &[(Owner, u64)], now: Duration) {
    let report = SweepReport {
        started: now.saturating_sub(Duration::from_millis(100)),
        flows: flows.iter().map(|(o, n)| (*o, FlowCounts { active: *n, named: *n, ..FlowCounts::default() })).collect(),
        blocked: l.sweep_request(now).in_transition.into_iter().map(|id| (id, SlotSet::default())).collect(),
        walked_reply_maps: true,
        ..SweepReport::default()
    };
    l.swept(&report, now);
    l.tick(now);
}

fn slots_of(l: &Ledger, last: u8) -> usize {
    let owner = member(l, last).owner;
    let id = web(l).id;
    l.ring(id).expect("a ring").iter().filter(|s| Slot(**s).current() == owner).count()
}

#[test]
fn nothing_is_served_before_the_first_pass() {
    let mut l = ledger(probed(&[1, 2]));
    assert_eq!((state(&l, 1), slots_of(&l, 1)), (BackendState::Starting, 0));
    judge(&mut l, 1, None, seconds(1));
    assert_eq!((state(&l, 1), slots_of(&l, 1)), (BackendState::Up, 65_537));
    let ring = l.ring(web(&l).id).expect("a ring");
    assert!(ring.iter().all(|s| !Slot(*s).in_transition()), "an empty pool had no flows to wait for");
}

#[test]
fn a_silent_backend_loses_its_slots_and_its_flows_at_once_and_nobody_else_any() {
    let mut l = ledger(spec("web", &[1, 2, 3]));
    let before = l.ring(web(&l).id).expect("a ring");
    let dead = member(&l, 2).owner;
    judge(&mut l, 2, Some(FailKind::Silent), seconds(1));
    let after = l.ring(web(&l).id).expect("a ring");
    for (b, a) in before.iter().zip(&after) {
        if Slot(*b).current() == dead {
            assert_eq!((Slot(*a).in_transition(), Slot(*a).current() == dead), (false, false));
        } else {
            assert_eq!(a, b);
        }
    }
    assert!(!desired(&l, seconds(1)).backends[&dead].is_alive());
}

#[test]
fn a_backend_that_still_answers_keeps_its_established_flows() {
    let mut l = ledger(spec("web", &[1, 2, 3]));
    let failed = member(&l, 2).owner;
    judge(&mut l, 2, Some(FailKind::Answered), seconds(1));
    let ring = l.ring(web(&l).id).expect("a ring");
    assert!(ring.iter().any(|s| Slot(*s).in_transition() && Slot(*s).previous() == failed));
    assert!(!ring.iter().any(|s| Slot(*s).current() == failed));
    assert!(desired(&l, seconds(1)).backends[&failed].is_alive());
}

#[test]
fn on_down_overrides_what_the_failure_looked_like() {
    for (on_down, kind, alive) in [(OnDown::Keep, FailKind::Silent, true), (OnDown::Move, FailKind::Answered, false)] {
        let mut s = spec("web", &[1, 2]);
        s.health.on_down = on_down;
        let mut l = ledger(s);
        judge(&mut l, 2, Some(kind), seconds(1));
        assert_eq!(member(&l, 2).is_alive(), alive, "{on_down:?}");
    }
}

#[test]
fn udp_flows_leave_a_backend_that_is_down_however_it_failed_unless_told_to_stay() {
    for (on_down, kind, alive) in [
        (OnDown::Auto, FailKind::Answered, false),
        (OnDown::Auto, FailKind::Silent, false),
        (OnDown::Keep, FailKind::Answered, true),
    ] {
        let mut s = spec("web", &[1, 2, 3]);
        s.key.protocol = crate::pure::model::Protocol::Udp;
        s.health.on_down = on_down;
        let mut l = ledger(s);
        judge(&mut l, 2, Some(kind), seconds(1));
        assert_eq!(member(&l, 2).is_alive(), alive, "{on_down:?} {kind:?}");
        let dead = member(&l, 2).owner;
        let named = l.ring(web(&l).id).expect("a ring").iter().any(|s| Slot(*s).previous() == dead);
        assert_eq!(named, alive, "its slots are others' at once");
    }
}

#[test]
fn a_quic_backend_keeps_its_server_id_while_it_leaves_and_past_a_restart() {
    use crate::pure::quic::{QuicSpec, ServerId};
    let given = ServerId::new(&[9, 9]).expect("two octets");
    let mut s = spec("web", &[1, 2]);
    s.key.protocol = crate::pure::model::Protocol::Udp;
    let quic = QuicSpec {
        config_rotation: 0,
        server_id_length: 2,
        nonce_length: 4,
        length_self_description: false,
        server_ids: std::iter::once((addr(2), given)).collect(),
    };
    s.quic = Some(quic);
    let mut l = ledger(s.clone());
    let (id, leaving) = (web(&l).id, member(&l, 2).owner);
    let _gone = s.backends.pop();
    s.quic.as_mut().expect("given above").server_ids.clear();
    l.want(vec![s.clone()], RuntimeChanges::default(), seconds(1)).expect("fits");

    let tables = desired(&l, seconds(1));
    assert_eq!(tables.quic_servers.get(&given.key(id)), Some(&leaving));
    assert_eq!(tables.quic_servers.len(), 2);
    let slots = [(id, l.ring(id).expect("a ring"))].into_iter().collect();
    let observed = Observed { tables, slots, adopted: true };
    let l = Ledger::adopt(vec![s], RuntimeChanges::default(), &observed, &SweepReport::default(), seconds(2));
    let tables = desired(&l.expect("fits"), seconds(2));
    assert_eq!(tables.quic_servers, observed.tables.quic_servers);
}

#[test]
fn a_failure_is_evened_out_later_and_undone_when_the_backend_returns() {
    let mut l = ledger(spec("web", &[1, 2, 3]));
    let before = l.ring(web(&l).id).expect("a ring");
    judge(&mut l, 2, Some(FailKind::Silent), seconds(1));
    assert_eq!(l.next_deadline(seconds(1)), Some(seconds(6)));
    l.tick(seconds(6));
    assert!(slots_of(&l, 1).abs_diff(slots_of(&l, 3)) <= 1);
    judge(&mut l, 2, None, seconds(10));
    assert_eq!(slots_of(&l, 2), 0, "entries that name it may still be there");
    sweep(&mut l, &[], seconds(11));
    sweep(&mut l, &[], seconds(12));
    sweep(&mut l, &[], seconds(13));
    let after = l.ring(web(&l).id).expect("a ring");
    assert!(before.iter().zip(&after).all(|(b, a)| Slot(*b).current() == Slot(*a).current()));
}

#[test]
fn a_drain_ends_with_its_last_flow_and_leaves_a_disabled_backend() {
    let mut l = ledger(spec("web", &[1, 2]));
    command(&mut l, 1, &BackendChange::Drain, seconds(1));
    assert_eq!((state(&l, 1), slots_of(&l, 1)), (BackendState::Draining, 0));
    let owner = member(&l, 1).owner;
    sweep(&mut l, &[(owner, 3)], seconds(2));
    assert_eq!(state(&l, 1), BackendState::Draining);
    sweep(&mut l, &[], seconds(3));
    assert_eq!(state(&l, 1), BackendState::Disabled);
    command(&mut l, 1, &BackendChange::Undrain, seconds(4));
    sweep(&mut l, &[], seconds(5));
    assert_eq!(state(&l, 1), BackendState::Up, "this service is not probed");
    assert!(slots_of(&l, 1) > 0);
}

#[test]
fn minimal_drains_for_one_idle_timeout_even_when_no_flow_is_tracked() {
    let mut s = spec("web", &[1, 2]);
    s.tracking = Tracking::Minimal;
    let mut l = ledger(s);
    command(&mut l, 1, &BackendChange::Drain, seconds(0));
    sweep(&mut l, &[], seconds(59));
    assert_eq!(state(&l, 1), BackendState::Draining);
    sweep(&mut l, &[], seconds(61));
    assert_eq!(state(&l, 1), BackendState::Disabled);
}

#[test]
fn a_drain_is_cut_at_its_deadline() {
    let mut l = ledger(spec("web", &[1, 2]));
    let owner = member(&l, 1).owner;
    command(&mut l, 1, &BackendChange::Drain, seconds(0));
    sweep(&mut l, &[(owner, 3)], seconds(301));
    assert_eq!(state(&l, 1), BackendState::Disabled);
    assert!(!desired(&l, seconds(301)).backends[&owner].is_alive());
    assert!(l.take_events().iter().any(|e| e.text.contains("3 flows cut")));
}

#[test]
fn a_removed_backends_index_comes_back_only_when_nothing_names_it() {
    let mut l = ledger(spec("web", &[1, 2]));
    let owner = member(&l, 1).owner;
    command(&mut l, 1, &BackendChange::Remove { force: false }, seconds(1));
    sweep(&mut l, &[(owner, 1)], seconds(2));
    assert_eq!(web(&l).members.len(), 2, "it drains first");
    sweep(&mut l, &[], seconds(3));
    assert_eq!(web(&l).members.len(), 1);
    assert_eq!(l.retired().collect::<Vec<_>>(), [owner]);
    command(&mut l, 7, &BackendChange::Add { weight: 100 }, seconds(4));
    assert_ne!(member(&l, 7).owner, owner);
    sweep(&mut l, &[], seconds(5));
    assert_eq!(l.retired().count(), 0);
}

#[test]
fn a_backend_that_is_being_removed_can_be_added_again_and_only_that() {
    let mut l = ledger(spec("web", &[1, 2]));
    let owner = member(&l, 1).owner;
    command(&mut l, 1, &BackendChange::Remove { force: false }, seconds(1));
    let refused = l.prepare("web", addr(1), &BackendChange::Undrain).expect_err("it is not in the pool");
    assert!(refused.to_string().contains("backend add"), "{refused}");
    command(&mut l, 1, &BackendChange::Add { weight: 100 }, seconds(2));
    assert_eq!((state(&l, 1), member(&l, 1).owner), (BackendState::Up, owner));
}

#[test]
fn removal_by_force_says_how_many_flows_it_cut() {
    let mut l = ledger(spec("web", &[1, 2]));
    let owner = member(&l, 1).owner;
    sweep(&mut l, &[(owner, 5)], seconds(1));
    command(&mut l, 1, &BackendChange::Remove { force: true }, seconds(2));
    assert_eq!(l.cut("web", addr(1), seconds(2)), 5);
    assert!(!l.ring(web(&l).id).expect("a ring").iter().any(|s| Slot(*s).current() == owner));
}

#[test]
fn a_restart_continues_what_the_maps_contain() {
    let mut first = ledger(probed(&[1, 2, 3]));
    for last in [1, 2] {
        judge(&mut first, last, None, seconds(1));
    }
    command(&mut first, 1, &BackendChange::Drain, seconds(2));
    let id = web(&first).id;
    let observed = Observed {
        tables: desired(&first, seconds(2)),
        slots: [(id, first.ring(id).expect("a ring"))].into(),
        adopted: true,
    };
    let mut second = Ledger::adopt(
        vec![probed(&[1, 2, 3])],
        first.changes().clone(),
        &observed,
        &SweepReport::default(),
        seconds(5),
    )
    .expect("fits");
    assert_eq!(second.ring(id), first.ring(id), "not one slot moves");
    assert_eq!(second.take_ring_changes(), RingChanges::new());
    let states = [1, 2, 3].map(|n| state(&second, n));
    assert_eq!(states, [BackendState::Draining, BackendState::Up, BackendState::Starting]);
    assert_eq!([1, 2, 3].map(|n| member(&second, n).owner), [1, 2, 3].map(|n| member(&first, n).owner));
}

#[test]
fn a_restart_keeps_the_index_of_a_backend_without_flows_or_slots_because_its_counters_go_on() {
    let mut first = ledger(spec("web", &[1, 2]));
    command(&mut first, 1, &BackendChange::Drain, seconds(1));
    sweep(&mut first, &[], seconds(2));
    assert!(state(&first, 1) == BackendState::Disabled && !member(&first, 1).is_alive());
    let id = web(&first).id;
    let observed = Observed {
        tables: desired(&first, seconds(3)),
        slots: [(id, first.ring(id).expect("a ring"))].into(),
        adopted: true,
    };
    let (specs, changes) = (first.specs().to_vec(), first.changes().clone());
    let second = Ledger::adopt(specs, changes, &observed, &SweepReport::default(), seconds(5)).expect("fits");
    assert_eq!(member(&second, 1).owner, member(&first, 1).owner);
    assert_eq!((slots_of(&second, 1), second.retired().count()), (0, 0));
}

#[test]
fn a_backend_that_left_the_file_while_the_agent_was_away_is_drained() {
    let first = ledger(spec("web", &[1, 2]));
    let id = web(&first).id;
    let observed = Observed {
        tables: desired(&first, seconds(2)),
        slots: [(id, first.ring(id).expect("a ring"))].into(),
        adopted: true,
    };
    let second = Ledger::adopt(
        vec![spec("web", &[1])],
        RuntimeChanges::default(),
        &observed,
        &SweepReport::default(),
        seconds(5),
    )
    .expect("fits");
    assert_eq!(state(&second, 2), BackendState::Draining);
    assert_eq!((slots_of(&second, 2), slots_of(&second, 1)), (0, 65_537));
}

#[test]
fn an_emptied_pool_keeps_no_slot() {
    let mut l = ledger(spec("web", &[1]));
    judge(&mut l, 1, Some(FailKind::Silent), seconds(1));
    assert!(l.ring(web(&l).id).expect("a ring").iter().all(|s| Slot(*s) == Slot::settled(NOBODY)));
}

#[test]
fn too_few_healthy_backends_spread_the_load_over_all() {
    let mut s = spec("web", &[1, 2, 3]);
    s.health.panic_percent = 50;
    let mut l = ledger(s);
    judge(&mut l, 1, Some(FailKind::Answered), seconds(1));
    assert_eq!((slots_of(&l, 1), web(&l).panic), (0, false));
    judge(&mut l, 2, Some(FailKind::Answered), seconds(2));
    assert!(web(&l).panic && slots_of(&l, 1) > 0 && slots_of(&l, 2) > 0);
}

#[test]
fn a_refused_flow_makes_the_next_drain_wait_for_the_idle_timeout() {
    let mut l = ledger(spec("web", &[1, 2]));
    let owner = member(&l, 2).owner;
    let refused = OwnerCounters { refused: 1, ..OwnerCounters::default() };
    let report = SweepReport { started: seconds(1), counters: [(owner, refused)].into(), ..SweepReport::default() };
    l.swept(&report, seconds(1));
    command(&mut l, 1, &BackendChange::Drain, seconds(2));
    let report = |at| SweepReport { started: at, counters: [(owner, refused)].into(), ..SweepReport::default() };
    l.swept(&report(seconds(10)), seconds(10));
    assert_eq!(state(&l, 1), BackendState::Draining, "some flow of it may be untracked");
    l.swept(&report(seconds(63)), seconds(63));
    assert_eq!(state(&l, 1), BackendState::Disabled);
}
