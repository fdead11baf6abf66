//! The shortest way through the decision, for the packets that are nearly all packets: untagged, whole, without options, to a
//! service by its exact port, of a flow that is where it was. It asks the questions of the full path in the same order and
//! gives the same answers; what it is not sure of it leaves to the full path, and has changed nothing then.
//!
//! Everything is in the caller's code and nothing lies in memory on the way: no call, no stack, no `Work`.

use super::Outcome;
use super::encap::{IPV4_LEN, IPV6_LEN, Inner, UDP_LEN, outer_udp, outer_v4, outer_v6, source};
use super::glance::{ACK, FIN, Glance, L3, PSH, Plain, RST, SYN};
use crate::backend::{BACKEND_ON_LINK, BACKEND_REACHABLE, BACKEND_VIA_TC, BackendEntry};
use crate::family::{V4, V6};
use crate::flow::{FlowEntry, FlowKey, FlowState, Segment, first_state};
use crate::host::{HOST_SLOW, Host};
use crate::packet::Packet;
use crate::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::service::{
    FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, SERVICE_UNTRACKED, ServiceEntry, TRACKING_FULL,
    TRACKING_NONE,
};
use crate::slot::{NOBODY, Owner, slot_of};
use crate::stats::Tally;
use crate::table::{Inserted, forget_in_epoch, glance, insert_here, is_seen_in_epoch};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// A packet that has been sent on.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Whose flow it is.
    pub owner: Owner,
    /// Interface it leaves by.
    pub ifindex: u32,
    /// Length of the IP packet as it came in, bytes.
    pub bytes: u16,
    /// What happened to its flow.
    pub tally: Tally,
}

impl From<Sent> for Outcome {
    #[inline(always)]
    fn from(sent: Sent) -> Self {
        Self {
            owner: sent.owner,
            ifindex: sent.ifindex,
            bytes: u32::from(sent.bytes),
            tally: sent.tally,
            ..Self::of(Verdict::Forward)
        }
    }
}

/// Sends a packet on, if that can be done at a glance.
#[inline(always)]
pub fn at_a_glance<P: Packet, T: Tables>(p: &mut P, t: &T, host: &Host) -> Option<Sent> {
    if P::CAN_RESOLVE || host.flags & HOST_SLOW != 0 || !p.arrival().keeps_books {
        return None;
    }
    let start = p.words::<{ L3 - 2 }, 2>()?;
    match start[0].to_le_bytes() {
        // No options.
        [0x08, 0x00, 0x45, ..] => forward::<V4, P, T>(p, t, host, &V4::glance(p, start)?),
        [0x86, 0xdd, version, ..] if version >> 4 == 6 => forward::<V6, P, T>(p, t, host, &V6::glance(p, start)?),
        _ => None,
    }
}

#[inline(always)]
fn forward<F: Plain, P: Packet, T: Tables>(p: &mut P, t: &T, host: &Host, g: &Glance<F::Addr>) -> Option<Sent> {
    let service = <F as Plain>::service(t, host, g)?;
    // Whatever a flag asks for, it asks in full.
    if service.flags & !SERVICE_UNTRACKED != 0 {
        return None;
    }
    let by_source = service.slot_by_source();
    let key = F::flow_key(&host.seed, &g.src, g.src_port, g.dst_port, service.id, by_source);
    let slot = t.slot(service.id, slot_of(key.tag, by_source))?;
    let is_event = g.flags & (SYN | FIN | RST) != 0;
    let mut is_new = false;
    let mut owner = slot.current();
    if service.tracking != TRACKING_NONE {
        if service.owner_is_in_table() || slot.in_transition() {
            if is_event {
                return None;
            }
            owner = by_entry(t, host, service, key)?;
        } else if service.tracking == TRACKING_FULL {
            if is_event {
                if g.flags & (SYN | FIN | RST | ACK) != SYN {
                    return None;
                }
                is_new = true;
            } else if !is_seen_in_epoch(t, host, key, t.now()) {
                return None;
            }
        }
    }
    if owner == NOBODY {
        return None;
    }
    let b = t.backend(owner)?;
    if !is_plain::<F>(b, service, g) {
        return None;
    }
    let mut tally = Tally((g.flags & PSH) << 2);
    if is_new {
        open(t, host, key, owner)?;
        tally.add(Tally::OPENED);
    }
    match service.forward {
        FORWARD_NAT => translate::<F, P>(p, b, g)?,
        FORWARD_L2DSR => {}
        forward => wrap::<F, P>(p, b, g, forward == FORWARD_GUE, key.bucket)?,
    }
    p.put::<0, 12>(b.macs())?;
    Some(Sent { owner, ifindex: b.ifindex, bytes: g.len, tally })
}

/// The owner that the flow table names, where the packet changes nothing about its flow: it is established, refreshed in this
/// epoch, and its owner lives.
#[inline(always)]
fn by_entry<T: Tables>(t: &T, host: &Host, service: &ServiceEntry, key: FlowKey) -> Option<Owner> {
    let entry = glance(t, key, host.flow_mask)?;
    if entry.state_number() != FlowState::Established as u8 || !entry.time().same_epoch(t.now(), host.epoch_shift) {
        return None;
    }
    let b = t.backend(entry.owner())?;
    if b.service == service.id && b.is_alive() { Some(entry.owner()) } else { None }
}

