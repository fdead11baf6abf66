//! What a decision's notes say about its packet, for those who look ([`crate::trace`]).
//!
//! Notes outlive packets, so that they are wiped before a packet of which something shall be told: what is there afterwards is
//! this packet's.

use super::work::SheetOf;
use super::{Outcome, Work};
use crate::endpoint::Address;
use crate::family::{Family, V4, V6};
use crate::slot::NOBODY;
use crate::tables::Tables;
use crate::trace::{ANY_SERVICE, SIGHT_REPLY, Sight, events};
use crate::verdict::Verdict;

/// Wipes what would be mistaken for this packet's.
#[inline(always)]
pub fn forget(work: &mut Work) {
    wipe::<V4>(&mut work.v4);
    wipe::<V6>(&mut work.v6);
}

#[inline(always)]
fn wipe<F: Family>(sheet: &mut SheetOf<F>) {
    sheet.ip.len = 0;
    sheet.has_ports = false;
    sheet.service.id = ANY_SERVICE;
    sheet.to.service = ANY_SERVICE;
}

/// Writes down what became of a packet. Times, interfaces it came by and lengths of frames are the shell's.
#[inline(always)]
pub fn describe<T: Tables>(t: &T, work: &Work, out: &Outcome, sight: &mut Sight) {
    sight.verdict = out.verdict as u8;
    sight.events = events(out);
    sight.owner = out.owner;
    sight.departure = out.ifindex;
    sight.bytes = 0;
    sight.flags = 0;
    sight.service = ANY_SERVICE;
    sight.protocol = 0;
    sight.client = Address([0; 16]);
    sight.vip = Address([0; 16]);
    sight.client_port = [0; 2];
    sight.vip_port = [0; 2];
    // Neither: no IP, or a header that contradicts itself.
    if work.v4.ip.len != 0 {
        flow::<V4>(&work.v4, out, sight);
    } else if work.v6.ip.len != 0 {
        flow::<V6>(&work.v6, out, sight);
    }
    if out.owner != NOBODY
        && let Some(backend) = t.backend(out.owner)
    {
        sight.service = backend.service;
    }
}

/// Between whom it is: the client's view of it, whichever way it goes.
#[inline(always)]
fn flow<F: Family>(sheet: &SheetOf<F>, out: &Outcome, sight: &mut Sight) {
    let ip = &sheet.ip;
    let is_answer = sheet.service.id == ANY_SERVICE && sheet.to.service != ANY_SERVICE;
    sight.protocol = ip.protocol;
    sight.bytes = u32::from(ip.len);
    sight.service = if is_answer { sheet.to.service } else { sheet.service.id };
    match out.verdict {
        // It speaks of a packet of the VIP to the client.
        Verdict::ForwardIcmp => {
            let quote = &sheet.quote;
            (sight.client, sight.client_port) = (F::to_address(&quote.dst), quote.dst_port);
            (sight.vip, sight.vip_port) = (F::to_address(&quote.src), quote.src_port);
        }
        // A tail has no ports, and an error speaks of a flow by its quote.
        Verdict::Reply | Verdict::ReplyIcmp => {
            sight.flags = SIGHT_REPLY;
            sight.client = F::to_address(&sheet.to.client);
            sight.vip = F::to_address(&sheet.to.vip);
            if sheet.has_ports {
                (sight.client_port, sight.vip_port) = (sheet.to.client_port, sheet.to.vip_port);
            }
        }
        _ if is_answer => {
            sight.flags = SIGHT_REPLY;
            (sight.client, sight.client_port) = (F::to_address(&sheet.to.client), sheet.to.client_port);
            (sight.vip, sight.vip_port) = (F::to_address(&sheet.to.vip), sheet.to.vip_port);
        }
        _ => {
            sight.client = F::to_address(&ip.src);
            sight.vip = F::to_address(&ip.dst);
            if sheet.has_ports {
                (sight.client_port, sight.vip_port) = (sheet.tr.src_port, sheet.tr.dst_port);
            }
        }
    }
}
