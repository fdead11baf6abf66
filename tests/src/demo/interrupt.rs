//! Ctrl-C: waits for signals, so that the demo can end in order instead of leaving machines behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// A child may die of the same Ctrl-C a moment before we hear of it ourselves.
const OUR_OWN_SIGNAL: Duration = Duration::from_millis(200);

/// Somebody wants the demo to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// Knows whether SIGINT, SIGTERM or SIGHUP has come.
#[derive(Debug)]
pub struct Interrupt {
    come: Arc<AtomicBool>,
    wake: Receiver<()>,
}

impl Interrupt {
    /// From here on these signals no longer end the process.
    pub fn listen() -> std::io::Result<Self> {
        let come = Arc::new(AtomicBool::new(false));
        let (waker, wake) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let mut signals =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        drop(guard);
        let seen = Arc::clone(&come);
        let _detached = thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let _ = tokio::select! {
                        it = signals.0.recv() => it,
                        it = signals.1.recv() => it,
                        it = signals.2.recv() => it,
                    };
                    seen.store(true, Ordering::SeqCst);
                    // Nobody listens any more once the story is over.
                    let _: Result<(), _> = waker.send(());
                }
            });
        })?;
        Ok(Self { come, wake })
    }

    /// Sleeps, unless a signal has come or comes.
    pub fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        if self.has_come() {
            return Err(Interrupted);
        }
        match self.wake.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Interrupted),
        }
    }

    /// Whether a signal has come.
    pub fn has_come(&self) -> bool {
        self.come.load(Ordering::SeqCst)
    }

    /// Panics of the laboratory say what failed, unless it failed because somebody interrupted the demo, children
    /// included.
    pub fn quieten_panics(&self) {
        let come = Arc::clone(&self.come);
        std::panic::set_hook(Box::new(move |panic| {
            if !come.load(Ordering::SeqCst) {
                thread::sleep(OUR_OWN_SIGNAL);
            }
            if !come.load(Ordering::SeqCst) {
                let payload = panic.payload();
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("for an unknown reason");
                let place = panic.location().map(ToString::to_string).unwrap_or_default();
                eprintln!("\nThe demo cannot go on: {text}\n(at {place})");
            }
        }));
    }
}
