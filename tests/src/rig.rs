//! Loads the real object, unpinned, fills its maps from a [`World`], runs packets through it by BPF_PROG_TEST_RUN.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::Address;
use lb_common::flow::FlowBucket;
use lb_common::limits::{MAX_OWNERS, RING_LEN};
use lb_common::maps;
use lb_common::schedule::Schedule;
use lb_common::slot::Owner;
use lb_common::stats::{OwnerCounters, VerdictCounters};
use lb_common::verdict::{VERDICTS, Verdict};

use crate::world::{BUCKETS, EPOCH_WORDS, NOW_NS, World};

/// What the kernel did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's return value.
    pub action: u32,
    /// How the packet ended, by the counter that moved.
    pub verdict: Option<Verdict>,
    /// The packet afterwards.
    pub frame: Vec<u8>,
}

/// The programs in the kernel.
pub struct Rig {
    ebpf: Ebpf,
    cpus: u32,
    verdicts: [u64; VERDICTS],
}

/// The object: `WEIR_OBJECT` names one, otherwise it is built here.
fn object() -> Result<&'static [u8]> {
    static OBJECT: OnceLock<std::result::Result<Vec<u8>, String>> = OnceLock::new();
    OBJECT
        .get_or_init(|| {
            let path = match std::env::var_os("WEIR_OBJECT") {
                Some(path) => PathBuf::from(path),
                None => build().map_err(|e| format!("{e:#}"))?,
            };
            std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        })
        .as_deref()
        .map_err(|e| anyhow!("{e}"))
}

fn build() -> Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/bpf-rig");
    let status = Command::new("cargo")
        .current_dir(root.join("lb-ebpf"))
        .args(["build", "--quiet", "--release", "-Zbuild-std=core", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(&target)
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Cdebuginfo=2 -Ctarget-cpu=v3 -Clink-arg=--btf")
        .env_remove("RUSTUP_TOOLCHAIN")
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("lb-ebpf does not build ({status})");
    }
    Ok(target.join("bpfel-unknown-none/release/weir"))
}

impl Rig {
    /// Loads both programs and fills the maps.
    pub fn load(world: &World) -> Result<Self> {
        let cpus = u32::try_from(std::thread::available_parallelism()?.get())?.max(possible_cpus()?);
        let owners = u32::try_from(MAX_OWNERS)?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(maps::FLOWS, BUCKETS)
            .map_max_entries(maps::EPOCHS, EPOCH_WORDS)
            .map_max_entries(maps::COUNTERS, owners * cpus)
            .map_max_entries(maps::VERDICTS, cpus)
            .override_global("AYA_LOG_LEVEL", &0_u8, true)
            .override_global("FIXED_CLOCK_NS", &NOW_NS, true)
            .load(object()?)?;
        let xdp: &mut Xdp = ebpf.program_mut(maps::PROGRAM_INGRESS).context("no XDP program")?.try_into()?;
        xdp.load().context("the verifier refuses the XDP program")?;
        let tc: &mut SchedClassifier = ebpf.program_mut(maps::PROGRAM_REPLY).context("no TC program")?.try_into()?;
        tc.load().context("the verifier refuses the TC program")?;
        let mut rig = Self { ebpf, cpus, verdicts: [0; VERDICTS] };
        rig.fill(world)?;
        Ok(rig)
    }

    /// Writes the world's tables. Rings are created anew.
    pub fn fill(&mut self, world: &World) -> Result<()> {
        self.array::<lb_common::host::Host>(maps::HOST)?.set(0, world.host, 0)?;
        insert_all(self.hash(maps::SERVICES_V4)?, world.services_v4.iter())?;
        insert_all(self.hash(maps::SERVICES_V6)?, world.services_v6.iter())?;
        insert_all(self.hash(maps::VIPS)?, world.vips.iter())?;
        insert_all(self.hash(maps::INTERFACES)?, world.interfaces.iter())?;
        insert_all(self.hash(maps::REPLIES_V4)?, world.replies_v4.iter())?;
        insert_all(self.hash(maps::REPLIES_V6)?, world.replies_v6.iter())?;
        insert_all(self.hash::<Address, u32>(maps::LOCALS)?, world.locals.iter().map(|a| (a, &1)))?;
        for (owner, backend) in &world.backends {
            self.array::<BackendEntry>(maps::BACKENDS)?.set(u32::from(*owner), *backend, 0)?;
        }
        for (id, schedule) in &world.schedules {
            self.array::<Schedule>(maps::SCHEDULES)?.set(u32::from(*id), &**schedule, 0)?;
        }
        for (id, ring) in &world.rings {
            self.set_ring(*id, ring)?;
        }
        Ok(())
    }

