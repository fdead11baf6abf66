//! What is written into the maps is what is read back, by this process and by the next.
#![expect(clippy::unwrap_used, reason = "a test ends with the error that it meets")]

mod bpf_support;

use std::collections::BTreeSet;

use bpf_support::Host;
use lb_agent::edge::dataplane::{DataPlane, DataPlaneError};
use lb_agent::pure::tables::{Endpoint, Observed, Op, Tables};
use lb_common::backend::{BACKEND_ALIVE, BackendEntry};
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{HOST_REPLIES, InterfaceEntry, VipEntry};
use lb_common::limits::{RING_SIZE, SCHEDULE_TURNS};
use lb_common::reply::ReplyEntry;
use lb_common::service::ServiceEntry;
use lb_common::slot::Slot;

fn v4(last: u8) -> Endpoint {
    Endpoint::V4(EndpointV4 { addr: [203, 0, 113, last], port: 8_000_u16.to_be_bytes(), protocol: 6, zero: 0 })
}

fn v6(last: u8) -> Endpoint {
    let mut addr = [0; 16];
    addr[..2].copy_from_slice(&[0x20, 0x01]);
    addr[15] = last;
    Endpoint::V6(EndpointV6 { addr, port: 8_000_u16.to_be_bytes(), protocol: 17, zero: 0 })
}

fn backend(last: u8) -> BackendEntry {
    BackendEntry {
        dst_mac: [2, 0, 0, 0, 0, last],
        flags: BACKEND_ALIVE,
        src_mac: [2, 0, 0, 0, 1, last],
        service: 3,
        addr: Address::v4([10, 0, 0, last]),
        ifindex: 4,
        port: [31, 64],
        link_prefix: 24,
        weight: 100,
        mtu: 1_500,
        ..BackendEntry::default()
    }
}

fn ring() -> Vec<u32> {
    (0..RING_SIZE).map(|n| Slot::settled(u16::try_from(n % 7).unwrap()).0).collect()
}

/// One of everything.
fn filling() -> Vec<Op> {
    let service = ServiceEntry { id: 3, idle_ticks: 40, ..ServiceEntry::default() };
    let reply = ReplyEntry { vip: Address::v4([203, 0, 113, 1]), service: 3, owner: 9, ..ReplyEntry::default() };
    vec![
        Op::SetHost { flags: HOST_REPLIES, epoch_shift: 7 },
        Op::SetLocal(Address::v4([192, 0, 2, 1])),
        Op::SetInterface(4, InterfaceEntry { mac: [2, 0, 0, 0, 0, 1], flags: 0 }),
        Op::SetVip(Address::v4([203, 0, 113, 1]), VipEntry { flags: 0 }),
        Op::SetBackend(9, backend(9)),
        Op::SetBackend(32_767, backend(7)),
        Op::SetReply(v4(9), reply),
        Op::SetReply(v6(9), reply),
        Op::SetSchedule(3, vec![9, 32_767, 9, 9, 32_767]),
        Op::CreateRing(3, ring()),
        Op::SetService(v4(1), service),
        Op::SetService(v6(1), service),
    ]
}

fn apply(dataplane: &mut impl DataPlane, ops: &[Op]) {
    for op in ops {
        dataplane.apply(op).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    }
}

fn observe(dataplane: &mut impl DataPlane) -> Observed {
    dataplane.observe().unwrap()
}

#[test]
fn what_was_written_is_read_back_and_again_after_a_restart() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    let empty = observe(&mut opened.dataplane);
    assert_eq!(empty.tables, Tables { epoch_shift: empty.tables.epoch_shift, ..Tables::default() });

    apply(&mut opened.dataplane, &filling());
    let full = observe(&mut opened.dataplane);
    assert!(!full.adopted);
    assert_eq!((full.tables.host_flags, full.tables.epoch_shift), (HOST_REPLIES, 7));
    assert_eq!(full.tables.services.len(), 2);
    assert_eq!(full.tables.backends[&9], backend(9));
    assert_eq!(full.tables.backends[&32_767], backend(7));
    assert_eq!(full.tables.replies.len(), 2);
    assert_eq!(full.tables.schedules[&3], [9, 32_767, 9, 9, 32_767]);
    assert_eq!(full.tables.rings, BTreeSet::from([3]));
    assert_eq!(full.slots[&3], ring());

    drop(opened);
    let mut opened = host.open(&["a0"]).unwrap();
    let again = observe(&mut opened.dataplane);
    assert!(again.adopted);
    assert_eq!((&again.tables, &again.slots), (&full.tables, &full.slots));
}

