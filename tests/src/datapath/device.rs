//! Weir itself on one end of a pair: the real object, loaded and filled by the agent's own edge.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use aya::programs::ProgramInfo;
use lb_agent::config::{AgentConfig, InterfaceConfig, PacketLog, XdpMode};
use lb_agent::edge::bpf::{self, Build, Loaded};
use lb_agent::edge::dataplane::{DataPlane, Sweeper};
use lb_agent::pure::maglev::{self, Member};
use lb_agent::pure::sweep::{SweepReport, SweepRequest};
use lb_agent::pure::tables::{Endpoint, Op};
use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BackendEntry};
use lb_common::endpoint::{Address, EndpointV4};
use lb_common::host::{HOST_REPLIES, HOST_SNAT, InterfaceEntry, VipEntry};
use lb_common::maps;
use lb_common::reply::{REPLY_COUNTS_LOAD, REPLY_TRACKED, ReplyEntry};
use lb_common::service::{FORWARD_IPIP, FORWARD_NAT, SELECT_LEAST_CONN, ServiceEntry, TRACKING_FULL};
use lb_common::slot::{Owner, Slot};
use lb_common::stats::OwnerCounters;
use nix::mount::{MntFlags, umount2};

use super::case::Service;
use super::generator::{VIP_ADDRESS, VIP_PORT};
use super::wire::{Pair, Wires};

/// Backends behind the one VIP.
pub const BACKENDS: Owner = 100;

/// The service's id.
const ID: u16 = 0;

const TCP: u8 = 6;

/// An epoch as the agent computes it for an idle timeout of 15 minutes, in ticks: 2^9, 137 s.
pub const EPOCH_SHIFT: u32 = 9;

/// 15 minutes in ticks, and one epoch.
const IDLE_TICKS: u16 = 3_353 + (1 << EPOCH_SHIFT);

/// Every tenth slot is one in transition.
const TRANSITION_STEP: usize = 10;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One service with its own maps, attached.
pub struct Device<'a> {
    wires: &'a Wires,
    /// Where it is.
    pub pair: Pair,
    agent: AgentConfig,
    /// `None` only while it is being dropped.
    loaded: Option<Loaded>,
    ring: Vec<Owner>,
    entry: ServiceEntry,
    in_transition: Cell<bool>,
    root: PathBuf,
}

