//! Weir's contract and its packet decisions: every byte that kernel and host agree on, and every choice the packet path makes.
//!
//! Compiled twice: into the BPF programs and into the host. No pointer, no map, no I/O: bytes and tables come in through
//! traits. Multi-byte fields taken from packets stay in wire order as byte arrays; integers are in host order.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "BPF calls take five arguments and a 512-byte stack, and the verifier knows a bound only where it saw the check"
)]

pub mod limits;
pub mod maps;
pub mod endpoint;
pub mod service;
pub mod backend;
pub mod slot;
pub mod clock;
pub mod flow;
pub mod epoch;
pub mod schedule;
pub mod reply;
pub mod quic;
pub mod host;
pub mod verdict;
pub mod stats;
pub mod trace;
pub mod hash;
pub mod csum;
pub mod rate;
pub mod tables;
pub mod family;
pub mod packet;
pub mod parse;
pub mod table;
pub mod decide;
pub mod decap;
pub mod sweep;
#[cfg(feature = "user")]
pub mod pod;

/// Version of the map layout. A change of any type in this crate that lies in a map changes it; the agent refuses pins of another.
pub const ABI_VERSION: u32 = 2;
