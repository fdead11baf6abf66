//! [unsafe room 2] Atomics and a barrier that build for BPF; `AtomicU64::compare_exchange` does not.

/// Replaces `*place` by `new` if it is `old`; whether it was.
///
/// # Safety
/// `place` is valid, aligned, and changed atomically by everybody.
#[inline(always)]
pub(crate) unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_cxchg};
        const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
        // SAFETY: the caller's promise.
        unsafe { atomic_cxchg::<u64, ORDER, ORDER>(place, old, new).1 }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller's promise.
        let place = unsafe { AtomicU64::from_ptr(place) };
        place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// Adds to `*place`, modulo 2^64.
///
/// # Safety
/// As for `compare_exchange`.
#[inline(always)]
pub(crate) unsafe fn add(place: *mut u64, delta: u64) {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: the caller's promise.
        let _before = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(place, delta) };
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller's promise.
        let place = unsafe { AtomicU64::from_ptr(place) };
        let _before = place.fetch_add(delta, Ordering::Relaxed);
    }
}

/// Adds to `*place`, modulo 2^64; what it was before. LLVM 22 forgets that of a relaxed addition: it makes the instruction that
/// returns nothing, and goes on with the operand.
///
/// # Safety
/// As for `compare_exchange`.
#[inline(always)]
pub(crate) unsafe fn fetch_add(place: *mut u64, delta: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(place, delta) }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller's promise.
        let place = unsafe { AtomicU64::from_ptr(place) };
        place.fetch_add(delta, Ordering::SeqCst)
    }
}

/// The same value, of which the compiler knows nothing: a bounds check after it stays, for the verifier to see.
#[inline(always)]
pub(crate) fn opaque(mut value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    // SAFETY: one register is copied onto itself, and claimed to change. (No instruction at all would leave two line records
    // for one place, which the kernel refuses.)
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value = core::hint::black_box(value);
    }
    value
}
