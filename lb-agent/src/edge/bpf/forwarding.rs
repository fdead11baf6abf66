//! The routing table's permission. `bpf_fib_lookup` answers only for an interface that forwards. Replies are looked up from the
//! point of view of the loopback, so that it alone must: what the host's real interfaces do stays the operator's affair.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::bpffs::file_error;
use super::error::LoadError;
use super::leftovers::Leftovers;

/// For IPv4 and IPv6, in the network namespace of whoever opens them.
const SWITCHES: [&str; 2] = ["/proc/sys/net/ipv4/conf/lo/forwarding", "/proc/sys/net/ipv6/conf/lo/forwarding"];

/// Switches forwarding on, after noting what it was.
///
/// # Errors
/// Where a switch is there and cannot be read or set.
pub(super) fn enable(leftovers: &mut Leftovers) -> Result<(), LoadError> {
    for switch in SWITCHES.map(Path::new) {
        match fs::read_to_string(switch) {
            Ok(value) if value.trim_end() == "0" => {
                leftovers.note_sysctl(switch, value.trim_end())?;
                fs::write(switch, "1").map_err(|e| file_error("write", switch, e))?;
            }
            Ok(_) => {}
            // A host without IPv6.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(file_error("read", switch, e)),
        }
    }
    Ok(())
}

/// Sets every noted switch back.
///
/// # Errors
/// Where one cannot be set.
pub(super) fn restore(leftovers: &mut Leftovers) -> Result<(), LoadError> {
    for (switch, value) in leftovers.sysctls() {
        match fs::write(&switch, &value) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file_error("write", &switch, e)),
            _ => leftovers.forget_sysctl(&switch, &value)?,
        }
    }
    Ok(())
}
