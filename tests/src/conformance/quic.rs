//! QUIC: a packet goes to whom its connection ID names (draft-ietf-quic-load-balancers, plaintext), else as its addresses say.

use std::net::SocketAddr;

use lb_common::backend::BACKEND_ALIVE;
use lb_common::slot::Owner;
use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::Event::{Confirmed, Message, Opened};
use super::case::{Case, Service, case};
use super::expected::{Change, bytes_of, set};
use super::layout::Field;
use super::pieces::pieces;
use super::side::{BOTH, Side};

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [named(side), by_addresses(side), lives(side), odd(side)]).flatten().collect()
}

/// A connection ID: first octet, server ID, nonce.
fn id(first: u8, server: Owner) -> Vec<u8> {
    [&[first][..], &server.to_be_bytes(), &[7; 5]].concat()
}

/// RFC 9000, section 17.3.1: first octet, connection ID, what is protected.
fn short(s: &Service, id: &[u8]) -> Packet {
    s.ask().payload(&[&[0x40][..], id, &[0xee; 24]].concat())
}

/// RFC 8999, section 5.1: first octet, version, both connection IDs, the rest.
fn long(s: &Service, first: u8, version: u32, id: &[u8]) -> Packet {
    let len = u8::try_from(id.len()).expect("at most 20 octets");
    let head = [&[first][..], &version.to_be_bytes(), &[len], id, &[8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    s.ask().payload(&[&head[..], &[0xee; 200]].concat())
}

fn named(side: Side) -> Vec<Case> {
    let (ring, to) = (side.quic(), side.quic_named());
    let mut moved = ring;
    moved.client = SocketAddr::new(side.on_link(8), 50_000);
    let sent = |name: &str, packet: Packet| case(side, name).send(packet).forwards(&to, &[Opened, Message]);
    let id_of = |first| id(first, to.owner);
    vec![
        sent("QUIC-LB 3: a short header goes to whom it names", short(&ring, &id_of(0))),
        sent("RFC 9000 9: a client that has moved stays where its ID says", short(&moved, &id_of(0))),
        sent("QUIC-LB 3.1: the first octet's low bits may be random", short(&ring, &id_of(0x1f))),
        sent("RFC 9000 17.2.4: a handshake goes to whom it names", long(&ring, 0xe0, 1, &id_of(0))),
        sent("RFC 9369 3: a handshake of version 2", long(&ring, 0xf0, 0x6b33_43cf, &id_of(0))),
        sent("RFC 8999 5.1: a handshake of a version nobody knows", long(&ring, 0x80, 0x0a0a_0a0a, &id_of(0))),
        sent("RFC 9287 3: a packet whose fixed bit is greased", {
            ring.ask().payload(&[&[0][..], &id_of(0), &[0xee; 24]].concat())
        }),
        sent("QUIC-LB 3: options or extension headers hide no ID", {
            let packet = short(&ring, &id_of(0));
            if side.is_v6() { packet.extension(60, &[1, 4, 0, 0, 0, 0]) } else { packet.options(&[1; 8]) }
        }),
        sent("RFC 768: no checksum stays none under an ID", short(&ring, &id_of(0)).no_checksum()),
        case(side, "QUIC-LB 3: an ID that names the ring's own owner")
            .send(short(&ring, &id(0, ring.owner)))
            .forwards(&ring, &[Opened, Message]),
    ]
}

fn by_addresses(side: Side) -> Vec<Case> {
    let (ring, to) = (side.quic(), side.quic_named());
    let owner = to.owner;
    let sent = |name: &str, packet: Packet| case(side, name).send(packet).forwards(&ring, &[Opened, Message]);
    let chosen = [0xe3, 9, 9, 9, 9, 9, 9, 9];
    vec![
        sent("RFC 9000 7.2: an Initial with the client's own ID", long(&ring, 0xc0, 1, &chosen)),
        sent(
            "RFC 9000 7.2: an Initial with an ID of twenty octets",
            long(&ring, 0xc0, 1, &[&id(0, owner)[..], &[9; 12]].concat()),
        ),
        sent("RFC 9000 5.1: an Initial with an empty ID", long(&ring, 0xc0, 1, &[])),
        sent("RFC 9000 17.2.3: 0-RTT with the client's own ID", long(&ring, 0xd0, 1, &chosen)),
        sent("QUIC-LB 3.1: rotation 7 names no configuration", short(&ring, &id(0xe0, owner))),
        sent("QUIC-LB 3.1: another configuration's rotation", short(&ring, &id(0x20, owner))),
        sent("QUIC-LB 3: a server that nobody knows", short(&ring, &id(0, 999))),
        sent("QUIC-LB 3: a dead server", short(&ring, &id(0, owner)))
            .world(move |w| w.backend(owner).flags &= !BACKEND_ALIVE),
        sent("RFC 8999 5.1: an ID that is a byte too short", long(&ring, 0xe0, 1, &id(0, owner)[..7])),
        sent("RFC 9000 10.3: a packet too short for an ID", ring.ask().payload(&[&[0x40][..], &id(0, owner)].concat())),
        sent("RFC 768: an empty datagram", ring.ask()),
        sent("RFC 9000 17.2.1: a version negotiation, which no client sends", long(&ring, 0x80, 0, &chosen)),
    ]
}

fn lives(side: Side) -> Vec<Case> {
    let (ring, to) = (side.quic(), side.quic_named());
    let initial = || long(&ring, 0xc0, 1, &[0xe3, 9, 9, 9, 9, 9, 9, 9]);
    let error = icmp(side.router(), ring.vip.ip(), if side.is_v6() { 2 } else { 3 }, 4 * u8::from(!side.is_v6()))
        .rest([0, 0, 5, 0])
        .quoting(ring.packet(ring.vip, ring.client).payload(&[0x40; 40]), 8);
    vec![
        case(side, "RFC 9000 7.2: a repeated Initial is the same connection")
            .after(initial())
            .send(initial())
            .forwards(&ring, &[Message]),
        case(side, "RFC 9000 7: a packet with the server's ID confirms the connection")
            .after(initial())
            .send(short(&ring, &id(0, ring.owner)))
            .forwards(&ring, &[Confirmed, Message]),
        case(side, "RFC 9000 9: a packet that names nobody follows its flow")
            .after(short(&ring, &id(0, to.owner)))
            .send(short(&ring, &id(0, 999)))
            .forwards(&to, &[Confirmed, Message]),
        case(side, "RFC 9000 14.2.1: an error about a connection that has moved reaches its backend")
            .after(short(&ring, &id(0, to.owner)))
            .send(error.clone())
            .tells_backend(&to),
        case(side, "RFC 9000 14.2.1: an error about a connection that nobody tracks goes where the ring says")
            .send(error)
            .tells_backend(&ring),
        case(side, "a QUIC backend's answer comes from the VIP")
            .send(to.answer().payload(&[0x40; 30]))
            .replies(&to, &[]),
    ]
}

fn odd(side: Side) -> Vec<Case> {
    let (ring, to) = (side.quic(), side.quic_named());
    let packet = ring.ask().payload(&[&[0x40][..], &id(0, to.owner), &[0xee; 200]].concat());
    let [head, tail]: [Vec<u8>; 2] = pieces(&packet, 3, &[0..64, 64..300]).try_into().expect("two pieces");
    let mut changes = to.macs();
    changes.extend([Change::OneHop, set(Field::Dst, &bytes_of(to.backend.ip()))]);
    vec![
        case(side, "a QUIC packet in pieces: the head goes to whom it names")
            .send(head.clone())
            .forwards(&to, &[Opened, Message]),
        case(side, "a QUIC packet in pieces: the tail follows its head")
            .after(head)
            .send(tail)
            .becomes(Verdict::Forward, changes)
            .counts(to.owner, &[]),
    ]
}
