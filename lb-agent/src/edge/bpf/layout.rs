//! What every map must look like: the pins of an earlier agent are compared with this before anything is reused.

use aya::maps::{MapInfo, MapType};
use lb_common::backend::BackendEntry;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::flow::FlowBucket;
use lb_common::host::{Host, InterfaceEntry, VipEntry};
use lb_common::limits::{
    FLOW_BUCKET_ENTRIES, MAX_ADDRESSES, MAX_FRAGMENTS, MAX_OWNERS, MAX_PREFIXES, MAX_SERVICES, MAX_SNAT_FLOWS,
};
use lb_common::maps;
use lb_common::quic::{QuicConfig, QuicServerKey};
use lb_common::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use lb_common::schedule::Schedule;
use lb_common::service::ServiceEntry;
use lb_common::stats::{OwnerCounters, VerdictCounters};
use lb_common::trace::{RING_BYTES, Taps};

/// Entries of room in the flow table per flow that must fit. Two candidate buckets of eight entries, half full: at a million
/// flows none is refused.
const ROOM_PER_FLOW: usize = 2;

/// Fewest buckets: below this one crowded bucket weighs too much, and 64 KiB is nothing.
const MIN_BUCKETS: usize = 1_024;

/// Flows per word of the epoch bitmap: 4 bits each of its 56. Two flows that share a bit hide each other for an epoch, and a flow
/// that is hidden for a whole idle timeout is forgotten while it lives: at 4 bits a flow shares its bit in at most one epoch of
/// five (1 - e^(-1/4)), and in eight in a row once in 2^17. More epochs are cheaper than more bits: a bitmap of half a
/// megabyte stays in the second-level cache, where one of four does not.
const FLOWS_PER_EPOCH_WORD: usize = 14;

/// Fewest words of the epoch bitmap: one page.
const MIN_EPOCH_WORDS: usize = 512;

/// Sizes that depend on the host and its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Buckets of the flow table; a power of two.
    pub(super) buckets: u32,
    /// Words of the epoch bitmap.
    pub(super) epoch_words: u32,
    /// Possible CPUs.
    pub(super) cpus: u32,
}

impl Sizes {
    /// For `flows` that must fit without a refusal, on a host of `cpus` possible CPUs.
    pub(super) fn for_flows(flows: u32, cpus: u32) -> Self {
        let flows = flows as usize;
        Self {
            buckets: power_of_two((flows * ROOM_PER_FLOW).div_ceil(FLOW_BUCKET_ENTRIES), MIN_BUCKETS),
            epoch_words: at_most(flows.div_ceil(FLOWS_PER_EPOCH_WORD).max(MIN_EPOCH_WORDS)),
            cpus,
        }
    }

    /// Flows for which a table of this size was made.
    pub(super) fn flows(&self) -> usize {
        self.buckets as usize * FLOW_BUCKET_ENTRIES / ROOM_PER_FLOW
    }

    /// Records in `COUNTERS`: one per CPU and owner.
    pub(super) fn counters(&self) -> u32 {
        self.cpus.saturating_mul(at_most(MAX_OWNERS))
    }
}

/// Shape of one map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Its name, also its pin's.
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

impl Shape {
    /// What about a map is not as it must be; `None`: nothing.
    pub(super) fn difference(&self, found: &MapInfo) -> Option<String> {
        let kind = found.map_type().ok();
        if kind != Some(self.kind) {
            return Some(format!("is a map of type {kind:?}, not {:?}", self.kind));
        }
        let pairs = [
            ("keys of {} bytes", found.key_size(), at_most(self.key)),
            ("values of {} bytes", found.value_size(), at_most(self.value)),
            ("room for {} entries", found.max_entries(), self.entries),
        ];
        let (what, found, wanted) = pairs.into_iter().find(|(_, found, wanted)| found != wanted)?;
        Some(format!("has {}, not {wanted}", what.replace("{}", &found.to_string())))
    }
}

