//! Where the fields of a frame lie, and what its checksums cover. Reads by offset alone and knows nothing of `lb-common`: what this
//! file believes of a header is an opinion of its own.

use std::ops::Range;

/// Which packet a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The packet that the frame carries.
    Packet,
    /// The packet that an ICMP error quotes.
    Quote,
}

/// A field, or a run of bytes that is looked at as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the RFCs, by their names")]
pub enum Field {
    DstMac,
    SrcMac,
    Tags,
    EtherType,
    /// IPv4: version and header length.
    Version,
    /// IPv6: version, traffic class and flow label.
    FlowLabel,
    Tos,
    Length,
    Id,
    Fragment,
    Ttl,
    Protocol,
    HeaderSum,
    Src,
    Dst,
    Options,
    Extensions,
    SrcPort,
    DstPort,
    Seq,
    Ack,
    DataOffset,
    TcpFlags,
    Window,
    Sum,
    Urgent,
    TcpOptions,
    UdpLength,
    Kind,
    Code,
    /// ICMP: the four bytes after the checksum.
    Rest,
    Payload,
    /// What lies behind the IP packet.
    Padding,
}

/// A field's place.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose field it is.
    pub level: Level,
    /// Which.
    pub field: Field,
    /// Its bytes in the frame.
    pub range: Range<usize>,
}

/// A checksum.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Its place.
    pub at: usize,
    /// What it covers of this frame, addresses of its pseudo-header included.
    pub covers: Vec<Range<usize>>,
    /// UDP: zero means none, and a computed zero is sent as all ones (RFC 768).
    pub is_udp: bool,
}

/// A frame taken apart.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Its fields, in order, without gaps as far as it could be read.
    pub parts: Vec<Part>,
    /// Its checksums; one that covers another comes after it.
    pub sums: Vec<Sum>,
    /// The quoted packet and whether all of it is there.
    pub quote: Option<(Range<usize>, bool)>,
}

impl Layout {
    /// Takes a frame apart, as far as it makes sense.
    pub fn of(frame: &[u8]) -> Self {
        let mut layout = Self::default();
        let mut reader = Reader { frame, layout: &mut layout, level: Level::Packet, at: 0 };
        let _end = reader.ethernet();
        layout
    }

    /// Place of a field.
    pub fn find(&self, level: Level, field: Field) -> Option<Range<usize>> {
        self.parts.iter().find(|p| p.level == level && p.field == field).map(|p| p.range.clone())
    }
}

struct Reader<'a> {
    frame: &'a [u8],
    layout: &'a mut Layout,
    level: Level,
    at: usize,
}

/// IP as the transport header needs it.
struct Carrier {
    protocol: u8,
    is_v4: bool,
    /// Its addresses, which the pseudo-header repeats.
    addresses: Range<usize>,
    /// Where the packet ends, by its own account or by the frame's.
    end: usize,
    is_tail: bool,
}

