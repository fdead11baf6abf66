//! Where packets have left traces, by the host's account: so that a bench can begin anew without writing every place of every map.

use std::cell::Cell;

use anyhow::Result;
use lb_common::flow::FlowBucket;
use lb_common::limits::FLOW_BUCKET_ENTRIES;
use lb_common::maps;
use lb_common::slot::Owner;

use crate::bench::Bench;
use crate::host::Host;
use crate::rig::Rig;
use crate::world::World;

/// Places that are not as they were before the first packet.
#[derive(Clone, Debug, Default)]
struct Traces {
    /// Buckets of the flow table.
    buckets: Vec<u32>,
    /// Words of the epoch bitmap.
    epoch_words: Vec<u32>,
    /// Owners that have been counted for.
    owners: Vec<Owner>,
}

impl Rig {
    fn forget(&mut self, traces: &Traces) -> Result<()> {
        let kernel = self.kernel();
        let mut flows = kernel.array::<FlowBucket>(maps::FLOWS)?;
        for bucket in &traces.buckets {
            flows.set(*bucket, FlowBucket::default(), 0)?;
        }
        let mut epochs = kernel.array::<u64>(maps::EPOCHS)?;
        for word in &traces.epoch_words {
            epochs.set(*word, 0, 0)?;
        }
        kernel.clear_tuples()?;
        kernel.clear_tokens()?;
        kernel.clear_counters(&traces.owners)
    }

    /// These buckets and these words of the epoch bitmap.
    fn traces(&mut self, traces: &Traces) -> Result<(Vec<FlowBucket>, Vec<u64>)> {
        let flows = self.kernel().array::<FlowBucket>(maps::FLOWS)?;
        let buckets = traces.buckets.iter().map(|bucket| Ok(flows.get(bucket, 0)?)).collect::<Result<_>>()?;
        let epochs = self.kernel().array::<u64>(maps::EPOCHS)?;
        let words = traces.epoch_words.iter().map(|word| Ok(epochs.get(word, 0)?)).collect::<Result<_>>()?;
        Ok((buckets, words))
    }
}

impl Bench {
    /// Forgets every packet, as far as the host knows what it has changed; with other tables where there are some.
    pub fn forget(&mut self, world: Option<World>) {
        self.rig.forget(&self.traces()).expect("the maps can be written");
        if let Some(world) = &world {
            self.rig.replace(world).expect("the maps can be written");
        }
        let same = std::mem::take(&mut self.host.world);
        self.host = Host::new(world.unwrap_or(same));
    }

    /// Where the host says that packets have left traces.
    fn traces(&self) -> Traces {
        let place = |n: usize| u32::try_from(n).expect("a small table");
        let buckets = self.host.flows.chunks(FLOW_BUCKET_ENTRIES).enumerate();
        let words = self.host.epochs.iter().enumerate();
        Traces {
            buckets: buckets.filter(|(_, b)| b.iter().any(|e| e.get() != 0)).map(|(n, _)| place(n)).collect(),
            epoch_words: words.filter(|(_, w)| w.get() != 0).map(|(n, _)| place(n)).collect(),
            owners: self.host.counters.borrow().keys().chain(self.host.loads.borrow().keys()).copied().collect(),
        }
    }

    /// The traces that the host has are in the kernel too. Cheaper than [`Bench::compare_tables`], which looks for others.
    #[track_caller]
    pub fn compare_traces(&mut self) {
        let traces = self.traces();
        let (buckets, words) = self.rig.traces(&traces).expect("the flow table and the epoch bitmap");
        for (n, bucket) in traces.buckets.iter().zip(buckets) {
            let start = *n as usize * FLOW_BUCKET_ENTRIES;
            let host: Vec<u64> = self.host.flows[start..][..FLOW_BUCKET_ENTRIES].iter().map(Cell::get).collect();
            assert_eq!(bucket[..], host, "bucket {n} of the flow table");
        }
        let host = traces.epoch_words.iter().map(|n| self.host.epochs[*n as usize].get()).collect::<Vec<_>>();
        assert_eq!(words, host, "epoch bitmap");
        self.compare_tuples();
        for owner in traces.owners {
            self.compare_counters(owner);
        }
    }
}
