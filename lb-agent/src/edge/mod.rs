//! DOOR: what touches the world. Edges obey: they hold no policy and do not know why.

pub mod dataplane;
pub mod bpf;
pub mod journal;
pub mod probe;
pub mod netlink;
pub mod api;
pub mod doctor;
