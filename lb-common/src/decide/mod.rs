//! The one decision core: what becomes of a packet. Decides the order of the questions; each answer has its own file.
//!
//! Parse → service → flow → backend → forward. What is not ours passes untouched; what is ours and cannot be forwarded is
//! dropped under a name. The packet is changed only once it is certain that it leaves.

mod work;
mod glance;
mod fast;
mod select;
mod policy;
mod whose;
pub mod limits;
mod forward;
mod way;
mod rewrite;
pub mod encap;
mod mss;
mod report;
mod too_big;
mod tunnel;
mod snat;
mod fragment;
mod reply;
mod icmp;
mod quic;
mod neighbour;
pub mod trace;

use crate::family::{Family, V4, V6};
use crate::flow::FlowKey;
use crate::host::{HOST_ANY_PORT, HOST_PREFIX_VIPS, HOST_TRACE, Host};
use crate::packet::Packet;
use crate::parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Piece, ethernet, has_ports, transport};
use crate::service::{SERVICE_ACCESS, SERVICE_LIMITED, SERVICE_PREFIX, SERVICE_QUIC, ServiceEntry};
use crate::slot::{NOBODY, Owner};
use crate::stats::Tally;
use crate::tables::Tables;
use crate::verdict::Verdict;

pub use fast::{Sent, at_a_glance};
pub use fragment::FRAGMENT_TICKS;
pub use snat::{SNAT_PAUSE_TICKS, forward_key};
pub use work::{Sheet, Work};

use select::Choice;
use whose::{Whose, whose};
use work::SheetOf;

/// What becomes of a packet, and what is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What happened to its flow.
    pub tally: Tally,
    /// Whose flow it is; `NOBODY` where it is nobody's.
    pub owner: Owner,
    /// Interface it leaves by, where the verdict sends it.
    pub ifindex: u32,
    /// Length of the IP packet as it came in, bytes.
    pub bytes: u32,
    /// The kernel must find the next hop's MAC address (TC).
    pub resolve: bool,
    /// Somebody looks at packets ([`crate::trace`]).
    pub is_watched: bool,
}

impl Outcome {
    /// Ended so, and nothing else is known of it.
    pub const fn of(verdict: Verdict) -> Self {
        Self { verdict, tally: Tally(0), owner: NOBODY, ifindex: 0, bytes: 0, resolve: false, is_watched: false }
    }
}

/// What is still to be asked of a packet. The steps return it instead of calling each other: a BPF stack has 512 bytes for a
/// whole chain of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing: the outcome is complete.
    Done,
    /// A client's packet for a QUIC service: whom does its connection ID name?
    Quic,
    /// A client's packet whose owner only the flow table can tell.
    Table,
    /// A client's packet, and its owner is on the sheet.
    Forward,
    /// It is for no service: what is it?
    Stranger,
    /// Its way to the backend is on the sheet.
    Put,
    /// It goes to the backend on the sheet, encapsulated.
    Wrap,
    /// The same, and its way is on the sheet.
    Enclose,
    /// It does not fit, and the outcome says so already: can its sender be told?
    TooBig,
    /// An ICMP error about what may be an outer packet of ours: whose flow is inside?
    Tunnel,
    /// It is one of our flows': where is its client?
    Tell,
    /// An ICMP error of our own is on the sheet.
    Report,
    /// A later fragment: where did its head go?
    Tail,
    /// An ICMP message: what does it want?
    Icmp,
    /// A neighbour solicitation: for a VIP?
    Solicitation,
    /// Echo requested of a VIP.
    Echo,
    /// An ICMP error to a VIP: about which client's flow?
    AboutClient,
    /// An ICMP error: about which backend's flow?
    AboutBackend,
    /// An ICMP error, and whom to tell is on the sheet.
    Retell,
    /// TCP or UDP: a backend's answer?
    Reply,
    /// It is one, and its client is on the sheet.
    Answer,
    /// Its way is on the sheet: what does it say of its flow?
    Books,
    /// None of the above: does it concern us at all?
    Rest,
}

/// Decides what becomes of a packet, and changes it accordingly.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(p: &mut P, t: &T, work: &mut Work) -> Outcome {
    match t.host().and_then(|host| at_a_glance(p, t, host)) {
        Some(sent) => sent.into(),
        None => in_full(p, t, work),
    }
}

/// The same, by every question there is.
#[inline(always)]
pub fn in_full<P: Packet, T: Tables>(p: &mut P, t: &T, work: &mut Work) -> Outcome {
    let mut out = Outcome::of(Verdict::PassNotIp);
    in_full_into(p, t, work, &mut out);
    out
}

