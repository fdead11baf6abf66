use super::facts::{InterfaceFacts, PeerFacts, WayFacts};
use super::*;
use crate::pure::model::Forward;

/// A host on which all is well, with one service of one backend.
fn healthy() -> (Facts, Vec<ServiceSpec>) {
    let text = "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"llm\"\nvip = \"203.0.113.10\"\nport = 8000\n\
                [[service.backend]]\naddress = \"10.0.0.11\"\n";
    let environment = crate::config::Environment::default();
    let (config, _) = crate::config::file::parse(text, "weir.toml".as_ref(), &environment).unwrap();
    let facts = Facts {
        capabilities: Some(u64::MAX),
        kernel: "6.18.44-amd64".to_owned(),
        has_btf: true,
        bpf_jit: Some(1),
        on_bpffs: true,
        pin_dir: "/sys/fs/bpf/weir".to_owned(),
        memlock_bytes: Some(8 << 20),
        clock_source: Some("tsc".to_owned()),
        forwards_v4: Some(true),
        forwards_v6: Some(true),
        rp_filter_all: Some(0),
        addresses: vec![("10.0.0.1".parse().unwrap(), 24, "eth0".to_owned())],
        interfaces: vec![nic("eth0")],
        ways: vec![WayFacts {
            backend: "10.0.0.11:8000".parse().unwrap(),
            source: Ok("10.0.0.1".parse().unwrap()),
            neighbour_failed: false,
        }],
    };
    (facts, config.services)
}

fn nic(name: &str) -> InterfaceFacts {
    InterfaceFacts {
        name: name.to_owned(),
        exists: true,
        is_up: true,
        mtu: 1500,
        xdp_features: Some(0b111),
        offloads: Some(vec!["rx-gro".to_owned(), "tx-checksum-ip-generic".to_owned()]),
        rp_filter: Some(0),
        ..InterfaceFacts::default()
    }
}

fn veth(name: &str) -> InterfaceFacts {
    let peer = PeerFacts { name: "peer0".to_owned(), offloads: Some(Vec::new()) };
    InterfaceFacts { is_veth: true, peer: Some(peer), ..nic(name) }
}

