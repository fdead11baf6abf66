//! What the packet programs say (`aya-log`), handed to whoever listens to the `log` facade: `tracing-subscriber` does.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Reads the programs' ring buffer.
pub struct PacketLogReader {
    /// The ring buffer's descriptor, readable when there is something in it.
    ring: OwnedFd,
    flush: Box<dyn FnMut() + Send>,
}

impl fmt::Debug for PacketLogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketLogReader").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl PacketLogReader {
    /// Takes the log's ring buffer of a loaded object; in words what is wrong where there is none.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, String> {
        let logger =
            EbpfLogger::init(ebpf).map_err(|e| format!("packet_log: the programs' log cannot be read: {e}"))?;
        let ring = logger
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| format!("packet_log: the log's descriptor cannot be copied: {e}"))?;
        let mut logger = logger;
        Ok(Self { ring, flush: Box::new(move || logger.flush()) })
    }

    /// Passes on what the programs say, for as long as it is polled. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// Where the ring buffer cannot be waited for.
    pub async fn run(mut self) -> io::Result<std::convert::Infallible> {
        #[expect(
            deprecated,
            reason = "tokio asks for I/O safety, which `OwnedFd` has: the descriptor is open until it is dropped"
        )]
        let ring = AsyncFd::with_interest(self.ring, Interest::READABLE)?;
        loop {
            let mut ready = ring.readable().await?;
            (self.flush)();
            ready.clear_ready();
        }
    }
}
