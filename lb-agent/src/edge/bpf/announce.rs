//! Tells a link that a VIP is here now: gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour advertisements
//! (RFC 4861, section 7.2.6). Answers to questions come from the XDP program.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

const BROADCAST: [u8; 6] = [0xff; 6];
/// Every node on the link (RFC 4291, section 2.7.1), and its Ethernet form (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// Why an announcement was not sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot announce {vip} on interface {ifindex}: {source}. The agent needs CAP_NET_RAW for it")]
pub struct AnnounceError {
    vip: IpAddr,
    ifindex: u32,
    #[source]
    source: io::Error,
}

/// Sends one announcement: `vip` is at `mac` on the link of `ifindex`.
///
/// # Errors
/// Where the interface is gone or the process may not send raw frames.
pub fn announce(vip: IpAddr, ifindex: u32, mac: [u8; 6]) -> Result<(), AnnounceError> {
    let frame = match vip {
        IpAddr::V4(vip) => gratuitous_arp(vip, mac),
        IpAddr::V6(vip) => advertisement(vip, mac),
    };
    transmit(ifindex, &frame).map_err(|source| AnnounceError { vip, ifindex, source })
}

fn transmit(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // Protocol 0: the socket sends and never receives.
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    bind(raw.as_raw_fd(), &link_address(ifindex)?)?;
    let sent = send(raw.as_raw_fd(), frame, MsgFlags::empty())?;
    if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The interface's packet-socket address, as the kernel lists it.
fn link_address(ifindex: u32) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter_map(|entry| entry.address?.as_link_addr().copied())
        .find(|address| usize::try_from(ifindex).is_ok_and(|wanted| address.ifindex() == wanted))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// An ARP request for the VIP by the VIP: every cache that knows it is set right (RFC 5944, section 4.6).
fn gratuitous_arp(vip: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, 0x0806);
    // Ethernet, IPv4, lengths of both addresses, request.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(vip.octets());
    frame.extend([0; 6]);
    frame.extend(vip.octets());
    frame
}

fn advertisement(vip: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // Neighbour advertisement with the override flag, and the target's link-layer address as an option.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(vip.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let sum = checksum(vip, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum);

    let mut frame = ethernet(ALL_NODES_MAC, mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0]);
    // 32 bytes of ICMPv6, and the hop limit that proves the link (RFC 4861, section 7.1.2).
    frame.extend([32, ICMPV6, 255]);
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(dst);
    frame.extend(src);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// ICMPv6's checksum, with the pseudo-header (RFC 8200, section 8.1).
fn checksum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let pseudo = [0, 0, 0, 32, 0, 0, 0, ICMPV6];
    let words = |bytes: &[u8]| bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum::<u32>();
    let mut sum = words(&src.octets()) + words(&dst.octets()) + words(&pseudo) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gratuitous_arp_asks_for_the_vip_in_the_vips_name() {
        let vip = Ipv4Addr::new(203, 0, 113, 10);
        let frame = gratuitous_arp(vip, [2, 0, 0, 0, 0, 7]);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..6], BROADCAST);
        assert_eq!(frame[28..32], vip.octets());
        assert_eq!(frame[38..42], vip.octets());
    }

    #[test]
    fn an_advertisements_checksum_closes_over_its_pseudo_header() {
        let vip = "2001:db8::10".parse().unwrap();
        let frame = advertisement(vip, [2, 0, 0, 0, 0, 7]);
        assert_eq!(frame.len(), 86);
        // Summed with its checksum in place, one's complement arithmetic gives zero.
        assert_eq!(checksum(vip, ALL_NODES, &frame[54..]), [0, 0]);
    }
}
