//! ipip and gue: the client's packet travels whole inside another one.

use lb_common::backend::{BACKEND_REACHABLE, BACKEND_VIA_TC};
use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::Event::{Confirmed, Message, Opened};
use super::case::{Case, Event, Service, case};
use super::expected::{Change, set};
use super::layout::Field;
use super::outer::Outer;
use super::pieces::pieces;
use super::side::{BOTH, Side};
use crate::world::{GUE_PORT, OTHER};

/// A way to encapsulate.
#[derive(Clone, Copy)]
struct Mode {
    side: Side,
    name: &'static str,
    service: Service,
}

fn modes(side: Side) -> Vec<Mode> {
    let mode = |name, service| Mode { side, name, service };
    if side.is_v6() {
        return vec![
            mode("RFC 2473 3: 6in6", side.ipip()),
            mode("RFC 2473 3: 6in6, UDP", side.ipip_udp()),
            mode("gue 4: IPv6 in UDP over IPv6", side.gue()),
            mode("gue 4: IPv6 in UDP over IPv6, UDP", side.gue_udp()),
        ];
    }
    vec![
        mode("RFC 2003 3: 4in4", side.ipip()),
        mode("RFC 2003 3: 4in4, UDP", side.ipip_udp()),
        mode("RFC 2473 3: 4in6", side.ipip_over_v6()),
        mode("gue 4: IPv4 in UDP over IPv4", side.gue()),
        mode("gue 4: IPv4 in UDP over IPv4, UDP", side.gue_udp()),
        mode("gue 4: IPv4 in UDP over IPv6", side.gue_over_v6()),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let of_mode = |mode: Mode| [contents(mode), classes(mode), lives(mode), sizes(mode), others(mode), ways(mode)];
    let all = BOTH.into_iter().flat_map(modes);
    let of_tcp = all.clone().filter(|mode| mode.service.protocol == 6).map(segment_sizes);
    all.flat_map(of_mode).chain(of_tcp).flatten().collect()
}

impl Mode {
    fn case(&self, name: &str) -> Case {
        case(self.side, &format!("{}: {name}", self.name))
    }

    fn is_gue(&self) -> bool {
        self.service.backend.port() == GUE_PORT
    }

    /// Bytes that go in front.
    fn overhead(&self) -> usize {
        (if self.service.backend.is_ipv4() { 20 } else { 40 }) + if self.is_gue() { 8 } else { 0 }
    }

    /// Bytes of the client's headers.
    fn headers(&self) -> usize {
        (if self.side.is_v6() { 40 } else { 20 }) + if self.service.protocol == 6 { 20 } else { 8 }
    }

    /// The packet inside another, with one hop less to live and these changes.
    fn wrapped(&self, more: Vec<Change>) -> Vec<Change> {
        let side = if self.service.backend.is_ipv4() { Side::V4 } else { Side::V6 };
        let outer = Outer { src: side.outer_source(), dst: self.service.backend.ip(), is_gue: self.is_gue() };
        let mut changes = self.service.macs();
        changes.push(Change::OneHop);
        changes.extend(more);
        changes.push(Change::Wrapped(outer));
        changes
    }

    /// What a flow's first packet counts.
    fn first(&self) -> &'static [Event] {
        if self.service.protocol == 6 { &[Opened] } else { &[Opened, Message] }
    }

    fn forwards(&self, name: &str, packet: impl Into<Vec<u8>>) -> Case {
        let s = &self.service;
        self.case(name).send(packet).becomes(Verdict::Forward, self.wrapped(vec![])).counts(s.owner, self.first())
    }
}

