//! DOOR: what decides. Values in, values out: no clock, no I/O, no async, no logging, no unsafe.
//!
//! A function that could give another answer tomorrow with the same arguments does not belong here. Time, randomness and
//! observations come in as arguments; reasons go out with the results, for others to print.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, unsafe_code)]

pub mod model;
pub mod network;
