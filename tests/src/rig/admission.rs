//! Access lists, limits, and what has been spent of them: in the rig's maps.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{PerCpuArray, PerCpuValues};
use ipnet::IpNet;
use lb_common::admission::{AccessV4, AccessV6, Limits, Refusals};
use lb_common::flow::FlowBucket;
use lb_common::limits::SOURCE_BUCKETS;
use lb_common::maps;

use super::{Kernel, Rig};
use crate::lookup::clear_trie;
use crate::world::World;

impl Rig {
    /// Until when a service's budget is spent, ns.
    pub fn budget(&mut self, service: u16) -> Result<u64> {
        Ok(self.kernel().array::<u64>(maps::BUDGETS)?.get(&u32::from(service), 0)?)
    }

    /// Budgets of sources, by place, those that are not free.
    pub fn sources(&mut self) -> Result<BTreeMap<usize, u64>> {
        self.kernel().sources()
    }

    /// What limits of a service have refused.
    pub fn refusals(&mut self, service: u16) -> Result<Refusals> {
        let cpu = usize::try_from(self.kernel().cpu)?;
        let map = self.kernel().ebpf.map_mut(maps::REFUSALS).context("no map REFUSALS")?;
        let per_cpu = PerCpuArray::<_, Refusals>::try_from(map)?.get(&u32::from(service), 0)?;
        Ok(per_cpu.get(cpu).copied().unwrap_or_default())
    }
}

impl Kernel {
    pub(super) fn fill_admission(&mut self, world: &World) -> Result<()> {
        for (id, limits) in &world.limits {
            self.array::<Limits>(maps::LIMITS)?.set(u32::from(*id), *limits, 0)?;
        }
        for ((id, net), rule) in &world.access {
            self.set_access(*id, net, *rule)?;
        }
        Ok(())
    }

    pub(super) fn clear_access(&mut self) -> Result<()> {
        clear_trie(self.trie::<AccessV4, u32>(maps::ACCESS_V4)?)?;
        clear_trie(self.trie::<AccessV6, u32>(maps::ACCESS_V6)?)
    }

    pub(super) fn clear_limits(&mut self, service: u16) -> Result<()> {
        self.array(maps::LIMITS)?.set(u32::from(service), Limits::default(), 0)?;
        self.array(maps::BUDGETS)?.set(u32::from(service), 0_u64, 0)?;
        let map = self.ebpf.map_mut(maps::REFUSALS).context("no map REFUSALS")?;
        let mut refusals = PerCpuArray::<_, Refusals>::try_from(map)?;
        let cpus = refusals.get(&u32::from(service), 0)?.len();
        Ok(refusals.set(u32::from(service), PerCpuValues::try_from(vec![Refusals::default(); cpus])?, 0)?)
    }

    pub(super) fn clear_sources(&mut self) -> Result<()> {
        for place in self.sources()?.into_keys() {
            self.set_source(place, 0)?;
        }
        Ok(())
    }

    fn set_access(&mut self, service: u16, net: &IpNet, rule: u32) -> Result<()> {
        let (service, bits) = (u32::from(service).to_be_bytes(), 32 + u32::from(net.prefix_len()));
        match net {
            IpNet::V4(net) => {
                let key = Key::new(bits, AccessV4 { service, addr: net.network().octets() });
                Ok(self.trie(maps::ACCESS_V4)?.insert(&key, rule, 0)?)
            }
            IpNet::V6(net) => {
                let key = Key::new(bits, AccessV6 { service, addr: net.network().octets() });
                Ok(self.trie(maps::ACCESS_V6)?.insert(&key, rule, 0)?)
            }
        }
    }

    pub(super) fn sources(&mut self) -> Result<BTreeMap<usize, u64>> {
        let array = self.array::<FlowBucket>(maps::SOURCES)?;
        let mut found = BTreeMap::new();
        for bucket in 0..u32::try_from(SOURCE_BUCKETS)? {
            for (n, entry) in array.get(&bucket, 0)?.into_iter().enumerate().filter(|(_, entry)| *entry != 0) {
                let _new = found.insert(bucket as usize * 8 + n, entry);
            }
        }
        Ok(found)
    }

    pub(super) fn set_source(&mut self, place: usize, entry: u64) -> Result<()> {
        let bucket = u32::try_from(place / 8)?;
        let mut array = self.array::<FlowBucket>(maps::SOURCES)?;
        let mut entries = array.get(&bucket, 0)?;
        entries[place % 8] = entry;
        Ok(array.set(bucket, entries, 0)?)
    }
}
