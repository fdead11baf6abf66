//! ARP (RFC 826, RFC 5227): who has a VIP? We have.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::verdict::Verdict;

use super::build::raw_frame;
use super::case::{Case, case};
use super::expected::{Change, bytes_of, set};
use super::layout::Field;
use super::side::Side;
use crate::packet::PEER_MAC;
use crate::world::OUR_MAC;

const V4: Side = Side::V4;
const EVERYBODY: [u8; 6] = [0xff; 6];

/// An ARP packet.
#[derive(Clone, Copy)]
struct Arp {
    /// Hardware type, protocol type, lengths.
    kind: [u8; 6],
    operation: u16,
    sender: ([u8; 6], IpAddr),
    target: ([u8; 6], IpAddr),
}

impl Arp {
    fn bytes(self) -> Vec<u8> {
        let (sender, target) = (bytes_of(self.sender.1), bytes_of(self.target.1));
        [&self.kind[..], &self.operation.to_be_bytes(), &self.sender.0, &sender, &self.target.0, &target].concat()
    }

    fn frame(self) -> Vec<u8> {
        raw_frame(EVERYBODY, 0x0806, &self.bytes())
    }
}

/// The client asks.
fn ask(target: IpAddr) -> Arp {
    Arp { kind: [0, 1, 8, 0, 6, 4], operation: 1, sender: (PEER_MAC, V4.client()), target: ([0; 6], target) }
}

/// We answer, with `rest` behind the answer.
fn answer(ask: Arp, rest: &[u8]) -> Vec<Change> {
    let answer = Arp { operation: 2, sender: (OUR_MAC, ask.target.1), target: ask.sender, ..ask };
    let payload = [&answer.bytes(), rest].concat();
    vec![set(Field::DstMac, &ask.sender.0), set(Field::SrcMac, &OUR_MAC), set(Field::Payload, &payload)]
}

pub(super) fn cases() -> Vec<Case> {
    [answered(), others()].into_iter().flatten().collect()
}

fn answered() -> Vec<Case> {
    let vip = V4.vip(10);
    let usual = ask(vip);
    let probe = Arp { sender: (PEER_MAC, Ipv4Addr::UNSPECIFIED.into()), ..usual };
    let third = Arp { sender: ([0x02, 0, 0, 0, 0, 0x55], V4.client()), ..usual };
    let filled = Arp { target: ([0xff; 6], vip), ..usual };
    let answered = |name: &str, frame: Vec<u8>, changes| case(V4, name).send(frame).becomes(Verdict::ArpReply, changes);
    let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 42], &frame[12..]].concat();
    let mut cases = vec![
        answered("RFC 826: a request for a VIP is answered", usual.frame(), answer(usual, &[])),
        answered(
            "802.3 3.2.8: padding behind a request comes back",
            [usual.frame(), vec![0; 18]].concat(),
            answer(usual, &[0; 18]),
        ),
        answered("802.1Q: a tagged request is answered by the same tag", tag(&usual.frame()), answer(usual, &[])),
        answered(
            "RFC 5227 2.1.1: a probe is answered, or somebody else would take the address",
            probe.frame(),
            answer(probe, &[]),
        ),
        answered(
            "RFC 1122 2.3.2.1: a request to us alone, as a poll, is answered",
            raw_frame(OUR_MAC, 0x0806, &usual.bytes()),
            answer(usual, &[]),
        ),
        answered("RFC 826: the answer goes to the sender that the request names", third.frame(), answer(third, &[])),
        answered(
            "RFC 826: what a request says of its target's hardware does not matter",
            filled.frame(),
            answer(filled, &[]),
        ),
    ];
    for n in [20, 30, 40, 50] {
        let ask = ask(V4.vip(n));
        let name = format!("RFC 826: a request for VIP {n}, whatever its services, is answered");
        cases.push(answered(&name, ask.frame(), answer(ask, &[])));
    }
    cases
}

fn others() -> Vec<Case> {
    let vip = V4.vip(10);
    let usual = ask(vip);
    let announcement = Arp { sender: (PEER_MAC, vip), ..usual };
    let odd = |name: &'static str, frame: Vec<u8>| (name, frame);
    let frames = [
        odd("RFC 826: a request for the host's own address", ask(V4.ours()).frame()),
        odd("RFC 826: a request for a backend", ask(V4.backend(11)).frame()),
        odd("RFC 826: a request for a stranger", ask(V4.on_link(66)).frame()),
        odd("RFC 826: a request for a VIP that the host holds", ask(V4.vip(99)).frame()),
        odd("RFC 5227 2.3: an announcement", announcement.frame()),
        odd("RFC 5227 2.3: a gratuitous reply", Arp { operation: 2, ..announcement }.frame()),
        odd("RFC 826: a reply", Arp { operation: 2, ..usual }.frame()),
        odd("RFC 903: a reverse request", Arp { operation: 3, ..usual }.frame()),
        odd("RFC 2390: an inverse request", Arp { operation: 8, ..usual }.frame()),
        odd("RFC 826: an operation nobody knows", Arp { operation: 0, ..usual }.frame()),
        odd("RFC 826: another hardware", Arp { kind: [0, 6, 8, 0, 6, 4], ..usual }.frame()),
        odd("RFC 826: another protocol", Arp { kind: [0, 1, 0x86, 0xdd, 6, 4], ..usual }.frame()),
        odd("RFC 826: hardware addresses of eight bytes", Arp { kind: [0, 1, 8, 0, 8, 4], ..usual }.frame()),
        odd("RFC 826: protocol addresses of sixteen bytes", Arp { kind: [0, 1, 8, 0, 6, 16], ..usual }.frame()),
        odd("RFC 826: a request that is cut short", usual.frame()[..41].to_vec()),
        odd("RFC 903: the type of reverse ARP", raw_frame(EVERYBODY, 0x8035, &usual.bytes())),
    ];
    let pass = |(name, frame)| case(V4, &format!("{name} passes")).send(frame).ends(Verdict::PassNotIp);
    frames.into_iter().map(pass).collect()
}
