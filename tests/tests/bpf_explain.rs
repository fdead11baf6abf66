//! `explain` says what the packet path would do, and changes nothing.
#![expect(clippy::unwrap_used, reason = "a test ends with the error that it meets")]

mod bpf_support;

use std::net::SocketAddr;

use aya::maps::{Array, Map};
use bpf_support::Host;
use lb_agent::edge::bpf::Loaded;
use lb_agent::edge::dataplane::DataPlane;
use lb_agent::pure::model::Protocol;
use lb_agent::pure::snapshot::{Explanation, FlowQuery};
use lb_agent::pure::tables::{Endpoint, Op};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BackendEntry};
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::{FlowBucket, FlowEntry, FlowState};
use lb_common::hash::flow_v4;
use lb_common::host::{HOST_ANY_PORT, Host as HostRecord, VipEntry};
use lb_common::limits::RING_SIZE;
use lb_common::maps;
use lb_common::service::ServiceEntry;
use lb_common::slot::Slot;

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "203.0.113.1:8000";

fn query(vip: &str, syn: bool) -> FlowQuery {
    let client = if vip.starts_with('[') { "[2001:db8::7]:40000" } else { CLIENT };
    FlowQuery { protocol: Protocol::Tcp, client: client.parse().unwrap(), vip: vip.parse().unwrap(), syn }
}

fn backend(last: u8, flags: u16) -> BackendEntry {
    BackendEntry {
        dst_mac: [2, 0, 0, 0, 0, last],
        flags,
        service: 3,
        addr: Address::v4([10, 0, 0, last]),
        ifindex: 4,
        port: 8_080_u16.to_be_bytes(),
        mtu: 1_500,
        weight: 100,
        ..BackendEntry::default()
    }
}

fn endpoint(addr: &str, protocol: u8) -> Endpoint {
    let addr: SocketAddr = addr.parse().unwrap();
    let port = addr.port().to_be_bytes();
    match addr {
        SocketAddr::V4(a) => Endpoint::V4(EndpointV4 { addr: a.ip().octets(), port, protocol, zero: 0 }),
        SocketAddr::V6(a) => Endpoint::V6(EndpointV6 { addr: a.ip().octets(), port, protocol, zero: 0 }),
    }
}

/// One service on a VIP of each family; its ring is settled on owner 5.
fn with_service(host: &Host) -> Loaded {
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    let service = ServiceEntry { id: 3, syn_ticks: 20, idle_ticks: 400, fin_ticks: 40, ..ServiceEntry::default() };
    for op in [
        Op::SetHost { flags: HOST_ANY_PORT, epoch_shift: 4 },
        Op::SetVip(Address::v4([203, 0, 113, 1]), VipEntry { flags: 0 }),
        Op::SetBackend(5, backend(5, BACKEND_ALIVE | BACKEND_REACHABLE)),
        Op::SetBackend(6, backend(6, BACKEND_ALIVE)),
        Op::CreateRing(3, vec![Slot::settled(5).0; RING_SIZE]),
        Op::SetService(endpoint(VIP, 6), service),
        Op::SetService(endpoint("[2001:db8::1]:0", 6), service),
    ] {
        opened.dataplane.apply(&op).unwrap();
    }
    opened
}

fn explain(opened: &mut Loaded, query: &FlowQuery) -> Explanation {
    opened.dataplane.explain(query).unwrap()
}

#[test]
fn a_packet_of_a_service_is_followed_to_its_backend() {
    let host = Host::new();
    let mut opened = with_service(&host);
    let told = explain(&mut opened, &query(VIP, true));
    assert_eq!((told.verdict.as_str(), told.service_id, told.owner), ("forward", Some(3), Some(5)), "{told:#?}");
    assert_eq!(told.slot_state.as_deref(), Some("settled on owner 5"));
    assert_eq!(told.flow, None);
    assert!(told.steps.iter().any(|s| s.contains("10.0.0.5:8080") && s.contains("02:00:00:00:00:05")), "{told:#?}");
}

#[test]
fn a_service_of_every_port_takes_an_ipv6_packet() {
    let host = Host::new();
    let mut opened = with_service(&host);
    let told = explain(&mut opened, &query("[2001:db8::1]:443", false));
    assert_eq!(told.service_id, Some(3), "{told:#?}");
    assert!(told.steps[0].contains("every port"), "{told:#?}");
}

#[test]
fn what_no_service_takes_says_so() {
    let host = Host::new();
    let mut opened = with_service(&host);
    assert_eq!(explain(&mut opened, &query("203.0.113.1:81", true)).verdict, "drop_no_service");
    assert_eq!(explain(&mut opened, &query("203.0.113.2:81", true)).verdict, "pass_not_ours");
}

#[test]
fn a_backend_without_a_next_hop_is_named() {
    let host = Host::new();
    let mut opened = with_service(&host);
    let slots = (0..u32::try_from(RING_SIZE).unwrap()).map(|n| (n, Slot::settled(6).0)).collect();
    opened.dataplane.apply(&Op::StoreSlots(3, slots)).unwrap();
    let told = explain(&mut opened, &query(VIP, true));
    assert_eq!((told.verdict.as_str(), told.owner), ("drop_no_next_hop", Some(6)), "{told:#?}");
    assert!(told.steps.iter().any(|s| s.contains("next hop is not known")), "{told:#?}");
}

#[test]
fn in_transition_the_flow_table_decides_and_is_left_as_it_was() {
    let host = Host::new();
    let mut opened = with_service(&host);
    let record: HostRecord =
        Array::<_, HostRecord>::try_from(Map::Array(host.map(maps::HOST))).unwrap().get(&0, 0).unwrap();
    let slots = (0..u32::try_from(RING_SIZE).unwrap()).map(|n| (n, Slot::settled(5).change_to(6).0)).collect();
    opened.dataplane.apply(&Op::StoreSlots(3, slots)).unwrap();
    let told = explain(&mut opened, &query(VIP, false));
    assert_eq!((told.owner, told.flow.as_deref()), (Some(5), None), "untracked means previous: {told:#?}");
    assert_eq!(explain(&mut opened, &query(VIP, true)).owner, Some(6), "a SYN goes to current");

    let key = flow_v4(&record.seed, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), 8_000_u16.to_be_bytes(), 3, false);
    let mut table = Array::<_, FlowBucket>::try_from(Map::Array(host.map(maps::FLOWS))).unwrap();
    let mut bucket = FlowBucket::default();
    let now: std::time::Duration = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap().into();
    let now = lb_common::clock::Ticks::from_ns(u64::try_from(now.as_nanos()).unwrap());
    bucket[2] = FlowEntry::new(key.tag, 6, FlowState::Established, now).0;
    table.set(key.first(record.flow_mask), bucket, 0).unwrap();
    let told = explain(&mut opened, &query(VIP, false));
    assert_eq!(told.owner, Some(6), "{told:#?}");
    assert_eq!(told.flow.as_deref(), Some("established, owner 6, silent 0 s"));
    assert_eq!(table.get(&key.first(record.flow_mask), 0).unwrap(), bucket);
}
