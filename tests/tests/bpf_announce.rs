//! Announcements reach the link, as frames that neighbours believe.
#![expect(clippy::unwrap_used, reason = "a test ends with the error that it meets")]

mod bpf_support;

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use bpf_support::Host;
use lb_agent::edge::bpf;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Everything that arrives at an interface.
fn listen(interface: &str) -> OwnedFd {
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    let address: LinkAddr = getifaddrs()
        .unwrap()
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .unwrap();
    bind(raw.as_raw_fd(), &address).unwrap();
    setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).unwrap();
    raw
}

/// The next frame from our MAC address; the kernel itself has its say on a fresh link.
fn next_of_ours(raw: &OwnedFd) -> Vec<u8> {
    let mut frame = [0; 256];
    loop {
        let length = recv(raw.as_raw_fd(), &mut frame, MsgFlags::empty()).expect("a frame within five seconds");
        if frame[6..12] == MAC {
            return frame[..length].to_vec();
        }
    }
}

#[test]
fn a_vip_of_either_family_is_announced_on_its_link() {
    let host = Host::new();
    host.veth("a0");
    host.ip("link set a0p up");
    let ifindex = if_nametoindex("a0").unwrap();
    let peer = listen("a0p");

    let vip: IpAddr = "203.0.113.10".parse().unwrap();
    bpf::announce(vip, ifindex, MAC).unwrap();
    let frame = next_of_ours(&peer);
    assert_eq!((&frame[..6], &frame[12..14]), (&[0xff; 6][..], &[0x08, 0x06][..]));
    assert_eq!(
        (&frame[22..28], &frame[28..32], &frame[38..42]),
        (&MAC[..], &[203, 0, 113, 10][..], &[203, 0, 113, 10][..])
    );

    let vip: IpAddr = "2001:db8::10".parse().unwrap();
    bpf::announce(vip, ifindex, MAC).unwrap();
    let frame = next_of_ours(&peer);
    assert_eq!((&frame[..6], &frame[12..14]), (&[0x33, 0x33, 0, 0, 0, 1][..], &[0x86, 0xdd][..]));
    assert_eq!((frame[54], frame[58]), (136, 0x20), "an advertisement that overrides");
    assert_eq!(frame[80..86], MAC);
}

#[test]
fn an_interface_that_is_gone_is_an_error_with_its_number() {
    let _host = Host::new();
    let error = bpf::announce("203.0.113.10".parse().unwrap(), 4_711, MAC).unwrap_err();
    assert!(error.to_string().contains("203.0.113.10 on interface 4711"), "{error}");
}