    /// Gives a service a ring.
    pub fn set_ring(&mut self, service: u16, ring: &[u32; RING_LEN]) -> Result<()> {
        let mut inner = Array::<MapData, [u32; RING_LEN]>::create(1, MMAPABLE)?;
        inner.set(0, ring, 0)?;
        let map = self.ebpf.map_mut(maps::RINGS).context("no map RINGS")?;
        let mut rings = ArrayOfMaps::<&mut MapData, Array<MapData, [u32; RING_LEN]>>::try_from(map)?;
        rings.set(u32::from(service), &inner, 0)?;
        Ok(())
    }

    /// Runs a frame through the XDP program, as if it had come in by `ifindex`.
    pub fn run_xdp(&mut self, frame: &[u8], ifindex: u32) -> Result<Ran> {
        let program: &Xdp = self.ebpf.program(maps::PROGRAM_INGRESS).context("no XDP program")?.try_into()?;
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
        Ok(Ran { action: result.return_value, verdict: self.moved()?, frame: out })
    }

    /// Runs a frame through the TC program, as if it had come in by loopback.
    pub fn run_tc(&mut self, frame: &[u8]) -> Result<Ran> {
        let program: &SchedClassifier = self.ebpf.program(maps::PROGRAM_REPLY).context("no TC program")?.try_into()?;
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = program.test_run(options)?;
        out.truncate(usize::try_from(result.data_size_out)?);
        Ok(Ran { action: result.return_value, verdict: self.moved()?, frame: out })
    }

    /// Counters of an owner, over all CPUs.
    pub fn counters(&mut self, owner: Owner) -> Result<OwnerCounters> {
        let cpus = self.cpus;
        let array = self.array::<OwnerCounters>(maps::COUNTERS)?;
        let mut sum = OwnerCounters::default();
        for cpu in 0..cpus {
            let one = array.get(&(cpu * u32::try_from(MAX_OWNERS)? + u32::from(owner)), 0)?;
            sum.packets += one.packets;
            sum.bytes += one.bytes;
            sum.messages += one.messages;
            sum.reply_packets += one.reply_packets;
            sum.reply_bytes += one.reply_bytes;
            sum.opened += one.opened;
            sum.confirmed += one.confirmed;
            sum.closed += one.closed;
            sum.reset += one.reset;
            sum.refused += one.refused;
            sum.evicted += one.evicted;
        }
        Ok(sum)
    }

    /// Every entry of the flow table that is not free, in order.
    pub fn flows(&mut self) -> Result<Vec<u64>> {
        let array = self.array::<FlowBucket>(maps::FLOWS)?;
        let mut entries = Vec::new();
        for bucket in 0..BUCKETS {
            entries.extend(array.get(&bucket, 0)?.into_iter().filter(|e| *e != 0));
        }
        Ok(entries)
    }

    /// The verdict whose counter has moved since the last call.
    fn moved(&mut self) -> Result<Option<Verdict>> {
        let cpus = self.cpus;
        let array = self.array::<VerdictCounters>(maps::VERDICTS)?;
        let mut now = [0; VERDICTS];
        for cpu in 0..cpus {
            for (sum, n) in now.iter_mut().zip(array.get(&cpu, 0)?.packets) {
                *sum += n;
            }
        }
        let verdict = Verdict::ALL.iter().copied().find(|v| now[*v as usize] != self.verdicts[*v as usize]);
        self.verdicts = now;
        Ok(verdict)
    }

    fn array<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }

    fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<HashMap<&mut MapData, K, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        HashMap::try_from(map).with_context(|| format!("map {name}"))
    }
}

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

fn possible_cpus() -> Result<u32> {
    Ok(u32::try_from(aya::util::nr_cpus().map_err(|(what, e)| anyhow!("{what}: {e}"))?)?)
}

fn insert_all<'a, K: Pod, V: Pod>(
    mut map: HashMap<&mut MapData, K, V>,
    entries: impl Iterator<Item = (&'a K, &'a V)>,
) -> Result<()> {
    for (key, value) in entries {
        map.insert(key, value, 0)?;
    }
    Ok(())
}
