//! The TC program as a filter on a clsact qdisc: for kernels before 6.6, which have no tcx links (Debian 12 among them).
//!
//! A filter has no pin, and lives as long as its interface: a restart replaces the program in it, `unload` removes it.

use std::fs;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, tc};
use lb_common::maps::PROGRAM_REPLY;
use nix::net::if_::if_nametoindex;

use super::error::{LoadError, errno};
use super::leftovers::Leftovers;
use super::rtnl;

/// Our own priority and handle, so that nobody else's filter is taken for ours.
const PRIORITY: u16 = 0x5745;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Attaches the program, or replaces the one that an earlier run has attached.
pub(super) fn attach(tc: &mut SchedClassifier, interface: &str, leftovers: &mut Leftovers) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(interface) {
        // Noted after the deed, unlike other leftovers: a note too many would take somebody else's qdisc away.
        Ok(()) => leftovers.note_qdisc(interface).map_err(std::io::Error::other)?,
        Err(e) if errno(&e) == Some(libc::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let new = tc.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options));
    let id = match new {
        Err(e) if errno(&e) == Some(libc::EEXIST) => {
            tc.attach_to_link(SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)?)?
        }
        other => other?,
    };
    // Dropping it would detach the filter.
    std::mem::forget(tc.take_link(id)?);
    Ok(())
}

/// Takes the filter off an interface, and the qdisc too where we had added it.
pub(super) fn remove(interface: &str, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    detach(interface);
    if leftovers.qdiscs().iter().any(|name| name == interface) { remove_qdisc(interface, leftovers) } else { Ok(()) }
}

/// Takes filters and qdiscs off whatever interface still has them; for `unload`, which may know nothing but this host.
pub(super) fn remove_all(leftovers: &mut Leftovers) -> Result<(), LoadError> {
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        if let Some(interface) = entry.file_name().to_str() {
            detach(interface);
        }
    }
    for interface in leftovers.qdiscs() {
        remove_qdisc(&interface, leftovers)?;
    }
    Ok(())
}

fn detach(interface: &str) {
    // Fails where there is none, which is what is wanted.
    let _none = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM_REPLY);
}

fn remove_qdisc(interface: &str, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    if let Ok(ifindex) = if_nametoindex(interface) {
        rtnl::remove_clsact(ifindex)
            .or_else(|e| if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) { Ok(()) } else { Err(e) })
            .map_err(|source| LoadError::System { what: format!("the qdiscs of {interface}"), source })?;
    }
    leftovers.forget_qdisc(interface)
}
