//! Loading, adopting, replacing, refusing and unloading, on the real kernel.
#![expect(clippy::unwrap_used, reason = "a test ends with the error that it meets")]

mod bpf_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};
use aya::programs::ProgramInfo;
use bpf_support::{Host, interface, other_build, refused};
use lb_agent::config::{PacketLog, XdpMode};
use lb_agent::edge::bpf::{self, Build, LoadError, TcWay};
use lb_common::host::Host as HostRecord;
use lb_common::maps;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn record(host: &Host) -> HostRecord {
    let map = Array::<_, HostRecord>::try_from(Map::Array(host.map(maps::HOST))).unwrap();
    map.get(&0, 0).unwrap()
}

fn set_record(host: &Host, record: HostRecord) {
    let mut map = Array::<_, HostRecord>::try_from(Map::Array(host.map(maps::HOST))).unwrap();
    map.set(0, record, 0).unwrap();
}

fn ids(host: &Host) -> Vec<u32> {
    maps::ALL.iter().map(|name| host.map_id(name)).collect()
}

#[test]
fn a_restart_adopts_maps_seed_programs_and_links_as_they_are() {
    let host = Host::new();
    host.veth("a0");
    let first = host.open(&["a0"]).unwrap();
    assert!(!first.adopted);
    assert_eq!(first.problems, Vec::<String>::new());
    assert_eq!((first.interfaces[0].name.as_str(), first.interfaces[0].mode.as_str()), ("a0", "native"));
    let before = (ids(&host), record(&host), host.program_pins(), host.link("a0_xdp"), host.link("a0_tc"));
    assert_ne!(before.1.seed, [0; 4]);
    assert!(before.3.is_some() && before.4.is_some());
    drop(first);

    let second = host.open(&["a0"]).unwrap();
    assert!(second.adopted);
    assert_eq!(second.interfaces[0].mode, "native");
    assert_eq!(second.interfaces[0].reason, None);
    assert_eq!(before, (ids(&host), record(&host), host.program_pins(), host.link("a0_xdp"), host.link("a0_tc")));
}

#[test]
fn the_seed_comes_from_state_dir_when_the_pins_are_gone_and_goes_there_when_the_file_is() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let seed = record(&host).seed;
    std::fs::remove_file(host.agent.state_dir.join("seed")).unwrap();
    drop(host.open(&["a0"]).unwrap());
    assert_eq!(record(&host).seed, seed, "the pinned seed holds");
    bpf::unload(&host.agent).unwrap();
    drop(host.open(&["a0"]).unwrap());
    assert_eq!(record(&host).seed, seed, "the file has brought it back");
}

#[test]
fn another_build_replaces_the_programs_in_their_links() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let (maps, xdp, tc) = (ids(&host), host.link("a0_xdp").unwrap(), host.link("a0_tc").unwrap());
    drop(host.open_build(&["a0"], &other_build()).unwrap());
    assert_eq!(ids(&host), maps);
    let (new_xdp, new_tc) = (host.link("a0_xdp").unwrap(), host.link("a0_tc").unwrap());
    assert_eq!((xdp.0, tc.0), (new_xdp.0, new_tc.0), "the links are the same");
    assert_ne!(xdp.1, new_xdp.1);
    assert_ne!(tc.1, new_tc.1);
    let pins = host.program_pins();
    assert_eq!(pins.len(), 2, "{pins:?}");
    assert!(pins.iter().all(|(name, _)| name.starts_with("another")), "{pins:?}");
}

#[test]
fn pins_that_a_crash_left_half_made_are_made_anew() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let before = ids(&host);
    // As after a crash before the last word was written: no links, no version, some maps missing.
    for name in ["links/a0_xdp", "links/a0_tc", maps::VIPS, maps::FRAGMENTS] {
        std::fs::remove_file(host.pin(name)).unwrap();
    }
    set_record(&host, HostRecord { abi_version: 0, ..record(&host) });
    let opened = host.open(&["a0"]).unwrap();
    assert!(!opened.adopted);
    assert!(ids(&host).iter().all(|id| !before.contains(id)));
    assert_eq!(record(&host).abi_version, lb_common::ABI_VERSION);
}

#[test]
fn another_layout_is_refused_and_its_pins_are_kept() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let (before, link) = (ids(&host), host.link("a0_xdp"));
    set_record(&host, HostRecord { abi_version: 7_777, ..record(&host) });
    let error = refused(host.open(&["a0"]));
    assert!(matches!(error, LoadError::Layout { found: 7_777, .. }), "{error}");
    assert!(error.to_string().contains("lb-agent unload"), "{error}");
    assert_eq!((before, link), (ids(&host), host.link("a0_xdp")));
}

