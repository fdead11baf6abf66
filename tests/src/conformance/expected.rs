//! What a packet must become: the packet that went in, with the named fields changed, nothing else, and every checksum right.
//!
//! Checksums follow from what they cover (RFC 1071): the new one differs from the old as the bytes do. Where the packet that went
//! in was sound this is the full sum, which etherparse verifies besides; where it was not, it must stay wrong by as much.

use std::net::IpAddr;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use etherparse::checksum::Sum16BitWords;

use super::layout::{Field, Layout, Level};
use super::outer::Outer;
use crate::packet::read;
use crate::world::GUE_PORT;
use crate::wrapped::unwrap;

/// One field that is not what it was.
#[derive(Clone, Debug)]
pub enum Change {
    /// Has these bytes now.
    Set(Level, Field, Vec<u8>),
    /// TTL or hop limit, less one.
    OneHop,
    /// A port is one of these; which one is not for clients to know.
    Lent(Level, Field, Range<u16>),
    /// It is inside another packet now. Comes last.
    Wrapped(Outer),
    /// Another frame takes its place. Comes alone.
    Answer(Vec<u8>),
}

impl Change {
    /// The source port has been lent.
    pub const fn lent_source(ports: Range<u16>) -> Self {
        Self::Lent(Level::Packet, Field::SrcPort, ports)
    }
}

/// A field of the packet has these bytes now.
pub fn set(field: Field, bytes: &[u8]) -> Change {
    Change::Set(Level::Packet, field, bytes.to_vec())
}

/// A field of the quoted packet has these bytes now.
pub fn quoted(field: Field, bytes: &[u8]) -> Change {
    Change::Set(Level::Quote, field, bytes.to_vec())
}

/// An address as a field has it.
pub fn bytes_of(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// What `sent` must become. `got` is asked for nothing but a lent port.
pub(super) fn expected(sent: &[u8], changes: &[Change], got: &[u8]) -> Result<Vec<u8>> {
    if let [Change::Answer(frame)] = changes {
        return Ok(frame.clone());
    }
    let layout = Layout::of(sent);
    let mut frame = sent.to_vec();
    for change in changes {
        let (level, field, bytes) = match change {
            Change::Wrapped(_) | Change::Answer(_) => continue,
            Change::Set(level, field, bytes) => (*level, *field, bytes.clone()),
            Change::OneHop => {
                let at = layout.find(Level::Packet, Field::Ttl).context("no TTL")?.start;
                (Level::Packet, Field::Ttl, vec![sent[at].wrapping_sub(1)])
            }
            Change::Lent(level, field, ports) => {
                let range = layout.find(*level, *field).context("no such port")?;
                let port = got.get(range).context("it ends before the port")?;
                let number = u16::from_be_bytes([port[0], port[1]]);
                ensure!(ports.contains(&number), "lent port {number} is none of {ports:?}");
                (*level, *field, port.to_vec())
            }
        };
        let range =
            layout.find(level, field).with_context(|| format!("the case names {field:?}, which is not there"))?;
        ensure!(range.len() == bytes.len(), "{field:?} has {} bytes, not {}", range.len(), bytes.len());
        frame[range].copy_from_slice(&bytes);
    }
    for sum in &layout.sums {
        let old = u16::from_be_bytes([sent[sum.at], sent[sum.at + 1]]);
        if sum.is_udp && old == 0 {
            continue;
        }
        let change = 0xffff + covered(&frame, sum.at, &sum.covers) - covered(sent, sum.at, &sum.covers);
        // Either zero stays what it was while nothing changes.
        if change == 0xffff {
            continue;
        }
        let total = (u32::from(!old) + change) % 0xffff;
        // Of the two zeroes a sum of anything is the negative one.
        let new = if total == 0 { 0 } else { 0xffff - total };
        let new = if sum.is_udp && new == 0 { 0xffff } else { new };
        let new = u16::try_from(new).context("a sum of 16 bits")?;
        frame[sum.at..sum.at + 2].copy_from_slice(&new.to_be_bytes());
    }
    if let Some(Change::Wrapped(outer)) = changes.last() {
        return outer.around(&frame, &layout, got);
    }
    Ok(frame)
}

/// Sum of the bytes that a checksum covers, without itself.
fn covered(frame: &[u8], at: usize, ranges: &[Range<usize>]) -> u32 {
    let mut copy = frame.to_vec();
    copy[at..at + 2].fill(0);
    let bytes: Vec<u8> = ranges.iter().flat_map(|r| copy[r.clone()].iter().copied()).collect();
    let sum = !Sum16BitWords::new().add_slice(&bytes).ones_complement();
    u32::from(u16::from_be_bytes(sum.to_ne_bytes()))
}

/// Verifies every checksum of an IP frame, and of the packet that it quotes as far as that is there. etherparse's opinion.
pub(super) fn sound(frame: &[u8]) -> Result<()> {
    let outer = read(frame)?;
    let frame = if matches!(outer.protocol, 4 | 41) || outer.dst.port() == GUE_PORT {
        &unwrap(frame)?.inner_frame[..]
    } else {
        frame
    };
    let Some((range, is_whole)) = Layout::of(frame).quote else { return Ok(()) };
    let quote = &frame[range];
    if quote[0] >> 4 == 4 {
        let header = quote.get(..usize::from(quote[0] & 15) * 4).context("half a header is quoted")?;
        if Sum16BitWords::new().add_slice(header).ones_complement() != 0 {
            bail!("wrong checksum of the quoted IPv4 header");
        }
    }
    if is_whole {
        let kind: &[u8] = if quote[0] >> 4 == 4 { &[8, 0] } else { &[0x86, 0xdd] };
        let _fields = read(&[&[2; 12], kind, quote].concat()).context("the quoted packet")?;
    }
    Ok(())
}

/// How two frames differ, in fields.
pub(super) fn difference(wanted: &[u8], got: &[u8]) -> String {
    let mut lines = Vec::new();
    if wanted.len() != got.len() {
        lines.push(format!("{} bytes instead of {}", got.len(), wanted.len()));
    }
    for part in Layout::of(wanted).parts {
        let (a, b) = (&wanted[part.range.clone()], got.get(part.range.clone()).unwrap_or(&[]));
        if a != b {
            let whose = if part.level == Level::Quote { "quoted " } else { "" };
            lines.push(format!("{whose}{:?}: {} instead of {}", part.field, text(b), text(a)));
        }
    }
    lines.join("; ")
}

fn text(bytes: &[u8]) -> String {
    match bytes {
        [one] => one.to_string(),
        [high, low] => format!("{0} ({0:#06x})", u16::from_be_bytes([*high, *low])),
        [a, b, c, d] => format!("{a}.{b}.{c}.{d}"),
        long => long.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":"),
    }
}
