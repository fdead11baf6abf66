//! A peer's balancer on one end of a pair: the ELF that Katran builds from `balancer.bpf.c`, with its maps filled for one VIP and as
//! many backends as ours has. What its maps hold was read off its headers (facebookincubator/katran, `katran/lib/bpf`); nothing of
//! it is in this repository.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{ProgramInfo, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use aya_obj::generated::bpf_map_type;
use lb_common::limits::RING_SIZE;

use super::device::{BACKENDS, backend_address, canonical_ring};
use super::generator::{Check, Generator, Traffic, VIP_ADDRESS, VIP_PORT};
use super::wire::{Pair, Wires};

/// Name of Katran's program.
const PROGRAM: &str = "balancer_ingress";

/// Entries of each CPU's LRU, as DESIGN's figures were taken.
const LRU_ENTRIES: u32 = 1_000_000;

/// Bytes of `struct flow_key`, padded, and of `struct real_pos_lru`.
const LRU_KEY: u32 = 40;
const LRU_VALUE: u32 = 16;

/// `MAX_VIPS + LRU_MISS_CNTR`: where `stats` counts flows that the LRU did not know.
const LRU_MISSES: u32 = 512 + 1;

/// Katran inserts at most 125,000 flows a second, and its LRU gives up entries before it is full: sent over and over, a
/// million flows are in it as far as they ever will be after this many turns, and fewer flows sooner.
const MOST_TURNS: u32 = 16;

const TCP: u8 = 6;

/// The peer, attached.
pub struct Peer {
    ebpf: Ebpf,
    /// Where it is.
    pub pair: Pair,
}

impl Peer {
    /// Loads the object, attaches it, and fills in one VIP and its backends.
    pub fn open(wires: &Wires, object: &Path) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut loader = EbpfLoader::new();
        // 128 MiB for QUIC's server ids, which nothing here looks up.
        let _loader = loader.map_max_entries("server_id_map", 1);
        let mut ebpf = loader
            .load(&bytes)
            .with_context(|| format!("{} does not load: is it Katran's balancer.bpf.o?", object.display()))?;
        let pair = wires.pair()?;
        let xdp: &mut Xdp =
            ebpf.program_mut(PROGRAM).with_context(|| format!("no program {PROGRAM} in it"))?.try_into()?;
        xdp.load().context("the verifier refuses the peer's program")?;
        let _link = wires.in_device(|| Ok(xdp.attach_to_if_index(pair.far, XdpMode::Driver)?))?;
        let mut peer = Self { ebpf, pair };
        peer.fill()?;
        Ok(peer)
    }

    fn fill(&mut self) -> Result<()> {
        let cpus = u32::try_from(aya::util::nr_cpus().map_err(|(what, e)| anyhow!("{what}: {e}"))?)?;
        for cpu in 0..cpus {
            let kind = bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32;
            let shape = aya_obj::Map::new_from_params(kind, LRU_KEY, LRU_VALUE, LRU_ENTRIES, 0);
            let lru = MapData::create(shape, "peer_lru", None)?;
            let map = self.ebpf.map_mut("lru_mapping").context("no map lru_mapping")?;
            ArrayOfMaps::<&mut MapData, MapData>::try_from(map)?.set(cpu, &lru, 0)?;
        }
        // struct ctl_value: the router's MAC address.
        self.array::<[u8; 8]>("ctl_array")?.set(0, [0x02, 0, 0, 0, 0, 0xfe, 0, 0_u8], 0)?;
        for owner in 1..=BACKENDS {
            // struct real_definition: address (16 bytes), flags.
            let mut real = [0_u8; 20];
            real[..4].copy_from_slice(&backend_address(owner).octets());
            self.array::<[u8; 20]>("reals")?.set(u32::from(owner), real, 0)?;
        }
        let mut ring = self.array::<u32>("ch_rings")?;
        for (slot, owner) in (0..).zip(canonical_ring()) {
            ring.set(slot, u32::from(owner), 0)?;
        }
        // struct vip_definition: address (16 bytes), port and protocol; struct vip_meta: flags and number.
        let mut key = [0_u8; 20];
        key[..4].copy_from_slice(&VIP_ADDRESS);
        key[16..18].copy_from_slice(&VIP_PORT.to_be_bytes());
        key[18] = TCP;
        let map = self.ebpf.map_mut("vip_map").context("no map vip_map")?;
        Ok(HashMap::<_, [u8; 20], [u8; 8]>::try_from(map)?.insert(key, [0; 8], 0)?)
    }

    /// What the kernel knows of the program.
    pub fn info(&self) -> Result<ProgramInfo> {
        let xdp: &Xdp = self.ebpf.program(PROGRAM).context("no program")?.try_into()?;
        Ok(xdp.info()?)
    }

    /// Sends these flows until the LRU knows them, or as many of them as it ever will: other cases' flows may have pushed them out.
    pub fn warm_up(&self, generator: &mut Generator, flows: u32, stopped: &dyn Fn() -> bool) -> Result<()> {
        for _ in 0..MOST_TURNS {
            let before = self.misses()?;
            let _sent = generator.send(Traffic::Refresh(flows), Check::Off, self.pair.near, flows)?;
            if self.misses()? - before <= u64::from(flows / 1_000) || stopped() {
                break;
            }
        }
        Ok(())
    }

    /// Data segments whose flow the LRU did not know.
    pub fn misses(&self) -> Result<u64> {
        let map = self.ebpf.map("stats").context("no map stats")?;
        // struct lb_stats: two numbers; here of SYNs and of other segments.
        let counts: PerCpuValues<[u64; 2]> = PerCpuArray::<_, [u64; 2]>::try_from(map)?.get(&LRU_MISSES, 0)?;
        Ok(counts.iter().map(|count| count[1]).sum())
    }

    fn array<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }
}

const _: () = assert!(RING_SIZE == 65_537, "Katran's ring");