#[test]
fn a_map_of_another_shape_or_a_missing_one_is_refused_and_the_pins_are_kept() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let link = host.link("a0_xdp");
    std::fs::remove_file(host.pin(maps::VIPS)).unwrap();
    let error = refused(host.open(&["a0"]));
    assert!(error.to_string().contains("VIPS: is missing"), "{error}");
    let foreign = HashMap::<MapData, u64, u64>::create(16, 0).unwrap();
    foreign.pin(host.pin(maps::VIPS)).unwrap();
    let error = refused(host.open(&["a0"]));
    assert!(error.to_string().contains("has keys of 8 bytes, not 16"), "{error}");
    assert_eq!(link, host.link("a0_xdp"));
}

#[test]
fn a_flow_table_of_another_size_is_kept_and_reported() {
    let mut host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let before = (ids(&host), record(&host));
    host.agent.flow_table_entries = 100_000;
    let opened = host.open(&["a0"]).unwrap();
    assert_eq!(opened.problems.len(), 1, "{:?}", opened.problems);
    assert!(opened.problems[0].contains("made for 4096 flows, not the 100000"), "{:?}", opened.problems);
    assert_eq!(before, (ids(&host), record(&host)));
}

#[test]
fn a_second_agent_on_the_same_pins_is_told_so() {
    let host = Host::new();
    host.veth("a0");
    let first = host.open(&["a0"]).unwrap();
    assert!(matches!(refused(host.open(&["a0"])), LoadError::Locked { .. }));
    let mut elsewhere = host.agent.clone();
    elsewhere.state_dir = host.agent.state_dir.join("other");
    let error = refused(bpf::open(&elsewhere, &[interface("a0", XdpMode::Auto)], &Build::embedded()));
    assert!(matches!(error, LoadError::Locked { ref path } if *path == host.agent.pin_dir), "{error}");
    assert!(matches!(bpf::unload(&host.agent), Err(LoadError::Locked { .. })));
    drop(first);
    drop(host.open(&["a0"]).unwrap());
}

#[test]
fn a_missing_interface_is_named_and_nothing_is_left_behind() {
    let host = Host::new();
    host.veth("a0");
    let error = refused(host.open(&["a0", "nosuch0"]));
    assert!(matches!(error, LoadError::Interface { ref name } if name == "nosuch0"), "{error}");
    assert!(!host.agent.pin_dir.exists() && !host.agent.state_dir.exists());
}

#[test]
fn native_where_there_is_none_is_refused_and_auto_falls_back_with_a_reason() {
    let host = Host::new();
    host.veth("a0");
    let wanted = [interface("a0", XdpMode::Native), interface("lo", XdpMode::Native)];
    let error = refused(bpf::open(&host.agent, &wanted, &Build::embedded()));
    assert!(error.to_string().contains("cannot attach to lo: native XDP"), "{error}");
    assert!(error.to_string().contains("mode = \"auto\""), "{error}");
    assert!(!host.agent.pin_dir.exists(), "a first start that fails leaves nothing");

    let opened = host.open(&["a0", "lo"]).unwrap();
    let modes: Vec<_> = opened.interfaces.iter().map(|i| i.mode.as_str()).collect();
    assert_eq!(modes, ["native", "generic"]);
    assert!(opened.interfaces[1].reason.as_ref().unwrap().contains("no native XDP"), "{:?}", opened.interfaces);
}

#[test]
fn a_failed_interface_leaves_those_of_a_running_packet_path_as_they_were() {
    let host = Host::new();
    host.veth("a0");
    host.veth("b0");
    drop(host.open(&["a0"]).unwrap());
    let before = (host.link("a0_xdp"), host.link("a0_tc"));
    let wanted = [interface("b0", XdpMode::Native), interface("lo", XdpMode::Native)];
    let _error = refused(bpf::open(&host.agent, &wanted, &Build::embedded()));
    assert_eq!(before, (host.link("a0_xdp"), host.link("a0_tc")));
    assert_eq!(host.link("b0_xdp"), None);
}

#[test]
fn an_interface_that_leaves_the_configuration_is_detached() {
    let host = Host::new();
    host.veth("a0");
    host.veth("b.7");
    drop(host.open(&["a0", "b.7"]).unwrap());
    assert!(host.link("b%2e7_xdp").is_some());
    drop(host.open(&["a0"]).unwrap());
    assert!(host.link("a0_xdp").is_some() && host.link("a0_tc").is_some());
    assert_eq!((host.link("b%2e7_xdp"), host.link("b%2e7_tc")), (None, None));
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let before = host.link("a0_xdp");
    host.ip("link del a0");
    host.veth("a0");
    let opened = host.open(&["a0"]).unwrap();
    assert_eq!(opened.interfaces[0].mode, "native");
    assert_ne!(before, host.link("a0_xdp"));
}

