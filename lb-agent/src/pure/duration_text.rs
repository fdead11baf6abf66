//! Durations as the configuration writes them ("1s", "500ms", "15m").

use std::time::Duration;

/// Writes the duration in humantime's form.
///
/// # Errors
/// The serializer's own.
pub fn serialize<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&humantime::format_duration(*d))
}
