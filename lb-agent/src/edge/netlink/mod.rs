//! Links, addresses, routes and neighbours, by subscription: the kernel's view of the ways to the addresses we are asked about.
//!
//! In: the set of addresses to watch. Out: a complete [`NetworkView`], again whenever it differs (latest wins).
//!
//! How it stays true: links, addresses and neighbours are kept as tables that notifications patch; routes are not copied but
//! asked for (`RTM_GETROUTE`), one watched address each, whenever something that routing depends on has changed. So policy
//! routing, VRFs, next-hop groups and learned path MTUs are the kernel's business and not ours. Notifications that got lost
//! (`ENOBUFS`) or could not be read cause a new dump of everything, and so does the passing of time.
//!
//! Neighbours are kept fresh by the kernel itself: we ask it to manage (`NTF_EXT_MANAGED`, Linux 5.16) those that watched
//! addresses need, mark them as ours, and give them up at the end. On older kernels we ask again now and then.

mod actor;
mod decode;
mod keeper;
mod socket;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pure::network::{Interface, NetworkView};

/// The kernel could not be asked, or did not do what it was asked for.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket. Does a sandbox forbid AF_NETLINK (seccomp, RestrictAddressFamilies)?")]
    Open(#[source] io::Error),
    /// A socket that was open has failed.
    #[error("netlink socket failed while {doing}. Restart the agent; forwarding goes on meanwhile")]
    Socket {
        /// What was under way.
        doing: &'static str,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a question.
    #[error("kernel refused to list {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to resolve neighbours for us.
    #[error("cannot have the kernel resolve {address} on interface {ifindex}. The agent needs CAP_NET_ADMIN")]
    Neighbour {
        /// The backend or gateway.
        address: IpAddr,
        /// Where it should be.
        ifindex: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A running subscription.
#[derive(Debug)]
pub struct Network {
    /// The view; holds a complete one from the beginning.
    pub view: watch::Receiver<Arc<NetworkView>>,
    /// Ends with `Ok` after `shutdown` (or when the sender of the watched set is gone), its neighbours given up; with an error
    /// when the kernel can no longer be followed, and then the last view stays.
    pub task: JoinHandle<Result<(), NetlinkError>>,
}

/// Subscribes in the calling thread's network namespace, and returns when the first view is complete.
///
/// # Errors
/// No socket, or a kernel that refuses to answer; nothing is left running then.
pub async fn start(
    watched: watch::Receiver<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
) -> Result<Network, NetlinkError> {
    let (actor, view) = actor::Actor::open(watched, shutdown).await?;
    Ok(Network { view, task: tokio::spawn(actor.run()) })
}

/// Index and description of the interface called `name`; `None` if there is none.
///
/// # Errors
/// No socket, or a kernel that refuses to answer.
pub async fn link_by_name(name: &str) -> Result<Option<(u32, Interface)>, NetlinkError> {
    let found = socket::Requests::open()?.link(name).await?;
    Ok(found.map(|link| (link.ifindex, link.interface)))
}

/// Gives up every neighbour that an agent has put under management in this namespace, also one that was killed. Returns how many.
///
/// # Errors
/// No socket, or a kernel that refuses.
pub async fn release_neighbours() -> Result<usize, NetlinkError> {
    keeper::release(&mut socket::Requests::open()?).await
}
