//! Corners of the one's-complement sum (RFC 1071, RFC 1624): before or after rewriting a checksum is zero, or nearly.

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::Event::{Message, Opened};
use super::case::{Case, Event, Service, case};
use super::expected::quoted;
use super::layout::{Field, Layout, Level};
use super::side::{BOTH, Side};

/// Sums of anything are one of 0x0001..=0xffff, so checksums are one of 0x0000..=0xfffe. UDP sends 0xffff for 0x0000.
const CORNERS: [u16; 5] = [0x0000, 0x0001, 0x00ff, 0xff00, 0xfffe];

pub(super) fn cases() -> Vec<Case> {
    let all = |side: Side| {
        let services = [(side.nat(), &[Opened][..]), (side.nat_udp(), &[Opened, Message])];
        services.into_iter().flat_map(move |(service, events)| {
            [forward(side, &service, events), back(side, &service), about(side, &service)].into_iter().flatten()
        })
    };
    BOTH.into_iter().flat_map(all).chain(header()).chain(both_zeroes()).collect()
}

/// The checksum in a field of a packet.
fn sum(packet: &Packet, field: Field) -> u16 {
    let frame = packet.frame();
    let at = Layout::of(&frame).find(Level::Packet, field).expect("a checksum").start;
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// The word that must take the place of a zero so that the checksum becomes `wanted` instead of `was`.
fn word(was: u16, wanted: u16) -> u16 {
    let difference = 0xffff + u32::from(was) - u32::from(wanted);
    u16::try_from(difference % 0xffff).expect("less than 0xffff")
}

fn name_of(service: &Service) -> &'static str {
    if service.protocol == 6 { "TCP" } else { "UDP" }
}

/// The packet that rewriting leads to, less its checksum: it tells which payload makes that checksum what it shall be.
fn with_word(service: &Service, [src, dst]: [SocketAddr; 2], word: u16) -> Packet {
    service.packet(src, dst).payload(&[&word.to_be_bytes()[..], b"odd"].concat())
}

fn forward(side: Side, s: &Service, events: &[Event]) -> Vec<Case> {
    let protocol = name_of(s);
    let (before, after) = ([s.client, s.vip], [s.client, s.backend]);
    let corner = |name: &str, ends: [SocketAddr; 2], corner: u16| {
        let word = word(sum(&with_word(s, ends, 0), Field::Sum), corner);
        case(side, &format!("RFC 1624 3: {protocol} to a backend, checksum {corner:#06x} {name}"))
            .send(with_word(s, before, word))
            .forwards(s, events)
    };
    CORNERS.into_iter().flat_map(|c| [corner("before", before, c), corner("after", after, c)]).collect()
}

fn back(side: Side, s: &Service) -> Vec<Case> {
    let protocol = name_of(s);
    let (before, after) = ([s.backend, s.client], [s.vip, s.client]);
    let corner = |name: &str, ends: [SocketAddr; 2], corner: u16| {
        let word = word(sum(&with_word(s, ends, 0), Field::Sum), corner);
        case(side, &format!("RFC 1624 3: {protocol} to a client, checksum {corner:#06x} {name}"))
            .send(with_word(s, before, word))
            .replies(s, &[])
    };
    CORNERS.into_iter().flat_map(|c| [corner("before", before, c), corner("after", after, c)]).collect()
}

/// Errors: the quoted packet's checksum in a corner, and the message's own.
fn about(side: Side, s: &Service) -> Vec<Case> {
    let protocol = name_of(s);
    let kind = if side.is_v6() { 2 } else { 3 };
    let mut cases = Vec::new();
    for corner in [0x0000, 0xfffe] {
        for (name, ends) in [("before", [s.vip, s.client]), ("after", [s.backend, s.client])] {
            let word = word(sum(&with_word(s, ends, 0), Field::Sum), corner);
            let error = icmp(side.router(), s.vip.ip(), kind, 4 * u8::from(!side.is_v6()))
                .rest([0, 0, 5, 0])
                .quoting(with_word(s, [s.vip, s.client], word), 1_000);
            let name = format!("RFC 1624 3: an error quotes {protocol} with checksum {corner:#06x} {name}");
            cases.push(case(side, &name).send(error).tells_backend(s));
        }
        let error = |mtu: u16| {
            let [high, low] = mtu.to_be_bytes();
            icmp(side.router(), s.vip.ip(), kind, 4 * u8::from(!side.is_v6()))
                .rest([0, 0, high, low])
                .quoting(s.packet(s.vip, s.client), 8)
        };
        let error = error(word(sum(&error(0), Field::Sum), corner));
        let name = format!("RFC 1624 3: an error about {protocol} has checksum {corner:#06x} itself");
        cases.push(case(side, &name).send(error).tells_backend(s));
    }
    cases
}

/// The IPv4 header's own checksum.
fn header() -> Vec<Case> {
    let s = Side::V4.nat();
    let mut cases = Vec::new();
    for corner in CORNERS {
        let before = s.ask().id(0);
        let after = s.packet(s.client, s.backend).id(0).ttl(63);
        for (name, like) in [("before", before), ("after", after)] {
            let id = word(sum(&like, Field::HeaderSum), corner);
            let name = format!("RFC 1624 3: IPv4 header checksum {corner:#06x} {name}");
            cases.push(case(Side::V4, &name).send(s.ask().id(id)).forwards(&s, &[Opened]));
        }
        let error = |ip_id: u16| {
            let about = s.packet(s.vip, s.client).id(ip_id);
            icmp(Side::V4.router(), s.vip.ip(), 11, 0).quoting(about, 8)
        };
        let id = word(sum(&s.packet(s.backend, s.client).id(0), Field::HeaderSum), corner);
        let name = format!("RFC 1624 3: an error quotes a header whose checksum becomes {corner:#06x}");
        cases.push(case(Side::V4, &name).send(error(id)).tells_backend(&s));
    }
    cases
}

/// Of the two zeroes of one's complement a sender should use one, and receivers take both.
fn both_zeroes() -> Vec<Case> {
    let mut cases = Vec::new();
    for side in BOTH {
        let s = side.nat();
        let ends = [s.client, s.vip];
        let zero = word(sum(&with_word(&s, ends, 0), Field::Sum), 0);
        cases.push(
            case(side, "RFC 1071 1: TCP's other zero, 0xffff, is zero too")
                .send(with_word(&s, ends, zero).but(Field::Sum, &[0xff, 0xff]))
                .unsound()
                .forwards(&s, &[Opened]),
        );
        let u = side.nat_udp();
        let error = icmp(side.router(), u.vip.ip(), if side.is_v6() { 1 } else { 3 }, 1)
            .quoting(u.packet(u.vip, u.client).payload(b"unchecked").no_checksum(), 8);
        let mut changes = u.error_to_backend();
        changes.push(quoted(Field::Sum, &[0, 0]));
        cases.push(
            case(side, "RFC 768: a quoted datagram without a checksum stays without")
                .send(error)
                .becomes(Verdict::ForwardIcmp, changes),
        );
    }
    cases
}
