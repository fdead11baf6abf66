//! [unsafe room 2] The decapsulation program's maps.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_common::decap::{Decapped, Ends};
use lb_common::endpoint::Address;

/// Most addresses and VIPs of one backend.
const MAX_ADDRESSES: usize = 1_024;

/// This host's addresses that outer packets go to: written before the program is attached.
#[btf_map]
static OWN: HashMap<Address, u32, MAX_ADDRESSES> = HashMap::new();

/// VIPs that inner packets go to: written before the program is attached.
#[btf_map]
static INNER: HashMap<Address, u32, MAX_ADDRESSES> = HashMap::new();

/// Packets by what became of them: written here, read by whoever attached the program.
#[btf_map]
static DECAPPED: PerCpuArray<u64, 5> = PerCpuArray::new();

const _: () = assert!(Decapped::ALL.len() == 5);

/// UDP port of gue, host order. The loader sets it.
#[unsafe(no_mangle)]
static GUE_PORT: Global<u16> = Global::new(6_080);

/// What the loader has written.
pub(crate) struct Told;

impl Ends for Told {
    #[inline(always)]
    fn is_own(&self, addr: &Address) -> bool {
        OWN.get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn is_vip(&self, addr: &Address) -> bool {
        INNER.get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        GUE_PORT.load()
    }
}

/// Adds a packet to this CPU's counters.
#[inline(always)]
pub(crate) fn count(what: Decapped) {
    if let Some(counter) = DECAPPED.get_ptr_mut(what as u32) {
        // SAFETY: a per-CPU value, valid for the program run; nothing else on this CPU runs the program meanwhile.
        let packets = unsafe { counter.read() };
        // SAFETY: as above.
        unsafe { counter.write(packets.wrapping_add(1)) };
    }
}
