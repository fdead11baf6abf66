//! What an edge finds out about a host, for [`super::judge`]. Nouns only.

use std::net::{IpAddr, SocketAddr};

/// What was found out about a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Effective capabilities of this process.
    pub capabilities: Option<u64>,
    /// Kernel release, `6.18.44-…`.
    pub kernel: String,
    /// Whether `/sys/kernel/btf/vmlinux` is there.
    pub has_btf: bool,
    /// `net.core.bpf_jit_enable`.
    pub bpf_jit: Option<u32>,
    /// Whether the pins' directory lies on a bpffs.
    pub on_bpffs: bool,
    /// The pins' directory.
    pub pin_dir: String,
    /// Limit of locked memory, bytes; `None`: unlimited.
    pub memlock_bytes: Option<u64>,
    /// The kernel's clock source.
    pub clock_source: Option<String>,
    /// `net.ipv4.ip_forward`.
    pub forwards_v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub forwards_v6: Option<bool>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<u32>,
    /// This host's addresses: address, prefix length, interface.
    pub addresses: Vec<(IpAddr, u8, String)>,
    /// The interfaces that the configuration names.
    pub interfaces: Vec<InterfaceFacts>,
    /// The ways to all backends.
    pub ways: Vec<WayFacts>,
}

/// One interface.
#[expect(clippy::struct_excessive_bools, reason = "four observations, each by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// Whether the configuration insists on native XDP.
    pub wants_native: bool,
    /// Whether it exists; if not, nothing else is known.
    pub exists: bool,
    /// Up, with carrier.
    pub is_up: bool,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// One end of a veth pair.
    pub is_veth: bool,
    /// The veth's other end, where it is in this namespace.
    pub peer: Option<PeerFacts>,
    /// `NETDEV_XDP_ACT_*` bits; `None` before Linux 6.3.
    pub xdp_features: Option<u64>,
    /// Names of the offloads that are on, as `ethtool -k` has them; `None` where the kernel does not say.
    pub offloads: Option<Vec<String>>,
    /// `net.ipv4.conf.IF.rp_filter`.
    pub rp_filter: Option<u32>,
}

/// The other end of a veth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its name.
    pub name: String,
    /// Its offloads that are on.
    pub offloads: Option<Vec<String>>,
}

/// The way to one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayFacts {
    /// Backend.
    pub backend: SocketAddr,
    /// Our address towards it, or why there is no way.
    pub source: Result<IpAddr, String>,
    /// The kernel asked for its MAC address in vain.
    pub neighbour_failed: bool,
}
