//! Prefix VIPs and QUIC's server IDs: in the rig's maps, and as the twin finds them.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData};
use lb_common::endpoint::{EndpointV4, EndpointV6};
use lb_common::maps;
use lb_common::quic::{QuicConfig, QuicServerKey};

use crate::rig::{Kernel, clear};
use crate::world::World;

impl World {
    /// The longest IPv4 prefix that holds an address.
    pub(crate) fn longest_prefix_v4(&self, addr: [u8; 4]) -> Option<&EndpointV4> {
        let differ = |p: &EndpointV4| u32::from_be_bytes(p.addr) ^ u32::from_be_bytes(addr);
        let holding = self.prefixes_v4.iter().filter(|p| differ(p).leading_zeros() >= u32::from(p.zero));
        holding.max_by_key(|p| p.zero)
    }

    /// The longest IPv6 prefix that holds an address.
    pub(crate) fn longest_prefix_v6(&self, addr: &[u8; 16]) -> Option<&EndpointV6> {
        let differ = |p: &EndpointV6| u128::from_be_bytes(p.addr) ^ u128::from_be_bytes(*addr);
        let holding = self.prefixes_v6.iter().filter(|p| differ(p).leading_zeros() >= u32::from(p.zero));
        holding.max_by_key(|p| p.zero)
    }
}

impl Kernel {
    pub(crate) fn clear_lookup(&mut self) -> Result<()> {
        clear_trie(self.trie::<[u8; 4], EndpointV4>(maps::PREFIXES_V4)?)?;
        clear_trie(self.trie::<[u8; 16], EndpointV6>(maps::PREFIXES_V6)?)?;
        let servers = self.hash::<QuicServerKey, u32>(maps::QUIC_SERVERS)?;
        let services: BTreeSet<u16> = servers.keys().map(|key| Ok(key?.service)).collect::<Result<_>>()?;
        clear(servers)?;
        // A configuration without server IDs finds nobody.
        for service in services {
            self.configs()?.set(u32::from(service), QuicConfig::default(), 0)?;
        }
        Ok(())
    }

    pub(crate) fn fill_lookup(&mut self, world: &World) -> Result<()> {
        let mut prefixes = self.trie::<[u8; 4], EndpointV4>(maps::PREFIXES_V4)?;
        for prefix in &world.prefixes_v4 {
            prefixes.insert(&Key::new(u32::from(prefix.zero), prefix.addr), prefix, 0)?;
        }
        let mut prefixes = self.trie::<[u8; 16], EndpointV6>(maps::PREFIXES_V6)?;
        for prefix in &world.prefixes_v6 {
            prefixes.insert(&Key::new(u32::from(prefix.zero), prefix.addr), prefix, 0)?;
        }
        for (service, config) in &world.quic {
            self.configs()?.set(u32::from(*service), *config, 0)?;
        }
        for (key, owner) in &world.quic_servers {
            self.hash::<QuicServerKey, u32>(maps::QUIC_SERVERS)?.insert(key, u32::from(*owner), 0)?;
        }
        Ok(())
    }

    fn configs(&mut self) -> Result<Array<&mut MapData, QuicConfig>> {
        Ok(Array::try_from(self.ebpf.map_mut(maps::QUIC_CONFIGS).context("no map QUIC_CONFIGS")?)?)
    }

    pub(crate) fn trie<K: Pod, V: Pod>(&mut self, name: &str) -> Result<LpmTrie<&mut MapData, K, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        LpmTrie::try_from(map).with_context(|| format!("map {name}"))
    }
}

pub(crate) fn clear_trie<K: Pod, V: Pod>(mut map: LpmTrie<&mut MapData, K, V>) -> Result<()> {
    let keys: Vec<Key<K>> = map.keys().collect::<std::result::Result<_, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}
