//! The host's record in its map: written once, its flags ever after.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use lb_common::host::Host;
use zerocopy::{FromBytes, IntoBytes};

use super::mmap::Mapped;

const WORDS: usize = size_of::<Host>() / size_of::<u32>();
const ABI_VERSION: usize = core::mem::offset_of!(Host, abi_version) / size_of::<u32>();
const FLAGS: usize = core::mem::offset_of!(Host, flags) / size_of::<u32>();
const GENERATION: usize = core::mem::offset_of!(Host, generation) / size_of::<u32>();
const EPOCH_SHIFT: usize = core::mem::offset_of!(Host, epoch_shift) / size_of::<u32>();

/// `HOST[0]`, mapped.
#[derive(Clone, Debug)]
pub(super) struct HostRecord {
    words: Arc<Mapped<AtomicU32>>,
}

impl HostRecord {
    /// Maps the record. Of a layout that is not ours only the version number may be read: it is the first word of all of them.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn map(map: &MapData) -> io::Result<Self> {
        Ok(Self { words: Arc::new(Mapped::new(map)?) })
    }

    /// Version of the layout; 0 while the maps are being made.
    pub(super) fn abi_version(&self) -> u32 {
        self.words.get(ABI_VERSION).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// The whole record; `None` where the map is shorter than it.
    pub(super) fn read(&self) -> Option<Host> {
        let words: Vec<u32> = self.words.get(..WORDS)?.iter().map(|word| word.load(Ordering::Acquire)).collect();
        Host::read_from_bytes(words.as_bytes()).ok()
    }

    /// Writes the whole record, its version number last: from there on the maps are complete.
    pub(super) fn write(&self, host: &Host) {
        let bytes = host.as_bytes().chunks_exact(size_of::<u32>());
        let values = bytes.map(|b| b.try_into().map_or(0, u32::from_ne_bytes));
        for (index, (word, value)) in self.words.iter().zip(values).enumerate() {
            if index != ABI_VERSION {
                word.store(value, Ordering::Relaxed);
            }
        }
        if let Some(word) = self.words.get(ABI_VERSION) {
            word.store(host.abi_version, Ordering::Release);
        }
    }

    /// Services have changed: what CPUs remember of them is void.
    pub(super) fn services_changed(&self) {
        if let Some(word) = self.words.get(GENERATION) {
            let next = word.load(Ordering::Relaxed).wrapping_add(1).max(1);
            word.store(next, Ordering::Release);
        }
    }

    /// Stores the flags and the length of an epoch.
    pub(super) fn set(&self, flags: u32, epoch_shift: u32) {
        if let (Some(shift_word), Some(flags_word)) = (self.words.get(EPOCH_SHIFT), self.words.get(FLAGS)) {
            shift_word.store(epoch_shift, Ordering::Release);
            flags_word.store(flags, Ordering::Release);
        }
    }
}

const _: () = assert!(ABI_VERSION == 0, "an agent of any layout finds the version number in the first word");
