//! Writes packets as a pcapng stream (draft-ietf-opsawg-pcapng): one interface description for each interface and direction,
//! nanoseconds, a comment that says what became of the packet, and from time to time how many were lost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use pcap_file::pcapng::PcapNgBlock;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

/// `if_tsresol`: 10^-9 s.
const NANOSECONDS: u8 = 9;

/// `epb_flags`: received.
const INBOUND: u32 = 1;
/// `epb_flags`: sent.
const OUTBOUND: u32 = 2;

/// Where a packet was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Interface's name.
    pub(super) interface: String,
    /// As it leaves, after rewriting; otherwise as it came.
    pub(super) is_out: bool,
}

/// One packet.
pub(super) struct Packet<'a> {
    pub(super) place: Place,
    /// Since 1970.
    pub(super) time: Duration,
    /// Length of the frame.
    pub(super) frame_len: u32,
    pub(super) bytes: &'a [u8],
    pub(super) comment: String,
}

/// A stream under way: blocks are collected until they are taken.
pub(super) struct Stream {
    writer: PcapNgWriter<Vec<u8>>,
    places: BTreeMap<Place, (u32, u64)>,
    snaplen: u32,
}

impl Stream {
    /// Begins with a section that says who wrote it.
    pub(super) fn begin(snaplen: u32, what: &str) -> Result<Self, PcapError> {
        let application = concat!("weir ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![
                SectionHeaderOption::Comment(Cow::Owned(what.to_owned())),
                SectionHeaderOption::OS(Cow::Borrowed("Linux")),
                SectionHeaderOption::UserApplication(Cow::Borrowed(application)),
            ],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
        Ok(Self { writer, places: BTreeMap::new(), snaplen })
    }

    /// Takes the blocks that were written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// Packets written.
    pub(super) fn packets(&self) -> u64 {
        self.places.values().map(|(_, packets)| packets).sum()
    }

    /// Writes a packet; before the first one of its place, the place.
    pub(super) fn packet(&mut self, packet: Packet<'_>) -> Result<(), PcapError> {
        let id = self.interface(&packet.place)?;
        let direction = if packet.place.is_out { OUTBOUND } else { INBOUND };
        let block = EnhancedPacketBlock {
            interface_id: id,
            timestamp: packet.time,
            original_len: packet.frame_len,
            data: Cow::Borrowed(packet.bytes),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Owned(packet.comment)),
                EnhancedPacketOption::Flags(direction),
            ],
        };
        let _length = self.writer.write_block(&block.into_block())?;
        if let Some((_, packets)) = self.places.get_mut(&packet.place) {
            *packets += 1;
        }
        Ok(())
    }

    fn interface(&mut self, place: &Place) -> Result<u32, PcapError> {
        if let Some((id, _)) = self.places.get(place) {
            return Ok(*id);
        }
        let id = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let Place { interface, is_out } = place;
        let (side, when) = if *is_out { ("out", "after rewriting") } else { ("in", "before rewriting") };
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(format!("{interface} {side}"))),
                InterfaceDescriptionOption::IfDescription(Cow::Owned(format!("{interface}, {when}"))),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        let _length = self.writer.write_block(&block.into_block())?;
        let _new = self.places.insert(place.clone(), (id, 0));
        Ok(id)
    }

    /// Says how many packets there were and how many were lost. Readers take the last word (section 4.6 of the draft). What is
    /// lost is lost of all interfaces together, and is told of the first.
    pub(super) fn statistics(&mut self, now: Duration, lost: u64) -> Result<(), PcapError> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for (id, packets) in self.places.clone().into_values() {
            let lost = if id == 0 { lost } else { 0 };
            let block = InterfaceStatisticsBlock {
                interface_id: id,
                // Its upper half comes first whatever the byte order (section 4.3 of the draft); the crate writes one number.
                timestamp: if cfg!(target_endian = "little") { now.rotate_left(32) } else { now },
                options: vec![
                    InterfaceStatisticsOption::IsbIfRecv(packets + lost),
                    InterfaceStatisticsOption::IsbIfDrop(0),
                    InterfaceStatisticsOption::IsbOsDrop(lost),
                    InterfaceStatisticsOption::IsbUsrDeliv(packets),
                ],
            };
            let _length = self.writer.write_block(&block.into_block())?;
        }
        Ok(())
    }
}
