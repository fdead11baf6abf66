//! DOOR: what waits. Tasks own time, channels and order; they compute nothing.

pub mod health;