impl<'a> Device<'a> {
    /// Loads the object with a table for `capacity` flows, attaches it, and fills in one VIP and its backends.
    pub fn open(wires: &'a Wires, service: Service, capacity: u32) -> Result<Self> {
        let pair = wires.pair()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!("{ROOT}{}-{number}", std::process::id()));
        let agent = AgentConfig {
            api: root.join("agent.sock"),
            metrics: None,
            state_dir: root.join("state"),
            pin_dir: root.join("pins"),
            flow_table_entries: capacity,
            packet_log: PacketLog::Off,
        };
        let interface = InterfaceConfig { name: pair.far_name.clone(), mode: XdpMode::Native };
        let entry = entry(service);
        let mut device =
            Self { wires, pair, agent, loaded: None, ring: Vec::new(), entry, in_transition: Cell::new(false), root };
        device.loaded = Some(wires.in_device(|| Ok(bpf::open(&device.agent, &[interface], &Build::embedded())?))?);
        device.fill()?;
        Ok(device)
    }

    fn fill(&mut self) -> Result<()> {
        let member =
            |owner| Member { key: maglev::identity(&(backend_address(owner), VIP_PORT).into()), owner, weight: 100 };
        self.ring = maglev::build(&(1..=BACKENDS).map(member).collect::<Vec<_>>());
        let key = EndpointV4 { addr: VIP_ADDRESS, port: VIP_PORT.to_be_bytes(), protocol: TCP, zero: 0 };
        let is_nat = self.entry.forward == FORWARD_NAT;
        // What the agent sets for nat without snat; a veth whose peer has an XDP program may be left by XDP_TX, so that the flag
        // that says otherwise is not set.
        let flags = if is_nat { HOST_SNAT | HOST_REPLIES } else { 0 };
        let mut ops = vec![
            Op::SetHost { flags, epoch_shift: EPOCH_SHIFT },
            Op::SetInterface(self.pair.far, InterfaceEntry { mac: OUR_MAC, flags: 0 }),
            Op::SetVip(Address::v4(VIP_ADDRESS), VipEntry { flags: 0 }),
        ];
        for owner in 1..=BACKENDS {
            ops.push(Op::SetBackend(owner, self.backend(owner)));
            if is_nat {
                let addr = backend_address(owner).octets();
                let at = EndpointV4 { addr, port: VIP_PORT.to_be_bytes(), protocol: TCP, zero: 0 };
                ops.push(Op::SetReply(Endpoint::V4(at), self.reply(owner)));
            }
        }
        ops.push(Op::SetSchedule(ID, (1..=BACKENDS).collect()));
        ops.push(Op::CreateRing(ID, self.ring.iter().map(|owner| Slot::settled(*owner).0).collect()));
        ops.push(Op::SetService(Endpoint::V4(key), self.entry));
        for op in &ops {
            self.loaded()?.dataplane.apply(op)?;
        }
        Ok(())
    }

    fn backend(&self, owner: Owner) -> BackendEntry {
        let [high, low] = owner.to_be_bytes();
        BackendEntry {
            dst_mac: [0x02, 0, 0, 0xbe, high, low],
            flags: BACKEND_ALIVE | BACKEND_REACHABLE,
            src_mac: OUR_MAC,
            service: ID,
            addr: Address::v4(backend_address(owner).octets()),
            ifindex: self.pair.far,
            port: VIP_PORT.to_be_bytes(),
            weight: 100,
            mtu: 1_500,
            // ipip and gue: 16 bits of the flow in the outer source.
            source_bits: if self.entry.forward >= FORWARD_IPIP { 16 } else { 0 },
            snat_addr: if self.entry.forward >= FORWARD_IPIP {
                Address::v4([172, 16, 0, 0])
            } else {
                Address::default()
            },
            ..BackendEntry::default()
        }
    }

    fn reply(&self, owner: Owner) -> ReplyEntry {
        let tracked = if self.entry.tracking == TRACKING_FULL { REPLY_TRACKED } else { 0 };
        let loads = if self.entry.select == SELECT_LEAST_CONN { REPLY_COUNTS_LOAD } else { 0 };
        ReplyEntry {
            vip: Address::v4(VIP_ADDRESS),
            vip_port: VIP_PORT.to_be_bytes(),
            service: ID,
            owner,
            flags: tracked | loads,
            zero: 0,
        }
    }

    fn loaded(&mut self) -> Result<&mut Loaded> {
        self.loaded.as_mut().context("the device is gone")
    }

    /// What the kernel knows of the program.
    pub fn info(&self) -> Result<ProgramInfo> {
        let folder = self.agent.pin_dir.join("programs");
        let pin = std::fs::read_dir(&folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with(maps::PROGRAM_INGRESS))
            .with_context(|| format!("no program in {}", folder.display()))?;
        Ok(ProgramInfo::from_pin(pin)?)
    }

    /// Puts every tenth slot into transition, or settles all of them; a ring that is so already is left alone.
    pub fn set_transition(&mut self, wanted: bool) -> Result<()> {
        if self.in_transition.replace(wanted) == wanted {
            return Ok(());
        }
        let slot = |owner: Owner| {
            let settled = Slot::settled(owner);
            if wanted { settled.change_to(owner % BACKENDS + 1) } else { settled }
        };
        let slots = (0..).zip(&self.ring).step_by(TRANSITION_STEP).map(|(n, owner)| (n, slot(*owner).0)).collect();
        Ok(self.loaded()?.dataplane.apply(&Op::StoreSlots(ID, slots))?)
    }

    /// One sweep, as the agent asks for it between others.
    pub fn sweep(&mut self) -> Result<SweepReport> {
        self.sweep_and(BTreeSet::new())
    }

    /// Empties the flow table.
    pub fn clear(&mut self) -> Result<()> {
        self.sweep_and((1..=BACKENDS).collect()).map(drop)
    }

    fn sweep_and(&mut self, purge: BTreeSet<Owner>) -> Result<SweepReport> {
        let request = SweepRequest { services: BTreeMap::from([(ID, self.entry)]), purge, ..SweepRequest::default() };
        Ok(self.loaded()?.sweeper.sweep(&request)?)
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        drop(self.loaded.take());
        let unloaded = self.wires.in_device(|| Ok(bpf::unload(&self.agent)?));
        if let Err(e) = unloaded {
            eprintln!("left behind in {}: {e:#}", self.root.display());
        }
        let _gone = std::fs::remove_dir_all(&self.root);
    }
}

/// Counters of all backends together.
pub fn total(report: &SweepReport) -> OwnerCounters {
    report.counters.values().fold(OwnerCounters::default(), |sum, c| OwnerCounters {
        opened: sum.opened + c.opened,
        refused: sum.refused + c.refused,
        evicted: sum.evicted + c.evicted,
        ..sum
    })
}

/// Where devices keep what they need: `<process>-<number>` follows.
pub const ROOT: &str = "/run/weir-bench-";

/// Removes what processes that no longer live have left there.
pub fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run") else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let pid = path.to_str().and_then(|name| name.strip_prefix(ROOT)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _not_mounted = umount2(&path.join("pins"), MntFlags::empty());
            let _in_use = std::fs::remove_dir_all(&path);
        }
    }
}

const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The ring of all backends.
pub fn canonical_ring() -> Vec<Owner> {
    let member =
        |owner| Member { key: maglev::identity(&(backend_address(owner), VIP_PORT).into()), owner, weight: 100 };
    maglev::build(&(1..=BACKENDS).map(member).collect::<Vec<_>>())
}

/// Where a backend is: in the range for benchmarks (RFC 2544).
pub fn backend_address(owner: Owner) -> std::net::Ipv4Addr {
    let [high, low] = owner.to_be_bytes();
    [198, 18, high, low].into()
}

fn entry(service: Service) -> ServiceEntry {
    ServiceEntry {
        id: ID,
        forward: service.forward.number(),
        select: service.select.number(),
        tracking: service.tracking.number(),
        flags: 0,
        syn_ticks: 19,
        idle_ticks: IDLE_TICKS,
        fin_ticks: 38,
        snat_port_first: 0,
        snat_port_count: 0,
    }
}
