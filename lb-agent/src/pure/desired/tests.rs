use super::*;
use crate::pure::model::ServiceSpec;
use crate::pure::network::Interface;
use crate::pure::sweep::SweepReport;
use crate::pure::tables::Observed;
use crate::pure::testing::spec;
use crate::pure::wanted::RuntimeChanges;

fn ledger(spec: crate::pure::model::ServiceSpec) -> Ledger {
    Ledger::adopt(
        vec![spec],
        RuntimeChanges::default(),
        &Observed::default(),
        &SweepReport::default(),
        Duration::from_secs(100),
    )
    .expect("fits")
}

#[test]
fn every_backend_of_a_nat_service_has_an_entry_and_a_reply() {
    let tables = desired(&ledger(spec("web", &[1, 2, 3])), Duration::from_secs(100));
    assert_eq!((tables.services.len(), tables.backends.len(), tables.replies.len()), (1, 3, 3));
    assert!(tables.backends.values().all(|b| b.is_alive() && b.flags & BACKEND_REACHABLE == 0));
    assert_eq!(tables.vips.len(), 4, "the VIP, and the backends whose fragments' tails wait for heads");
}

#[test]
fn a_snat_service_has_no_replies_to_rewrite_by_address() {
    let mut s = spec("web", &[1]);
    s.snat = true;
    let tables = desired(&ledger(s), Duration::from_secs(100));
    assert!(tables.replies.is_empty());
    assert_eq!(tables.host_flags, HOST_SNAT);
}

#[test]
fn an_epoch_fits_eight_times_into_the_shortest_idle_timeout() {
    let mut s = spec("web", &[1]);
    s.timeouts.idle = Duration::from_secs(60);
    let tables = desired(&ledger(s), Duration::from_secs(100));
    let idle = ticks(Duration::from_secs(60));
    assert!(8 << tables.epoch_shift <= idle && 16 << tables.epoch_shift > idle);
}

#[test]
fn a_flow_counts_as_idle_an_epoch_late_because_its_entry_may_be_an_epoch_old() {
    let mut s = spec("web", &[1]);
    s.timeouts.idle = Duration::from_secs(3_600);
    let tables = desired(&ledger(s), Duration::from_secs(100));
    let entry = tables.services.values().next().expect("one service");
    assert_eq!(entry.idle_ticks, ticks(Duration::from_secs(3_600)) + (1 << tables.epoch_shift));
    assert!(entry.idle_ticks < ticks(Duration::MAX), "the longest timeout and its epoch fit into a turn of the clock");
}

#[test]
fn a_veth_of_ours_is_known_for_one() {
    let interface =
        |name: &str, kind| Interface { name: name.into(), mac: [2; 6], mtu: 1500, up: true, kind, master: None };
    let mut view = NetworkView::default();
    let _ = view.interfaces.insert(2, interface("eth0", LinkKind::Physical));
    let mut l = ledger(spec("web", &[1]));
    l.set_interfaces(vec!["eth0".into(), "eth1".into()]);
    l.set_network(view.clone());
    assert_eq!(desired(&l, Duration::from_secs(100)).host_flags & HOST_VETH_INTERFACES, 0);
    let _ = view.interfaces.insert(3, interface("eth1", LinkKind::Veth));
    l.set_network(view);
    let tables = desired(&l, Duration::from_secs(100));
    assert_ne!(tables.host_flags & HOST_VETH_INTERFACES, 0);
    assert_eq!((tables.interfaces[&2].flags, tables.interfaces[&3].flags), (0, INTERFACE_VETH));
}

#[test]
fn an_encapsulated_backend_has_its_outer_source_and_gues_port_before_its_next_hop_is_known() {
    for (forward, port) in [(Forward::Ipip, 8_000_u16), (Forward::Gue, 6_080)] {
        let tables = desired(&ledger(ServiceSpec { forward, ..spec("web", &[1]) }), Duration::from_secs(100));
        let entry = tables.backends.values().next().expect("one backend");
        assert_eq!((entry.snat_addr, entry.source_bits), (Address::v4([172, 16, 0, 0]), 16));
        assert_eq!(entry.port, port.to_be_bytes());
        assert!(tables.replies.is_empty() && tables.host_flags == HOST_ENCAP, "no reply of it passes here");
    }
}

#[test]
fn a_backend_behind_a_gateway_cannot_be_reached_by_l2dsr() {
    let mut s = spec("web", &[1]);
    s.forward = Forward::L2dsr;
    let mut l = ledger(s);
    let mut view = NetworkView::default();
    let source = "10.9.0.1".parse().expect("an address");
    let hop = NextHop::Resolved { ifindex: 2, dst_mac: [4; 6], src_mac: [2; 6], source, on_link: None, mtu: 1500 };
    let _ = view.next_hops.insert("10.0.0.1".parse().expect("an address"), hop);
    l.set_network(view);
    let tables = desired(&l, Duration::from_secs(100));
    assert!(tables.backends.values().all(|b| b.flags & BACKEND_REACHABLE == 0));
}
