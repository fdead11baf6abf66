//! How the decision core reads and writes tables. The kernel implements it over maps, the host over plain memory.

use crate::backend::BackendEntry;
use crate::clock::Ticks;
use crate::endpoint::{Address, EndpointV4, EndpointV6};
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
    /// Flows of an owner, for least_conn.
    fn load(&self, owner: Owner) -> u64;
    /// Adds to the flows of an owner.
    fn add_load(&self, owner: Owner, delta: i64);
    /// A bucket of the flow table, `index <= host.flow_mask`.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// Reads a word of the epoch bitmap, `index <= host.epoch_mask`.
    fn epoch_word(&self, index: u32) -> Option<u64>;
    /// Writes a word of the epoch bitmap.
    fn set_epoch_word(&self, index: u32, word: u64);
    /// Coarse `CLOCK_MONOTONIC`.
    fn now(&self) -> Ticks;
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
