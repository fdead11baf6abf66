use lb_common::slot::NOBODY;

use super::*;

const S: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);

fn at(seconds: u32) -> Duration {
    S * seconds
}

const fn rules(tracking: Tracking) -> Rules {
    Rules { tracking, idle: IDLE, owner_is_in_table: false }
}

/// A ring of four slots, long after its creation.
fn ring(tracking: Tracking) -> RingState {
    RingState::new(&[1, 1, 2, 2], rules(tracking), Duration::ZERO)
}

/// What a sweep that began at `started` leads to, an instant later.
fn sweep(ring: &mut RingState, started: Duration, blocked: &[u32]) -> Stores {
    let mut set = SlotSet::default();
    for i in blocked {
        set.insert(*i);
    }
    ring.settle(Swept { started, blocked: &set }, started + S / 100)
}

/// What has settled after two sweeps, the first of which began at `started` and lets slots age.
fn sweep_twice(ring: &mut RingState, started: Duration, blocked: &[u32]) -> Stores {
    let _ = sweep(ring, started, blocked);
    sweep(ring, started + S / 10, blocked)
}

fn shape(ring: &RingState, i: u32) -> (Owner, Owner, bool) {
    let slot = ring.slot(i).expect("a slot of the ring");
    (slot.current(), slot.previous(), slot.in_transition())
}

#[test]
fn only_slots_whose_owner_changes_are_stored() {
    let mut ring = ring(Tracking::Full);
    let stores = ring.retarget(&[1, 3, 2, 3], at(100));
    assert_eq!(stores, [(1, Slot::settled(1).change_to(3).0), (3, Slot::settled(2).change_to(3).0)]);
    assert_eq!(ring.in_transition(), 2);
    assert_eq!(ring.retarget(&[1, 3, 2, 3], at(101)), []);
}

#[test]
fn a_full_ring_without_refusals_settles_as_soon_as_sweeps_see_nothing() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[3, 3, 3, 3], at(100));
    assert_eq!(sweep_twice(&mut ring, at(101), &[0, 1]), [(2, Slot::settled(3).0), (3, Slot::settled(3).0)]);
    assert_eq!(ring.in_transition(), 2);
    assert_eq!(sweep(&mut ring, at(102), &[]).len(), 2);
    assert_eq!((ring.in_transition(), ring.next_deadline()), (0, None));
}

#[test]
fn a_sweep_that_began_with_a_change_settles_nothing() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[3, 3, 3, 3], at(100));
    assert_eq!(sweep(&mut ring, at(100) + GRACE / 2, &[]), []);
    assert_eq!(ring.next_deadline(), Some(at(100) + GRACE));
    assert_eq!(sweep(&mut ring, at(100) + GRACE, &[]).len(), 4, "all age");
    assert_eq!(sweep(&mut ring, at(100) + GRACE * 3 / 2, &[]), [], "and ageing is a change too");
    assert_eq!(sweep(&mut ring, at(101), &[]).len(), 4, "all settle");
}

#[test]
fn a_refusal_within_the_idle_timeout_before_the_transition_makes_a_full_ring_wait() {
    let mut ring = ring(Tracking::Full);
    ring.note_refusals(at(99));
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    assert_eq!(sweep_twice(&mut ring, at(130), &[]), []);
    assert_eq!(ring.next_deadline(), Some(at(100) + IDLE + GRACE));
    assert_eq!(sweep_twice(&mut ring, at(161), &[]), [(0, Slot::settled(3).0)]);
}

#[test]
fn a_refusal_during_the_transition_makes_it_wait_another_idle_timeout() {
    for tracking in [Tracking::Full, Tracking::Minimal] {
        let mut ring = ring(tracking);
        let _ = ring.retarget(&[3, 1, 2, 2], at(100));
        ring.note_refusals(at(130));
        assert_eq!(sweep_twice(&mut ring, at(161), &[]), [], "{tracking:?}");
        assert_eq!(sweep_twice(&mut ring, at(191), &[]), [(0, Slot::settled(3).0)], "{tracking:?}");
    }
}

