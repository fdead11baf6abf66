//! The proof: harness for everything that needs root, network namespaces or real servers.
//!
//! Reading order of the packet bench: [`world`] (what the tables hold), [`ground`] (the routes around it), [`rig`] (the real
//! object), [`host`] (its twin), [`mod@bench`] (both side by side), [`packet`] (what goes in),
//! [`everything`] and [`generate`] (worlds and packets at random), [`conformance`] (cases, each with the RFC that it shows).
//! Of the laboratory: [`netns`] (one machine), [`lab`] (machines and wires), [`server`] (what runs on
//! backends), [`client`] (what clients do), [`agent`] (Weir itself on the balancer), [`scenario`] (all of it at once), [`demo`]
//! (a story told with it). [`datapath`] measures the packet path, [`control`] the agent, [`peers`] both beside others.
//! Harness code panics where something goes wrong: a test has nobody to return an error to.
#![expect(
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "everything here panics when the machine does not do what the test needs; what clients meet is a Failure"
)]

pub mod agent;
pub mod client;
pub mod control;
pub mod datapath;
pub mod decap;
pub mod demo;
pub mod lab;
pub mod measure;
pub mod netns;
pub mod object;
pub mod peers;
mod poll;
pub mod scenario;
pub mod server;

pub mod world;
pub mod ground;
pub mod rig;
mod lookup;
pub mod host;
pub mod bench;
mod traces;
pub mod age;
pub mod packet;
pub mod wrapped;
pub mod everything;
pub mod generate;
pub mod conformance;
