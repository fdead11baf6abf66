//! Every map: key, value, who writes, who reads, what happens when it is full.
//!
//! Names are those of `lb_common::maps`. Arrays that the agent reads or writes as mapped memory carry `MMAPABLE`. Sizes that
//! depend on the host are set by the loader (`max_entries`); those here are the smallest that load:
//! `FLOWS` (buckets, `Host::flow_mask + 1`), `EPOCHS` (words, `Host::epoch_mask + 1`), `COUNTERS` (`MAX_OWNERS` × CPUs) and
//! `VERDICTS` (CPUs). The globals `AYA_LOG_LEVEL` (0: off) and `FIXED_CLOCK_NS` (tests only) are the loader's too.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use lb_common::backend::BackendEntry;
use lb_common::decide::Work;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::FlowBucket;
use lb_common::host::{Host, InterfaceEntry, VipEntry};
use lb_common::limits::{MAX_ADDRESSES, MAX_FRAGMENTS, MAX_OWNERS, MAX_PREFIXES, MAX_SERVICES, MAX_SNAT_FLOWS};
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::schedule::Schedule;
use lb_common::service::ServiceEntry;
use lb_common::slot::Ring;
use lb_common::stats::{OwnerCounters, VerdictCounters};
use lb_common::trace::{RING_BYTES, Sight, Taps};

use crate::near::Record as NearRecord;
use crate::tap::Record;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Written by the agent, read on every packet. Full: the agent refuses the service.
#[btf_map]
pub(crate) static SERVICES_V4: HashMap<EndpointV4, ServiceEntry, MAX_SERVICES> = HashMap::new();

/// Written by the agent, read on every packet. Full: the agent refuses the service.
#[btf_map]
pub(crate) static SERVICES_V6: HashMap<EndpointV6, ServiceEntry, MAX_SERVICES> = HashMap::new();

/// Written by the agent: the outer map when a service is created, slots in place ever after. Read on every packet.
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<Array<Ring, 1, MMAPABLE>, MAX_SERVICES> = ArrayOfMaps::new();

/// Written by the agent by aligned 64-bit stores, read on every packet. Full: the agent refuses the backend.
#[btf_map]
pub(crate) static BACKENDS: Array<BackendEntry, MAX_OWNERS, MMAPABLE> = Array::new();

/// Written by the agent, read for every new flow of a round_robin service.
#[btf_map]
pub(crate) static SCHEDULES: Array<Schedule, MAX_SERVICES, MMAPABLE> = Array::new();

/// The turn of each CPU: written and read here alone.
#[btf_map]
pub(crate) static CURSORS: PerCpuArray<u32, MAX_SERVICES> = PerCpuArray::new();

/// Flows per owner: added to here with every flow opened or ended, set right by every sweep.
#[btf_map]
pub(crate) static LOADS: Array<u64, MAX_OWNERS, MMAPABLE> = Array::new();

/// The flow table: changed by compare-exchange here and by the agent's sweep. Full buckets: see `lb_common::table`.
#[btf_map]
pub(crate) static FLOWS: Array<FlowBucket, 1, MMAPABLE> = Array::new();

/// Written and read here alone.
#[btf_map]
pub(crate) static EPOCHS: Array<u64, 1, MMAPABLE> = Array::new();

/// Written here by the CPU that a record belongs to, read by the agent.
#[btf_map]
pub(crate) static COUNTERS: Array<OwnerCounters, MAX_OWNERS, MMAPABLE> = Array::new();

/// Written here by the CPU that a record belongs to, read by the agent.
#[btf_map]
pub(crate) static VERDICTS: Array<VerdictCounters, 1, MMAPABLE> = Array::new();

/// Written by the agent, read on every packet.
#[btf_map]
pub(crate) static HOST: Array<Host, 1, MMAPABLE> = Array::new();

