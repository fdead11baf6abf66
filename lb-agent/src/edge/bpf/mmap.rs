//! [unsafe room 4] Arrays of the kernel as mapped memory: slots, flow entries, counters without a system call each.
//!
//! aya 0.14 has no mmap of arrays. A mapping is seen as a slice of atomics of one width, chosen once for the whole map, so that
//! no two accesses of the agent to one place differ in size, and no access is a data race whatever the packet programs do.
#![expect(unsafe_code, reason = "mmap(2) has no safe interface; this is the one room of the agent that may use it")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use aya::maps::MapData;

/// Kernel arrays keep their elements at multiples of this many bytes (`array_map_alloc`: `round_up(value_size, 8)`).
const ELEMENT_ALIGN: usize = 8;

/// Words that a mapping can be seen as.
///
/// # Safety
/// Any bytes must be a valid value, and the type must have interior mutability throughout: atomic integers.
pub(super) unsafe trait Word {}

// SAFETY: an atomic integer takes any bytes and is nothing but an `UnsafeCell` of an integer.
unsafe impl Word for AtomicU32 {}

// SAFETY: as above.
unsafe impl Word for AtomicU64 {}

/// The values of one `BPF_F_MMAPABLE` array, one after another, as words of type `W`. Lives on when the map's file descriptor is
/// closed: the mapping holds the map.
#[derive(Debug)]
pub(super) struct Mapped<W: Word> {
    /// First word; page-aligned.
    first: NonNull<W>,
    /// Words in the mapping.
    words: usize,
    /// Length that was mapped, bytes.
    bytes: usize,
    /// Words from one value to the next.
    stride: usize,
}

// SAFETY: a `Mapped` owns its mapping as a `Box<[W]>` would own its heap memory, nothing of it is bound to a thread, and `W` (an
// atomic integer, see `Word`) is itself `Send`.
unsafe impl<W: Word + Send> Send for Mapped<W> {}

// SAFETY: a shared `Mapped` gives out `&[W]` only, and `W` (an atomic integer, see `Word`) is itself `Sync`.
unsafe impl<W: Word + Sync> Sync for Mapped<W> {}

impl<W: Word> Mapped<W> {
    /// Maps a whole array.
    ///
    /// # Errors
    /// What the kernel said; `InvalidInput` where the map's value is no whole number of words.
    pub(super) fn new(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let value = size(info.value_size())?.next_multiple_of(ELEMENT_ALIGN);
        let length = value
            .checked_mul(size(info.max_entries())?)
            .filter(|length| *length > 0)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the map's size is zero or beyond memory"))?;
        // SAFETY: a null hint lets the kernel choose an unused range, so that no memory of ours is replaced; the file descriptor
        // is open for the duration of the call, because `map` is borrowed. The result is checked below.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast::<W>())
            .ok_or_else(|| io::Error::other("mmap returned address zero, which is never a mapping"))?;
        Ok(Self { first, words: length / size_of::<W>(), bytes: length, stride: value / size_of::<W>() })
    }

    /// Words of the value at `index`; `None` beyond the array.
    pub(super) fn value(&self, index: usize) -> Option<&[W]> {
        let start = index.checked_mul(self.stride)?;
        self.get(start..start.checked_add(self.stride)?)
    }

    /// Values in the array.
    pub(super) fn values(&self) -> usize {
        self.words / self.stride
    }
}

impl<W: Word> Deref for Mapped<W> {
    type Target = [W];

    fn deref(&self) -> &[W] {
        // SAFETY: `new` mapped `bytes` readable and writable bytes at `first` and set `words` to the whole words in them (no
        // mapping exceeds `isize::MAX`); they stay mapped until `drop`, which needs the borrow of `self` to have ended. A mapping
        // begins at a page, so `first` is aligned. `W` promises (`Word`) that any bytes are a valid value and that the memory may
        // change under a shared reference. The other writers are the packet programs: they write aligned words of at most eight
        // bytes, which the architectures that run them do not tear.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.words) }
    }
}

impl<W: Word> Drop for Mapped<W> {
    fn drop(&mut self) {
        // SAFETY: `first` and `bytes` are what `new` got from mmap; nobody holds a reference into the mapping, because every one
        // borrows `self`, and nothing unmaps it twice, because `drop` runs once. Failure would mean that the range was never
        // ours; there is nothing to do about it here.
        let _unmapped = unsafe { libc::munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}

fn size(of: u32) -> io::Result<usize> {
    usize::try_from(of).map_err(io::Error::other)
}
