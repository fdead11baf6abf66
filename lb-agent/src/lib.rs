//! Weir's agent.
//!
//! **One law: deciding, touching and waiting never share a file.** `pure` decides (values in, values out), `edge` touches
//! (maps, sockets, files), `task` waits (time, channels, order). See `ARCHITECTURE.md` for the house and its invariants.
#![deny(unsafe_code)]

pub mod pure;
pub mod config;
pub mod edge;
pub mod object;
pub mod task;
pub mod run;
pub mod cli;
