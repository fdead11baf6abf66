//! What ipip and gue need to know beyond the backend's address: where outer packets come from and which port gue goes to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use serde::Serialize;

/// Most low bits of the outer source that are a flow's (`lb_common::backend::BackendEntry::source_bits`).
const MOST_SOURCE_BITS: u8 = 32;

/// Where outer packets of a service come from, and where gue goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Encap {
    /// Outer sources towards IPv4 backends: the network's address and its prefix length, 8 to 32.
    pub source_v4: (Ipv4Addr, u8),
    /// Outer sources towards IPv6 backends: the network's address and its prefix length, 32 to 128.
    pub source_v6: (Ipv6Addr, u8),
    /// gue: UDP port of the outer destination.
    pub gue_port: NonZeroU16,
}

impl Default for Encap {
    /// Katran's own: sources that nobody routes, so that nothing comes back to them, and the port that Linux's documentation of
    /// fou uses. 100::/64 is the discard-only prefix (RFC 6666).
    fn default() -> Self {
        Self {
            source_v4: (Ipv4Addr::new(172, 16, 0, 0), 16),
            source_v6: (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
            gue_port: NonZeroU16::MIN.saturating_add(6079),
        }
    }
}

impl Encap {
    /// Outer source towards a backend: the network's address, and how many of its low bits are the flow's.
    pub fn source_towards(&self, backend: IpAddr) -> (IpAddr, u8) {
        let (base, host_bits) = match backend {
            IpAddr::V4(_) => (IpAddr::V4(self.source_v4.0), 32 - self.source_v4.1.min(32)),
            IpAddr::V6(_) => (IpAddr::V6(self.source_v6.0), 128 - self.source_v6.1.min(128)),
        };
        (base, host_bits.min(MOST_SOURCE_BITS))
    }

    /// Whether an address is one that outer packets may come from.
    pub fn may_send_from(&self, address: IpAddr) -> bool {
        let (common_bits, prefix) = match address {
            IpAddr::V4(a) => ((a.to_bits() ^ self.source_v4.0.to_bits()).leading_zeros(), self.source_v4.1),
            IpAddr::V6(a) => ((a.to_bits() ^ self.source_v6.0.to_bits()).leading_zeros(), self.source_v6.1),
        };
        common_bits >= u32::from(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_bits_of_the_source_are_the_flows_as_far_as_an_entry_holds_them() {
        let encap = Encap::default();
        let towards = |backend: &str| encap.source_towards(backend.parse().expect("an address"));
        assert_eq!(towards("10.0.0.1"), ("172.16.0.0".parse().expect("an address"), 16));
        assert_eq!(towards("fd00::1"), ("100::".parse().expect("an address"), 32));
        let one = Encap { source_v4: (Ipv4Addr::new(10, 0, 0, 9), 32), ..encap };
        assert_eq!(one.source_towards("10.0.0.1".parse().expect("an address")).1, 0);
    }

    #[test]
    fn addresses_within_the_sources_are_known_for_ours() {
        let encap = Encap::default();
        for (address, within) in [("172.16.9.9", true), ("172.17.0.1", false), ("100::9", true), ("100:1::", false)] {
            assert_eq!(encap.may_send_from(address.parse().expect("an address")), within, "{address}");
        }
    }
}
