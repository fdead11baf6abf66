//! [unsafe room 3] Packet bytes in words of up to eight. Headers lie at odd places (an Ethernet header has 14 bytes): the kernel
//! allows such accesses to packets on every machine that can do them, but the compiler, told of alignment 1, would go byte by
//! byte. (Its own feature for that, allows-misaligned-mem-access, also misaligns the stack, which the verifier refuses.)

/// Reads the next word of `from` into `bytes`; how many bytes that were.
///
/// # Safety
/// `from` is valid for reads of `N` bytes.
#[inline(always)]
pub(crate) unsafe fn load<const N: usize>(from: *const u8, bytes: &mut [u8; N], i: usize) -> usize {
    // SAFETY: the caller's promise; `i` is below `N`.
    let place = unsafe { from.add(i) };
    match N - i {
        8.. => {
            // SAFETY: the caller's promise; 8 bytes are left.
            bytes[i..i + 8].copy_from_slice(&unsafe { load_8(place) }.to_ne_bytes());
            8
        }
        4.. => {
            // SAFETY: the caller's promise; 4 bytes are left.
            bytes[i..i + 4].copy_from_slice(&unsafe { load_4(place) }.to_ne_bytes());
            4
        }
        2.. => {
            // SAFETY: the caller's promise; 2 bytes are left.
            bytes[i..i + 2].copy_from_slice(&unsafe { load_2(place) }.to_ne_bytes());
            2
        }
        _ => {
            // SAFETY: the caller's promise; 1 byte is left.
            bytes[i] = unsafe { place.read() };
            1
        }
    }
}

/// Writes the next word of `bytes` to `to`; how many bytes that were.
///
/// # Safety
/// `to` is valid for writes of `N` bytes.
#[inline(always)]
pub(crate) unsafe fn store<const N: usize>(to: *mut u8, bytes: &[u8; N], i: usize) -> usize {
    // SAFETY: the caller's promise; `i` is below `N`.
    let place = unsafe { to.add(i) };
    let b = |n: usize| bytes[i + n];
    match N - i {
        8.. => {
            // SAFETY: the caller's promise; 8 bytes are left.
            unsafe { store_8(place, u64::from_ne_bytes([b(0), b(1), b(2), b(3), b(4), b(5), b(6), b(7)])) };
            8
        }
        4.. => {
            // SAFETY: the caller's promise; 4 bytes are left.
            unsafe { store_4(place, u32::from_ne_bytes([b(0), b(1), b(2), b(3)])) };
            4
        }
        2.. => {
            // SAFETY: the caller's promise; 2 bytes are left.
            unsafe { store_2(place, u16::from_ne_bytes([b(0), b(1)])) };
            2
        }
        _ => {
            // SAFETY: the caller's promise; 1 byte is left.
            unsafe { place.write(b(0)) };
            1
        }
    }
}

macro_rules! accesses {
    ($($load:ident, $store:ident, $t:ty, $wide:ty, $name:literal;)*) => {
        $(
            /// # Safety
            /// `place` is valid for reads of the word, at any alignment.
            #[inline(always)]
            #[cfg(target_arch = "bpf")]
            pub(crate) unsafe fn $load(place: *const u8) -> $t {
                let value: $wide;
                // SAFETY: one load from a place that the caller vouches for.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", $name, " *)({place} + 0)"),
                        value = out(reg) value, place = in(reg) place, options(pure, readonly, nostack),
                    );
                }
                value as $t
            }

            /// # Safety
            /// `place` is valid for writes of the word, at any alignment.
            #[inline(always)]
            #[cfg(target_arch = "bpf")]
            unsafe fn $store(place: *mut u8, value: $t) {
                // SAFETY: one store to a place that the caller vouches for.
                unsafe {
                    core::arch::asm!(
                        concat!("*(", $name, " *)({place} + 0) = {value}"),
                        value = in(reg) value as $wide, place = in(reg) place, options(nostack),
                    );
                }
            }

            /// # Safety
            /// `place` is valid for reads of the word, at any alignment.
            #[inline(always)]
            #[cfg(not(target_arch = "bpf"))]
            pub(crate) unsafe fn $load(place: *const u8) -> $t {
                // SAFETY: the caller's promise.
                unsafe { place.cast::<$t>().read_unaligned() }
            }

            /// # Safety
            /// `place` is valid for writes of the word, at any alignment.
            #[inline(always)]
            #[cfg(not(target_arch = "bpf"))]
            unsafe fn $store(place: *mut u8, value: $t) {
                // SAFETY: the caller's promise.
                unsafe { place.cast::<$t>().write_unaligned(value) }
            }
        )*
    };
}

accesses! {
    load_8, store_8, u64, u64, "u64";
    load_4, store_4, u32, u64, "u32";
    load_2, store_2, u16, u64, "u16";
}