#[test]
fn applying_twice_changes_nothing_and_removing_twice_is_no_error() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    apply(&mut opened.dataplane, &filling());
    let once = observe(&mut opened.dataplane).tables;
    apply(&mut opened.dataplane, &filling());
    assert_eq!(observe(&mut opened.dataplane).tables, once);
    let removal = [
        Op::RemoveService(v4(1)),
        Op::RemoveService(v6(1)),
        Op::RemoveRing(3),
        Op::SetSchedule(3, Vec::new()),
        Op::RemoveReply(v4(9)),
        Op::RemoveReply(v6(9)),
        Op::ClearBackend(9),
        Op::ClearBackend(32_767),
        Op::RemoveVip(Address::v4([203, 0, 113, 1])),
        Op::RemoveInterface(4),
        Op::RemoveLocal(Address::v4([192, 0, 2, 1])),
        Op::SetHost { flags: 0, epoch_shift: 4 },
    ];
    for _ in 0..2 {
        apply(&mut opened.dataplane, &removal);
        assert_eq!(observe(&mut opened.dataplane).tables, Tables { epoch_shift: 4, ..Tables::default() });
    }
    assert!(!host.pin("rings/3").exists());
}

#[test]
fn slots_change_in_place_and_the_ring_stays_the_same_map() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    apply(&mut opened.dataplane, &filling());
    let id = host.map_id("rings/3");
    let last = u32::try_from(RING_SIZE).unwrap() - 1;
    apply(&mut opened.dataplane, &[Op::StoreSlots(3, vec![(0, 77), (last, 78)])]);
    drop(opened);
    // A writer that finds the ring rather than having made it.
    let mut opened = host.open(&["a0"]).unwrap();
    apply(&mut opened.dataplane, &[Op::StoreSlots(3, vec![(1, 79)])]);
    let slots = &observe(&mut opened.dataplane).slots[&3];
    assert_eq!((slots[0], slots[1], slots[last as usize], slots[2]), (77, 79, 78, ring()[2]));
    assert_eq!(id, host.map_id("rings/3"));
}

#[test]
fn a_ring_whose_pin_is_another_is_found_by_its_id() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    apply(&mut opened.dataplane, &filling());
    drop(opened);
    // As after a crash between a new ring's pin and its place in the outer map.
    std::fs::remove_file(host.pin("rings/3")).unwrap();
    let mut opened = host.open(&["a0"]).unwrap();
    assert_eq!(observe(&mut opened.dataplane).slots[&3], ring());
}

#[test]
fn what_cannot_be_is_refused_with_the_map_and_the_limit() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    let slot = Op::StoreSlots(5, vec![(0, 1)]);
    let error = opened.dataplane.apply(&slot).unwrap_err();
    assert!(error.to_string().contains("store 1 slots of service 5 in map RINGS"), "{error}");
    let error = opened.dataplane.apply(&Op::SetSchedule(3, vec![1; SCHEDULE_TURNS + 1])).unwrap_err();
    assert!(matches!(error, DataPlaneError::Full { map: "SCHEDULES", limit: SCHEDULE_TURNS, .. }), "{error}");
    let full = (0..=lb_common::limits::MAX_ADDRESSES)
        .map(|n| Op::SetLocal(Address::v4(u32::try_from(n).unwrap().to_be_bytes())))
        .find_map(|op| opened.dataplane.apply(&op).err());
    assert!(matches!(full, Some(DataPlaneError::Full { map: "LOCALS", .. })), "{full:?}");
}
