//! Links, and neighbours that do not answer, by netlink: `/sys/class/net` shows the namespace in which it was mounted, and that
//! need not be ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

/// What the kernel's routing side says.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// Links by ifindex.
    pub(super) links: BTreeMap<u32, Link>,
    /// Addresses whose MAC address the kernel has asked for in vain.
    pub(super) silent: BTreeSet<IpAddr>,
}

/// One link.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) mtu: u32,
    /// Up, with carrier.
    pub(super) is_up: bool,
    pub(super) is_veth: bool,
    /// A veth's other end, where it is in this namespace.
    pub(super) peer: Option<u32>,
}

impl Network {
    /// Asks; what the kernel does not say is empty.
    pub(super) async fn read() -> Self {
        let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return Self::default() };
        let driver = tokio::spawn(connection);
        let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.unwrap_or_default();
        let neighbours: Vec<NeighbourMessage> =
            handle.neighbours().get().execute().try_collect().await.unwrap_or_default();
        driver.abort();
        let failed = neighbours.iter().filter(|entry| entry.header.state == NeighbourState::Failed);
        Self {
            links: links.iter().map(|message| (message.header.index, link(message))).collect(),
            silent: failed.filter_map(address).collect(),
        }
    }

    /// A link by its name, with its ifindex.
    pub(super) fn by_name(&self, name: &str) -> Option<(u32, &Link)> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(index, link)| (*index, link))
    }
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link { is_up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp), ..Link::default() };
    let mut is_elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            // Says that the ifindex of the peer is one of another namespace.
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                link.is_veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    if is_elsewhere || !link.is_veth {
        link.peer = None;
    }
    link
}

fn address(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}
