//! Follows the kernel: takes in notifications, asks what they leave open, publishes the view that follows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::NetlinkError;
use super::decode::Event;
use super::keeper::{self, Keeper, RETRY};
use super::socket::{Notice, Notifications, Requests};
use super::table::Table;
use crate::pure::network::NetworkView;

/// Notifications come in bursts (a link that goes down takes its addresses and neighbours along); what comes within this time
/// after the first makes one view.
const BURST: Duration = Duration::from_millis(5);
/// Least time between two rounds of routing decisions, and between two dumps: bounds what a routing daemon in uproar costs us to
/// one `RTM_GETROUTE` (about 10 us) for each watched address, 20 times a second.
const GAP: Duration = Duration::from_millis(50);
/// How often everything is listed anew: what no notification speaks of (an expired path MTU) is noticed within this time.
const RESYNC: Duration = Duration::from_secs(30);

/// Everything that following the kernel takes. Owned by one task.
pub(super) struct Actor {
    watched: watch::Receiver<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
    view: watch::Sender<Arc<NetworkView>>,
    requests: Requests,
    notifications: Notifications,
    table: Table,
    keeper: Keeper,
    /// The tables are incomplete, or may be: everything is to be listed.
    listing: Due,
    /// Routing may have changed: all watched addresses are to be asked for.
    routing: Due,
}

impl Actor {
    /// Subscribes and makes the first view.
    pub(super) async fn open(
        watched: watch::Receiver<BTreeSet<IpAddr>>,
        shutdown: CancellationToken,
    ) -> Result<(Self, watch::Receiver<Arc<NetworkView>>), NetlinkError> {
        // Subscribed first, listed second: what changes in between is seen twice rather than never.
        let notifications = Notifications::open()?;
        let requests = Requests::open()?;
        let (view, receiver) = watch::channel(Arc::default());
        let mut actor = Self {
            watched,
            shutdown,
            view,
            requests,
            notifications,
            table: Table::default(),
            keeper: Keeper::default(),
            listing: Due::now(),
            routing: Due::now(),
        };
        actor.refresh().await?;
        Ok((actor, receiver))
    }

    /// Follows until shutdown; then gives up the neighbours.
    pub(super) async fn run(mut self) -> Result<(), NetlinkError> {
        let shutdown = self.shutdown.clone();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            outcome = self.follow() => outcome,
        };
        // On a socket of its own: a question that shutdown has interrupted may still be answered on the other.
        let released = async { keeper::release(&mut Requests::open()?).await }.await;
        outcome.and(released.map(drop))
    }

    /// Ends when nobody can change the watched addresses any more.
    async fn follow(&mut self) -> Result<(), NetlinkError> {
        let mut retry = interval(RETRY);
        let mut resync = interval(RESYNC);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // An interval's first tick is now; the first view has just been made.
        resync.reset();
        loop {
            let due = self.listing.at.into_iter().chain(self.routing.at).min();
            tokio::select! {
                notice = self.notifications.next() => {
                    self.take(notice?);
                    self.take_burst().await?;
                }
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = retry.tick() => {}
                _ = resync.tick() => self.listing.request(),
            }
            self.refresh().await?;
        }
    }

    async fn take_burst(&mut self) -> Result<(), NetlinkError> {
        let end = Instant::now() + BURST;
        while let Ok(notice) = timeout_at(end, self.notifications.next()).await {
            self.take(notice?);
        }
        Ok(())
    }

    fn take(&mut self, notice: Notice) {
        let Notice::Events(events) = notice else {
            self.listing.request();
            return;
        };
        for event in events {
            if let Event::NeighbourGone(key) = &event {
                self.keeper.forget(key);
            }
            if self.table.apply(event) {
                self.routing.request();
            }
        }
    }

    /// Asks for all that is open, and publishes the view if it is another one.
    async fn refresh(&mut self) -> Result<(), NetlinkError> {
        let now = Instant::now();
        if self.listing.take(now) {
            self.list_all().await?;
        }
        let watched = self.watched.borrow_and_update().clone();
        let mut open = self.table.watch(&watched);
        if self.routing.take(now) {
            open = watched.into_iter().collect();
        }
        for address in open {
            let route = self.requests.route(address).await?;
            self.table.decided(address, route);
        }
        self.keeper.tend(&self.table, &mut self.requests).await?;
        let view = self.table.view();
        let _published: bool = self.view.send_if_modified(|current| {
            let changed = **current != view;
            if changed {
                *current = Arc::new(view);
            }
            changed
        });
        Ok(())
    }

    async fn list_all(&mut self) -> Result<(), NetlinkError> {
        let mut listed = self.requests.dump_links().await?;
        listed.extend(self.requests.dump_addresses().await?);
        listed.extend(self.requests.dump_neighbours().await?);
        self.table.clear();
        for event in listed {
            let _routing: bool = self.table.apply(event);
        }
        self.routing.request();
        Ok(())
    }
}

/// Work that may be asked for at any time and is done at most once every [`GAP`].
#[derive(Debug)]
struct Due {
    at: Option<Instant>,
    last: Option<Instant>,
}

impl Due {
    /// Due at once.
    fn now() -> Self {
        Self { at: Some(Instant::now()), last: None }
    }

    /// Makes it due, as soon as the gap allows.
    fn request(&mut self) {
        let _at: &mut Instant = self.at.get_or_insert_with(|| {
            let now = Instant::now();
            self.last.map_or(now, |last| now.max(last + GAP))
        });
    }

    /// Whether it is to be done now; it then counts as done.
    fn take(&mut self, now: Instant) -> bool {
        let due = self.at.is_some_and(|at| at <= now);
        if due {
            self.at = None;
            self.last = Some(now);
        }
        due
    }
}