#[test]
fn minimal_always_waits_an_idle_timeout() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    assert_eq!(sweep_twice(&mut ring, at(159), &[]), []);
    assert_eq!(sweep_twice(&mut ring, at(161), &[]), [(0, Slot::settled(3).0)]);
}

#[test]
fn a_sweep_that_began_before_the_idle_timeout_ended_settles_nothing() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let blocked = SlotSet::default();
    assert_eq!(ring.settle(Swept { started: at(159), blocked: &blocked }, at(170)), []);
}

#[test]
fn a_slot_that_is_blocked_ages_and_then_ignores_refusals() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    assert_eq!(sweep(&mut ring, at(161), &[0]), [(0, Slot::settled(1).change_to(3).age().0)]);
    ring.note_refusals(at(162));
    assert_eq!(sweep(&mut ring, at(163), &[0]), []);
    assert_eq!(sweep(&mut ring, at(164), &[]), [(0, Slot::settled(3).0)]);
}

#[test]
fn a_change_of_a_young_slot_keeps_previous_and_the_beginning() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let _ = ring.retarget(&[4, 1, 2, 2], at(150));
    assert_eq!(shape(&ring, 0), (4, 1, true));
    assert_eq!(sweep_twice(&mut ring, at(161), &[]), [(0, Slot::settled(4).0)]);
}

#[test]
fn a_change_of_an_aged_slot_begins_anew() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let _ = sweep_twice(&mut ring, at(161), &[0]);
    let _ = ring.retarget(&[4, 1, 2, 2], at(170));
    assert_eq!((shape(&ring, 0), ring.in_transition()), ((4, 3, true), 1));
    assert_eq!(sweep_twice(&mut ring, at(229), &[]), []);
    assert_eq!(sweep_twice(&mut ring, at(231), &[]), [(0, Slot::settled(4).0)]);
}

#[test]
fn there_and_back_again_is_a_transition_until_it_settles() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let _ = ring.retarget(&[1, 1, 2, 2], at(101));
    assert_eq!(shape(&ring, 0), (1, 1, true));
    assert_eq!(sweep_twice(&mut ring, at(102), &[0]), [], "a flow of 3 is alive");
    assert_eq!(sweep(&mut ring, at(103), &[]), [(0, Slot::settled(1).0)]);
}

#[test]
fn a_silent_failure_changes_the_dead_owners_slots_alone_and_at_once() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[1, 2, 1, 2], at(100));
    assert_eq!(ring.bereave(1, &[3, 3, 3, 3], at(101)).len(), 3);
    assert_eq!(shape(&ring, 0), (3, 3, false));
    assert_eq!(shape(&ring, 1), (2, 2, true), "a previous owner that is gone becomes current");
    assert_eq!(shape(&ring, 2), (3, 2, true), "a current owner that is gone is replaced");
    assert_eq!(shape(&ring, 3), (2, 2, false));
    assert!(!ring.is_named(1) && ring.is_named(2));
}

#[test]
fn a_drain_moves_its_slots_alone_and_keeps_their_flows() {
    let mut ring = ring(Tracking::Full);
    assert_eq!(ring.move_off(2, &[3, 3, 1, 3], at(100)).len(), 2);
    assert_eq!((shape(&ring, 0), shape(&ring, 2)), ((1, 1, false), (1, 2, true)));
    assert!(ring.is_named(2));
    let _ = sweep_twice(&mut ring, at(101), &[]);
    assert!(!ring.is_named(2));
}

#[test]
fn an_emptied_pool_leaves_no_owner_behind() {
    let mut ring = ring(Tracking::Full);
    let _ = ring.retarget(&[NOBODY; 4], at(100));
    assert_eq!(shape(&ring, 0), (NOBODY, 1, true), "old flows may finish");
    let _ = sweep_twice(&mut ring, at(101), &[]);
    assert_eq!(shape(&ring, 0), (NOBODY, NOBODY, false));
}

