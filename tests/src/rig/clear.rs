//! Empties the rig's maps.

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{HashMap as BpfHashMap, MapData, PerCpuArray, PerCpuValues};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::FlowBucket;
use lb_common::host::{InterfaceEntry, VipEntry};
use lb_common::maps;
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::service::ServiceEntry;
use lb_common::slot::Owner;
use lb_common::stats::OwnerCounters;

use super::Kernel;
use crate::world::{BUCKETS, EPOCH_WORDS};

impl Kernel {
    pub(super) fn clear(&mut self) -> Result<()> {
        let (owners, services) = self.clear_tables()?;
        self.clear_tuples()?;
        self.clear_counters(&owners)?;
        self.clear_cursors(&services)?;
        let mut flows = self.array::<FlowBucket>(maps::FLOWS)?;
        for bucket in 0..BUCKETS {
            flows.set(bucket, FlowBucket::default(), 0)?;
        }
        self.clear_sources()?;
        self.clear_epochs()?;
        self.clear_tokens()?;
        self.verdicts = self.verdicts_now()?;
        Ok(())
    }

    /// What the agent writes. Owners and services that there were.
    pub(super) fn clear_tables(&mut self) -> Result<(Vec<Owner>, Vec<u16>)> {
        clear(self.hash::<EndpointV4, ServiceEntry>(maps::SERVICES_V4)?)?;
        clear(self.hash::<EndpointV6, ServiceEntry>(maps::SERVICES_V6)?)?;
        clear(self.hash::<Address, VipEntry>(maps::VIPS)?)?;
        clear(self.hash::<u32, InterfaceEntry>(maps::INTERFACES)?)?;
        clear(self.hash::<EndpointV4, ReplyEntry>(maps::REPLIES_V4)?)?;
        clear(self.hash::<EndpointV6, ReplyEntry>(maps::REPLIES_V6)?)?;
        clear(self.hash::<Address, u32>(maps::LOCALS)?)?;
        self.clear_lookup()?;
        self.clear_access()?;
        let owners: Vec<Owner> = std::mem::take(&mut self.owners).into_iter().collect();
        let mut backends = self.array(maps::BACKENDS)?;
        for owner in &owners {
            backends.set(u32::from(*owner), BackendEntry::default(), 0)?;
        }
        Ok((owners, std::mem::take(&mut self.services).into_iter().collect()))
    }

    pub(crate) fn clear_tuples(&mut self) -> Result<()> {
        clear(self.hash::<SnatForwardKey, SnatForwardEntry>(maps::SNAT_FORWARD)?)?;
        clear(self.hash::<SnatReverseKey, SnatReverseEntry>(maps::SNAT_REVERSE)?)?;
        clear(self.hash::<FragmentKey, FragmentEntry>(maps::FRAGMENTS)?)
    }

    pub(crate) fn clear_counters(&mut self, owners: &[Owner]) -> Result<()> {
        for owner in owners {
            let record = self.record(*owner)?;
            self.array(maps::LOADS)?.set(u32::from(*owner), 0_u64, 0)?;
            self.array(maps::COUNTERS)?.set(record, OwnerCounters::default(), 0)?;
        }
        Ok(())
    }

    fn clear_cursors(&mut self, services: &[u16]) -> Result<()> {
        for service in services {
            let map = self.ebpf.map_mut(maps::CURSORS).context("no map CURSORS")?;
            let mut cursors = PerCpuArray::<_, u32>::try_from(map)?;
            let zero = PerCpuValues::try_from(vec![0_u32; cursors.get(&u32::from(*service), 0)?.len()])?;
            cursors.set(u32::from(*service), zero, 0)?;
            self.clear_limits(*service)?;
        }
        Ok(())
    }

    pub(crate) fn clear_tokens(&mut self) -> Result<()> {
        let map = self.ebpf.map_mut(maps::TOKENS).context("no map TOKENS")?;
        let mut tokens = PerCpuArray::<_, u64>::try_from(map)?;
        let zero = PerCpuValues::try_from(vec![0_u64; tokens.get(&0, 0)?.len()])?;
        Ok(tokens.set(0, zero, 0)?)
    }

    pub(super) fn clear_epochs(&mut self) -> Result<()> {
        let mut epochs = self.array::<u64>(maps::EPOCHS)?;
        for word in 0..EPOCH_WORDS {
            epochs.set(word, 0, 0)?;
        }
        Ok(())
    }
}

pub(crate) fn clear<K: Pod, V: Pod>(mut map: BpfHashMap<&mut MapData, K, V>) -> Result<()> {
    let keys = map.keys().collect::<std::result::Result<Vec<K>, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}
