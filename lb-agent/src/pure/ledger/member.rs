//! One backend of one service as the agent knows it: what it is meant to do, how it is, what it carries.

use std::net::SocketAddr;
use std::time::Duration;

use lb_common::slot::Owner;
use lb_common::stats::OwnerCounters;

use crate::pure::health::{Health, HealthChange, flows_stay};
use crate::pure::model::{BackendState, OnDown};
use crate::pure::quic::ServerId;
use crate::pure::sweep::FlowCounts;
use crate::pure::wanted::{Intent, Origin};

/// Where a backend is on its way through life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Takes new flows while it is healthy.
    Serving,
    /// Takes none, finishes its own.
    Draining {
        /// When that was acknowledged.
        since: Duration,
        /// When what is left is cut.
        deadline: Duration,
        /// What follows: it goes, or it stays as `disabled`.
        remove: bool,
    },
    /// Its drain has ended.
    Drained {
        /// How long it took.
        took: Duration,
        /// Whether flows were cut at the deadline.
        cut: u64,
    },
    /// Out of service by the operator's will.
    Disabled,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its index in the maps.
    pub owner: Owner,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Relative share of new flows, as wanted.
    pub weight: u16,
    /// Who named it.
    pub origin: Origin,
    /// Where it is on its way.
    pub phase: Phase,
    /// What the probes say.
    pub health: Health,
    /// Up since then; `None` where it is not, or was before we came.
    pub up_since: Option<Duration>,
    /// Whether it has ever been up: the panic threshold falls back on those alone.
    pub ever_up: bool,
    /// The last probe's words, or why it is in its phase.
    pub reason: String,
    /// Its flows were let go then: entries that name it are misses until a sweep has removed them.
    pub dead_since: Option<Duration>,
    /// Counts how often its health was to be judged afresh.
    pub round: u64,
    /// QUIC: what connection IDs call it. It keeps its name while it leaves.
    pub server_id: Option<ServerId>,
    /// Flows now.
    pub flows: FlowCounts,
    /// Counters since load.
    pub counters: OwnerCounters,
}

impl Member {
    pub(super) fn new(owner: Owner, addr: SocketAddr, weight: u16, origin: Origin) -> Self {
        Self {
            owner,
            addr,
            weight,
            origin,
            phase: Phase::Serving,
            health: Health::Starting,
            up_since: None,
            ever_up: false,
            reason: "no probe has passed yet".to_owned(),
            dead_since: None,
            round: 0,
            server_id: None,
            flows: FlowCounts::default(),
            counters: OwnerCounters::default(),
        }
    }

    /// State as `status` prints it.
    pub fn state(&self) -> BackendState {
        match (self.phase, self.health) {
            (Phase::Draining { .. }, _) => BackendState::Draining,
            (Phase::Drained { .. } | Phase::Disabled, _) => BackendState::Disabled,
            (Phase::Serving, Health::Starting) => BackendState::Starting,
            // It passes its probes, but entries of its former flows must be gone before it gets new ones.
            (Phase::Serving, Health::Up) if !self.is_alive() => BackendState::Starting,
            (Phase::Serving, Health::Up) => BackendState::Up,
            (Phase::Serving, Health::Down(_)) => BackendState::Down,
        }
    }

    /// Whether established flows may stay.
    pub const fn is_alive(&self) -> bool {
        self.dead_since.is_none()
    }

    /// Whether its probes pass.
    pub const fn is_up(&self) -> bool {
        matches!(self.health, Health::Up)
    }

    /// Takes a judgement in.
    pub(super) fn judge(&mut self, change: &HealthChange, now: Duration) {
        self.health = change.to;
        self.up_since = self.is_up().then_some(now);
        self.ever_up |= self.is_up();
        self.reason.clone_from(&change.reason);
    }

    /// Whether anybody probes it.
    pub const fn is_probed(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Draining { .. })
    }

    /// Whether it is down in a way that lets its established flows go.
    pub(super) const fn lets_flows_go(&self, on_down: OnDown) -> bool {
        match self.health {
            Health::Down(kind) => !flows_stay(on_down, kind),
            Health::Starting | Health::Up => false,
        }
    }

    /// Flows that would be cut if it went now.
    pub const fn flows_at_stake(&self) -> u64 {
        self.flows.active + self.flows.adopted
    }

    /// Moves towards what is wanted; what there is to tell, if it moved.
    pub(super) fn intend(&mut self, intent: Intent, now: Duration, drain_timeout: Duration) -> Option<String> {
        match (intent, self.phase) {
            (Intent::Serve, Phase::Serving)
            | (Intent::Drain, Phase::Draining { remove: false, .. } | Phase::Drained { .. })
            | (Intent::Disable, Phase::Disabled) => None,
            (Intent::Serve, Phase::Draining { .. }) => {
                self.phase = Phase::Serving;
                Some("serves again: its drain was taken back".to_owned())
            }
            (Intent::Serve, Phase::Drained { .. } | Phase::Disabled) => {
                self.phase = Phase::Serving;
                self.health = Health::Starting;
                self.up_since = None;
                self.round += 1;
                "enabled: no probe has passed since".clone_into(&mut self.reason);
                Some("enabled; it serves after its next passed probe".to_owned())
            }
            (Intent::Drain, Phase::Draining { remove: true, since, deadline }) => {
                self.phase = Phase::Draining { since, deadline, remove: false };
                None
            }
            (Intent::Drain, Phase::Serving | Phase::Disabled) => {
                self.drain(now, drain_timeout, false);
                Some("draining by the operator's will".to_owned())
            }
            (Intent::Disable, _) => {
                self.phase = Phase::Disabled;
                "disabled by the operator".clone_into(&mut self.reason);
                Some(format!("disabled by the operator; {} flows cut", self.flows_at_stake()))
            }
        }
    }

    /// Starts a drain (a running one keeps its start and deadline).
    pub(super) fn drain(&mut self, now: Duration, timeout: Duration, remove: bool) {
        let (since, deadline) = match self.phase {
            Phase::Draining { since, deadline, .. } => (since, deadline),
            _ => (now, now + timeout),
        };
        self.phase = Phase::Draining { since, deadline, remove };
        if remove { "draining, then removed" } else { "draining" }.clone_into(&mut self.reason);
    }
}
