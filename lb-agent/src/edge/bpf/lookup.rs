//! Prefix VIPs and QUIC's server IDs in their maps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::endpoint::{EndpointV4, EndpointV6};
use lb_common::limits::{MAX_OWNERS, MAX_PREFIXES, MAX_SERVICES};
use lb_common::maps;
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::slot::Owner;

use super::error::{LoadError, errno};
use super::maps::{Failure, absent_is_fine, failed, hash, io_error, mapped};
use super::mmap::Mapped;
use super::pin::Pins;
use crate::pure::tables::{Endpoint, ServiceId};

/// The maps, open.
#[derive(Debug)]
pub(super) struct LookupMaps {
    prefixes_v4: LpmTrie<MapData, [u8; 4], EndpointV4>,
    prefixes_v6: LpmTrie<MapData, [u8; 16], EndpointV6>,
    configs: Mapped<AtomicU64>,
    servers: HashMap<MapData, QuicServerKey, u32>,
}

impl LookupMaps {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            prefixes_v4: trie(pins, maps::PREFIXES_V4)?,
            prefixes_v6: trie(pins, maps::PREFIXES_V6)?,
            configs: mapped(pins, maps::QUIC_CONFIGS)?,
            servers: hash(pins, maps::QUIC_SERVERS)?,
        })
    }

    pub(super) fn set_prefix(&mut self, prefix: &Endpoint) -> Result<(), Failure> {
        let (map, done) = match prefix {
            Endpoint::V4(e) => (maps::PREFIXES_V4, self.prefixes_v4.insert(&Key::new(u32::from(e.zero), e.addr), e, 0)),
            Endpoint::V6(e) => (maps::PREFIXES_V6, self.prefixes_v6.insert(&Key::new(u32::from(e.zero), e.addr), e, 0)),
        };
        written(done, map, MAX_PREFIXES)
    }

    pub(super) fn remove_prefix(&mut self, prefix: &Endpoint) -> Result<(), Failure> {
        let (map, done) = match prefix {
            Endpoint::V4(e) => (maps::PREFIXES_V4, self.prefixes_v4.remove(&Key::new(u32::from(e.zero), e.addr))),
            Endpoint::V6(e) => (maps::PREFIXES_V6, self.prefixes_v6.remove(&Key::new(u32::from(e.zero), e.addr))),
        };
        absent_is_fine(done).map_err(|e| failed(map, e))
    }

    pub(super) fn set_quic(&self, service: ServiceId, config: QuicConfig) -> Result<(), Failure> {
        let beyond = || Failure::Full { map: maps::QUIC_CONFIGS, limit: MAX_SERVICES };
        self.configs.get(usize::from(service)).ok_or_else(beyond)?.store(config.0, Ordering::Release);
        Ok(())
    }

    pub(super) fn set_quic_server(&mut self, key: &QuicServerKey, owner: Owner) -> Result<(), Failure> {
        written(self.servers.insert(key, u32::from(owner), 0), maps::QUIC_SERVERS, MAX_OWNERS)
    }

    pub(super) fn remove_quic_server(&mut self, key: &QuicServerKey) -> Result<(), Failure> {
        absent_is_fine(self.servers.remove(key)).map_err(|e| failed(maps::QUIC_SERVERS, e))
    }

    pub(super) fn prefixes(&self) -> Result<BTreeSet<Endpoint>, Failure> {
        let mut prefixes = read(&self.prefixes_v4, maps::PREFIXES_V4, Endpoint::V4)?;
        prefixes.extend(read(&self.prefixes_v6, maps::PREFIXES_V6, Endpoint::V6)?);
        Ok(prefixes)
    }

    pub(super) fn quic(&self) -> BTreeMap<ServiceId, QuicConfig> {
        let configs = (0..).zip(self.configs.iter().take(MAX_SERVICES));
        let configs = configs.map(|(id, word)| (id, QuicConfig(word.load(Ordering::Acquire))));
        configs.filter(|(_, config)| *config != QuicConfig::default()).collect()
    }

    pub(super) fn quic_servers(&self) -> Result<BTreeMap<QuicServerKey, Owner>, Failure> {
        let entries = self.servers.iter().map(|e| e.map(|(key, owner)| (key, Owner::try_from(owner).unwrap_or(0))));
        entries.collect::<Result<_, MapError>>().map_err(|e| failed(maps::QUIC_SERVERS, io_error(&e)))
    }
}

fn written(done: Result<(), MapError>, map: &'static str, limit: usize) -> Result<(), Failure> {
    match done {
        // A trie says "no space" where a hash says "too big".
        Err(e) if matches!(errno(&e), Some(libc::E2BIG | libc::ENOSPC)) => Err(Failure::Full { map, limit }),
        Err(e) => Err(failed(map, io_error(&e))),
        Ok(()) => Ok(()),
    }
}

fn trie<K: Pod, V: Pod>(pins: &Pins, name: &'static str) -> Result<LpmTrie<MapData, K, V>, LoadError> {
    let refused = |e: MapError| LoadError::Map { path: pins.map(name), what: e.to_string() };
    LpmTrie::try_from(Map::from_map_data(pins.open(name)?).map_err(refused)?).map_err(refused)
}

fn read<K: Pod, V: Pod>(
    map: &LpmTrie<MapData, K, V>,
    name: &'static str,
    wrap: impl Fn(V) -> Endpoint,
) -> Result<BTreeSet<Endpoint>, Failure> {
    let values = map.iter().map(|item| item.map(|(_, value)| wrap(value)));
    values.collect::<Result<_, MapError>>().map_err(|e: MapError| failed(name, io::Error::other(e.to_string())))
}
