//! ARP (RFC 826) and neighbour discovery (RFC 4861): who has a VIP? We have. Answered in place, for VIPs that the host does
//! not hold itself.

use super::work::Sheet;
use super::{Outcome, Whose, whose};
use crate::csum::Change;
use crate::endpoint::Address;
use crate::family::{Family, V4, V6};
use crate::packet::Packet;
use crate::parse::Piece;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// An ARP packet up to the operation: Ethernet, IPv4, six and four bytes of address, request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

/// Answers a request for a VIP.
#[inline(never)]
pub(super) fn arp<P: Packet, T: Tables>(p: &mut P, t: &T, l3: usize, out: &mut Outcome) -> Verdict {
    let Some(ask) = p.load::<28>(l3) else {
        return Verdict::PassNotIp;
    };
    let (asker, target) = ([ask[14], ask[15], ask[16], ask[17]], [ask[24], ask[25], ask[26], ask[27]]);
    // Asker and target alike: an announcement, not a question.
    if ask[..8] != ARP_REQUEST || asker == target || whose::<V4, T>(t, &target) != Whose::Vip {
        return Verdict::PassNotIp;
    }
    let Some(interface) = t.interface(p.arrival().ifindex) else {
        return Verdict::PassNotIp;
    };
    let m = interface.mac;
    let to = [ask[8], ask[9], ask[10], ask[11], ask[12], ask[13]];
    let answer = [
        0, 1, 8, 0, 6, 4, 0, 2, m[0], m[1], m[2], m[3], m[4], m[5], target[0], target[1], target[2], target[3], to[0],
        to[1], to[2], to[3], to[4], to[5], asker[0], asker[1], asker[2], asker[3],
    ];
    let macs = [to[0], to[1], to[2], to[3], to[4], to[5], m[0], m[1], m[2], m[3], m[4], m[5]];
    let done = p.store::<28>(l3, answer).and_then(|()| p.store::<12>(0, macs));
    out.ifindex = p.arrival().ifindex;
    if done.is_some() { Verdict::ArpReply } else { Verdict::DropInternal }
}

/// Neighbour solicitation and advertisement up to their options.
const ND_LEN: usize = 24;
/// A link-layer address option for Ethernet.
const ND_OPTION_LEN: usize = 8;
/// Type of the option that names the asker's link-layer address.
const SOURCE_LINK_LAYER: u8 = 1;
/// Every node on the link.
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The Ethernet address of every node on the link.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Solicited and override (RFC 4861, section 4.4).
const SOLICITED_OVERRIDE: u8 = 0x60;
/// Override alone: an answer to somebody who has no address yet.
const OVERRIDE: u8 = 0x20;

/// Answers a solicitation for a VIP; leaves every other to the kernel.
#[inline(never)]
pub(super) fn solicitation<P: Packet, T: Tables>(
    p: &mut P,
    t: &T,
    sheet: &mut Sheet<[u8; 16]>,
    out: &mut Outcome,
) -> Verdict {
    let (l3, l4) = (sheet.ip.l3, sheet.ip.l4);
    let Some(target) = p.load::<16>(l4 + 8) else {
        return Verdict::PassNotOurs;
    };
    sheet.to.vip = target;
    if whose::<V6, T>(t, &sheet.to.vip) != Whose::Vip {
        return Verdict::PassNotOurs;
    }
    let room = (l3 + usize::from(sheet.ip.len)).saturating_sub(l4);
    let anonymous = sheet.ip.src == Address::default().0;
    // RFC 4861, section 7.1.1: hop limit 255 proves that no router has let it through; who has no address asks the group.
    let valid = room >= ND_LEN
        && sheet.ip.ttl == 255
        && matches!(sheet.ip.piece, Piece::Whole)
        && (!anonymous || is_solicited_node(&sheet.ip.dst));
    let Some(interface) = (if valid { t.interface(p.arrival().ifindex) } else { None }) else {
        return Verdict::DropIcmp;
    };
    sheet.to.client = if anonymous { ALL_NODES } else { sheet.ip.src };
    let answer = Advertisement { mac: interface.mac, anonymous, has_option: room >= ND_LEN + ND_OPTION_LEN };
    out.ifindex = p.arrival().ifindex;
    match advertise(p, sheet, &answer) {
        Some(()) => Verdict::NeighbourReply,
        None => Verdict::DropIcmp,
    }
}

/// Whether it is a group that those listen to whose addresses end alike (RFC 4291, section 2.7.1). Word by word: an array to
/// compare with would lie on the stack.
#[inline(always)]
fn is_solicited_node(addr: &[u8; 16]) -> bool {
    let word = |at: usize| u32::from_be_bytes([addr[at], addr[at + 1], addr[at + 2], addr[at + 3]]);
    word(0) == 0xff02_0000 && word(4) == 0 && word(8) == 1 && addr[12] == 0xff
}

/// What a solicitation becomes.
struct Advertisement {
    mac: [u8; 6],
    anonymous: bool,
    has_option: bool,
}

/// Turns the solicitation into an advertisement from `to.vip` to `to.client`. `None`: it has an option that cannot be replaced in
/// place by ours (of another length; nobody sends such a one first), or a code, or names a MAC address without having an
/// address.
#[inline(always)]
fn advertise<P: Packet>(p: &mut P, sheet: &Sheet<[u8; 16]>, answer: &Advertisement) -> Option<()> {
    let (l3, l4, m) = (sheet.ip.l3, sheet.ip.l4, answer.mac);
    let old = p.load::<8>(l4)?;
    if old[1] != 0 {
        return None;
    }
    let flags = if answer.anonymous { OVERRIDE } else { SOLICITED_OVERRIDE };
    let mut change = Change::NONE
        .word([old[0], old[1]], [136, 0])
        .four([old[4], old[5], old[6], old[7]], [flags, 0, 0, 0])
        .and(V6::change(&sheet.ip.src, &sheet.to.vip))
        .and(V6::change(&sheet.ip.dst, &sheet.to.client));
    if answer.has_option {
        let o = p.load::<8>(l4 + ND_LEN)?;
        if o[1] != 1 || (answer.anonymous && o[0] == SOURCE_LINK_LAYER) {
            return None;
        }
        change = change
            .four([o[0], o[1], o[2], o[3]], [2, 1, m[0], m[1]])
            .four([o[4], o[5], o[6], o[7]], [m[2], m[3], m[4], m[5]]);
        p.store(l4 + ND_LEN, [2, 1, m[0], m[1], m[2], m[3], m[4], m[5]])?;
    }
    p.store(l4, [136, 0, old[2], old[3], flags, 0, 0, 0])?;
    p.patch_checksum(l4 + 2, Change::NONE, change, false)?;
    p.store(l3 + V6::SRC_AT, sheet.to.vip)?;
    p.store(l3 + V6::DST_AT, sheet.to.client)?;
    let from = p.load::<6>(6)?;
    let d = if answer.anonymous { ALL_NODES_MAC } else { from };
    p.store::<12>(0, [d[0], d[1], d[2], d[3], d[4], d[5], m[0], m[1], m[2], m[3], m[4], m[5]])
}
