//! The configuration as values that cannot be wrong; `file` holds what humans write.
