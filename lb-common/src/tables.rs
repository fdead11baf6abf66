//! How the decision core reads and writes tables. The kernel implements it over maps, the host over plain memory.

use crate::admission::{AccessV4, AccessV6, Limits, Refusal};
use crate::backend::BackendEntry;
use crate::clock::Ticks;
use crate::decide::limits;
use crate::endpoint::{Address, EndpointV4, EndpointV6};
use crate::flow::FlowKey;
use crate::host::{Host, InterfaceEntry, VipEntry};
use crate::quic::{QuicConfig, QuicServerKey};
use crate::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use crate::service::ServiceEntry;
use crate::slot::{Owner, Slot};

/// One bucket of the flow table. `i` is below [`crate::limits::FLOW_BUCKET_ENTRIES`].
pub trait Bucket: Copy {
    /// Reads an entry.
    fn load(self, i: usize) -> u64;
    /// Replaces an entry if it is still `old`; whether it was.
    fn exchange(self, i: usize, old: u64, new: u64) -> bool;
}

/// Where a packet for an address leaves this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By this interface, with these MAC addresses.
    Known {
        /// Interface.
        ifindex: u32,
        /// Next hop's MAC address.
        dst_mac: [u8; 6],
        /// Our MAC address on that interface.
        src_mac: [u8; 6],
    },
    /// By this interface, but the next hop's MAC address must be asked for.
    Unresolved {
        /// Interface.
        ifindex: u32,
    },
    /// The packet is larger than the way takes.
    TooBig,
    /// Nowhere.
    None,
}

/// What a route is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteQuery {
    /// Source of the packet as it will leave.
    pub src: Address,
    /// Destination.
    pub dst: Address,
    /// Whether both are IPv6.
    pub is_v6: bool,
    /// IANA protocol number.
    pub protocol: u8,
    /// Length of the IP packet, bytes.
    pub len: u16,
}

/// Everything the packet path looks up. Lookups of fixed tables return `None` only where the table lacks the index.
pub trait Tables {
    /// A bucket of the flow table.
    type Bucket: Bucket;

