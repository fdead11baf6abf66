//! Reads what the packet programs tell of packets: the ring buffer of sights, and how many of them were lost.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData, RingBuf};
use lb_common::maps;
use lb_common::trace::{Sight, Tap};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

use super::error::LoadError;
use super::maps::mapped;
use super::mmap::Mapped;
use super::pin::Pins;
use crate::edge::dataplane::Sights;

const WORDS_PER_TAP: usize = size_of::<Tap>() / size_of::<u64>();
const LOST: usize = core::mem::offset_of!(Tap, lost) / size_of::<u64>();

/// The programs' ring buffer of sights.
pub struct SightReader {
    ring: RingBuf<MapData>,
    taps: Mapped<AtomicU64>,
    /// The ring buffer's descriptor; waited for from the first question on, which is asked inside a runtime.
    descriptor: Option<OwnedFd>,
    waiting: Option<AsyncFd<OwnedFd>>,
}

impl SightReader {
    /// Opens the pinned ring.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        let wrong = |what: String| LoadError::Map { path: pins.map(maps::SIGHTS), what };
        let data = pins.open(maps::SIGHTS)?;
        let descriptor = data.fd().as_fd().try_clone_to_owned().map_err(|e| wrong(e.to_string()))?;
        let map = Map::from_map_data(data).map_err(|e| wrong(e.to_string()))?;
        let ring = RingBuf::try_from(map).map_err(|e| wrong(format!("cannot be mapped: {e}")))?;
        Ok(Self { ring, taps: mapped(pins, maps::TAPS)?, descriptor: Some(descriptor), waiting: None })
    }
}

impl fmt::Debug for SightReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's ring buffers cannot be shown.
        f.debug_struct("SightReader").field("taps", &self.taps).finish_non_exhaustive()
    }
}

impl Sights for SightReader {
    async fn ready(&mut self) -> io::Result<()> {
        if let Some(descriptor) = self.descriptor.take() {
            #[expect(
                deprecated,
                reason = "tokio asks for I/O safety, which `OwnedFd` has: the descriptor is open until it is dropped"
            )]
            let waiting = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
            self.waiting = Some(waiting);
        }
        let Some(waiting) = &self.waiting else {
            return Err(io::Error::other("the ring buffer cannot be waited for"));
        };
        waiting.readable().await?.clear_ready();
        Ok(())
    }

    fn take(&mut self, most: usize, visit: &mut dyn FnMut(&Sight, &[u8])) -> usize {
        for taken in 0..most {
            let Some(record) = self.ring.next() else { return taken };
            if let Ok((sight, rest)) = Sight::read_from_prefix(&record) {
                let captured = usize::try_from(sight.captured).unwrap_or(0).min(rest.len());
                visit(&sight, &rest[..captured]);
            }
        }
        most
    }

    fn lost(&self, tap: u8) -> u64 {
        self.taps.get(usize::from(tap) * WORDS_PER_TAP + LOST).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}
