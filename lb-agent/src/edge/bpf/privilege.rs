//! Which capabilities the process has, so that their absence is one clear message and not a riddle from the verifier.

use std::fs;

use super::error::LoadError;

/// Numbers of `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks for what loading and attaching need. Without `CAP_PERFMON` the verifier takes no pointer arithmetic on the stack.
/// `CAP_SYS_ADMIN` stands for it and for `CAP_BPF`, as it does in the kernel.
///
/// # Errors
/// [`LoadError::Privilege`] with the names of those that are missing.
pub(super) fn check() -> Result<(), LoadError> {
    // Without /proc nothing is known; the kernel will say.
    let Some(effective) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(effective) else {
        return Ok(());
    };
    let missing = missing(effective);
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Privilege { missing: missing.join(", ") }) }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 != 0;
    let needed =
        [("CAP_BPF", CAP_BPF, true), ("CAP_NET_ADMIN", CAP_NET_ADMIN, false), ("CAP_PERFMON", CAP_PERFMON, true)];
    needed
        .into_iter()
        .filter(|(_, capability, admin_will_do)| !(has(*capability) || *admin_will_do && has(CAP_SYS_ADMIN)))
        .map(|(name, _, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_is_told_every_capability() {
        let status = "Name:\tlb-agent\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(missing(effective(status).unwrap()), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_but_not_for_net_admin() {
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(missing(1 << CAP_BPF | 1 << CAP_NET_ADMIN | 1 << CAP_PERFMON).is_empty());
    }
}