impl Reader<'_> {
    fn take(&mut self, field: Field, len: usize) -> Option<Range<usize>> {
        let end = self.frame.len().min(self.at + len);
        let range = self.at..end;
        if !range.is_empty() {
            self.layout.parts.push(Part { level: self.level, field, range: range.clone() });
        }
        self.at = end;
        (range.len() == len).then_some(range)
    }

    fn byte(&self, at: usize) -> Option<usize> {
        self.frame.get(at).map(|b| usize::from(*b))
    }

    fn word(&self, at: usize) -> Option<usize> {
        Some(self.byte(at)? << 8 | self.byte(at + 1)?)
    }

    fn ethernet(&mut self) -> Option<()> {
        let _dst = self.take(Field::DstMac, 6)?;
        let _src = self.take(Field::SrcMac, 6)?;
        let mut tags = 0;
        while matches!(self.word(self.at + tags), Some(0x8100 | 0x88a8)) {
            tags += 4;
        }
        let _tags = self.take(Field::Tags, tags)?;
        let kind = self.word(self.at)?;
        let _kind = self.take(Field::EtherType, 2)?;
        match kind {
            0x0800 | 0x86dd => {
                let _whole = self.packet(kind == 0x0800);
            }
            _ => {}
        }
        let rest = self.frame.len() - self.at;
        let _rest = self.take(Field::Payload, rest);
        Some(())
    }

    fn packet(&mut self, is_v4: bool) -> Option<()> {
        let carrier = if is_v4 { self.ipv4()? } else { self.ipv6()? };
        let end = carrier.end.min(self.frame.len());
        let _whole = self.transport(&carrier);
        let rest = end.saturating_sub(self.at);
        let _payload = self.take(Field::Payload, rest);
        if self.level == Level::Packet {
            let padding = self.frame.len() - self.at;
            let _padding = self.take(Field::Padding, padding);
        }
        Some(())
    }

    fn ipv4(&mut self) -> Option<Carrier> {
        let start = self.at;
        let header_len = (self.byte(start)? & 15) * 4;
        let end = start + self.word(start + 2)?;
        let is_tail = self.word(start + 6)? & 0x1fff != 0;
        let protocol = *self.frame.get(start + 9)?;
        for (field, len) in [
            (Field::Version, 1),
            (Field::Tos, 1),
            (Field::Length, 2),
            (Field::Id, 2),
            (Field::Fragment, 2),
            (Field::Ttl, 1),
            (Field::Protocol, 1),
            (Field::HeaderSum, 2),
            (Field::Src, 4),
            (Field::Dst, 4),
            (Field::Options, header_len.checked_sub(20)?),
        ] {
            let _range = self.take(field, len)?;
        }
        let header = start..start + header_len;
        self.layout.sums.push(Sum { at: start + 10, covers: vec![header], is_udp: false });
        Some(Carrier { protocol, is_v4: true, addresses: start + 12..start + 20, end, is_tail })
    }

    fn ipv6(&mut self) -> Option<Carrier> {
        let start = self.at;
        let end = start + 40 + self.word(start + 4)?;
        let mut protocol = *self.frame.get(start + 6)?;
        for (field, len) in [
            (Field::FlowLabel, 4),
            (Field::Length, 2),
            (Field::Protocol, 1),
            (Field::Ttl, 1),
            (Field::Src, 16),
            (Field::Dst, 16),
        ] {
            let _range = self.take(field, len)?;
        }
        let (mut extensions, mut is_tail) = (0, false);
        while matches!(protocol, 0 | 43 | 44 | 60) && !is_tail {
            let at = self.at + extensions;
            is_tail = protocol == 44 && self.word(at + 2)? & 0xfff8 != 0;
            extensions += if protocol == 44 { 8 } else { (self.byte(at + 1)? + 1) * 8 };
            protocol = *self.frame.get(at)?;
        }
        let _extensions = self.take(Field::Extensions, extensions)?;
        Some(Carrier { protocol, is_v4: false, addresses: start + 8..start + 40, end, is_tail })
    }

    fn transport(&mut self, ip: &Carrier) -> Option<()> {
        if ip.is_tail {
            return None;
        }
        let l4 = self.at;
        let mut end = ip.end.min(self.frame.len());
        let (at, is_udp, pseudo) = match ip.protocol {
            6 => {
                let header_len = (self.byte(l4 + 12).unwrap_or(0) >> 4) * 4;
                let known = [
                    (Field::SrcPort, 2),
                    (Field::DstPort, 2),
                    (Field::Seq, 4),
                    (Field::Ack, 4),
                    (Field::DataOffset, 1),
                    (Field::TcpFlags, 1),
                    (Field::Window, 2),
                    (Field::Sum, 2),
                    (Field::Urgent, 2),
                    (Field::TcpOptions, header_len.saturating_sub(20)),
                ];
                self.fields(&known, end);
                (l4 + 16, false, true)
            }
            17 => {
                end = end.min(l4 + self.word(l4 + 4).unwrap_or(8));
                let known = [(Field::SrcPort, 2), (Field::DstPort, 2), (Field::UdpLength, 2), (Field::Sum, 2)];
                self.fields(&known, end);
                (l4 + 6, true, true)
            }
            1 | 58 if (ip.protocol == 1) == ip.is_v4 => {
                let kind = self.byte(l4)?;
                self.fields(&[(Field::Kind, 1), (Field::Code, 1), (Field::Sum, 2), (Field::Rest, 4)], end);
                let is_error = if ip.is_v4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 };
                if is_error && self.level == Level::Packet && self.at < end {
                    self.quote(ip.is_v4, end);
                }
                (l4 + 2, false, !ip.is_v4)
            }
            _ => return None,
        };
        if at + 2 <= end {
            let mut covers = if pseudo { vec![ip.addresses.clone()] } else { vec![] };
            covers.push(l4..end);
            self.layout.sums.push(Sum { at, covers, is_udp });
        }
        Some(())
    }

    /// Fields of a header that may be cut off at `end`.
    fn fields(&mut self, known: &[(Field, usize)], end: usize) {
        for (field, len) in known {
            let room = end.saturating_sub(self.at);
            let _range = self.take(*field, (*len).min(room));
        }
    }

    fn quote(&mut self, is_v4: bool, end: usize) {
        let start = self.at;
        let frame = self.frame;
        let mut inner = Reader { frame: &frame[..end], layout: &mut *self.layout, level: Level::Quote, at: start };
        let _cut = inner.packet(is_v4);
        let read = inner.at;
        let said = if is_v4 { self.word(start + 2) } else { self.word(start + 4).map(|len| len + 40) };
        self.layout.quote = Some((start..end, said.is_some_and(|len| start + len <= end)));
        self.at = read;
    }
}