/// A flow that the table does not know yet, in a slot where the ring routes: enters it. `None`: it is no such flow, or there is
/// no room; nothing has been changed.
#[inline(always)]
fn open<T: Tables>(t: &T, host: &Host, key: FlowKey, owner: Owner) -> Option<()> {
    if !glance(t, key, host.flow_mask)?.is_free() {
        return None;
    }
    let now = t.now();
    let entry = FlowEntry::new(key.tag, owner, first_state(Segment::Syn), now);
    if !matches!(insert_here(t, key, host.flow_mask, entry), Inserted::Yes) {
        return None;
    }
    forget_in_epoch(t, host, key, now);
    Some(())
}

/// Whether nothing stands between the packet and this backend.
#[inline(always)]
fn is_plain<F: Plain>(b: &BackendEntry, service: &ServiceEntry, g: &Glance<F::Addr>) -> bool {
    let more = if service.encapsulates() { outer_len(b, service.forward == FORWARD_GUE) } else { 0 };
    if b.mtu != 0 && u32::from(g.len) + u32::from(more) > u32::from(b.mtu) {
        return false;
    }
    let flags = b.flags & (BACKEND_REACHABLE | BACKEND_VIA_TC | BACKEND_ON_LINK);
    match service.forward {
        FORWARD_NAT => flags == BACKEND_REACHABLE && g.ttl > 1 && g.src != F::from_address(&b.addr),
        FORWARD_L2DSR => flags & !BACKEND_ON_LINK == BACKEND_REACHABLE,
        // A SYN's options are looked at in full. The outer header is of the packet's family, or IPv6 (4in6).
        FORWARD_IPIP | FORWARD_GUE => {
            flags & !BACKEND_ON_LINK == BACKEND_REACHABLE
                && g.ttl > 1
                && g.len <= u16::MAX - LONGEST_OUTER
                && !(g.flags & SYN != 0 && g.has_options)
        }
        _ => false,
    }
}

/// nat: the backend becomes the destination.
#[inline(always)]
fn translate<F: Plain, P: Packet>(p: &mut P, b: &BackendEntry, g: &Glance<F::Addr>) -> Option<()> {
    let port = if b.port == [0, 0] { g.dst_port } else { b.port };
    F::aim(p, g, &F::from_address(&b.addr), port)
}

/// ipip, gue: another header in front, the packet as it is but for one hop of its life. `None`: no room; its life is one hop
/// shorter all the same, which is nothing to whoever drops it.
#[inline(always)]
fn wrap<F: Plain, P: Packet>(
    p: &mut P,
    b: &BackendEntry,
    g: &Glance<F::Addr>,
    is_gue: bool,
    entropy: u32,
) -> Option<()> {
    F::hop(p, g)?;
    let inner = Inner { is_v6: F::IS_V6, class: g.class, len: g.len, entropy };
    match (b.is_v4(), is_gue) {
        (true, false) => {
            p.begin_earlier::<20>()?;
            outside_v4(p, b, is_gue, &inner)
        }
        (true, true) => {
            p.begin_earlier::<28>()?;
            outside_v4(p, b, is_gue, &inner)?;
            p.put::<{ L3 + 20 }, 8>(outer_udp(b, &inner))
        }
        (false, false) => {
            p.begin_earlier::<40>()?;
            outside_v6(p, b, is_gue, &inner)
        }
        (false, true) => {
            p.begin_earlier::<48>()?;
            outside_v6(p, b, is_gue, &inner)?;
            p.put::<{ L3 + 40 }, 8>(outer_udp(b, &inner))
        }
    }
}

#[inline(always)]
fn outside_v4<P: Packet>(p: &mut P, b: &BackendEntry, is_gue: bool, inner: &Inner) -> Option<()> {
    p.put::<{ L3 - 2 }, 2>(ETHERTYPE_IPV4.to_be_bytes())?;
    p.put::<{ L3 }, 20>(outer_v4(b, is_gue, inner))
}

#[inline(always)]
fn outside_v6<P: Packet>(p: &mut P, b: &BackendEntry, is_gue: bool, inner: &Inner) -> Option<()> {
    p.put::<{ L3 - 2 }, 2>(ETHERTYPE_IPV6.to_be_bytes())?;
    p.put::<{ L3 }, 8>(outer_v6(is_gue, inner))?;
    p.put::<{ L3 + 8 }, 16>(source(b, inner.entropy).0)?;
    p.put::<{ L3 + 24 }, 16>(b.addr.0)
}

/// Bytes that go in front of a packet to this backend.
#[inline(always)]
fn outer_len(b: &BackendEntry, is_gue: bool) -> u16 {
    (if b.is_v4() { IPV4_LEN } else { IPV6_LEN }) + if is_gue { UDP_LEN } else { 0 }
}

/// An IPv6 header and a UDP header, bytes.
const LONGEST_OUTER: u16 = IPV6_LEN + UDP_LEN;

const _: () = assert!(PSH << 2 == Tally::MESSAGE);