/// What is worse than well.
fn complaints(facts: &Facts, services: &[ServiceSpec]) -> Vec<Finding> {
    judge(facts, services).into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// The one complaint after a change of the healthy host.
fn complaint(change: impl FnOnce(&mut Facts, &mut Vec<ServiceSpec>)) -> Finding {
    let (mut facts, mut services) = healthy();
    change(&mut facts, &mut services);
    let mut found = complaints(&facts, &services);
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = found.remove(0);
    assert!(finding.remedy.is_some(), "{finding:?}");
    finding
}

#[test]
fn a_healthy_host_has_nothing_to_complain_about() {
    let (facts, services) = healthy();
    assert_eq!(complaints(&facts, &services), []);
    let subjects: Vec<_> = judge(&facts, &services).into_iter().map(|finding| finding.subject).collect();
    for subject in ["privileges", "kernel", "bpffs", "interface eth0", "VIP 203.0.113.10", "backend 10.0.0.11:8000"] {
        assert!(subjects.iter().any(|found| found == subject), "{subject} is not in {subjects:?}");
    }
}

#[test]
fn missing_privileges_are_named() {
    let finding = complaint(|facts, _| facts.capabilities = Some(0));
    assert_eq!(finding.level, Level::Fail);
    assert!(finding.message.starts_with("CAP_BPF and CAP_NET_ADMIN missing"), "{finding:?}");
    let finding = complaint(|facts, _| facts.capabilities = Some(1 << CAP_SYS_ADMIN));
    assert!(finding.message.starts_with("CAP_NET_ADMIN missing"), "{finding:?}");
}

#[test]
fn an_old_kernel_is_refused_and_its_memlock_counts() {
    let finding = complaint(|facts, _| facts.kernel = "5.14.0-70".to_owned());
    assert_eq!((finding.level, finding.subject.as_str()), (Level::Fail, "kernel"));
    let (mut facts, services) = healthy();
    facts.kernel = "5.10.0".to_owned();
    assert!(complaints(&facts, &services).iter().any(|finding| finding.subject == "memlock"));
}

#[test]
fn what_makes_every_packet_slow_is_a_warning() {
    assert_eq!(complaint(|facts, _| facts.bpf_jit = Some(0)).subject, "BPF JIT");
    assert_eq!(complaint(|facts, _| facts.clock_source = Some("hpet".to_owned())).subject, "clock");
    assert_eq!(complaint(|facts, _| facts.on_bpffs = false).subject, "bpffs");
}

#[test]
fn an_interface_must_exist_and_be_up() {
    let missing = complaint(|facts, _| {
        facts.interfaces = vec![InterfaceFacts { name: "eth9".to_owned(), ..InterfaceFacts::default() }];
    });
    assert_eq!((missing.level, missing.message.as_str()), (Level::Fail, "does not exist"));
    assert_eq!(complaint(|facts, _| facts.interfaces[0].is_up = false).level, Level::Fail);
}

#[test]
fn without_native_xdp_only_mode_native_fails() {
    assert_eq!(complaint(|facts, _| facts.interfaces[0].xdp_features = Some(0)).level, Level::Warn);
    let wanted = complaint(|facts, _| {
        facts.interfaces[0].xdp_features = Some(0);
        facts.interfaces[0].wants_native = true;
    });
    assert_eq!(wanted.level, Level::Fail);
    assert!(complaint(|facts, _| facts.interfaces[0].mtu = 9000).message.contains("MTU 9000"));
}

#[test]
fn a_veth_that_loses_redirected_frames_is_found() {
    let finding = complaint(|facts, _| {
        facts.interfaces = vec![InterfaceFacts { xdp_features: Some(0b11), ..veth("veth0") }];
    });
    assert!(finding.message.contains("redirected into this veth are lost"), "{finding:?}");
    assert!(finding.remedy.unwrap().starts_with("ethtool -K peer0 gro on"));
}

#[test]
fn a_veth_whose_other_end_leaves_checksums_out_is_found() {
    let finding = complaint(|facts, _| {
        let mut interface = veth("veth0");
        interface.peer.as_mut().unwrap().offloads = Some(vec!["tx-checksum-ip-generic".to_owned()]);
        facts.interfaces = vec![interface];
    });
    assert!(finding.remedy.unwrap().starts_with("ethtool -K peer0 tx off"));
    let unseen = complaint(|facts, _| facts.interfaces = vec![InterfaceFacts { peer: None, ..veth("veth0") }]);
    assert!(unseen.message.contains("another namespace"), "{unseen:?}");
}

#[test]
fn lro_strict_reverse_paths_and_unlike_mtus_are_found() {
    let lro = complaint(|facts, _| facts.interfaces[0].offloads = Some(vec!["rx-lro".to_owned()]));
    assert_eq!(lro.remedy.as_deref(), Some("ethtool -K eth0 lro off"));
    let strict = complaint(|facts, _| {
        facts.interfaces.push(InterfaceFacts { rp_filter: Some(1), ..nic("eth1") });
    });
    assert_eq!(strict.remedy.as_deref(), Some("sysctl -w net.ipv4.conf.eth1.rp_filter=2"));
    let unlike = complaint(|facts, _| facts.interfaces.push(InterfaceFacts { mtu: 1400, ..nic("eth1") }));
    assert_eq!(unlike.message, "eth0 has 1500, eth1 has 1400");
}

#[test]
fn a_vip_that_the_host_holds_itself_is_found() {
    let finding = complaint(|facts, _| {
        facts.addresses.push(("203.0.113.10".parse().unwrap(), 32, "lo".to_owned()));
    });
    assert!(finding.remedy.unwrap().starts_with("ip addr del 203.0.113.10/32 dev lo"));
}

#[test]
fn a_prefix_that_holds_a_links_network_or_an_address_of_ours_is_found() {
    let of = |len: u8, network: &str| {
        let vip = network.parse().unwrap();
        complaint(|facts, services| {
            facts.addresses.push(("198.18.0.9".parse().unwrap(), 24, "eth1".to_owned()));
            services[0].key.vip = vip;
            services[0].key.prefix = Some(len);
        })
    };
    assert!(of(16, "198.18.0.0").message.contains("the whole network of eth1 (198.18.0.9/24)"));
    assert!(of(28, "198.18.0.0").message.contains("holds 198.18.0.9, an address of eth1"));
}

#[test]
fn forwarding_matters_where_we_are_the_backends_gateway() {
    assert_eq!(complaint(|facts, _| facts.forwards_v4 = Some(false)).subject, "forwarding");
    let (mut facts, mut services) = healthy();
    facts.forwards_v4 = Some(false);
    services[0].snat = true;
    assert_eq!(complaints(&facts, &services), []);
}

#[test]
fn backends_need_a_way_that_their_mode_can_use() {
    let none = complaint(|facts, _| facts.ways[0].source = Err("Network is unreachable".to_owned()));
    assert_eq!(none.level, Level::Fail);
    let ourselves = complaint(|facts, _| facts.ways[0].source = Ok("10.0.0.11".parse().unwrap()));
    assert!(ourselves.message.contains("an address of this host"), "{ourselves:?}");
    let behind = complaint(|facts, services| {
        services[0].forward = Forward::L2dsr;
        facts.addresses[0].1 = 30;
    });
    assert!(behind.message.contains("behind a gateway"), "{behind:?}");
    assert_eq!(complaint(|facts, _| facts.ways[0].neighbour_failed = true).level, Level::Warn);
}
