//! As many flows as `flow_table_entries` promises fit into the table, without a refusal or an eviction: real packets into the
//! real program.
#![expect(clippy::unwrap_used, reason = "a test ends with the error that it meets")]

mod bpf_support;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bpf_support::Host;
use lb_agent::edge::dataplane::{DataPlane, Sweeper};
use lb_agent::pure::sweep::SweepRequest;
use lb_agent::pure::tables::{Endpoint, Op};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BackendEntry};
use lb_common::endpoint::{Address, EndpointV4};
use lb_common::host::VipEntry;
use lb_common::limits::RING_SIZE;
use lb_common::service::ServiceEntry;
use lb_common::slot::{Owner, Slot};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

const OWNER: Owner = 5;
const VIP: [u8; 4] = [203, 0, 113, 1];

/// A socket that sends frames out of an interface.
fn sender(interface: &str) -> OwnedFd {
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let address: LinkAddr = getifaddrs()
        .unwrap()
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .unwrap();
    bind(raw.as_raw_fd(), &address).unwrap();
    raw
}

/// The SYN that opens flow `n`.
fn syn(n: u32) -> Vec<u8> {
    let (address, port) = (n >> 16, n & 0xffff);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend((0x0a01_0000 | address).to_be_bytes());
    frame.extend(VIP);
    frame.extend([port, 8_000].map(|p| u16::try_from(p).unwrap().to_be_bytes()).as_flattened());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

#[test]
fn every_flow_that_was_promised_room_has_it() {
    let host = Host::new();
    host.veth("a0");
    host.ip("link set a0p up");
    let mut opened = host.open(&["a0"]).unwrap();
    let service = ServiceEntry { id: 3, syn_ticks: 4_000, idle_ticks: 4_000, ..ServiceEntry::default() };
    let backend = BackendEntry {
        flags: BACKEND_ALIVE | BACKEND_REACHABLE,
        service: 3,
        addr: Address::v4([10, 0, 0, 5]),
        ifindex: if_nametoindex("a0").unwrap(),
        mtu: 1_500,
        ..BackendEntry::default()
    };
    let key = EndpointV4 { addr: VIP, port: 8_000_u16.to_be_bytes(), protocol: 6, zero: 0 };
    for op in [
        Op::SetVip(Address::v4(VIP), VipEntry { flags: 0 }),
        Op::SetBackend(OWNER, backend),
        Op::CreateRing(3, vec![Slot::settled(OWNER).0; RING_SIZE]),
        Op::SetService(Endpoint::V4(key), service),
    ] {
        opened.dataplane.apply(&op).unwrap();
    }
    let promised = host.agent.flow_table_entries;
    let asked = SweepRequest { services: BTreeMap::from([(3, service)]), ..SweepRequest::default() };
    let wire = sender("a0p");
    let deadline = Instant::now() + Duration::from_secs(30);
    let report = loop {
        // A veth drops what its ring has no room for; a SYN that comes again opens nothing new.
        for n in 0..promised {
            let _sent = send(wire.as_raw_fd(), &syn(n), MsgFlags::empty()).unwrap();
        }
        let report = opened.sweeper.sweep(&asked).unwrap();
        if report.table.used >= u64::from(promised) || Instant::now() > deadline {
            break report;
        }
    };
    let counters = report.counters[&OWNER];
    assert_eq!((report.table.used, report.flows[&OWNER].half_open), (4_096, 4_096), "{counters:?}");
    assert_eq!((counters.opened, counters.refused, counters.evicted), (4_096, 0, 0));
}
