//! The packet path from outside: programs and maps, loaded, pinned, attached, written, read, swept.
//!
//! Reading order: `load` sets everything up from the rooms after it; `maps` and `sweep` are what runs then; `mmap` is the only
//! unsafe room of the agent.

mod load;
mod privilege;
mod bpffs;
mod forwarding;
mod leftovers;
mod layout;
mod pin;
mod host_record;
mod seed;
mod rtnl;
mod attach;
mod filter;
mod unload;
mod log;
mod error;
mod maps;
mod lookup;
mod path;
mod observe;
mod taps;
mod sights;
mod flows;
mod rings;
mod sweep;
mod sweep_counts;
mod sweep_replies;
mod counters;
mod explain;
mod explain_limits;
mod explain_packet;
mod frozen;
mod access;
mod announce;
mod decap;
mod mmap;

pub use announce::announce;
pub use attach::{Links, TcWay};
pub use bpffs::Hold;
pub use decap::{DecapRequest, Decapsulation};
pub use error::LoadError;
pub use flows::FlowReader;
pub use load::{Build, Loaded, can_capture, open};
pub use log::PacketLogReader;
pub use maps::BpfDataPlane;
pub use path::PacketPath;
pub use sights::SightReader;
pub use sweep::BpfSweeper;
pub use unload::unload;
