//! Which flows are shown, and what they are called.

use lb_agent::edge::api::example;
use lb_agent::pure::flows::{Counts, FlowFilter, FlowView};
use lb_agent::pure::snapshot::Snapshot;
use lb_agent::pure::sweep::{KnownTuple, TrackedFlow};
use lb_common::flow::FlowState;
use lb_common::slot::Owner;

fn flow(owner: Owner, state: FlowState) -> TrackedFlow {
    TrackedFlow { owner, state: state as u8, tag: 0xabc, slot: 7, silent_s: 1, known: None }
}

fn snapshot(snat: bool) -> Snapshot {
    let mut snapshot = example::snapshot();
    snapshot.services[0].snat = snat;
    snapshot.services[0].backends[0].owner = 1;
    snapshot.services[0].backends[1].owner = 2;
    snapshot
}

#[test]
fn entries_are_counted_by_backend_and_state_and_nobodys_are_not() {
    let snapshot = snapshot(false);
    let filter = FlowFilter { state: Some("established,ended".to_owned()), ..FlowFilter::default() };
    let view = FlowView::new(&snapshot, &filter).unwrap();
    let mut counts = Counts::default();
    for (owner, state) in [
        (1, FlowState::Established),
        (1, FlowState::Established),
        (1, FlowState::HalfOpen),
        (2, FlowState::Ended),
        (9, FlowState::Ended),
    ] {
        counts.add(&view, &flow(owner, state));
    }
    let rows: Vec<_> =
        counts.rows(&view).into_iter().map(|row| (row.backend.to_string(), row.state, row.flows)).collect();
    let row = |backend: &str, state: &str, flows| (backend.to_owned(), state.to_owned(), flows);
    assert_eq!(rows, [row("10.0.0.11:8000", "established", 2), row("10.0.0.12:8000", "ended", 1)]);
}

#[test]
fn clients_are_asked_for_only_where_they_are_known() {
    let filter = FlowFilter { client: Some("192.0.2.0/24".to_owned()), ..FlowFilter::default() };
    let words = FlowView::new(&snapshot(false), &filter).err().unwrap().to_string();
    assert!(words.contains("flow show"), "{words}");
    let snapshot = snapshot(true);
    let view = FlowView::new(&snapshot, &filter).unwrap();
    let known = |client: &str| {
        let (client, source) = (client.parse().unwrap(), "10.0.0.5:50000".parse().unwrap());
        TrackedFlow {
            known: Some(KnownTuple { client, vip: "203.0.113.10:8000".parse().unwrap(), source }),
            ..flow(1, FlowState::Established)
        }
    };
    let row = view.row(&known("192.0.2.7:40000")).unwrap();
    assert_eq!((row.vip.unwrap().to_string(), row.source.unwrap().port()), ("203.0.113.10:8000".to_owned(), 50_000));
    assert_eq!(view.row(&known("198.51.100.1:1")), None);
    assert_eq!(view.row(&flow(1, FlowState::Established)), None);
}

#[test]
fn names_that_are_none_are_refused_with_those_there_are() {
    let refused = |filter: FlowFilter| FlowView::new(&snapshot(true), &filter).err().unwrap().to_string();
    let state = FlowFilter { state: Some("open".to_owned()), ..FlowFilter::default() };
    assert!(refused(state).contains("half_open"));
    assert!(refused(FlowFilter { service: Some("x".to_owned()), ..FlowFilter::default() }).contains("service list"));
    assert!(refused(FlowFilter { client: Some("x".to_owned()), ..FlowFilter::default() }).contains("192.0.2.0/24"));
}
