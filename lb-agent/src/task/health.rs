//! Runs the probes of every backend on time and states what changed.
