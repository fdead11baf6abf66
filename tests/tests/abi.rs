//! The contract and the object agree: names and sizes of maps.

use std::collections::BTreeSet;

use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use lb_agent::object::OBJECT;
use lb_common::maps;

#[test]
fn the_objects_maps_are_the_contracts() {
    let ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");

    let found: BTreeSet<&str> = ebpf.maps().map(|(name, _)| name).filter(|n| !n.starts_with(['.', 'A'])).collect();

    let own = [maps::RECORD, maps::WORK, maps::NEAR, maps::TOKENS];
    let expected: BTreeSet<&str> = maps::ALL.into_iter().chain(own).collect();
    assert_eq!(found, expected);
}

#[test]
fn keys_and_values_have_the_sizes_of_their_types() {
    use lb_common::{backend, endpoint, flow, host, reply, schedule, service, stats, trace};
    let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
    let mut shape = |name: &str| {
        let map = ebpf.take_map(name).expect("the map is in the object");
        let (Map::Array(data) | Map::HashMap(data)) = map else { panic!("{name} is neither array nor hash map") };
        let info = MapData::info(&data).expect("the kernel knows it");
        (info.key_size() as usize, info.value_size() as usize)
    };
    let (v4, v6) = (size_of::<endpoint::EndpointV4>(), size_of::<endpoint::EndpointV6>());
    let address = size_of::<endpoint::Address>();
    for (name, key, value) in [
        (maps::SERVICES_V4, v4, size_of::<service::ServiceEntry>()),
        (maps::SERVICES_V6, v6, size_of::<service::ServiceEntry>()),
        (maps::REPLIES_V4, v4, size_of::<reply::ReplyEntry>()),
        (maps::REPLIES_V6, v6, size_of::<reply::ReplyEntry>()),
        (maps::VIPS, address, size_of::<host::VipEntry>()),
        (maps::LOCALS, address, 4),
        (maps::INTERFACES, 4, size_of::<host::InterfaceEntry>()),
        (maps::SNAT_FORWARD, size_of::<reply::SnatForwardKey>(), size_of::<reply::SnatForwardEntry>()),
        (maps::SNAT_REVERSE, size_of::<reply::SnatReverseKey>(), size_of::<reply::SnatReverseEntry>()),
        (maps::FRAGMENTS, size_of::<reply::FragmentKey>(), size_of::<reply::FragmentEntry>()),
        (maps::BACKENDS, 4, size_of::<backend::BackendEntry>()),
        (maps::SCHEDULES, 4, size_of::<schedule::Schedule>()),
        (maps::FLOWS, 4, size_of::<flow::FlowBucket>()),
        (maps::COUNTERS, 4, size_of::<stats::OwnerCounters>()),
        (maps::VERDICTS, 4, size_of::<stats::VerdictCounters>()),
        (maps::HOST, 4, size_of::<host::Host>()),
        (maps::TAPS, 4, size_of::<trace::Taps>()),
    ] {
        assert_eq!(shape(name), (key, value), "{name}");
    }
}