/// Written by the agent, read for packets that no service takes.
#[btf_map]
pub(crate) static VIPS: HashMap<Address, VipEntry, MAX_ADDRESSES> = HashMap::new();

/// Written by the agent, read for packets from backends.
#[btf_map]
pub(crate) static LOCALS: HashMap<Address, u32, MAX_ADDRESSES> = HashMap::new();

/// Written by the agent, read for ARP and neighbour solicitations.
#[btf_map]
pub(crate) static INTERFACES: HashMap<u32, InterfaceEntry, MAX_ADDRESSES> = HashMap::new();

/// Written by the agent, read for packets that no service takes.
#[btf_map]
pub(crate) static REPLIES_V4: HashMap<EndpointV4, ReplyEntry, MAX_OWNERS, NO_PREALLOC> = HashMap::new();

/// Written by the agent, read for packets that no service takes.
#[btf_map]
pub(crate) static REPLIES_V6: HashMap<EndpointV6, ReplyEntry, MAX_OWNERS, NO_PREALLOC> = HashMap::new();

/// Written here, swept by the agent. Full: `drop_snat_exhausted`.
#[btf_map]
pub(crate) static SNAT_FORWARD: HashMap<SnatForwardKey, SnatForwardEntry, MAX_SNAT_FLOWS, NO_PREALLOC> = HashMap::new();

/// Written here, swept by the agent. Full: `drop_snat_exhausted`.
#[btf_map]
pub(crate) static SNAT_REVERSE: HashMap<SnatReverseKey, SnatReverseEntry, MAX_SNAT_FLOWS, NO_PREALLOC> = HashMap::new();

/// Written here, swept by the agent. Full: `drop_fragment_table_full`.
#[btf_map]
pub(crate) static FRAGMENTS: HashMap<FragmentKey, FragmentEntry, MAX_FRAGMENTS> = HashMap::new();

/// Written by the agent, but for the counts of what was lost; read on every packet while somebody looks.
#[btf_map]
pub(crate) static TAPS: Array<Taps, 1, MMAPABLE> = Array::new();

/// Written here, read by the agent. Full: the record is lost, and counted in the taps that wanted it.
#[btf_map]
pub(crate) static SIGHTS: RingBuf<Sight, RING_BYTES> = RingBuf::new();

/// A record being put together: as [`WORK`].
#[btf_map]
pub(crate) static RECORD: PerCpuArray<Record, 1> = PerCpuArray::new();

/// Written and read here alone: what each CPU has at hand.
#[btf_map]
pub(crate) static NEAR: PerCpuArray<NearRecord, 1> = PerCpuArray::new();

/// How many ICMP errors each CPU may still send: written and read here alone.
#[btf_map]
pub(crate) static TOKENS: PerCpuArray<u64, 1> = PerCpuArray::new();
/// Written by the agent, read for packets that no exact VIP takes, where there are prefixes. Full: the agent refuses the service.
#[btf_map]
pub(crate) static PREFIXES_V4: LpmTrie<[u8; 4], EndpointV4, MAX_PREFIXES> = LpmTrie::new();

/// Written by the agent, read for packets that no exact VIP takes, where there are prefixes. Full: the agent refuses the service.
#[btf_map]
pub(crate) static PREFIXES_V6: LpmTrie<[u8; 16], EndpointV6, MAX_PREFIXES> = LpmTrie::new();

/// Written by the agent by 64-bit stores, read for every packet of a QUIC service.
#[btf_map]
pub(crate) static QUIC_CONFIGS: Array<QuicConfig, MAX_SERVICES, MMAPABLE> = Array::new();

/// Written by the agent, read for every packet of a QUIC service. Has room for every owner.
#[btf_map]
pub(crate) static QUIC_SERVERS: HashMap<QuicServerKey, u32, MAX_OWNERS, NO_PREALLOC> = HashMap::new();

/// Working memory of one decision on one CPU: programs are not interrupted by each other there (softirqs do not nest).
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