    /// This host's record.
    fn host(&self) -> Option<&Host>;
    /// Exact match; the caller asks again with port 0.
    fn service_v4(&self, key: &EndpointV4) -> Option<&ServiceEntry>;
    /// Exact match; the caller asks again with port 0.
    fn service_v6(&self, key: &EndpointV6) -> Option<&ServiceEntry>;
    /// As `service_v4`, from nearer memory where there is some.
    #[inline(always)]
    fn service_v4_at_hand(&self, _host: &Host, key: &EndpointV4) -> Option<&ServiceEntry> {
        self.service_v4(key)
    }
    /// As `service_v6`, from nearer memory where there is some.
    #[inline(always)]
    fn service_v6_at_hand(&self, _host: &Host, key: &EndpointV6) -> Option<&ServiceEntry> {
        self.service_v6(key)
    }
    /// The longest prefix VIP that holds an address: the key of its services, but for port and protocol.
    fn prefix_v4(&self, addr: &[u8; 4]) -> Option<&EndpointV4>;
    /// The longest prefix VIP that holds an address: the key of its services, but for port and protocol.
    fn prefix_v6(&self, addr: &[u8; 16]) -> Option<&EndpointV6>;
    /// How connection IDs of a QUIC service are read; zero: not at all.
    fn quic_config(&self, service: u16) -> QuicConfig;
    /// Whose server ID it is; `NOBODY`: nobody's.
    fn quic_server(&self, key: &QuicServerKey) -> Owner;
    /// A slot of a service's ring, `slot < RING_SIZE`.
    fn slot(&self, service: u16, slot: u32) -> Option<Slot>;
    /// An owner's backend.
    fn backend(&self, owner: Owner) -> Option<&BackendEntry>;
    /// Takes the next turn of a round_robin service; `NOBODY` where the schedule is empty.
    fn turn(&self, service: u16) -> Owner;
    /// Turns there are in a service's schedule.
    fn turns(&self, service: u16) -> u32;
    /// A turn of a service's schedule, `n < turns`; `NOBODY` where there is none. Nobody's turn is taken.
    fn nth_turn(&self, service: u16, n: u32) -> Owner;
    /// Flows of an owner, where its service counts them.
    fn load(&self, owner: Owner) -> u64;
    /// Adds to the flows of an owner.
    fn add_load(&self, owner: Owner, delta: i64);
    /// Adds one to the flows of an owner unless there are `most` already; whether it did. Exact with any number of CPUs.
    fn take_place(&self, owner: Owner, most: u32) -> bool;
    /// A service's limits.
    fn limits(&self, service: u16) -> Option<&Limits>;
    /// Until when a service's budget is spent, ns.
    fn budget(&self, service: u16) -> u64;
    /// Replaces that if it is still `old`; whether it was.
    fn exchange_budget(&self, service: u16, old: u64, new: u64) -> bool;
    /// A bucket of sources' budgets, `index < SOURCE_BUCKETS`.
    fn source_bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// What a service's access list says of a source, by the longest prefix; `None`: nothing.
    fn access_v4(&self, key: &AccessV4) -> Option<u32>;
    /// As `access_v4`.
    fn access_v6(&self, key: &AccessV6) -> Option<u32>;
    /// [`limits::is_source_spent`], wherever it is answered.
    #[inline(always)]
    fn is_source_spent(&self, service: u16, source: FlowKey) -> bool
    where
        Self: Sized,
    {
        limits::is_source_spent(self, service, source)
    }
    /// [`limits::is_budget_spent`], wherever it is answered.
    #[inline(always)]
    fn is_budget_spent(&self, service: u16) -> bool
    where
        Self: Sized,
    {
        limits::is_budget_spent(self, service)
    }
    /// [`limits::place`], wherever it is answered.
    #[inline(always)]
    fn place(&self, service: u16, first: Owner, draw: u32) -> Owner
    where
        Self: Sized,
    {
        limits::place(self, service, first, draw)
    }
    /// Counts what a service's limits have refused.
    fn count_refusal(&self, service: u16, what: Refusal);
    /// A bucket of the flow table, `index <= host.flow_mask`.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// Reads a word of the epoch bitmap, `index <= host.epoch_mask`.
    fn epoch_word(&self, index: u32) -> Option<u64>;
    /// Writes a word of the epoch bitmap.
    fn set_epoch_word(&self, index: u32, word: u64);
    /// Coarse `CLOCK_MONOTONIC`.
    fn now(&self) -> Ticks;
    /// The same in ns, as exact as the kernel's timer tick (1 to 10 ms).
    fn now_ns(&self) -> u64;
    /// Notes that a flow of this owner was pushed out of the table.
    fn count_evicted(&self, owner: Owner);
    /// Whether an address is a VIP (or a nat backend: see the entry's flags).
    fn vip(&self, addr: &Address) -> Option<&VipEntry>;
    /// Whether an address is this host's own.
    fn is_local(&self, addr: &Address) -> bool;
    /// An interface that we listen on.
    fn interface(&self, ifindex: u32) -> Option<&InterfaceEntry>;
    /// Exact match; the caller asks again with port 0.
    fn reply_v4(&self, key: &EndpointV4) -> Option<&ReplyEntry>;
    /// Exact match; the caller asks again with port 0.
    fn reply_v6(&self, key: &EndpointV6) -> Option<&ReplyEntry>;
    /// A client's flow's source port.
    fn snat_forward(&self, key: &SnatForwardKey) -> Option<SnatForwardEntry>;
    /// Enters or refreshes it; whether there was room.
    fn set_snat_forward(&self, key: &SnatForwardKey, entry: &SnatForwardEntry) -> bool;
    /// A backend's answer's client.
    fn snat_reverse(&self, key: &SnatReverseKey) -> Option<&SnatReverseEntry>;
    /// Enters it if the key is free; whether it was and there was room.
    fn claim_snat_reverse(&self, key: &SnatReverseKey, entry: &SnatReverseEntry) -> bool;
    /// Gives a claimed key back.
    fn release_snat_reverse(&self, key: &SnatReverseKey);
    /// This CPU's bucket of ICMP errors that may still be sent ([`crate::rate::Tokens`]); `None`: none may.
    fn tokens(&self) -> Option<u64> {
        None
    }
    /// Writes it.
    fn set_tokens(&self, _tokens: u64) {}
    /// A datagram in pieces.
    fn fragment(&self, key: &FragmentKey) -> Option<&FragmentEntry>;
    /// Enters it; whether there was room.
    fn set_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool;
    /// Gives it back.
    fn release_snat_forward(&self, key: &SnatForwardKey);
    /// Asks the host's routing table, from the point of view of [`Host::route_from`].
    fn route(&self, query: &RouteQuery) -> Route;
}
