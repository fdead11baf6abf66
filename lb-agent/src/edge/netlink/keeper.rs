//! Has the kernel resolve the neighbours we need and keep them fresh, and gives them up again.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use netlink_packet_route::route::RouteProtocol;
use tokio::time::Instant;

use super::NetlinkError;
use super::decode::{Event, Neighbour, NeighbourKey, Owner, Phase};
use super::socket::{Denial, Requests};
use super::table::Table;

/// Who made a neighbour entry (`NDA_PROTOCOL`, shown by `ip neigh` as `proto 87`): how entries of an agent that was killed are
/// found. 87 ("W") is not assigned by the kernel, iproute2 or FRR.
pub(super) const OURS: RouteProtocol = RouteProtocol::Other(87);
/// How soon a neighbour that nobody answers for is asked for again. The kernel's own retry of managed entries is 5 s; a backend
/// that comes back should not wait for it. One ARP request a second for each.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How soon a stale neighbour is confirmed where the kernel does not manage it (before Linux 5.16).
const CONFIRM: Duration = Duration::from_secs(5);

/// When the kernel was last asked for each neighbour we need.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    asked: BTreeMap<NeighbourKey, Instant>,
}

impl Keeper {
    /// Asks for what `table` needs and lacks; gives up what was asked for and is no longer needed. Neighbours that nobody
    /// answers for are asked for again by calling this every [`RETRY`].
    pub(super) async fn tend(&mut self, table: &Table, requests: &mut Requests) -> Result<(), NetlinkError> {
        let now = Instant::now();
        let needed = table.needed();
        // Not whatever is marked as ours: a second agent on this host (with pins of its own) marks its neighbours likewise, and the
        // two would take them from each other for ever.
        for key in self.asked.keys().filter(|key| !needed.contains_key(key) && table.is_ours(key)) {
            give_up(*key, requests).await?;
        }
        self.asked.retain(|key, _| needed.contains_key(key));
        for (key, entry) in &needed {
            let since = self.asked.get(key).map(|asked| now.duration_since(*asked));
            if wants_asking(*entry, since) {
                let _before: Option<Instant> = self.asked.insert(*key, now);
                ask(*key, requests).await?;
            }
        }
        Ok(())
    }

    /// The entry is gone: the next [`Self::tend`] asks for it at once if it is still needed.
    pub(super) fn forget(&mut self, key: &NeighbourKey) {
        let _asked: Option<Instant> = self.asked.remove(key);
    }
}

/// `since`: time since the kernel was last asked for it; `None`: never.
fn wants_asking(entry: Option<Neighbour>, since: Option<Duration>) -> bool {
    match (entry, since) {
        (Some(Neighbour { owner: Owner::Other, .. }), _) => false,
        (_, None) => true,
        (Some(Neighbour { phase: Phase::Fresh | Phase::Resolving, .. }), _) => false,
        (Some(Neighbour { phase: Phase::Stale, managed, .. }), Some(since)) => !managed && since >= CONFIRM,
        (Some(Neighbour { phase: Phase::Failed, .. }) | None, Some(since)) => since >= RETRY,
    }
}

async fn ask(key: NeighbourKey, requests: &mut Requests) -> Result<(), NetlinkError> {
    match requests.manage_neighbour(key).await {
        Err(Denial::Refused(source)) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(NetlinkError::Neighbour { address: key.1, ifindex: key.0, source })
        }
        // Refused: the interface went down or away in the meantime, and the event that says so is on its way; or the kernel's
        // table is full, and the next try may find room.
        Ok(()) | Err(Denial::Refused(_)) => Ok(()),
        Err(Denial::Broken(error)) => Err(error),
    }
}

async fn give_up(key: NeighbourKey, requests: &mut Requests) -> Result<(), NetlinkError> {
    match requests.delete_neighbour(key).await {
        // Refused: it is gone already.
        Ok(()) | Err(Denial::Refused(_)) => Ok(()),
        Err(Denial::Broken(error)) => Err(error),
    }
}

/// Gives up every neighbour that is marked as ours, whoever marked it. Returns how many.
pub(super) async fn release(requests: &mut Requests) -> Result<usize, NetlinkError> {
    let mut released = 0;
    for event in requests.dump_neighbours().await? {
        if let Event::Neighbour(key, Neighbour { owner: Owner::Us, .. }) = event {
            give_up(key, requests).await?;
            released += 1;
        }
    }
    Ok(released)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Neighbour =
        Neighbour { mac: Some([2, 0, 0, 0, 0, 9]), phase: Phase::Fresh, managed: true, owner: Owner::Us };

    #[test]
    fn a_neighbour_is_asked_for_once_and_then_left_to_the_kernel() {
        assert!(wants_asking(None, None));
        assert!(wants_asking(Some(FRESH), None), "it is there by chance: it has to be put under management");
        assert!(!wants_asking(Some(FRESH), Some(Duration::from_secs(60))));
        assert!(!wants_asking(Some(Neighbour { phase: Phase::Stale, ..FRESH }), Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_neighbour_that_nobody_answers_for_is_asked_for_every_second() {
        let failed = Neighbour { mac: None, phase: Phase::Failed, ..FRESH };
        assert!(!wants_asking(Some(failed), Some(Duration::from_millis(900))));
        assert!(wants_asking(Some(failed), Some(RETRY)));
        assert!(wants_asking(None, Some(RETRY)));
        assert!(
            !wants_asking(Some(Neighbour { phase: Phase::Resolving, ..failed }), Some(RETRY)),
            "the kernel is at it"
        );
    }

    #[test]
    fn an_operators_static_entry_is_never_touched() {
        let foreign = Neighbour { owner: Owner::Other, managed: false, ..FRESH };
        assert!(!wants_asking(Some(foreign), None));
        assert!(!wants_asking(Some(Neighbour { phase: Phase::Stale, ..foreign }), Some(Duration::from_secs(60))));
    }

    #[test]
    fn an_old_kernel_is_asked_to_confirm_what_is_stale() {
        let stale = Neighbour { phase: Phase::Stale, managed: false, ..FRESH };
        assert!(!wants_asking(Some(stale), Some(RETRY)));
        assert!(wants_asking(Some(stale), Some(CONFIRM)));
    }
}
