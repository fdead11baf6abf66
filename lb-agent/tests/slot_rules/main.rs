//! Model check of the slot rules: the packet path's own code ([`lb_common::decide`]) and the agent's own
//! ([`lb_agent::pure::transition`]) under random interleavings of packets, ring changes, failures, drains, sweeps, refusals
//! and crashes, against an oracle that knows every flow's true owner. No live flow on a living backend may ever change owner.
//!
//! A seed that fails is printed with its mode; `explore` with that seed alone plays it again. That the check bites is
//! checked too: each rule left out must be found.

mod agent;
mod packet;
mod story;
mod world;

use story::{Broken, Mode, explore};

/// Stories per mode: a few seconds of debug build for all of them together.
const STORIES: u64 = if cfg!(debug_assertions) { 200 } else { 20_000 };

/// Plays stories until one moves a flow; what it did.
fn first_fault(stories: u64, mode: Mode, broken: Option<Broken>) -> Option<String> {
    (0..stories)
        .find_map(|seed| explore(seed, mode, broken).err().map(|fault| format!("seed {seed}, {mode:?}: {fault}")))
}

fn no_flow_moves(mode: Mode) {
    if let Some(fault) = first_fault(STORIES, mode, None) {
        panic!("{fault}");
    }
}

/// Most are found within a few stories, the rarest within some hundreds.
fn is_found(broken: Broken, mode: Mode) {
    assert!(first_fault(20 * STORIES, mode, Some(broken)).is_some(), "nothing shows {broken:?} in {mode:?}");
}

const FULL: Mode = Mode::FULL;
const MINIMAL: Mode = Mode { is_full: false, ..Mode::FULL };

#[test]
fn no_live_flow_moves_in_full() {
    no_flow_moves(FULL);
}

#[test]
fn no_live_flow_moves_in_full_when_a_third_of_the_flows_is_refused() {
    no_flow_moves(Mode { refused_percent: 30, ..FULL });
}

#[test]
fn no_live_flow_moves_in_full_when_the_table_overflows() {
    no_flow_moves(Mode { buckets: 2, ..FULL });
}

#[test]
fn no_live_flow_moves_in_minimal() {
    no_flow_moves(MINIMAL);
}

#[test]
fn no_live_flow_moves_in_minimal_when_a_third_of_the_flows_is_refused() {
    no_flow_moves(Mode { refused_percent: 30, ..MINIMAL });
}

#[test]
fn no_live_flow_moves_in_minimal_when_the_table_overflows() {
    no_flow_moves(Mode { buckets: 2, ..MINIMAL });
}

#[test]
fn no_live_udp_flow_moves() {
    for is_full in [true, false] {
        for refused_percent in [0, 30] {
            no_flow_moves(Mode { is_udp: true, is_full, refused_percent, ..FULL });
        }
    }
}

#[test]
fn no_live_flow_moves_while_cpus_see_slots_of_a_moment_ago() {
    for (is_udp, is_full) in [(false, true), (false, false), (true, true), (true, false)] {
        no_flow_moves(Mode { is_udp, is_full, sees_the_past: true, ..FULL });
    }
}

#[test]
fn no_live_flow_moves_under_round_robin_and_least_conn() {
    for select in [lb_common::service::SELECT_ROUND_ROBIN, lb_common::service::SELECT_LEAST_CONN] {
        no_flow_moves(Mode { select, ..FULL });
        no_flow_moves(Mode { select, refused_percent: 30, ..FULL });
    }
}

#[test]
fn a_ring_that_settles_without_looking_is_found() {
    is_found(Broken::SettlesBlindly, FULL);
    is_found(Broken::SettlesBlindly, MINIMAL);
}

#[test]
fn a_ring_that_settles_without_waiting_is_found() {
    is_found(Broken::SettlesEarly, MINIMAL);
}

#[test]
fn a_ring_that_ignores_refusals_is_found() {
    is_found(Broken::IgnoresRefusals, Mode { refused_percent: 30, ..FULL });
    is_found(Broken::IgnoresRefusals, Mode { refused_percent: 30, ..MINIMAL });
}

#[test]
fn a_slot_that_forgets_its_previous_owner_is_found() {
    is_found(Broken::ForgetsPrevious, MINIMAL);
    is_found(Broken::ForgetsPrevious, Mode { refused_percent: 30, ..FULL });
}

#[test]
fn a_sweep_that_takes_entries_for_younger_than_they_may_be_is_found() {
    is_found(Broken::ExpiresEarly, FULL);
}

#[test]
fn entries_of_a_dead_owner_that_are_kept_when_it_returns_are_found() {
    is_found(Broken::KeepsTheDead, MINIMAL);
}
