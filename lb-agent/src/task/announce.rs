//! Tells the links which VIPs are ours, whenever that changes: neighbours that knew another host forget it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// VIPs that are ours, and the interfaces (index, MAC address) on which we say so.
pub type Announced = BTreeSet<(IpAddr, u32, [u8; 6])>;

/// Runs until `stop`; `announce` sends one gratuitous ARP or neighbour advertisement.
pub async fn run<E: std::fmt::Display>(
    mut announced: watch::Receiver<Announced>,
    announce: impl Fn(IpAddr, u32, [u8; 6]) -> Result<(), E>,
    stop: CancellationToken,
) {
    let mut known = Announced::new();
    loop {
        let wanted = announced.borrow_and_update().clone();
        for (vip, ifindex, mac) in wanted.difference(&known) {
            if let Err(e) = announce(*vip, *ifindex, *mac) {
                tracing::warn!("VIP {vip} not announced: {e}. Neighbours find it by their own questions");
            }
        }
        known = wanted;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = announced.changed() => if changed.is_err() { return },
        }
    }
}
