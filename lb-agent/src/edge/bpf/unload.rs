//! The way back: after it, the host is as it was.

use crate::config::AgentConfig;

use super::bpffs::{self, Hold};
use super::error::LoadError;
use super::filter;
use super::forwarding;
use super::leftovers::Leftovers;
use super::pin::Pins;

/// Detaches every program, unpins every map and link, removes what was mounted or made for them. Works without a daemon, on
/// pins of any layout, on the remains of a crash, and where there is nothing.
///
/// # Errors
/// [`LoadError::Locked`] while an agent runs on the pins; else where something cannot be removed.
pub fn unload(agent: &AgentConfig) -> Result<(), LoadError> {
    let pins = Pins::new(&agent.pin_dir);
    if agent.pin_dir.exists() {
        let hold = Hold::take(&agent.pin_dir)?;
        pins.remove()?;
        // An open directory would keep the bpffs from being unmounted.
        drop(hold);
    }
    let mut leftovers = Leftovers::read(&agent.state_dir)?;
    filter::remove_all(&mut leftovers)?;
    forwarding::restore(&mut leftovers)?;
    bpffs::restore(&mut leftovers)
}
