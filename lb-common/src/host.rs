//! What the kernel knows of this host: one record of constants, its VIPs, its interfaces.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Some service is keyed by VIP and protocol with port 0.
pub const HOST_ANY_PORT: u32 = 1 << 0;
/// Some service is `nat` without `snat`: sources of packets may be backends.
pub const HOST_REPLIES: u32 = 1 << 1;
/// Some flow may have been given one of our source addresses.
pub const HOST_SNAT: u32 = 1 << 2;
/// Some interface that the XDP program is attached to is `INTERFACE_LOCAL`.
pub const HOST_LOCAL_INTERFACES: u32 = 1 << 3;
/// Some interface that the XDP program is attached to is `INTERFACE_VETH`.
pub const HOST_VETH_INTERFACES: u32 = 1 << 4;
/// Some service is encapsulated: errors about outer packets may come back.
pub const HOST_ENCAP: u32 = 1 << 5;
/// Somebody looks at packets through a tap ([`crate::trace`]); `HOST_SLOW` is set too.
pub const HOST_TRACE: u32 = 1 << 9;
/// Some tap wants the packets themselves.
pub const HOST_CAPTURE: u32 = 1 << 10;
/// Some VIP is a prefix: what no exact VIP takes may be for one of its addresses.
pub const HOST_PREFIX_VIPS: u32 = 1 << 8;
/// Every packet takes the full path: whoever adds a question about all packets that the fast one does not ask sets it.
pub const HOST_SLOW: u32 = 1 << 31;

/// The host's record, one 64-byte value. The agent changes `flags`, `epoch_shift` and `generation` by 32-bit stores; the rest is written
/// before the first packet and never again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Host {
    /// [`crate::ABI_VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// `HOST_*` bits.
    pub flags: u32,
    /// Buckets of the flow table less one.
    pub flow_mask: u32,
    /// Words of the epoch bitmap less one.
    pub epoch_mask: u32,
    /// An epoch lasts `2^epoch_shift` ticks.
    pub epoch_shift: u32,
    /// Number of CPUs that the counters have room for.
    pub cpus: u32,
    /// Interface from whose point of view replies are routed (`lo`: real interfaces need no forwarding).
    pub route_from: u32,
    /// Changes after every change of a service: what a CPU remembers of services is of the generation it was read in. 0: nothing
    /// may be remembered.
    pub generation: u32,
    /// Secret of the flow hash; outlives programs.
    pub seed: [u64; 4],
}

/// The host itself holds this VIP: what no service takes is its own, and it answers ARP and echo itself.
pub const VIP_ASSIGNED: u32 = 1 << 0;

/// No VIP but the address of a nat backend, whose fragments' tails wait for their head.
pub const VIP_IS_BACKEND: u32 = 1 << 1;

/// One VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VipEntry {
    /// `VIP_*` bits.
    pub flags: u32,
}

/// Its peers live on this host (a bridge, a container's veth): their checksums may be partial, which XDP cannot know. The XDP
/// program leaves everything on it to the TC program.
pub const INTERFACE_LOCAL: u16 = 1 << 0;

/// One end of a veth pair. What XDP sends back by `XDP_TX` wakes the peer only where that has an XDP program too (Linux 6.18,
/// `veth_xdp_flush`): where it polls because GRO is on, such packets lie there until others come. A redirect wakes both.
pub const INTERFACE_VETH: u16 = 1 << 1;

/// One interface that we listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InterfaceEntry {
    /// Its MAC address, the answer to ARP and ND.
    pub mac: [u8; 6],
    /// `INTERFACE_*` bits.
    pub flags: u16,
}

const _: () = assert!(size_of::<Host>() == 64 && core::mem::offset_of!(Host, seed) == 32);
const _: () = assert!(size_of::<VipEntry>() == 4 && size_of::<InterfaceEntry>() == 8);
