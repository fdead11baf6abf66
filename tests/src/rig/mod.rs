//! The real object in the kernel, unpinned: fills its maps from a [`World`], runs packets through it by BPF_PROG_TEST_RUN.
//!
//! It is loaded once a process, because the verifier takes its time; a rig borrows it and starts with clean maps.

mod admission;
mod clear;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, ArrayOfMaps, HashMap as BpfHashMap, MapData, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_agent::object::OBJECT;
use lb_common::backend::BackendEntry;
use lb_common::endpoint::Address;
use lb_common::flow::FlowBucket;
use lb_common::host::Host;
use lb_common::limits::{MAX_OWNERS, RING_LEN};
use lb_common::maps;
use lb_common::reply::{
    FragmentEntry, FragmentKey, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::schedule::Schedule;
use lb_common::slot::Owner;
use lb_common::stats::{OwnerCounters, VerdictCounters};
use lb_common::trace::{Sight, Taps};
use lb_common::verdict::{VERDICTS, Verdict};
use zerocopy::FromBytes;

use crate::age::{older_budget, older_flow, older_fragment, older_snat, older_source};
use crate::ground;
use crate::world::{BUCKETS, EPOCH_WORDS, NOW_NS, World};
pub(crate) use clear::clear;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's return value.
    pub action: u32,
    /// How the packet ended, by the counter that moved.
    pub verdict: Option<Verdict>,
    /// The packet afterwards.
    pub frame: Vec<u8>,
}

/// The programs in the kernel, for one test at a time.
pub struct Rig {
    kernel: MutexGuard<'static, Option<Kernel>>,
}

type RingMap = Array<MapData, [u32; RING_LEN]>;

pub(crate) struct Kernel {
    pub(crate) ebpf: Ebpf,
    /// Of the services.
    generation: u32,
    /// CPU that every packet runs on.
    cpu: u32,
    rings: HashMap<u16, RingMap>,
    /// What they hold: most worlds differ in few rings or none, and a ring is large.
    slots: HashMap<u16, Box<[u32; RING_LEN]>>,
    verdicts: [u64; VERDICTS],
    /// Owners and services of earlier tests, whose records must be cleared.
    owners: BTreeSet<Owner>,
    services: BTreeSet<u16>,
}

static KERNEL: Mutex<Option<Kernel>> = Mutex::new(None);

impl Rig {
    /// Both programs, with maps that hold nothing but the world's tables. Waits until no other test of the process has them.
    pub fn load(world: &World) -> Result<Self> {
        let cpu = ground::enter();
        let mut kernel = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
        if kernel.is_none() {
            *kernel = Some(Kernel::load(cpu)?);
        }
        let mut rig = Self { kernel };
        rig.start_over(world)?;
        Ok(rig)
    }

    /// Empties every map and writes the world's tables.
    pub fn start_over(&mut self, world: &World) -> Result<()> {
        self.kernel().clear()?;
        self.fill(world)
    }

    /// Writes another world's tables, and leaves what packets have written as it is.
    pub fn replace(&mut self, world: &World) -> Result<()> {
        let _gone = self.kernel().clear_tables()?;
        self.fill(world)
    }