fn contents(mode: Mode) -> Vec<Case> {
    let s = mode.service;
    let padding = [1, 4, 0, 0, 0, 0];
    let odd = if mode.side.is_v6() {
        s.ask().extension(0, &padding).extension(60, &padding)
    } else {
        s.ask().options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    let mut cases = vec![
        mode.forwards("an empty packet", s.ask()),
        mode.forwards("an odd number of bytes", s.ask().payload(b"odd")),
        mode.forwards("options or extension headers stay inside", odd),
        mode.forwards("802.1Q: the tag stays in front", s.ask().payload(b"x").tag(0x8100, 0xa02a)),
        mode.forwards("802.1ad: two tags stay in front", s.ask().payload(b"x").tag(0x88a8, 7).tag(0x8100, 42)),
        mode.forwards("802.3 3.2.8: padding stays behind and is in no length", s.ask().padding(6)),
        mode.forwards("a wrong checksum stays inside, wrong", s.ask().payload(b"spoilt").but(Field::Sum, &[1, 2]))
            .unsound(),
    ];
    if mode.side.is_v6() {
        cases.push(mode.forwards("RFC 6438 3: the inner flow label stays", s.ask().label(0xabcde)));
    } else {
        cases.push(mode.forwards("RFC 2003 3.1: the inner DF and identification stay", s.ask().df().id(0xbeef)));
        cases.push(mode.forwards("RFC 6864 4.1: without DF inside, DF outside all the same", s.ask().id(0xbeef)));
    }
    if s.protocol == 17 {
        cases.push(mode.forwards("no checksum inside stays none", s.ask().payload(b"who?").no_checksum()));
    }
    cases
}

/// RFC 6040, figure 3, normal mode: every codepoint, with a DSCP and without.
fn classes(mode: Mode) -> Vec<Case> {
    let names = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
    let class = |dscp: u8, name: &str| {
        names
            .iter()
            .zip(dscp..=dscp + 3)
            .map(|(ecn, class)| {
                let name = format!("RFC 6040 4.1: {ecn} with DSCP {name} is copied outside");
                mode.forwards(&name, mode.service.ask().tos(class))
            })
            .collect::<Vec<_>>()
    };
    [class(0, "0"), class(0xb8, "EF"), class(0xfc, "63")].into_iter().flatten().collect()
}

fn lives(mode: Mode) -> Vec<Case> {
    let s = mode.service;
    let mut cases = Vec::new();
    for ttl in [255, 65, 2] {
        let name = format!("RFC 2003 3.1: inner TTL {ttl} loses one, the outer is our own");
        cases.push(mode.forwards(&name, s.ask().ttl(ttl)));
    }
    for ttl in [1, 0] {
        let dropped = mode.case(&format!("RFC 2003 3.1: inner TTL {ttl} goes no further")).send(s.ask().ttl(ttl));
        // A datagram that is not sent is no message.
        cases.push(dropped.ends(Verdict::DropTtl).counts(s.owner, &[Opened]));
    }
    let second: &[Event] = if s.protocol == 6 { &[Confirmed] } else { &[Confirmed, Message] };
    cases.push(mode.forwards("a flow's second packet goes likewise", s.ask()).after(s.ask()).counts(s.owner, second));
    cases
}

/// 1,500 bytes, less what goes in front, less what the client's headers take.
fn sizes(mode: Mode) -> Vec<Case> {
    let room = 1_500 - mode.overhead() - mode.headers();
    vec![mode.forwards("RFC 2003 5.1: a packet that just fits the way", mode.service.ask().payload(&vec![0x5a; room]))]
}

fn others(mode: Mode) -> Vec<Case> {
    let s = mode.service;
    let mut cases = Vec::new();
    let kind = if mode.side.is_v6() { 2 } else { 3 };
    let error = |len| {
        icmp(mode.side.router(), s.vip.ip(), kind, 4 * u8::from(!mode.side.is_v6()))
            .rest([0, 0, 5, 0])
            .quoting(s.packet(s.vip, s.client).payload(&[7; 300]), len)
    };
    for len in [8, 300] {
        let name = format!("RFC 792: an error that quotes {len} bytes of the flow travels like it");
        cases.push(mode.case(&name).send(error(len)).becomes(Verdict::ForwardIcmp, mode.wrapped(vec![])));
    }
    cases.push(mode.case("RFC 1812 5.3.1: an error with no hop left").send(error(8).ttl(1)).ends(Verdict::DropTtl));
    let large = s.ask().payload(&[7; 200]);
    let [head, tail]: [Vec<u8>; 2] = pieces(&large, 5, &[0..64, 64..300]).try_into().expect("two pieces");
    let [_, other]: [Vec<u8>; 2] = pieces(&large, 6, &[0..64, 64..300]).try_into().expect("two pieces");
    cases.extend([
        mode.forwards("a fragment's head is routed by its ports", head.clone()),
        mode.forwards("a fragment's tail follows its head", tail).after(head.clone()).counts(s.owner, &[]),
        mode.case("a fragment's tail before its head is dropped")
            .after(head)
            .send(other)
            .ends(Verdict::DropFragmentTail),
    ]);
    cases
}

fn ways(mode: Mode) -> Vec<Case> {
    let s = mode.service;
    let owner = s.owner;
    vec![
        mode.forwards("a backend behind another interface", s.ask())
            .world(move |w| w.backend(owner).ifindex = OTHER)
            .leaves_by(OTHER),
        mode.case("a backend whose next hop is unknown")
            .world(move |w| w.backend(owner).flags &= !BACKEND_REACHABLE)
            .send(s.ask())
            .ends(Verdict::DropNoNextHop)
            .counts(owner, &[Opened]),
        mode.case("a backend in a container is TC's to reach")
            .world(move |w| w.backend(owner).flags |= BACKEND_VIA_TC)
            .send(s.ask())
            .ends(Verdict::PassToTc)
            .counts(owner, &[Opened]),
        mode.case("TC encapsulates what XDP leaves to it")
            .world(move |w| w.backend(owner).flags |= BACKEND_VIA_TC)
            .tc()
            .send(s.ask().payload(b"odd"))
            .becomes(Verdict::Forward, mode.wrapped(vec![]))
            .counts(owner, if s.protocol == 6 { &[] } else { &[Message] }),
    ]
}

/// RFC 9293 3.7.1: the largest segment that a SYN may announce.
fn segment_sizes(mode: Mode) -> Vec<Case> {
    let s = mode.service;
    let fits = u16::try_from(1_500 - mode.overhead() - mode.headers()).expect("a small number");
    let [high, low] = fits.to_be_bytes();
    let syn = |options: &[u8]| -> Packet { s.ask().flags("S").tcp_options(options) };
    let stays = |name: &str, options: &[u8]| mode.forwards(&format!("RFC 9293 3.7.1: {name} stays"), syn(options));
    let lowered = |name: &str, options: &[u8], becomes: &[u8]| {
        let changes = mode.wrapped(vec![set(Field::TcpOptions, becomes)]);
        mode.case(&format!("RFC 9293 3.7.1: {name} is lowered to what fits"))
            .send(syn(options))
            .becomes(Verdict::Forward, changes)
            .counts(s.owner, &[Opened])
    };
    let [above_high, above_low] = (fits + 1).to_be_bytes();
    vec![
        lowered("an MSS of 1,460", &[2, 4, 5, 0xb4], &[2, 4, high, low]),
        lowered("an MSS of 65,535", &[2, 4, 0xff, 0xff], &[2, 4, high, low]),
        lowered("an MSS that is one too large", &[2, 4, above_high, above_low], &[2, 4, high, low]),
        lowered(
            "an MSS behind padding, at an odd place,",
            &[1, 2, 4, 0xff, 0xff, 1, 1, 1],
            &[1, 2, 4, high, low, 1, 1, 1],
        ),
        lowered(
            "an MSS behind SACK, timestamps and window scale",
            &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 3, 3, 7, 2, 4, 0x23, 0x28, 0],
            &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 3, 3, 7, 2, 4, high, low, 0],
        ),
        stays("an MSS that just fits", &[2, 4, high, low]),
        stays("an MSS of 536", &[2, 4, 2, 0x18]),
        stays("a SYN without the option", &[]),
        stays("an MSS behind the end of the options", &[0, 2, 4, 0xff, 0xff, 0, 0, 0]),
        stays("an MSS of another length", &[2, 3, 0xff, 1]),
        stays("an MSS behind an option of length zero", &[99, 0, 2, 4, 0xff, 0xff, 1, 1]),
        stays("an MSS that the header cuts off", &[1, 1, 2, 4]),
        mode.forwards("RFC 9293 3.7.1: what is no SYN keeps its MSS", s.ask().tcp_options(&[2, 4, 0xff, 0xff])),
    ]
}