/// Every map of [`maps::ALL`], in that order.
pub(super) fn shapes(sizes: &Sizes) -> [Shape; maps::ALL.len()] {
    use MapType::{Array, ArrayOfMaps, Hash, LpmTrie, PerCpuArray, RingBuf};
    let array = |name, value, entries| Shape { name, kind: Array, key: size_of::<u32>(), value, entries };
    let hash = |name, key, value, entries| Shape { name, kind: Hash, key, value, entries: at_most(entries) };
    // The prefix's length comes first.
    let trie = |name, address: usize, value| Shape {
        kind: LpmTrie,
        ..hash(name, size_of::<u32>() + address, value, MAX_PREFIXES)
    };
    let (services, owners) = (at_most(MAX_SERVICES), at_most(MAX_OWNERS));
    [
        hash(maps::SERVICES_V4, size_of::<EndpointV4>(), size_of::<ServiceEntry>(), MAX_SERVICES),
        hash(maps::SERVICES_V6, size_of::<EndpointV6>(), size_of::<ServiceEntry>(), MAX_SERVICES),
        Shape { kind: ArrayOfMaps, ..array(maps::RINGS, size_of::<u32>(), services) },
        array(maps::BACKENDS, size_of::<BackendEntry>(), owners),
        array(maps::SCHEDULES, size_of::<Schedule>(), services),
        Shape { kind: PerCpuArray, ..array(maps::CURSORS, size_of::<u32>(), services) },
        array(maps::LOADS, size_of::<u64>(), owners),
        array(maps::FLOWS, size_of::<FlowBucket>(), sizes.buckets),
        array(maps::EPOCHS, size_of::<u64>(), sizes.epoch_words),
        array(maps::COUNTERS, size_of::<OwnerCounters>(), sizes.counters()),
        array(maps::VERDICTS, size_of::<VerdictCounters>(), sizes.cpus),
        array(maps::HOST, size_of::<Host>(), 1),
        hash(maps::VIPS, size_of::<Address>(), size_of::<VipEntry>(), MAX_ADDRESSES),
        hash(maps::LOCALS, size_of::<Address>(), size_of::<u32>(), MAX_ADDRESSES),
        hash(maps::INTERFACES, size_of::<u32>(), size_of::<InterfaceEntry>(), MAX_ADDRESSES),
        hash(maps::REPLIES_V4, size_of::<EndpointV4>(), size_of::<ReplyEntry>(), MAX_OWNERS),
        hash(maps::REPLIES_V6, size_of::<EndpointV6>(), size_of::<ReplyEntry>(), MAX_OWNERS),
        hash(maps::SNAT_FORWARD, size_of::<SnatForwardKey>(), size_of::<SnatForwardEntry>(), MAX_SNAT_FLOWS),
        hash(maps::SNAT_REVERSE, size_of::<SnatReverseKey>(), size_of::<SnatReverseEntry>(), MAX_SNAT_FLOWS),
        hash(maps::FRAGMENTS, size_of::<FragmentKey>(), size_of::<FragmentEntry>(), MAX_FRAGMENTS),
        array(maps::TAPS, size_of::<Taps>(), 1),
        Shape { name: maps::SIGHTS, kind: RingBuf, key: 0, value: 0, entries: at_most(RING_BYTES) },
        trie(maps::PREFIXES_V4, size_of::<[u8; 4]>(), size_of::<EndpointV4>()),
        trie(maps::PREFIXES_V6, size_of::<[u8; 16]>(), size_of::<EndpointV6>()),
        array(maps::QUIC_CONFIGS, size_of::<QuicConfig>(), services),
        hash(maps::QUIC_SERVERS, size_of::<QuicServerKey>(), size_of::<u32>(), MAX_OWNERS),
    ]
}

fn power_of_two(at_least: usize, floor: usize) -> u32 {
    // 2^31 buckets are 128 GiB: the kernel refuses long before.
    at_most(at_least.max(floor).min(1 << 31).next_power_of_two())
}

fn at_most(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_flows_get_two_million_entries_and_4_bits_of_epoch_each() {
        let sizes = Sizes::for_flows(1_000_000, 2);
        assert_eq!((sizes.buckets, sizes.epoch_words), (262_144, 71_429));
        assert!(sizes.flows() >= 1_000_000);
        assert_eq!(sizes.counters(), 65_536);
    }

    #[test]
    fn every_configured_number_of_flows_fits_into_its_table() {
        for flows in [1, 1_000, 4_096, 4_097, 99_999, 3_000_000, 100_000_000] {
            let sizes = Sizes::for_flows(flows, 1);
            assert!(sizes.flows() >= flows as usize, "{flows} flows, {sizes:?}");
            assert!(sizes.buckets.is_power_of_two() && sizes.epoch_words >= 512);
        }
    }

    #[test]
    fn the_list_of_shapes_is_the_contracts_list_of_maps() {
        assert_eq!(shapes(&Sizes::for_flows(1, 1)).map(|s| s.name), maps::ALL);
    }
}
