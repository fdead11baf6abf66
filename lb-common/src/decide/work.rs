//! Working memory of one decision. A BPF program has 512 bytes of stack for a whole chain of calls, and an IPv6 packet that an
//! ICMP error quotes needs more: the shell lends a record per CPU, the host one on its stack.

use super::encap::Wrap;
use super::reply::{Asked, Translation};
use super::report::Report;
use super::rewrite::Ends;
use super::select::{Choice, Question};
use super::tunnel::Tunnel;
use super::way::Way;
use crate::family::Family;
use crate::parse::{Ip, Quote, Transport};
use crate::reply::{FragmentEntry, FragmentKey, SnatForwardKey, SnatReverseEntry, SnatReverseKey};
use crate::service::ServiceEntry;
use crate::tables::RouteQuery;

/// What a decision writes down on its way. Nothing in it outlives the packet; whoever reads a field has written it before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    pub(crate) v4: Sheet<[u8; 4]>,
    pub(crate) v6: Sheet<[u8; 16]>,
    pub(super) tunnel: Tunnel,
}

/// The part that belongs to one family.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "notes of steps that do not know each other, no state machine")]
pub struct Sheet<A> {
    pub(super) ip: Ip<A>,
    pub(super) tr: Transport,
    /// Whether `tr` is of this packet.
    pub(super) has_ports: bool,
    pub(super) service: ServiceEntry,
    pub(super) question: Question,
    pub(super) choice: Choice,
    pub(super) quote: Quote<A>,
    pub(super) asked: Asked<A>,
    pub(super) to: Translation<A>,
    pub(super) ends: Ends<A>,
    pub(super) way: Way,
    pub(super) is_reply: bool,
    pub(super) is_routed: bool,
    pub(super) query: RouteQuery,
    pub(super) lent: SnatForwardKey,
    pub(super) lent_as: SnatReverseKey,
    pub(super) borrower: SnatReverseEntry,
    /// Where the search for a port begins.
    pub(super) draw: u32,
    pub(super) epoch_shift: u32,
    pub(super) flow_ended: bool,
    pub(super) pieces: FragmentKey,
    pub(super) follow: FragmentEntry,
    pub(super) wrap: Wrap,
    /// Largest packet that would have fitted, where one did not.
    pub(super) limit: u16,
    pub(super) report: Report<A>,
    pub(super) tunnel: Tunnel,
}

/// A sheet of a family.
pub(super) type SheetOf<F> = Sheet<<F as Family>::Addr>;