#[test]
fn adopted_transitions_count_from_adoption() {
    let mut before = ring(Tracking::Full);
    let _ = before.retarget(&[3, 1, 2, 2], at(100));
    let (mut ring, stores) = RingState::adopt(&before.values(), rules(Tracking::Full), false, at(150));
    assert_eq!((stores, ring.in_transition()), (vec![], 1));
    assert_eq!(sweep_twice(&mut ring, at(209), &[]), []);
    assert_eq!(sweep_twice(&mut ring, at(211), &[]), [(0, Slot::settled(3).0)]);
}

#[test]
fn minimal_forgets_what_has_settled_unless_it_is_in_transition_again() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let _ = sweep_twice(&mut ring, at(161), &[]);
    assert!(ring.to_forget(at(161) + S / 8).is_none(), "a CPU may still see the transition");
    let set = ring.to_forget(at(162)).expect("something has settled").clone();
    assert_eq!((set.len(), set.contains(0)), (1, true));
    assert_eq!(ring.to_forget(at(163)), Some(&set), "until somebody has done it");
    assert_eq!(ring.retarget(&[4, 1, 2, 2], at(163)).len(), 1, "a change does not wait for it");
    assert!(ring.to_forget(at(164)).is_some_and(SlotSet::is_empty), "its entries count again");
    ring.forgotten(at(165));
    assert!(ring.to_forget(at(166)).is_none());
}

#[test]
fn a_failure_does_not_wait_for_forgetting() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    let _ = sweep_twice(&mut ring, at(161), &[]);
    assert_eq!(ring.bereave(3, &[1, 1, 2, 2], at(162)), [(0, Slot::settled(1).0)]);
}

#[test]
fn without_tracking_a_ring_changes_at_once() {
    let mut ring = ring(Tracking::None);
    assert_eq!(ring.retarget(&[3, 1, 2, 2], at(100)), [(0, Slot::settled(3).0)]);
    assert_eq!(ring.in_transition(), 0);
    let mut old = self::ring(Tracking::Full);
    let _ = old.retarget(&[3, 1, 2, 2], at(100));
    assert_eq!(old.set_rules(rules(Tracking::None), at(101)), [(0, Slot::settled(3).0)]);
}

#[test]
fn a_change_of_tracking_counts_as_a_refusal() {
    let mut ring = ring(Tracking::Minimal);
    let _ = ring.set_rules(rules(Tracking::Full), at(100));
    let _ = ring.retarget(&[3, 1, 2, 2], at(101));
    assert_eq!(sweep_twice(&mut ring, at(102), &[]), []);
    assert_eq!(sweep_twice(&mut ring, at(162), &[]).len(), 1);
}

#[test]
fn a_table_that_routes_settles_slots_whoever_has_the_flows() {
    let by_table = Rules { owner_is_in_table: true, ..rules(Tracking::Full) };
    let mut ring = RingState::new(&[1, 1, 2, 2], by_table, Duration::ZERO);
    let _ = ring.retarget(&[3, 1, 2, 2], at(100));
    assert_eq!(sweep_twice(&mut ring, at(101), &[0, 1, 2, 3]), [(0, Slot::settled(3).0)]);
}

#[test]
fn when_the_table_ceases_to_route_every_slot_waits_for_its_tracked_flows() {
    let by_table = Rules { owner_is_in_table: true, ..rules(Tracking::Full) };
    let mut ring = RingState::new(&[1, 1, 2, 2], by_table, Duration::ZERO);
    assert_eq!(ring.set_rules(rules(Tracking::Full), at(100)).len(), 4);
    assert_eq!(shape(&ring, 0), (1, 1, true));
    assert_eq!(sweep_twice(&mut ring, at(101), &[1, 3]).len(), 2);
}
