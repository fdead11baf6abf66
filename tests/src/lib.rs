//! The proof: harness for everything that needs root, network namespaces or real servers.

pub mod world;
pub mod rig;
pub mod packet;
