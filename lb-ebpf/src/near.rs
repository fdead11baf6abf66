//! [unsafe room 2] What this CPU has at hand: the clock as of the kernel's last tick, and services as they were when it last
//! looked. Both give the answer that the kernel's helper or hash map would give, for a load instead of a call.

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use lb_common::clock::Ticks;
use lb_common::endpoint::{EndpointV4, EndpointV6};
use lb_common::service::ServiceEntry;

use crate::maps::NEAR;

/// Places for services of each family; a service that shares its place with another is asked for in the hash map more often.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 6;

/// A service as it was at a generation of the host's record.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Place<const WORDS: usize> {
    key: [u32; WORDS],
    generation: u32,
    entry: ServiceEntry,
}

/// One CPU's memory. All zeroes is a valid one: no service has an all-zero key, and the clock has no tick zero.
#[repr(C, align(8))]
pub(crate) struct Record {
    /// The kernel's tick at which `ns` was read.
    tick: u64,
    ns: u64,
    v4: [Place<2>; PLACES],
    v6: [Place<5>; PLACES],
}

/// This CPU's record.
#[derive(Clone, Copy)]
pub(crate) struct Near(*mut Record);

impl Near {
    /// The record is there for every CPU; `None` only where the kernel says otherwise.
    #[inline(always)]
    pub(crate) fn of_this_cpu() -> Option<Self> {
        NEAR.get_ptr_mut(0).map(Self)
    }
}

/// What a program has at hand: the unit type has nothing, and asks the kernel.
pub(crate) trait Hand {
    /// Coarse `CLOCK_MONOTONIC`: as of the kernel's last tick. A tick of ours is 268 ms.
    fn now(&self) -> Ticks;

    /// An IPv4 service as of this generation, from here or, if it is not here, from where `look` finds it.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as for IPv6, whose keys are longer")]
    fn service_v4<'a>(
        &self,
        generation: u32,
        key: &EndpointV4,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry>;

    /// The same for IPv6.
    fn service_v6<'a>(
        &self,
        generation: u32,
        key: &EndpointV6,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry>;
}

impl Hand for () {
    #[inline(always)]
    fn now(&self) -> Ticks {
        // SAFETY: the helper takes nothing.
        Ticks::from_ns(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    fn service_v4<'a>(
        &self,
        _generation: u32,
        _key: &EndpointV4,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry> {
        look()
    }

    #[inline(always)]
    fn service_v6<'a>(
        &self,
        _generation: u32,
        _key: &EndpointV6,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry> {
        look()
    }
}

impl Hand for Near {
    /// The kernel moves this clock with its tick: between two ticks it is what it was.
    #[inline(always)]
    fn now(&self) -> Ticks {
        // SAFETY: the helper takes nothing; the kernel makes a load of it.
        let tick = unsafe { bpf_jiffies64() };
        // SAFETY: per-CPU memory, valid for the program run; programs on one CPU do not interrupt each other.
        let read_at = unsafe { addr_of_mut!((*self.0).tick) };
        // SAFETY: as above.
        let ns = unsafe { addr_of_mut!((*self.0).ns) };
        // SAFETY: as above.
        if unsafe { read_at.read() } == tick {
            // SAFETY: as above.
            return Ticks::from_ns(unsafe { ns.read() });
        }
        // SAFETY: the helper takes nothing.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        // SAFETY: as above.
        unsafe { read_at.write(tick) };
        // SAFETY: as above.
        unsafe { ns.write(now) };
        Ticks::from_ns(now)
    }

    #[inline(always)]
    fn service_v4<'a>(
        &self,
        generation: u32,
        key: &EndpointV4,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry> {
        let words = key.words();
        let i = place(u64::from(words[0]) | u64::from(words[1]) << 32);
        // SAFETY: the record is valid for the program run, and `place` is below the array's length.
        let at = unsafe { addr_of_mut!((*self.0).v4[i]) };
        // SAFETY: as above.
        unsafe { at_hand(at, words, generation, look) }
    }

    #[inline(always)]
    fn service_v6<'a>(
        &self,
        generation: u32,
        key: &EndpointV6,
        look: impl FnOnce() -> Option<&'a ServiceEntry>,
    ) -> Option<&'a ServiceEntry> {
        let words = key.words();
        let i = place(u64::from(words[2] ^ words[3]) | u64::from(words[4]) << 32);
        // SAFETY: as in `service_v4`.
        let at = unsafe { addr_of_mut!((*self.0).v6[i]) };
        // SAFETY: as above.
        unsafe { at_hand(at, words, generation, look) }
    }
}

/// The place of a key, below `PLACES`.
#[inline(always)]
const fn place(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACE_BITS)) as usize
}

/// What lies at a place, if it is this key's and of this generation; else it is looked for, and laid there.
///
/// # Safety
/// `at` is a place in this CPU's record.
#[inline(always)]
unsafe fn at_hand<'a, const WORDS: usize>(
    at: *mut Place<WORDS>,
    key: [u32; WORDS],
    generation: u32,
    look: impl FnOnce() -> Option<&'a ServiceEntry>,
) -> Option<&'a ServiceEntry> {
    // SAFETY: the caller's promise; nobody else writes this CPU's record.
    let here = unsafe { &*at };
    let mut differ = here.generation ^ generation;
    let mut i = 0;
    while i < WORDS {
        differ |= here.key[i] ^ key[i];
        i += 1;
    }
    if differ == 0 && generation != 0 {
        // The entry stays as it is for the rest of the program run, which looks up no other service here.
        return Some(&here.entry);
    }
    let entry = look()?;
    // SAFETY: as above.
    unsafe { at.write(Place { key, generation, entry: *entry }) };
    Some(entry)
}
