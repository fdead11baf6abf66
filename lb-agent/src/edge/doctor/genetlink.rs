//! What drivers can do, from the kernel's generic netlink families `netdev` (native XDP, Linux 6.3) and `ethtool` (offloads,
//! Linux 5.6). Speaks just enough of the protocol for three questions: `linux/netlink.h`, `genetlink.h`, `netdev.h`,
//! `ethtool_netlink.h`.

use std::io::{Error, ErrorKind, Result};

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
/// Attribute types carry two flags in their highest bits (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

const CONTROLLER: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// A conversation with the kernel about devices.
pub(super) struct Devices {
    socket: Socket,
    sequence: u32,
}

impl Devices {
    /// Opens it; needs no privilege.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        let _address = socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// `NETDEV_XDP_ACT_*` bits of a device.
    pub(super) fn xdp_features(&mut self, ifindex: u32) -> Result<u64> {
        let family = self.family("netdev")?;
        let question = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
        let answer = self.ask(family, NETDEV_CMD_DEV_GET, &question)?;
        let features = find(&answer, NETDEV_A_DEV_XDP_FEATURES).and_then(|bytes| bytes.try_into().ok());
        features.map(u64::from_ne_bytes).ok_or_else(|| strange("XDP features"))
    }

    /// Names of the offloads of a device that are on.
    pub(super) fn offloads(&mut self, ifindex: u32) -> Result<Vec<String>> {
        let family = self.family("ethtool")?;
        let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
        let question = attribute(ETHTOOL_A_FEATURES_HEADER | NESTED, &device);
        let answer = self.ask(family, ETHTOOL_MSG_FEATURES_GET, &question)?;
        let active = find(&answer, ETHTOOL_A_FEATURES_ACTIVE).ok_or_else(|| strange("offloads"))?;
        let bits = find(active, ETHTOOL_A_BITSET_BITS).unwrap_or_default();
        let named = attributes(bits).filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT);
        Ok(named.filter_map(|(_, bit)| find(bit, ETHTOOL_A_BITSET_BIT_NAME)).map(text).collect())
    }

    fn family(&mut self, name: &str) -> Result<u16> {
        let question = attribute(CTRL_ATTR_FAMILY_NAME, format!("{name}\0").as_bytes());
        let answer = self.ask(CONTROLLER, CTRL_CMD_GETFAMILY, &question)?;
        let id = find(&answer, CTRL_ATTR_FAMILY_ID).and_then(|bytes| bytes.try_into().ok());
        id.map(u16::from_ne_bytes).ok_or_else(|| strange(name))
    }

    /// One question, one answer: its attributes.
    fn ask(&mut self, family: u16, command: u8, question: &[u8]) -> Result<Vec<u8>> {
        self.sequence += 1;
        let message = message(family, command, self.sequence, question)?;
        let _sent = self.socket.send(&message, 0)?;
        // The kernel answers within `send`, so the receive does not wait.
        let (answer, _) = self.socket.recv_from_full()?;
        payload(&answer)
    }
}

fn message(family: u16, command: u8, sequence: u32, attributes: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(NLMSG_HEADER + GENL_HEADER + attributes.len()).map_err(Error::other)?;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    Ok(message)
}

fn payload(answer: &[u8]) -> Result<Vec<u8>> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let body = answer.get(NLMSG_HEADER..).ok_or_else(|| strange("a message"))?;
    if kind == Some(NLMSG_ERROR) {
        let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
        return Err(Error::from_raw_os_error(-code));
    }
    body.get(GENL_HEADER..).map(<[u8]>::to_vec).ok_or_else(|| strange("a message"))
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    // Questions are short: a name or a number.
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes in a buffer, types without their flags; ends where they make no sense.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn strange(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the kernel's answer about {what} is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back_as_they_were_written() {
        let mut bytes = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        bytes.extend(attribute(CTRL_ATTR_FAMILY_ID | NESTED, &7_u16.to_ne_bytes()));
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, CTRL_ATTR_FAMILY_NAME).map(text).as_deref(), Some("netdev"));
        assert_eq!(find(&bytes, CTRL_ATTR_FAMILY_ID), Some(&7_u16.to_ne_bytes()[..]));
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_list() {
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[]).count(), 0);
    }

    #[test]
    fn the_kernel_says_what_the_loopback_can_do() {
        let mut devices = Devices::open().unwrap();
        let offloads = devices.offloads(1).unwrap();
        assert!(offloads.iter().any(|name| name == "tx-checksum-ip-generic"), "{offloads:?}");
        let nowhere = devices.offloads(0x7fff_0000).unwrap_err();
        assert_eq!(nowhere.raw_os_error(), Some(libc::ENODEV));
    }
}
