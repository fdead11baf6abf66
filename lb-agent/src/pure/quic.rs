//! How QUIC connection IDs of a service name its backends: server IDs, given or derived.
//!
//! A backend that is given no ID has the last octets of its own address, as many as a server ID has, with zeroes in front where
//! the address is shorter: a rule that a server can follow without being told anything but lengths.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::quic::{QUIC_LENGTH_IN_FIRST_OCTET, QuicConfig, QuicServerKey, SERVER_ID_MAX};
use serde::Serialize;

use super::tables::ServiceId;

/// A server ID: 1 to 15 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    len: u8,
    octets: [u8; SERVER_ID_MAX],
}

impl ServerId {
    /// `None`: too few or too many octets.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let len = u8::try_from(octets.len()).ok().filter(|len| *len > 0)?;
        let mut id = Self { len, octets: [0; SERVER_ID_MAX] };
        id.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(id)
    }

    /// The ID of a backend that is given none.
    pub fn derived(address: IpAddr, len: u8) -> Self {
        let mut id = Self { len, octets: [0; SERVER_ID_MAX] };
        let mut octets = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let places = id.octets.iter_mut().take(len.into()).rev();
        places.for_each(|place| *place = octets.pop().unwrap_or(0));
        id
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Its key in the kernel.
    pub fn key(&self, service: ServiceId) -> QuicServerKey {
        let mut id = [0; 16];
        id[..SERVER_ID_MAX].copy_from_slice(&self.octets);
        QuicServerKey { service, len: self.len, zero: 0, id }
    }

    /// From its key in the kernel.
    pub fn of_key(key: &QuicServerKey) -> Option<Self> {
        Self::new(key.id.get(..usize::from(key.len))?)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl Serialize for ServerId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// `[service.quic]`: how connection IDs of a service are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuicSpec {
    /// Config rotation, `0..=6`.
    pub config_rotation: u8,
    /// Octets of a server ID, `1..=15`.
    pub server_id_length: u8,
    /// Octets of a nonce, at least 4; with the server ID at most 19.
    pub nonce_length: u8,
    /// Whether the first octet says how many follow it.
    pub length_self_description: bool,
    /// IDs that the configuration gives.
    pub server_ids: BTreeMap<SocketAddr, ServerId>,
}

impl QuicSpec {
    /// As the kernel reads it.
    pub const fn config(&self) -> QuicConfig {
        let flags = if self.length_self_description { QUIC_LENGTH_IN_FIRST_OCTET } else { 0 };
        QuicConfig::new(self.config_rotation, self.server_id_length, self.nonce_length, flags)
    }

    /// The ID of a backend.
    pub fn server_id(&self, backend: SocketAddr) -> ServerId {
        let derived = || ServerId::derived(backend.ip(), self.server_id_length);
        self.server_ids.get(&backend).copied().unwrap_or_else(derived)
    }

    /// Another of these backends that has this one's ID.
    pub fn namesake(&self, backend: SocketAddr, others: impl IntoIterator<Item = SocketAddr>) -> Option<SocketAddr> {
        let id = self.server_id(backend);
        others.into_iter().find(|other| *other != backend && self.server_id(*other) == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_not_given_is_the_end_of_the_address() {
        let (v4, v6) = (IpAddr::from([10, 0, 1, 11]), "2001:db8::a:b".parse().expect("an address"));
        assert_eq!(ServerId::derived(v4, 2).to_string(), "010b");
        assert_eq!(ServerId::derived(v4, 6).to_string(), "00000a00010b");
        assert_eq!(ServerId::derived(v6, 4).to_string(), "000a000b");
    }

    #[test]
    fn a_key_gives_back_its_id() {
        let id = ServerId::new(&[0xa, 0xb, 0]).expect("three octets");
        assert_eq!(ServerId::of_key(&id.key(7)), Some(id));
        assert_eq!((ServerId::new(&[]), ServerId::new(&[0; 16])), (None, None));
    }
}
