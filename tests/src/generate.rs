//! Packets of every kind that the packet path can meet, sound and broken, from a seeded source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::reply::SnatReverseKey;
use lb_common::service::{FORWARD_NAT, SERVICE_QUIC, SERVICE_SNAT};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::everything::{ASSIGNED, Known, LENT, LOCAL};
use crate::host::Host;
use crate::packet::{
    Flags, arp_request, echo, fragments, icmp, ip, solicitation, tagged, tcp, too_big, udp, with_extensions,
    with_options, with_ttl, without_checksum,
};
use crate::world::{OTHER, WIRE, address};

/// Clients: with a neighbour entry, without, behind a narrow way, nowhere, beyond the gateway.
const CLIENTS_V4: [&str; 5] = ["192.0.2.7", "192.0.2.66", "100.64.0.9", "198.51.100.5", "9.9.9.9"];
const CLIENTS_V6: [&str; 5] = ["2001:db8:9::7", "2001:db8:9::66", "2001:db8:64::9", "2001:db8:dead::5", "2001:dead::9"];

const FLAGS: [Flags; 9] =
    [Flags::Syn, Flags::Syn, Flags::Ack, Flags::Ack, Flags::Data, Flags::Data, Flags::Fin, Flags::Rst, Flags::SynAck];

/// Where a packet is shown to the programs.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// To XDP, on this interface.
    Xdp(u32),
    /// To TC.
    Tc,
}

/// A source of packets.
pub struct Generator {
    rng: StdRng,
    known: Vec<Known>,
}