    pub(crate) fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("loaded above")
    }

    /// Writes the world's tables over those that are there.
    pub fn fill(&mut self, world: &World) -> Result<()> {
        self.kernel().fill(world)
    }

    /// Runs a frame through the XDP program, as if it had come in by `ifindex`.
    pub fn run_xdp(&mut self, frame: &[u8], ifindex: u32) -> Result<Ran> {
        let kernel = self.kernel();
        let program: &Xdp = kernel.ebpf.program(maps::PROGRAM_INGRESS).context("no XDP program")?.try_into()?;
        let mut out = vec![0; frame.len() + 256];
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0_u8; 24];
        context[4..8].copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        let result = program.test_run(options)?;
        out.truncate(usize::try_from(result.data_size_out)?);
        Ok(Ran { action: result.return_value, verdict: kernel.moved()?, frame: out })
    }

    /// Runs a frame through the TC program, as if it had come in by loopback.
    pub fn run_tc(&mut self, frame: &[u8]) -> Result<Ran> {
        let kernel = self.kernel();
        let program: &SchedClassifier =
            kernel.ebpf.program(maps::PROGRAM_REPLY).context("no TC program")?.try_into()?;
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = program.test_run(options)?;
        out.truncate(usize::try_from(result.data_size_out)?);
        Ok(Ran { action: result.return_value, verdict: kernel.moved()?, frame: out })
    }

    /// Opens these taps, closed before; what earlier ones have told is forgotten.
    pub fn look(&mut self, taps: &Taps) -> Result<()> {
        self.kernel().array::<Taps>(maps::TAPS)?.set(0, taps, 0)?;
        let _forgotten = self.sights()?;
        Ok(())
    }

    /// The taps as they are, with what they have lost.
    pub fn taps(&mut self) -> Result<Taps> {
        Ok(self.kernel().array::<Taps>(maps::TAPS)?.get(&0, 0)?)
    }

    /// What has been told since the last time, packet bytes after each record.
    pub fn sights(&mut self) -> Result<Vec<(Sight, Vec<u8>)>> {
        let map = self.kernel().ebpf.map_mut(maps::SIGHTS).context("no map SIGHTS")?;
        let mut ring = RingBuf::try_from(map)?;
        let mut sights = Vec::new();
        while let Some(record) = ring.next() {
            let (sight, bytes) = Sight::read_from_prefix(&record).map_err(|e| anyhow!("a short record: {e}"))?;
            sights.push((sight, bytes.to_vec()));
        }
        Ok(sights)
    }

    /// Counters of an owner.
    pub fn counters(&mut self, owner: Owner) -> Result<OwnerCounters> {
        let record = self.kernel().record(owner)?;
        Ok(self.kernel().array::<OwnerCounters>(maps::COUNTERS)?.get(&record, 0)?)
    }

    /// Flows of an owner, as least_conn counts them.
    pub fn load_of(&mut self, owner: Owner) -> Result<u64> {
        Ok(self.kernel().array::<u64>(maps::LOADS)?.get(&u32::from(owner), 0)?)
    }

    /// The flow table, every place of it.
    pub fn flows(&mut self) -> Result<Vec<u64>> {
        let array = self.kernel().array::<FlowBucket>(maps::FLOWS)?;
        let mut entries = Vec::new();
        for bucket in 0..BUCKETS {
            entries.extend(array.get(&bucket, 0)?);
        }
        Ok(entries)
    }

    /// The epoch bitmap.
    pub fn epochs(&mut self) -> Result<Vec<u64>> {
        let array = self.kernel().array::<u64>(maps::EPOCHS)?;
        (0..EPOCH_WORDS).map(|word| Ok(array.get(&word, 0)?)).collect()
    }

    /// snat's mappings, towards backends and back.
    pub fn snat(&mut self) -> Result<SnatTables> {
        let forward = entries(&self.kernel().hash(maps::SNAT_FORWARD)?)?;
        Ok((forward, entries(&self.kernel().hash(maps::SNAT_REVERSE)?)?))
    }

    /// Datagrams in pieces.
    pub fn fragments(&mut self) -> Result<HashMap<FragmentKey, FragmentEntry>> {
        entries(&self.kernel().hash(maps::FRAGMENTS)?)
    }

    /// Replaces a place of the flow table.
    pub fn set_flow(&mut self, place: usize, entry: u64) -> Result<()> {
        let bucket = u32::try_from(place / 8)?;
        let mut array = self.kernel().array::<FlowBucket>(maps::FLOWS)?;
        let mut entries = array.get(&bucket, 0)?;
        entries[place % 8] = entry;
        Ok(array.set(bucket, entries, 0)?)
    }

    /// Enters a datagram in pieces.
    pub fn set_fragment(&mut self, key: &FragmentKey, entry: &FragmentEntry) -> Result<()> {
        Ok(self.kernel().hash::<FragmentKey, FragmentEntry>(maps::FRAGMENTS)?.insert(key, entry, 0)?)
    }

    /// Lets everything that has a time grow older by `ticks`; the clock itself stands still.
    pub fn age(&mut self, ticks: u16) -> Result<()> {
        let kernel = self.kernel();
        let mut flows = kernel.array::<FlowBucket>(maps::FLOWS)?;
        for bucket in 0..BUCKETS {
            let old = flows.get(&bucket, 0)?;
            if old != FlowBucket::default() {
                flows.set(bucket, old.map(|entry| older_flow(entry, ticks)), 0)?;
            }
        }
        for service in kernel.services.clone() {
            let mut budgets = kernel.array::<u64>(maps::BUDGETS)?;
            let until = budgets.get(&u32::from(service), 0)?;
            budgets.set(u32::from(service), older_budget(until, ticks), 0)?;
        }
        for (place, entry) in kernel.sources()? {
            kernel.set_source(place, older_source(entry, ticks))?;
        }
        let mut snat: BpfHashMap<_, SnatForwardKey, SnatForwardEntry> = kernel.hash(maps::SNAT_FORWARD)?;
        for (key, entry) in entries(&snat)? {
            snat.insert(key, older_snat(entry, ticks), 0)?;
        }
        let mut fragments: BpfHashMap<_, FragmentKey, FragmentEntry> = kernel.hash(maps::FRAGMENTS)?;
        for (key, entry) in entries(&fragments)? {
            fragments.insert(key, older_fragment(entry, ticks), 0)?;
        }
        kernel.clear_tokens()?;
        kernel.clear_epochs()
    }
}

