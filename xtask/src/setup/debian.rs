//! Packages by apt: asks for candidates before it installs anything, so that a missing one is explained and not half-installed.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, run};
use crate::toolchain::OLDEST_RUSTC_MINOR;

/// Packages without which the compiler must come from rustup instead.
const COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Installs packages, none of which is there yet. Needs root. No packages: nothing is asked or done.
///
/// A compiler that apt does not have, or has too old, is left to rustup; any other package without a candidate is an error.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    run(Command::new("apt-get").arg("update"))?;
    let mut wanted = Vec::new();
    let mut absent = Vec::new();
    for package in packages {
        let policy = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
        let list = if will_do(package, candidate(&policy)) { &mut wanted } else { &mut absent };
        list.push(*package);
    }
    let (compiler, others): (Vec<&str>, Vec<&str>) = absent.iter().partition(|package| COMPILER.contains(package));
    if !others.is_empty() {
        bail!(
            "apt knows no {}. On Debian 12 it is in the suite bookworm-security, component main: is that among the sources \
             in /etc/apt?",
            others.join(", ")
        );
    }
    let wanted: Vec<&str> =
        wanted.into_iter().filter(|package| compiler.is_empty() || !COMPILER.contains(package)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    run(Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(wanted)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The version that `apt-get install` would take, from what `apt-cache policy` prints; `None`: there is none.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then_some(version)
}

fn will_do(package: &str, candidate: Option<&str>) -> bool {
    let minor = |version: &str| version.strip_prefix("1.")?.split('.').next()?.parse::<u32>().ok();
    match candidate {
        None => false,
        Some(version) if COMPILER.contains(&package) => minor(version).is_some_and(|minor| minor >= OLDEST_RUSTC_MINOR),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_what_apt_would_install() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate(policy), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn an_old_compiler_will_not_do_and_an_old_tool_will() {
        assert!(will_do("rustc-web", Some("1.96.0+dfsg1-1~deb12u2")));
        assert!(!will_do("rustc-web", Some("1.85.0+dfsg3-1~deb12u3")));
        assert!(!will_do("rust-web-src", None));
        assert!(will_do("ethtool", Some("1:6.1-1")));
    }
}
