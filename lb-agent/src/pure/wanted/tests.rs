use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::pure::testing::spec;

fn addr(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 8000)
}

fn changed(base: &RuntimeChanges, last: u8, change: &BackendChange) -> RuntimeChanges {
    base.with(&[spec("web", &[1, 2])], "web", addr(last), change).expect("makes sense")
}

#[test]
fn what_is_added_removed_and_weighed_at_run_time_shows_in_the_pool_and_as_a_difference() {
    let specs = [spec("web", &[1, 2])];
    let c = changed(&RuntimeChanges::default(), 3, &BackendChange::Add { weight: 50 });
    let c = changed(&c, 1, &BackendChange::Remove { force: false });
    let c = changed(&c, 2, &BackendChange::Weight { weight: 7 });
    let pool: Vec<_> = c.pool(&specs[0]).iter().map(|b| (b.addr, b.weight, b.origin)).collect();
    assert_eq!(pool, [(addr(2), 7, Origin::File), (addr(3), 50, Origin::Runtime)]);
    let what: Vec<_> = c.differences(&specs).into_iter().map(|d| d.what).collect();
    assert_eq!(what, ["removed", "weight", "added"]);
}

#[test]
fn a_change_taken_back_leaves_no_difference() {
    let c = changed(&RuntimeChanges::default(), 1, &BackendChange::Drain);
    let c = changed(&c, 1, &BackendChange::Undrain);
    let c = changed(&c, 2, &BackendChange::Weight { weight: 9 });
    let c = changed(&c, 2, &BackendChange::Weight { weight: 100 });
    let c = changed(&c, 1, &BackendChange::Remove { force: true });
    let c = changed(&c, 1, &BackendChange::Add { weight: 100 });
    assert_eq!(c, RuntimeChanges::default());
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let specs = [spec("web", &[1, 2])];
    let refused = |last, change: &BackendChange| {
        RuntimeChanges::default().with(&specs, "web", addr(last), change).expect_err("refused").to_string()
    };
    assert!(refused(1, &BackendChange::Add { weight: 1 }).contains("already"));
    assert!(refused(9, &BackendChange::Drain).contains("no backend 10.0.0.9:8000"));
    assert!(refused(1, &BackendChange::Undrain).contains("not draining"));
    let six: SocketAddr = "[2001:db8::1]:8000".parse().expect("an address");
    let e = RuntimeChanges::default().with(&specs, "web", six, &BackendChange::Add { weight: 1 }).expect_err("refused");
    assert!(e.to_string().contains("families"), "{e}");
}

#[test]
fn two_nat_services_may_not_share_a_backends_replies() {
    let mut other = spec("other", &[5]);
    other.key.port = 9_000;
    let specs = [spec("web", &[1]), other];
    let e = RuntimeChanges::default().with(&specs, "web", addr(5), &BackendChange::Add { weight: 1 }).expect_err("no");
    assert!(e.to_string().contains("snat = true"), "{e}");
}
