//! Probes: one check of one backend.
