//! Packets between clients, the VIP and backends, as bytes.

use lb_common::flow::Segment;
use lb_common::packet::{Arrival, Packet};
use lb_common::slot::Owner;

/// The service.
pub(crate) const VIP: [u8; 4] = [203, 0, 113, 1];
/// Its port, wire order.
pub(crate) const VIP_PORT: [u8; 2] = [0, 80];
/// Where backends listen, wire order.
pub(crate) const BACKEND_PORT: [u8; 2] = [31, 144];

/// A client's end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) addr: [u8; 4],
    pub(crate) port: u16,
}

/// Address of a backend.
pub(crate) fn backend_address(owner: Owner) -> [u8; 4] {
    let [high, low] = owner.to_be_bytes();
    [10, 9, high, low]
}

/// One frame: Ethernet, IPv4, TCP or UDP.
pub(crate) struct Frame([u8; 54]);

impl Frame {
    /// From a client to the VIP.
    pub(crate) fn from_client(client: Client, segment: Segment) -> Self {
        Self::new((client.addr, client.port.to_be_bytes()), (VIP, VIP_PORT), segment)
    }

    /// From a backend to a client.
    pub(crate) fn from_backend(owner: Owner, client: Client, segment: Segment) -> Self {
        Self::new((backend_address(owner), BACKEND_PORT), (client.addr, client.port.to_be_bytes()), segment)
    }

    fn new((src, src_port): ([u8; 4], [u8; 2]), (dst, dst_port): ([u8; 4], [u8; 2]), segment: Segment) -> Self {
        let flags = match segment {
            Segment::Syn => 0x02,
            Segment::Fin => 0x11,
            Segment::Rst => 0x04,
            Segment::Data | Segment::Datagram => 0x10,
        };
        let is_udp = segment == Segment::Datagram;
        let mut bytes = [0; 54];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(12, &[0x08, 0x00]);
        put(14, &[0x45, 0, 0, 40, 0, 0, 0, 0, 64, if is_udp { 17 } else { 6 }]);
        put(26, &src);
        put(30, &dst);
        put(34, &src_port);
        put(36, &dst_port);
        if is_udp {
            put(38, &[0, 20, 0, 0]);
        } else {
            put(46, &[0x50, flags]);
        }
        Self(bytes)
    }
}

impl Packet for Frame {
    const CAN_RESOLVE: bool = false;

    fn arrival(&self) -> Arrival {
        Arrival { ifindex: 2, keeps_books: true }
    }

    fn holds(&self, end: usize) -> bool {
        end <= self.0.len()
    }

    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        self.0.get_mut(at..at.checked_add(N)?)?.copy_from_slice(&bytes);
        Some(())
    }
}
