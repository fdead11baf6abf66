//! Judges interfaces: can packets be taken and sent at full speed, and unharmed?

use super::Finding;
use super::facts::{Facts, InterfaceFacts};

/// One page less headroom: above it most drivers refuse native XDP (drivers/net, XDP without multi-buffer support).
const LARGEST_NATIVE_MTU: u32 = 3_498;

/// `NETDEV_XDP_ACT_BASIC` and `NETDEV_XDP_ACT_NDO_XMIT` of `linux/netdev.h`.
const XDP_BASIC: u64 = 1 << 0;
const XDP_NDO_XMIT: u64 = 1 << 2;

/// Everything about one interface.
pub(super) fn judge(findings: &mut Vec<Finding>, interface: &InterfaceFacts, facts: &Facts) {
    let subject = format!("interface {}", interface.name);
    if !interface.exists {
        findings.push(Finding::fail(
            subject,
            "does not exist",
            "correct its name in [[interface]]; `ip link` lists them",
        ));
        return;
    }
    if interface.is_up {
        findings.push(Finding::ok(&subject, format!("up, MTU {}", interface.mtu)));
    } else {
        let remedy = format!("ip link set {} up, and look at the cable or the other end", interface.name);
        findings.push(Finding::fail(&subject, "is down or has no carrier", remedy));
    }
    findings.push(native(&subject, interface));
    findings.extend(redirect_target(&subject, interface));
    findings.extend(lro(&subject, interface));
    findings.extend(partial_checksums(&subject, interface));
    findings.extend(reverse_path(&subject, interface, facts));
}

fn native(subject: &str, interface: &InterfaceFacts) -> Finding {
    let Some(features) = interface.xdp_features else {
        return Finding::warn(
            subject,
            "this kernel does not say whether its driver has native XDP",
            "see what `status` says once the agent runs",
        );
    };
    if features & XDP_BASIC == 0 {
        let message = "its driver has no native XDP";
        return if interface.wants_native {
            Finding::fail(subject, message, "set mode = \"auto\" or \"generic\" for it, or use another NIC")
        } else {
            Finding::warn(
                subject,
                format!("{message}: packets take the generic, slower way"),
                "use a NIC whose driver has it for high rates",
            )
        };
    }
    if interface.mtu > LARGEST_NATIVE_MTU && !interface.is_veth {
        let message = format!("native XDP, but MTU {} is more than many drivers allow with it", interface.mtu);
        let remedy = format!("ip link set {} mtu {LARGEST_NATIVE_MTU} if `run` falls back to generic", interface.name);
        return Finding::warn(subject, message, remedy);
    }
    Finding::ok(subject, "native XDP")
}

/// Frames redirected into a veth are lost unless its peer runs NAPI (drivers/net/veth.c, `veth_xdp_xmit`). NICs switch the
/// ability on when a program is attached, so nothing can be said about them before.
fn redirect_target(subject: &str, interface: &InterfaceFacts) -> Option<Finding> {
    let is_deaf = interface.xdp_features? & XDP_NDO_XMIT == 0;
    if !interface.is_veth || !is_deaf {
        return None;
    }
    let peer = interface.peer.as_ref().map_or("PEER", |peer| peer.name.as_str());
    Some(Finding::warn(
        subject,
        "frames redirected into this veth are lost: its other end does not poll",
        format!("ethtool -K {peer} gro on (in the peer's namespace), or attach any XDP program there"),
    ))
}

fn has(offloads: Option<&Vec<String>>, names: &[&str]) -> bool {
    offloads.is_some_and(|on| on.iter().any(|name| names.contains(&name.as_str())))
}

fn lro(subject: &str, interface: &InterfaceFacts) -> Option<Finding> {
    has(interface.offloads.as_ref(), &["rx-lro"]).then(|| {
        let remedy = format!("ethtool -K {} lro off", interface.name);
        Finding::warn(subject, "LRO is on: merged packets cannot be forwarded, and native XDP may be refused", remedy)
    })
}

const TX_CHECKSUMS: [&str; 3] = ["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"];

/// What a local stack sends over a veth has no checksum yet, and XDP cannot know.
fn partial_checksums(subject: &str, interface: &InterfaceFacts) -> Option<Finding> {
    if !interface.is_veth {
        return None;
    }
    match &interface.peer {
        Some(peer) if !has(peer.offloads.as_ref(), &TX_CHECKSUMS) => None,
        Some(peer) => Some(Finding::warn(
            subject,
            format!(
                "its other end {} leaves checksums to a NIC that is not there; XDP would forward them broken",
                peer.name
            ),
            format!("ethtool -K {} tx off if it stands for a machine across a wire", peer.name),
        )),
        None => Some(Finding::warn(
            subject,
            "its other end is in another namespace: whether that leaves checksums to a NIC that is not there cannot be seen",
            "ethtool -K PEER tx off, there, if it stands for a machine across a wire",
        )),
    }
}

fn reverse_path(subject: &str, interface: &InterfaceFacts, facts: &Facts) -> Option<Finding> {
    // The kernel takes the larger of the two (Documentation/networking/ip-sysctl.rst).
    let effective = interface.rp_filter.max(facts.rp_filter_all)?;
    (effective == 1 && facts.interfaces.len() > 1).then(|| {
        let message = "strict reverse-path filtering: answers to probes that come in by another interface are dropped";
        Finding::warn(subject, message, format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", interface.name))
    })
}

/// Whether packets of one interface fit into the others.
pub(super) fn mtus(facts: &Facts) -> Option<Finding> {
    let there: Vec<_> = facts.interfaces.iter().filter(|interface| interface.exists).collect();
    let smallest = there.iter().min_by_key(|interface| interface.mtu)?;
    let largest = there.iter().max_by_key(|interface| interface.mtu)?;
    (smallest.mtu != largest.mtu).then(|| {
        let message = format!("{} has {}, {} has {}", largest.name, largest.mtu, smallest.name, smallest.mtu);
        Finding::warn(
            "MTU",
            message,
            "give both the same, or packets that do not fit are answered with \"too big\" and sent again",
        )
    })
}