/// As `in_full`, where a second copy of the outcome would be too much: on a BPF stack. `out` comes as [`Outcome::of`]
/// `PassNotIp`.
#[inline(always)]
pub fn in_full_into<P: Packet, T: Tables>(p: &mut P, t: &T, work: &mut Work, out: &mut Outcome) {
    let (mut v4, mut v6) = (Next::Done, Next::Done);
    match ethernet(p) {
        Some((ETHERTYPE_IPV4, l3)) => {
            work.v4.ip.l3 = l3;
            v4 = datagram::<V4, P, T>(p, t, &mut work.v4, out);
            if matches!(v4, Next::Tunnel) {
                work.tunnel = work.v4.tunnel;
                v4 = tunnel::whose::<V4, P, T>(p, t, &work.tunnel, &mut work.v4, out);
                if matches!(v4, Next::Rest) {
                    out.verdict = rest::<V4, T>(t, &mut work.v4);
                }
            }
        }
        Some((ETHERTYPE_IPV6, l3)) => {
            work.v6.ip.l3 = l3;
            v6 = datagram::<V6, P, T>(p, t, &mut work.v6, out);
            if matches!(v6, Next::Solicitation) {
                out.verdict = neighbour::solicitation(p, t, &mut work.v6, out);
            }
            if matches!(v6, Next::Tunnel) {
                work.tunnel = work.v6.tunnel;
                if work.tunnel.is_v6 {
                    v6 = tunnel::whose::<V6, P, T>(p, t, &work.tunnel, &mut work.v6, out);
                } else {
                    v4 = tunnel::whose::<V4, P, T>(p, t, &work.tunnel, &mut work.v4, out);
                    v6 = if matches!(v4, Next::Rest) { v4 } else { Next::Done };
                }
                if matches!(v6, Next::Rest) {
                    out.verdict = rest::<V6, T>(t, &mut work.v6);
                }
            }
        }
        Some((ETHERTYPE_ARP, l3)) => out.verdict = neighbour::arp(p, t, l3, out),
        _ => {}
    }
    if matches!(v4, Next::Tell) {
        v4 = tunnel::tell::<V4, P, T>(p, t, &mut work.v4, out);
    }
    if matches!(v6, Next::Tell) {
        v6 = tunnel::tell::<V6, P, T>(p, t, &mut work.v6, out);
    }
    if matches!(v4, Next::Report) {
        out.verdict = report::send::<V4, P>(p, &mut work.v4, out);
    }
    if matches!(v6, Next::Report) {
        out.verdict = report::send::<V6, P>(p, &mut work.v6, out);
    }
}

/// TCP and UDP to a service come first and take the shortest way. What is left to be asked is IPv6's alone.
#[inline(always)]
fn datagram<F: Family, P: Packet, T: Tables>(p: &mut P, t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    let mut next = client::<F, P, T>(p, t, sheet, out);
    if matches!(next, Next::Quic) {
        next = quic::route::<F, P, T>(p, t, sheet);
    }
    if matches!(next, Next::Table) {
        if sheet.service.flags & SERVICE_LIMITED != 0 {
            let _asked = limits::ask::<F, T>(t, sheet);
        }
        sheet.choice = select::by_table(t, &sheet.question);
        next = Next::Forward;
    }
    if matches!(next, Next::Forward) {
        next = forward::packet::<F, P, T>(t, sheet, out);
    } else if !matches!(next, Next::Done) {
        next = others::<F, P, T>(p, t, sheet, out);
    }
    if matches!(next, Next::Put) {
        out.verdict = forward::send::<F, P>(p, sheet, out);
        return Next::Done;
    }
    if matches!(next, Next::Wrap) {
        next = encap::way::<F, P, T>(t, sheet, out);
    }
    if matches!(next, Next::Enclose) {
        encap::clamp::<F, P>(p, sheet);
        out.verdict = encap::send::<F, P, T>(p, t, sheet, out);
        next = Next::Done;
    }
    if matches!(next, Next::TooBig) {
        next = too_big::tell::<F, P, T>(p, t, sheet);
    }
    next
}

/// What is for no service.
#[inline(always)]
fn others<F: Family, P: Packet, T: Tables>(p: &mut P, t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    let mut next = stranger::<F>(sheet);
    if matches!(next, Next::Icmp) {
        next = icmp::message::<F, P, T>(p, t, sheet, out);
    }
    if matches!(next, Next::AboutClient) {
        next = icmp::about_a_client::<F, P, T>(t, sheet, out);
    }
    if matches!(next, Next::AboutBackend) {
        next = icmp::about_a_backend::<F, P, T>(p, t, sheet, out);
    }
    match next {
        Next::Tail => next = fragment::tail::<F, P, T>(p, t, sheet, out),
        Next::Retell => out.verdict = icmp::retell::<F, P>(p, sheet, out),
        Next::Echo => out.verdict = icmp::echo::<F, P, T>(p, t, sheet, out),
        Next::Reply => next = reply::packet::<F, T>(t, sheet),
        _ => {}
    }
    if matches!(next, Next::Answer) {
        next = reply::answer::<F, P, T>(p, t, sheet, out);
    }
    if matches!(next, Next::Books) {
        next = reply::books::<F, T>(t, sheet, out);
    }
    if matches!(next, Next::Rest) {
        out.verdict = rest::<F, T>(t, sheet);
    }
    next
}