/// snat's mappings, towards backends and back.
pub type SnatTables = (HashMap<SnatForwardKey, SnatForwardEntry>, HashMap<SnatReverseKey, SnatReverseEntry>);

impl Kernel {
    fn load(cpu: u32) -> Result<Self> {
        let cpus = u32::try_from(aya::util::nr_cpus().map_err(|(what, e)| anyhow!("{what}: {e}"))?)?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(maps::FLOWS, BUCKETS)
            .map_max_entries(maps::EPOCHS, EPOCH_WORDS)
            .map_max_entries(maps::COUNTERS, u32::try_from(MAX_OWNERS)? * cpus)
            .map_max_entries(maps::VERDICTS, cpus)
            .override_global("AYA_LOG_LEVEL", &0_u8, true)
            .override_global("FIXED_CLOCK_NS", &NOW_NS, true)
            .load(OBJECT)?;
        let xdp: &mut Xdp = ebpf.program_mut(maps::PROGRAM_INGRESS).context("no XDP program")?.try_into()?;
        xdp.load().context("the verifier refuses the XDP program")?;
        let tc: &mut SchedClassifier = ebpf.program_mut(maps::PROGRAM_REPLY).context("no TC program")?.try_into()?;
        tc.load().context("the verifier refuses the TC program")?;
        let (owners, services) = (BTreeSet::new(), BTreeSet::new());
        let (rings, slots) = (HashMap::new(), HashMap::new());
        Ok(Self { ebpf, generation: 0, cpu, rings, slots, verdicts: [0; VERDICTS], owners, services })
    }

