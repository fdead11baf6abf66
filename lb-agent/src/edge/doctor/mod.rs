//! Finds out about this host what `doctor` judges. Reads only; what cannot be read is left out rather than guessed.

mod genetlink;
mod routes;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::config::{InterfaceConfig, XdpMode};
use crate::pure::doctor::facts::{Facts, InterfaceFacts, PeerFacts, WayFacts};
use genetlink::Devices;
use routes::Network;

/// Everything there is to find out, for these interfaces and backends.
pub async fn examine(pin_dir: &Path, interfaces: &[InterfaceConfig], backends: BTreeSet<SocketAddr>) -> Facts {
    let network = Network::read().await;
    let mut devices = Devices::open().ok();
    let way = |backend: SocketAddr| WayFacts {
        backend,
        source: source_towards(backend),
        neighbour_failed: network.silent.contains(&backend.ip()),
    };
    Facts {
        capabilities: capabilities(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpf_jit: number("/proc/sys/net/core/bpf_jit_enable"),
        on_bpffs: on_bpffs(pin_dir),
        pin_dir: pin_dir.display().to_string(),
        memlock_bytes: memlock_bytes(),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        forwards_v4: number("/proc/sys/net/ipv4/ip_forward").map(|on| on != 0),
        forwards_v6: number("/proc/sys/net/ipv6/conf/all/forwarding").map(|on| on != 0),
        rp_filter_all: number("/proc/sys/net/ipv4/conf/all/rp_filter"),
        addresses: addresses(),
        interfaces: interfaces.iter().map(|wanted| interface(wanted, &network, devices.as_mut())).collect(),
        ways: backends.into_iter().map(way).collect(),
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: impl AsRef<Path>) -> Option<u32> {
    read(path)?.parse().ok()
}

fn capabilities() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The soft limit (proc(5), `/proc/pid/limits`); `None`: unlimited.
fn memlock_bytes() -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The directory, or the nearest one above it that exists.
fn on_bpffs(pin_dir: &Path) -> bool {
    let existing = pin_dir.ancestors().find(|path| path.exists());
    existing.and_then(|path| statfs(path).ok()).is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn addresses() -> Vec<(IpAddr, u8, String)> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    let address = |storage: &nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    found
        .filter_map(|entry| {
            let ours = address(entry.address.as_ref()?)?;
            let mask = address(entry.netmask.as_ref()?)?;
            let ones = match mask {
                IpAddr::V4(mask) => mask.to_bits().count_ones(),
                IpAddr::V6(mask) => mask.to_bits().count_ones(),
            };
            Some((ours, u8::try_from(ones).ok()?, entry.interface_name))
        })
        .collect()
}

/// The address that the kernel would use towards the backend; a connected UDP socket sends nothing.
fn source_towards(backend: SocketAddr) -> Result<IpAddr, String> {
    let any: IpAddr = if backend.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() };
    // A port of 0 (any-port services) cannot be connected to; any other does as well.
    let port = if backend.port() == 0 { 9 } else { backend.port() };
    let socket = UdpSocket::bind((any, 0)).map_err(|error| error.to_string())?;
    socket.connect((backend.ip(), port)).map_err(|error| error.to_string())?;
    socket.local_addr().map(|local| local.ip()).map_err(|error| error.to_string())
}

fn interface(wanted: &InterfaceConfig, network: &Network, mut devices: Option<&mut Devices>) -> InterfaceFacts {
    let name = wanted.name.clone();
    let wants_native = wanted.mode == XdpMode::Native;
    let Some((index, link)) = network.by_name(&name) else {
        return InterfaceFacts { name, wants_native, ..InterfaceFacts::default() };
    };
    let mut offloads = |index| devices.as_mut().and_then(|devices| devices.offloads(index).ok());
    let other_end = link.peer.and_then(|peer| Some((peer, network.links.get(&peer)?)));
    let peer = other_end.map(|(peer, link)| PeerFacts { name: link.name.clone(), offloads: offloads(peer) });
    InterfaceFacts {
        offloads: offloads(index),
        xdp_features: devices.and_then(|devices| devices.xdp_features(index).ok()),
        rp_filter: number(Path::new("/proc/sys/net/ipv4/conf").join(&name).join("rp_filter")),
        name,
        wants_native,
        exists: true,
        is_up: link.is_up,
        mtu: link.mtu,
        is_veth: link.is_veth,
        peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_is_examined_without_privileges() {
        let wanted = ["lo", "no-such-if"].map(|name| InterfaceConfig { name: name.to_owned(), mode: XdpMode::Auto });
        let backends = BTreeSet::from([SocketAddr::from(([127, 0, 0, 1], 80))]);
        let facts = examine(Path::new("/nowhere/weir"), &wanted, backends).await;
        assert!(facts.capabilities.is_some());
        assert!(!facts.kernel.is_empty());
        assert!(!facts.on_bpffs);
        assert!(facts.interfaces[0].exists && facts.interfaces[0].mtu > 0, "{facts:?}");
        assert!(!facts.interfaces[1].exists);
        assert_eq!(facts.ways[0].source, Ok(IpAddr::from([127, 0, 0, 1])));
        assert!(facts.addresses.iter().any(|(address, prefix, _)| address.is_loopback() && *prefix == 8), "{facts:?}");
    }
}
