//! DOOR: what decides. Values in, values out: no clock, no I/O, no async, no logging, no unsafe.
//!
//! A function that could give another answer tomorrow with the same arguments does not belong here. Time, randomness and
//! observations come in as arguments; reasons go out with the results, for others to print.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, unsafe_code)]

pub mod encap;
pub mod model;
pub mod duration_text;
pub mod network;
pub mod prefix;
pub mod quic;
pub mod tables;
pub mod sweep;
pub mod snapshot;
pub mod command;
pub mod maglev;
pub mod schedule;
pub mod transition;
pub mod health;
pub mod panic;
pub mod slow_start;
pub mod load;
pub mod jitter;
pub mod backoff;
pub mod wanted;
pub mod limits;
pub mod watch;
pub mod flows;
pub mod ledger;
pub mod desired;
pub mod part;
mod lookup;
pub mod plan;
pub mod report;
pub mod doctor;
#[cfg(test)]
pub(crate) mod testing;