impl Generator {
    /// Packets for these services; the same for the same seed.
    pub fn new(seed: u64, known: Vec<Known>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), known }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end)
    }

    /// One of the services.
    pub fn service(&mut self) -> Known {
        self.known.choose(&mut self.rng).expect("there are services").clone()
    }

    /// The next packet, and where it is seen. `host` knows which snat mappings there are to answer to.
    pub fn next(&mut self, host: &Host) -> (Vec<u8>, Hook) {
        let mut frame = self.sound(host);
        if self.one_in(10) {
            frame = tagged(&frame, [&[0x8100][..], &[0x88a8, 0x8100]].choose(&mut self.rng).expect("two"));
        }
        if self.one_in(4) {
            self.break_it(&mut frame);
        }
        let hook = match self.below(20) {
            // The kernel makes no socket buffer for a test of what is shorter than its IP header.
            0..3 if frame.len() >= 54 => Hook::Tc,
            3..8 => Hook::Xdp(OTHER),
            8 => Hook::Xdp(LOCAL),
            _ => Hook::Xdp(WIRE),
        };
        (frame, hook)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn sound(&mut self, host: &Host) -> Vec<u8> {
        match self.below(100) {
            0..48 => self.in_disguise(|g, _| g.of_client(), host),
            48..60 => self.in_disguise(|g, _| g.reply(), host),
            60..68 => self.in_disguise(Self::snat_reply, host),
            68..80 => self.in_disguise(Self::error, host),
            80..86 => self.in_disguise(|g, _| g.echo(), host),
            86..90 => self.arp(),
            90..94 => self.solicitation(),
            94..98 => self.foreign(),
            _ => (0..self.below(200) + 14).map(|_| self.rng.random()).collect(),
        }
    }

    /// An IP packet as it is, or with options, extension headers, another TTL, in pieces.
    fn in_disguise(&mut self, make: impl Fn(&mut Self, &Host) -> Vec<u8>, host: &Host) -> Vec<u8> {
        let mut frame = make(self, host);
        let is_v4 = frame[12..14] == [8, 0];
        if self.one_in(10) {
            frame = if is_v4 {
                let words = u8::try_from(self.below(10) + 1).expect("at most ten");
                with_options(&frame, words)
            } else {
                let count = self.below(6);
                let kinds: Vec<u8> = (0..count).map(|_| *[0, 43, 60].choose(&mut self.rng).expect("three")).collect();
                with_extensions(&frame, &kinds)
            };
        }
        if self.one_in(20) {
            let ttl = *[0, 1, 2, 255].choose(&mut self.rng).expect("four");
            frame = with_ttl(&frame, ttl);
        }
        let carried = frame.len() - if is_v4 { 14 + usize::from(frame[14] & 15) * 4 } else { 54 };
        if self.one_in(8) && carried > 40 {
            let at = *[8, 16, 24, 32].choose(&mut self.rng).expect("four");
            let id = self.below(40);
            let (head, tail) = fragments(&frame, at, id);
            frame = if self.one_in(2) { head } else { tail };
        }
        frame
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.below(50) {
            0 => self.below(1_500),
            _ => self.below(80),
        };
        (0..len).map(|_| self.rng.random()).collect()
    }

    fn client(&mut self, is_v4: bool) -> SocketAddr {
        let clients = if is_v4 { CLIENTS_V4 } else { CLIENTS_V6 };
        let ip: IpAddr = clients.choose(&mut self.rng).expect("five").parse().expect("an address");
        SocketAddr::new(ip, u16::try_from(40_000 + self.below(24)).expect("a port"))
    }

    fn segment(&mut self, protocol: u8, src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
        let payload = self.payload();
        if protocol == 6 {
            let flags = *FLAGS.choose(&mut self.rng).expect("nine");
            return tcp(src, dst, flags, &payload);
        }
        let frame = udp(src, dst, &payload);
        if src.is_ipv4() && self.one_in(8) { without_checksum(&frame) } else { frame }
    }

    /// A client, a service, and one of its backends; of a service that takes every port, one of its ports.
    fn meeting(&mut self) -> (SocketAddr, Known, SocketAddr) {
        let mut known = self.service();
        let (_, mut backend) = *known.backends.choose(&mut self.rng).expect("three");
        if known.prefix.is_some() {
            let within = u8::try_from(self.below(4)).expect("a small number");
            known.vip.set_ip(within_prefix(known.vip.ip(), within));
        }
        if known.vip.port() == 0 {
            let port = *[22, 80, 9_999].choose(&mut self.rng).expect("three");
            known.vip.set_port(port);
            backend.set_port(port);
        }
        let client = match self.below(12) {
            0 => SocketAddr::new(backend.ip(), 40_000),
            _ => self.client(backend.is_ipv4()),
        };
        (client, known, backend)
    }

    fn of_client(&mut self) -> Vec<u8> {
        let (client, known, _) = self.meeting();
        let mut vip = known.vip;
        if self.one_in(30) {
            vip.set_port(4);
        }
        if known.entry.flags & SERVICE_QUIC != 0 && !self.one_in(8) {
            let packet = self.quic(&known);
            return udp(client, vip, &packet);
        }
        self.segment(known.protocol, client, vip)
    }

    /// A QUIC packet whose connection ID names a backend, somebody unknown, or nobody.
    fn quic(&mut self, known: &Known) -> Vec<u8> {
        let (owner, _) = *known.backends.choose(&mut self.rng).expect("three");
        let mut id: Vec<u8> = [&[7][..], &owner.to_be_bytes(), &[9; 5]].concat();
        match self.below(8) {
            0 => id[0] = self.rng.random(),
            1 => id[2] ^= 1 << self.below(8),
            2 => id.truncate(usize::try_from(self.below(8)).expect("a small number")),
            3 => id.extend([0; 4]),
            _ => {}
        }
        let len = u8::try_from(id.len()).expect("at most 12");
        let head = if self.one_in(3) { vec![0xc0 | self.rng.random::<u8>(), 0, 0, 0, 1, len] } else { vec![0x40] };
        let rest = vec![0xee; usize::try_from(self.below(60)).expect("a small number")];
        [head, id, rest].concat()
    }

    fn reply(&mut self) -> Vec<u8> {
        let (mut client, known, backend) = self.meeting();
        if self.one_in(20) {
            client.set_ip(LENT[usize::from(client.is_ipv6())].parse().expect("an address"));
        }
        self.segment(known.protocol, backend, client)
    }

    /// A mapping to answer to: protocol, backend, our address. A few draws find one where there are any.
    fn mapping(&mut self, host: &Host) -> Option<(u8, SocketAddr, SocketAddr)> {
        let map = host.snat_reverse.borrow();
        for _ in 0..24 {
            let (_, known, backend) = self.meeting();
            let port = known.entry.snat_port_first + u16::try_from(self.below(64)).expect("a small number");
            let ours: IpAddr = LENT[usize::from(backend.is_ipv6())].parse().expect("an address");
            let key = SnatReverseKey {
                backend: address(backend.ip()),
                snat: address(ours),
                backend_port: backend.port().to_be_bytes(),
                snat_port: port.to_be_bytes(),
                protocol: known.protocol,
                zero: [0; 3],
            };
            if map.contains_key(&key) {
                return Some((known.protocol, backend, SocketAddr::new(ours, port)));
            }
        }
        None
    }

    fn snat_reply(&mut self, host: &Host) -> Vec<u8> {
        match self.mapping(host) {
            Some((protocol, backend, ours)) => self.segment(protocol, backend, ours),
            None => self.of_client(),
        }
    }

    /// An ICMP error about a packet to a client or to a backend, from somewhere between.
    fn error(&mut self, host: &Host) -> Vec<u8> {
        let (client, known, backend) = self.meeting();
        let about = match (self.below(3), self.mapping(host)) {
            (0, Some((protocol, backend, ours))) => self.segment(protocol, ours, backend),
            (1, _) if known.entry.forward == FORWARD_NAT && known.entry.flags & SERVICE_SNAT == 0 => {
                self.segment(known.protocol, client, backend)
            }
            _ => self.segment(known.protocol, known.vip, client),
        };
        let is_v4 = about[12..14] == [8, 0];
        let router = if is_v4 { "192.0.2.200" } else { "2001:db8:9::200" };
        let l4_len = *[0, 4, 8, 20, 1_200].choose(&mut self.rng).expect("five");
        let mut frame = too_big(router.parse().expect("an address"), &about, l4_len);
        if self.one_in(6) {
            let at = if is_v4 { 34 } else { 54 };
            frame[at] = self.rng.random();
        }
        // Padding behind a short packet says nothing.
        if self.one_in(4) {
            frame.extend(vec![0x55; usize::try_from(self.below(40)).expect("a small number")]);
        }
        frame
    }

    fn echo(&mut self) -> Vec<u8> {
        let (client, known, backend) = self.meeting();
        let to = match self.below(4) {
            0 => backend.ip(),
            1 => ASSIGNED[usize::from(client.is_ipv6())].parse().expect("an address"),
            _ => known.vip.ip(),
        };
        let payload = self.payload();
        if self.one_in(6) {
            let kind = self.rng.random();
            return icmp(client.ip(), to, kind, 0, &payload);
        }
        echo(client.ip(), to, &payload)
    }

    fn arp(&mut self) -> Vec<u8> {
        let asker = Ipv4Addr::new(192, 0, 2, self.rng.random());
        let target = match self.below(3) {
            0 => self.service().vip.ip(),
            1 => ASSIGNED[0].parse().expect("an address"),
            _ => asker.into(),
        };
        let IpAddr::V4(target) = target else { return arp_request(asker, asker) };
        let asker = if self.one_in(5) { target } else { asker };
        arp_request(asker, target)
    }

    fn solicitation(&mut self) -> Vec<u8> {
        let target = match self.below(4) {
            0 => ASSIGNED[1].parse().expect("an address"),
            _ => self.service().vip.ip(),
        };
        let IpAddr::V6(target) = target else { return self.foreign() };
        let asker = if self.one_in(4) { Ipv6Addr::UNSPECIFIED } else { "2001:db8:9::7".parse().expect("an address") };
        let options: [&[u8]; 5] = [
            &[],
            &[1, 1, 2, 0, 0, 0, 0, 0x99],
            &[14, 1, 9, 8, 7, 6, 5, 4],
            &[14, 2, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0],
            &[1, 1, 2, 0],
        ];
        let option = options.choose(&mut self.rng).expect("five");
        solicitation(asker, target, option)
    }

    /// Other protocols, other destinations.
    fn foreign(&mut self) -> Vec<u8> {
        let (client, known, _) = self.meeting();
        let payload = self.payload();
        if self.one_in(2) {
            let protocol = self.rng.random();
            return ip(client.ip(), known.vip.ip(), protocol, 64, &payload);
        }
        let elsewhere = if client.is_ipv4() { "198.18.0.1:8000" } else { "[2001:db8:18::1]:8000" };
        self.segment(known.protocol, client, elsewhere.parse().expect("an address and a port"))
    }

    fn break_it(&mut self, frame: &mut Vec<u8>) {
        match self.below(8) {
            0 => frame.truncate(14 + usize::try_from(self.below(80)).expect("a small number")),
            1 => frame.extend(vec![0; usize::try_from(self.below(46)).expect("a small number")]),
            _ => {
                for _ in 0..=self.below(3) {
                    let at = self.rng.random_range(0..frame.len().min(110));
                    frame[at] = if self.one_in(2) { self.rng.random() } else { frame[at] ^ (1 << self.below(8)) };
                }
            }
        }
    }
}

/// An address of a prefix, by its last octet.
fn within_prefix(network: IpAddr, last: u8) -> IpAddr {
    match network {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | u32::from(last)).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() | u128::from(last)).into(),
    }
}