#[test]
fn a_mode_that_was_changed_is_changed() {
    let host = Host::new();
    host.veth("a0");
    drop(host.open(&["a0"]).unwrap());
    let opened = bpf::open(&host.agent, &[interface("a0", XdpMode::Generic)], &Build::embedded()).unwrap();
    assert_eq!(opened.interfaces[0].mode, "generic");
}

#[test]
fn local_bridges_get_the_tc_program_and_keep_it_over_a_restart() {
    let host = Host::new();
    host.veth("a0");
    host.ip("link add br7 type bridge");
    let ifindex = nix::net::if_::if_nametoindex("br7").unwrap();
    let mut opened = host.open(&["a0"]).unwrap();
    opened.links.attach_local(ifindex).unwrap();
    let link = host.link("br7_local");
    assert!(link.is_some());
    drop(opened);
    let mut opened = host.open(&["a0"]).unwrap();
    assert_eq!(link, host.link("br7_local"), "a restart takes nothing off it");
    opened.links.attach_local(ifindex).unwrap();
    assert_eq!(link, host.link("br7_local"));
    opened.links.retain_locals(&[]).unwrap();
    assert_eq!(host.link("br7_local"), None);
}

#[test]
fn kernels_without_tcx_get_a_filter_that_outlives_the_agent_and_ends_with_unload() {
    let tc = |arguments: [&str; 5]| {
        let out = std::process::Command::new("tc").args(arguments.iter().filter(|a| !a.is_empty())).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let filters = || tc(["filter", "show", "dev", "a0", "ingress"]);
    let qdiscs = || tc(["qdisc", "show", "dev", "a0", ""]);
    let host = Host::new();
    host.veth("a0");
    let build = Build { tc: TcWay::Filter, ..Build::embedded() };
    for _ in 0..2 {
        drop(host.open_build(&["a0"], &build).unwrap());
        assert_eq!(filters().matches("handle 0x1 weir_reply").count(), 1, "{}", filters());
        assert!(qdiscs().contains("clsact"));
    }
    bpf::unload(&host.agent).unwrap();
    assert!(!qdiscs().contains("clsact"), "{}", qdiscs());
}

#[test]
fn the_programs_load_at_every_level_of_their_log_and_a_change_of_it_replaces_them() {
    let mut host = Host::new();
    host.veth("a0");
    let mut programs = BTreeSet::new();
    for level in [PacketLog::Off, PacketLog::Error, PacketLog::Info, PacketLog::Debug] {
        host.agent.packet_log = level;
        let opened = host.open(&["a0"]).unwrap_or_else(|e| panic!("{level:?}: {e}"));
        assert_eq!(opened.log.is_some(), level != PacketLog::Off, "{:?}", opened.problems);
        assert!(programs.insert(host.link("a0_xdp").unwrap().1), "{level:?} runs the program of another level");
    }
}

#[test]
fn a_bpffs_of_a_private_mount_namespace_is_refused() {
    let host = Host::new();
    host.veth("a0");
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let error = refused(host.open(&["a0"]));
    assert!(matches!(error, LoadError::PrivateMount { .. }), "{error}");
    assert!(!host.agent.pin_dir.exists());
}

#[test]
fn unload_leaves_no_program_map_link_or_mount() {
    let host = Host::new();
    host.veth("a0");
    let mut opened = host.open(&["a0"]).unwrap();
    let op = lb_agent::pure::tables::Op::CreateRing(3, vec![0; lb_common::limits::RING_SIZE]);
    lb_agent::edge::dataplane::DataPlane::apply(&mut opened.dataplane, &op).unwrap();
    drop(opened);
    let maps: Vec<u32> = ids(&host).into_iter().chain([host.map_id("rings/3")]).collect();
    let programs: Vec<u32> = host.program_pins().into_iter().map(|(_, id)| id).collect();
    let link = host.link("a0_xdp").unwrap();
    bpf::unload(&host.agent).unwrap();
    assert!(!host.agent.pin_dir.exists());
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(host.agent.pin_dir.to_str().unwrap()));
    // The kernel frees them after a grace period.
    let deadline = Instant::now() + Duration::from_secs(10);
    let left = || {
        let maps = maps.iter().filter(|id| MapInfo::from_id(**id).is_ok()).count();
        let all: Vec<u32> =
            aya::programs::loaded_programs().filter_map(Result::ok).map(|p: ProgramInfo| p.id()).collect();
        let links = aya::programs::loaded_links().filter_map(Result::ok).filter(|l| l.id() == link.0).count();
        (maps, programs.iter().filter(|id| all.contains(id)).count(), links)
    };
    while left() != (0, 0, 0) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(left(), (0, 0, 0), "maps, programs, links");
    bpf::unload(&host.agent).expect("where there is nothing there is nothing to do");
}
