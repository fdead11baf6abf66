//! Packets as sentences: what is said is set, what is not said is as usual. Headers and checksums are etherparse's.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};

use super::layout::{Field, Layout, Level};
use crate::packet::{PEER_MAC, TTL};
use crate::world::OUR_MAC;

/// What an IP packet carries.
#[derive(Clone, Debug)]
enum Carried {
    Tcp(Box<TcpHeader>),
    Udp(UdpHeader),
    Icmp([u8; 2], [u8; 4]),
    Other(u8),
}

/// A packet to be sent. [`Packet::frame`] finishes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Packet {
    macs: [[u8; 6]; 2],
    tags: Vec<(u16, u16)>,
    ends: [IpAddr; 2],
    ttl: u8,
    tos: u8,
    id: u16,
    flags: u16,
    label: u32,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    carried: Carried,
    payload: Vec<u8>,
    has_sum: bool,
    padding: usize,
    edits: Vec<(Field, Vec<u8>)>,
    resum: bool,
}

fn packet(src: IpAddr, dst: IpAddr, carried: Carried) -> Packet {
    Packet {
        macs: [OUR_MAC, PEER_MAC],
        tags: vec![],
        ends: [src, dst],
        ttl: TTL,
        tos: 0,
        id: 0x1234,
        flags: 0,
        label: 0,
        options: vec![],
        extensions: vec![],
        carried,
        payload: vec![],
        has_sum: true,
        padding: 0,
        edits: vec![],
        resum: false,
    }
}

/// A TCP segment with ACK set.
pub fn tcp(src: SocketAddr, dst: SocketAddr) -> Packet {
    let mut header = TcpHeader::new(src.port(), dst.port(), 1_000, 8_192);
    header.ack = true;
    header.acknowledgment_number = 7_000;
    packet(src.ip(), dst.ip(), Carried::Tcp(Box::new(header)))
}

/// A UDP datagram.
pub fn udp(src: SocketAddr, dst: SocketAddr) -> Packet {
    let header = UdpHeader { source_port: src.port(), destination_port: dst.port(), length: 0, checksum: 0 };
    packet(src.ip(), dst.ip(), Carried::Udp(header))
}

/// An ICMP or ICMPv6 message, by the addresses' family.
pub fn icmp(src: IpAddr, dst: IpAddr, kind: u8, code: u8) -> Packet {
    packet(src, dst, Carried::Icmp([kind, code], [0; 4]))
}

/// An echo request with an identifier and a sequence number.
pub fn echo(src: IpAddr, dst: IpAddr) -> Packet {
    icmp(src, dst, if src.is_ipv4() { 8 } else { 128 }, 0).rest([0x12, 0x34, 0, 1]).payload(b"are you there?")
}

/// An IP packet that carries something else.
pub fn other(src: IpAddr, dst: IpAddr, protocol: u8) -> Packet {
    packet(src, dst, Carried::Other(protocol)).payload(&[0x5a; 24])
}

/// A frame that carries no IP.
pub fn raw_frame(dst: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &PEER_MAC, &kind.to_be_bytes(), payload].concat()
}

impl Packet {
    /// Its source address.
    pub const fn source(&self) -> IpAddr {
        self.ends[0]
    }

    /// Carries these bytes.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// TTL or hop limit.
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// DSCP and ECN: the TOS byte or traffic class.
    pub const fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// IPv4: identification.
    pub const fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// IPv4: don't fragment.
    pub const fn df(mut self) -> Self {
        self.flags |= 0x4000;
        self
    }

    /// IPv6: flow label.
    pub const fn label(mut self, label: u32) -> Self {
        self.label = label;
        self
    }

    /// IPv4: options, a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// IPv6: one more extension header of this kind, which says this after its length.
    pub fn extension(mut self, kind: u8, rest: &[u8]) -> Self {
        self.extensions.push((kind, rest.to_vec()));
        self
    }

    /// Comes from somebody else on the link.
    pub const fn from_mac(mut self, mac: [u8; 6]) -> Self {
        self.macs[1] = mac;
        self
    }