    fn fill(&mut self, world: &World) -> Result<()> {
        insert_all(self.hash(maps::SERVICES_V4)?, world.services_v4.iter())?;
        insert_all(self.hash(maps::SERVICES_V6)?, world.services_v6.iter())?;
        insert_all(self.hash(maps::VIPS)?, world.vips.iter())?;
        insert_all(self.hash(maps::INTERFACES)?, world.interfaces.iter())?;
        insert_all(self.hash(maps::REPLIES_V4)?, world.replies_v4.iter())?;
        insert_all(self.hash(maps::REPLIES_V6)?, world.replies_v6.iter())?;
        insert_all(self.hash::<Address, u32>(maps::LOCALS)?, world.locals.iter().map(|a| (a, &1)))?;
        self.fill_lookup(world)?;
        for (owner, backend) in &world.backends {
            self.array::<BackendEntry>(maps::BACKENDS)?.set(u32::from(*owner), *backend, 0)?;
        }
        for (id, schedule) in &world.schedules {
            self.array::<Schedule>(maps::SCHEDULES)?.set(u32::from(*id), **schedule, 0)?;
        }
        self.fill_admission(world)?;
        for (id, ring) in &world.rings {
            self.set_ring(*id, ring)?;
        }
        // Services before the generation: what the kernel remembers of them is of an older one.
        self.generation += 1;
        let host = Host { generation: self.generation, ..world.host };
        self.array::<Host>(maps::HOST)?.set(0, host, 0)?;
        self.owners.extend(world.backends.keys());
        self.services.extend(world.rings.keys());
        Ok(())
    }

    /// Gives a service a ring; one that it has already is changed in place.
    fn set_ring(&mut self, service: u16, slots: &[u32; RING_LEN]) -> Result<()> {
        if self.slots.get(&service).is_some_and(|old| **old == *slots) {
            return Ok(());
        }
        let _old = self.slots.insert(service, Box::new(*slots));
        if let Some(ring) = self.rings.get_mut(&service) {
            return Ok(ring.set(0, slots, 0)?);
        }
        let mut ring = RingMap::create(1, MMAPABLE)?;
        ring.set(0, slots, 0)?;
        let map = self.ebpf.map_mut(maps::RINGS).context("no map RINGS")?;
        let mut rings = ArrayOfMaps::<&mut MapData, RingMap>::try_from(map)?;
        rings.set(u32::from(service), &ring, 0)?;
        let _none = self.rings.insert(service, ring);
        Ok(())
    }

    /// Index of this CPU's record of an owner.
    fn record(&self, owner: Owner) -> Result<u32> {
        Ok(self.cpu * u32::try_from(MAX_OWNERS)? + u32::from(owner))
    }

    /// The verdict whose counter has risen since the last call. One packet has one end: more is an error.
    fn moved(&mut self) -> Result<Option<Verdict>> {
        let (now, before) = (self.verdicts_now()?, self.verdicts);
        self.verdicts = now;
        let rise = |v: Verdict| now[v as usize].wrapping_sub(before[v as usize]);
        let risen: Vec<Verdict> = Verdict::ALL.iter().copied().filter(|v| rise(*v) != 0).collect();
        match risen[..] {
            [] => Ok(None),
            [verdict] if rise(verdict) == 1 => Ok(Some(verdict)),
            _ => bail!("one packet has raised the counters of {risen:?}"),
        }
    }

    fn verdicts_now(&mut self) -> Result<[u64; VERDICTS]> {
        let cpu = self.cpu;
        Ok(self.array::<VerdictCounters>(maps::VERDICTS)?.get(&cpu, 0)?.packets)
    }

    pub(crate) fn array<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }

    pub(crate) fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<BpfHashMap<&mut MapData, K, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        BpfHashMap::try_from(map).with_context(|| format!("map {name}"))
    }
}

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

fn insert_all<'a, K: Pod, V: Pod>(
    mut map: BpfHashMap<&mut MapData, K, V>,
    entries: impl Iterator<Item = (&'a K, &'a V)>,
) -> Result<()> {
    for (key, value) in entries {
        map.insert(key, value, 0)?;
    }
    Ok(())
}

fn entries<K, V>(map: &BpfHashMap<&mut MapData, K, V>) -> Result<HashMap<K, V>>
where
    K: Pod + Eq + std::hash::Hash,
    V: Pod,
{
    map.iter().map(|entry| Ok(entry?)).collect()
}
