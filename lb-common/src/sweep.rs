//! What one flow entry means now: the agent's sweep counts by it, and frees what has ended.

use crate::clock::Ticks;
use crate::flow::{FlowEntry, FlowState};
use crate::service::{FORWARD_NAT, ServiceEntry};

/// An ended flow stays this long, ticks (about 4 s): its last segments, retransmitted once or twice, find their owner.
pub const ENDED_TICKS: u16 = 16;

/// What an entry counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// A confirmed flow that lives.
    Active,
    /// Only its SYN has been seen.
    HalfOpen,
    /// Seen once, in mid-stream or as a datagram: routed like a live one, not counted as active.
    Adopted,
    /// Over, and kept a little while.
    Ended,
    /// Over: to be removed, and counted as expired unless it had ended by itself.
    Expire,
}

/// Judges an entry of `service` at `now`. A free entry is `Expire`: there is nothing to keep.
///
/// Half-open flows end after `syn_ticks`; confirmed and adopted ones after `idle_ticks` of silence; behind DSR, where the
/// server's half is not seen, a flow whose client has sent FIN after `fin_ticks` of silence. In nat a flow with one FIN lives
/// as long as either side speaks, because the reply path keeps it alive too.
pub const fn judge(entry: FlowEntry, now: Ticks, service: &ServiceEntry) -> Judgement {
    let age = now.since(entry.time());
    let Some(state) = entry.state() else {
        return Judgement::Expire;
    };
    let (alive, limit) = match state {
        FlowState::HalfOpen => (Judgement::HalfOpen, service.syn_ticks),
        FlowState::Adopted => (Judgement::Adopted, service.idle_ticks),
        FlowState::FinClient if service.forward != FORWARD_NAT => (Judgement::Active, service.fin_ticks),
        FlowState::Established | FlowState::FinClient | FlowState::FinServer => (Judgement::Active, service.idle_ticks),
        FlowState::Ended => (Judgement::Ended, ENDED_TICKS),
    };
    if age > limit { Judgement::Expire } else { alive }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::FORWARD_L2DSR;

    const NAT: ServiceEntry = ServiceEntry {
        id: 1,
        forward: FORWARD_NAT,
        select: 0,
        tracking: 0,
        flags: 0,
        syn_ticks: 19,
        idle_ticks: 3_400,
        fin_ticks: 38,
        snat_port_first: 0,
        snat_port_count: 0,
    };

    fn at(state: FlowState, age: u16, service: &ServiceEntry) -> Judgement {
        judge(FlowEntry::new(7, 3, state, Ticks(100)), Ticks(100 + age), service)
    }

    #[test]
    fn a_half_open_flow_expires_after_the_syn_timeout_and_never_counts_as_active() {
        assert_eq!(at(FlowState::HalfOpen, 19, &NAT), Judgement::HalfOpen);
        assert_eq!(at(FlowState::HalfOpen, 20, &NAT), Judgement::Expire);
    }

    #[test]
    fn a_half_closed_flow_lives_on_in_nat_and_ends_by_silence_behind_dsr() {
        let dsr = ServiceEntry { forward: FORWARD_L2DSR, ..NAT };
        assert_eq!(at(FlowState::FinClient, 39, &NAT), Judgement::Active);
        assert_eq!(at(FlowState::FinClient, 38, &dsr), Judgement::Active);
        assert_eq!(at(FlowState::FinClient, 39, &dsr), Judgement::Expire);
    }

    #[test]
    fn an_ended_flow_is_kept_a_little_while_and_removed() {
        assert_eq!(at(FlowState::Ended, ENDED_TICKS, &NAT), Judgement::Ended);
        assert_eq!(at(FlowState::Ended, ENDED_TICKS + 1, &NAT), Judgement::Expire);
    }

    #[test]
    fn silence_beyond_the_idle_timeout_ends_a_confirmed_flow() {
        assert_eq!(at(FlowState::Established, 3_400, &NAT), Judgement::Active);
        assert_eq!(at(FlowState::Established, 3_401, &NAT), Judgement::Expire);
        assert_eq!(at(FlowState::Adopted, 3_400, &NAT), Judgement::Adopted);
    }
}