/// Reads the packet, and finds its service and its flow's owner, if it is for a service.
#[inline(never)]
fn client<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>, out: &mut Outcome) -> Next {
    let Some(host) = t.host() else {
        out.verdict = Verdict::PassNotOurs;
        return Next::Done;
    };
    out.is_watched = host.flags & HOST_TRACE != 0;
    let l3 = sheet.ip.l3;
    if F::parse(p, l3, &mut sheet.ip).is_none() {
        out.verdict = unreadable::<F, P, T>(p, t, l3);
        return Next::Done;
    }
    out.bytes = u32::from(sheet.ip.len);
    sheet.has_ports = false;
    if matches!(sheet.ip.piece, Piece::Tail) {
        return Next::Stranger;
    }
    let Some(tr) = transport(p, &sheet.ip) else {
        return Next::Stranger;
    };
    sheet.tr = tr;
    sheet.has_ports = true;
    let Some(service) = service::<F, T>(t, host, &sheet.ip.dst, tr.dst_port, sheet.ip.protocol) else {
        return Next::Stranger;
    };
    sheet.service = *service;
    if service.flags & SERVICE_ACCESS != 0 && limits::is_denied::<F, T>(t, sheet, out) {
        return Next::Done;
    }
    if service.flags & SERVICE_QUIC != 0 {
        return Next::Quic;
    }
    let key = key_of::<F>(host, service, (&sheet.ip.src, tr.src_port), (&sheet.ip.dst, tr.dst_port));
    sheet.wrap.entropy = key.bucket;
    match select::choose(t, host, service, key, (tr.segment, p.arrival().keeps_books), &mut sheet.question) {
        Some(owner) => {
            sheet.choice = Choice::plain(owner);
            Next::Forward
        }
        None => Next::Table,
    }
}

/// Sorts what is for no service.
#[inline(always)]
fn stranger<F: Family>(sheet: &SheetOf<F>) -> Next {
    if matches!(sheet.ip.piece, Piece::Tail) {
        Next::Tail
    } else if sheet.ip.protocol == F::ICMP {
        Next::Icmp
    } else if sheet.has_ports {
        Next::Reply
    } else {
        Next::Rest
    }
}

/// What no rule knows passes, unless it is for a VIP that nobody else holds.
#[inline(never)]
fn rest<F: Family, T: Tables>(t: &T, sheet: &mut SheetOf<F>) -> Verdict {
    if matches!(sheet.ip.piece, Piece::Head) && !fragment::leave_alone::<F, T>(t, sheet) {
        return Verdict::DropFragmentTableFull;
    }
    let is_icmp = sheet.ip.protocol == F::ICMP;
    match whose::<F, T>(t, &sheet.ip.dst) {
        Whose::Vip if is_icmp => Verdict::DropIcmp,
        Whose::Vip if !sheet.has_ports && has_ports(sheet.ip.protocol) => Verdict::DropMalformed,
        Whose::Vip => Verdict::DropNoService,
        Whose::Assigned => Verdict::PassLocal,
        Whose::Backend | Whose::Stranger => Verdict::PassNotOurs,
    }
}

/// Key of a flow between a client and a VIP.
#[inline(always)]
fn key_of<F: Family>(
    host: &Host,
    service: &ServiceEntry,
    client: (&F::Addr, [u8; 2]),
    vip: (&F::Addr, [u8; 2]),
) -> FlowKey {
    let by_source = service.slot_by_source();
    let key = F::flow_key(&host.seed, client.0, client.1, vip.1, service.id, by_source);
    if service.flags & SERVICE_PREFIX == 0 { key } else { F::to_vip(&host.seed, key, vip.0, by_source) }
}

/// Exact VIP:port:protocol, then the VIP with any port; then the same of the longest prefix VIP that holds the address (the
/// agent enters under a prefix what shorter ones around it bring along).
#[inline(always)]
fn service<'a, F: Family, T: Tables>(
    t: &'a T,
    host: &Host,
    addr: &F::Addr,
    port: [u8; 2],
    protocol: u8,
) -> Option<&'a ServiceEntry> {
    let mut found = F::service(t, addr, port, protocol);
    if found.is_none() && host.flags & (HOST_ANY_PORT | HOST_PREFIX_VIPS) != 0 {
        let any_port = host.flags & HOST_ANY_PORT != 0;
        if any_port {
            found = F::service(t, addr, [0, 0], protocol);
        }
        if found.is_none() && host.flags & HOST_PREFIX_VIPS != 0 && !t.is_local(&F::to_address(addr)) {
            found = F::prefix_service(t, addr, port, protocol, any_port);
        }
    }
    found
}

/// An IP header that contradicts itself: dropped where it is for a VIP, the kernel's to judge otherwise.
#[inline(always)]
fn unreadable<F: Family, P: Packet, T: Tables>(p: &P, t: &T, l3: usize) -> Verdict {
    match F::destination(p, l3) {
        Some(dst) if whose::<F, T>(t, &dst) == Whose::Vip => Verdict::DropMalformed,
        _ => Verdict::PassNotOurs,
    }
}