    /// Goes to somebody else on the link.
    pub const fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.macs[0] = mac;
        self
    }

    /// With one more tag, of this kind (0x8100, 0x88a8) and this content.
    pub fn tag(mut self, kind: u16, content: u16) -> Self {
        self.tags.push((kind, content));
        self
    }

    /// TCP flags by their letters: S A F R P U, E(CE), W (CWR), N(S).
    pub fn flags(mut self, letters: &str) -> Self {
        let header = self.tcp_header();
        (header.syn, header.ack) = (letters.contains('S'), letters.contains('A'));
        (header.fin, header.rst) = (letters.contains('F'), letters.contains('R'));
        (header.psh, header.urg) = (letters.contains('P'), letters.contains('U'));
        (header.ece, header.cwr, header.ns) = (letters.contains('E'), letters.contains('W'), letters.contains('N'));
        if !header.ack {
            header.acknowledgment_number = 0;
        }
        self
    }

    /// TCP options, a multiple of four bytes.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_header().set_options_raw(options).expect("at most 40 bytes");
        self
    }

    /// TCP: anything else in the header.
    pub fn with_tcp(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        change(self.tcp_header());
        self
    }

    fn tcp_header(&mut self) -> &mut TcpHeader {
        match &mut self.carried {
            Carried::Tcp(header) => header,
            other => panic!("no TCP segment: {other:?}"),
        }
    }

    /// UDP: sent without a checksum.
    pub const fn no_checksum(mut self) -> Self {
        self.has_sum = false;
        self
    }

    /// ICMP: the four bytes after the checksum.
    pub fn rest(mut self, rest: [u8; 4]) -> Self {
        match &mut self.carried {
            Carried::Icmp(_, bytes) => *bytes = rest,
            other => panic!("no ICMP message: {other:?}"),
        }
        self
    }

    /// ICMP: quotes an untagged frame's packet, `l4_len` bytes of it after its IP header and extension headers.
    pub fn quoting(self, about: impl Into<Vec<u8>>, l4_len: usize) -> Self {
        let about = about.into();
        let layout = Layout::of(&about);
        let l4 = [Field::SrcPort, Field::Kind, Field::Payload];
        let start = l4.iter().find_map(|f| layout.find(Level::Packet, *f)).map_or(about.len(), |r| r.start);
        self.payload(&about[14..(start + l4_len).min(about.len())])
    }

    /// So many bytes of padding behind the packet, as Ethernet's 60 bytes want.
    pub const fn padding(mut self, len: usize) -> Self {
        self.padding = len;
        self
    }

    /// But with these bytes in a field of the finished frame, whatever they break.
    pub fn but(mut self, field: Field, bytes: &[u8]) -> Self {
        self.edits.push((field, bytes.to_vec()));
        self
    }

    /// With a checksum of the IPv4 header that fits what was edited.
    pub const fn resummed(mut self) -> Self {
        self.resum = true;
        self
    }

    /// The finished frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (kind, content) in &self.tags {
            frame.extend(kind.to_be_bytes().iter().chain(&content.to_be_bytes()));
        }
        let body = self.body();
        let header_at = frame.len() + 2;
        match self.ends {
            [IpAddr::V4(src), IpAddr::V4(dst)] => {
                let len = u16::try_from(body.len()).expect("a test's packet is small");
                let mut header = Ipv4Header::new(len, self.ttl, self.protocol(), src.octets(), dst.octets())
                    .expect("a small packet");
                header.dscp = IpDscp::try_new(self.tos >> 2).expect("six bits");
                header.ecn = IpEcn::try_new(self.tos & 3).expect("two bits");
                header.identification = self.id;
                header.dont_fragment = self.flags & 0x4000 != 0;
                header.options = self.options[..].try_into().expect("a multiple of four, at most 40 bytes");
                header.total_len = len + u16::try_from(header.header_len()).expect("at most 60");
                header.header_checksum = header.calc_header_checksum();
                frame.extend([0x08, 0x00]);
                header.write_raw(&mut frame).expect("a vector takes everything");
            }
            [IpAddr::V6(src), IpAddr::V6(dst)] => {
                let chain = self.chain();
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::try_new(self.label).expect("20 bits"),
                    payload_length: u16::try_from(chain.len() + body.len()).expect("a test's packet is small"),
                    next_header: self.extensions.first().map_or(self.protocol(), |e| IpNumber(e.0)),
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                };
                frame.extend([0x86, 0xdd]);
                header.write(&mut frame).expect("a vector takes everything");
                frame.extend(chain);
            }
            _ => panic!("{:?} are of different families", self.ends),
        }
        frame.extend(body);
        frame.extend(vec![0; self.padding]);
        self.edit(&mut frame, header_at);
        frame
    }

    fn edit(&self, frame: &mut [u8], header_at: usize) {
        let layout = Layout::of(frame);
        for (field, bytes) in &self.edits {
            let range = layout.find(Level::Packet, *field).unwrap_or_else(|| panic!("no field {field:?}"));
            frame[range.start..range.start + bytes.len()].copy_from_slice(bytes);
        }
        if self.resum {
            let header = header_at..header_at + usize::from(frame[header_at] & 15) * 4;
            frame[header_at + 10..header_at + 12].fill(0);
            let sum = Sum16BitWords::new().add_slice(&frame[header]).ones_complement();
            frame[header_at + 10..header_at + 12].copy_from_slice(&sum.to_ne_bytes());
        }
    }

    fn protocol(&self) -> IpNumber {
        match (&self.carried, self.ends[0]) {
            (Carried::Tcp(_), _) => IpNumber::TCP,
            (Carried::Udp(_), _) => IpNumber::UDP,
            (Carried::Icmp(..), IpAddr::V4(_)) => IpNumber::ICMP,
            (Carried::Icmp(..), IpAddr::V6(_)) => IpNumber::IPV6_ICMP,
            (Carried::Other(protocol), _) => IpNumber(*protocol),
        }
    }

    fn chain(&self) -> Vec<u8> {
        let next = self.extensions.iter().skip(1).map(|e| e.0).chain([self.protocol().0]);
        let headers = self.extensions.iter().zip(next).map(|((kind, rest), next)| {
            let len = u8::try_from((rest.len() + 2) / 8 - 1).expect("a short extension");
            // A fragment header has no length.
            [&[next, if *kind == 44 { 0 } else { len }][..], rest].concat()
        });
        headers.collect::<Vec<_>>().concat()
    }

    fn body(&self) -> Vec<u8> {
        let payload = &self.payload[..];
        let mut body = Vec::new();
        match (&self.carried, self.ends) {
            (Carried::Tcp(header), ends) => {
                let mut header = (**header).clone();
                header.checksum = match ends {
                    [IpAddr::V4(a), IpAddr::V4(b)] => header.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload),
                    [IpAddr::V6(a), IpAddr::V6(b)] => header.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload),
                    _ => panic!("two families"),
                }
                .expect("a small packet");
                header.write(&mut body).expect("a vector takes everything");
            }
            (Carried::Udp(header), ends) => {
                let mut header = header.clone();
                header.length = u16::try_from(8 + payload.len()).expect("a test's packet is small");
                header.checksum = match ends {
                    _ if !self.has_sum => Ok(0),
                    [IpAddr::V4(a), IpAddr::V4(b)] => header.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload),
                    [IpAddr::V6(a), IpAddr::V6(b)] => header.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload),
                    _ => panic!("two families"),
                }
                .expect("a small packet");
                header.write(&mut body).expect("a vector takes everything");
            }
            (Carried::Icmp([kind, code], rest), ends) => {
                body = [&[*kind, *code, 0, 0][..], rest, payload].concat();
                let mut sum = Sum16BitWords::new().add_slice(&body);
                if let [IpAddr::V6(a), IpAddr::V6(b)] = ends {
                    let len = u32::try_from(body.len()).expect("a test's packet is small");
                    sum = sum.add_16bytes(a.octets()).add_16bytes(b.octets());
                    sum = sum.add_4bytes(len.to_be_bytes()).add_2bytes([0, 58]);
                }
                body[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
                return body;
            }
            (Carried::Other(_), _) => {}
        }
        body.extend(payload);
        body
    }
}

impl From<Packet> for Vec<u8> {
    fn from(packet: Packet) -> Self {
        packet.frame()
    }
}

impl From<&Packet> for Vec<u8> {
    fn from(packet: &Packet) -> Self {
        packet.frame()
    }
}
