//! The file system of pins: mounted once for all tests, cleared of what killed tests left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Names of an agent's folder and of its pins start with this, then `<pid>-<number>`.
pub(super) const PREFIX: &str = "weir-test-";

/// Pin folder, within an agent's own, of tests that want one outside the host's bpffs.
pub(super) const OWN_PINS: &str = "pins";

/// Where the host's bpffs belongs.
pub(super) fn root() -> PathBuf {
    PathBuf::from("/sys/fs/bpf")
}

/// Mounts it where it is missing. Two processes that both mounted it would hide each other's pins: a lock orders them.
pub(super) fn ensure_mounted() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lock = File::create(std::env::temp_dir().join("weir-test-bpffs.lock")).expect("a lock file can be made");
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("a file can be locked");
        let kind = statfs(&root()).expect("/sys/fs/bpf exists").filesystem_type();
        if kind != BPF_FS_MAGIC {
            mount(Some("bpf"), &root(), Some("bpf"), MsFlags::empty(), None::<&str>)
                .expect("mounting bpffs needs root");
        }
        remove_leftovers();
    });
}

/// Removes the pins and the folder of an agent, and the bpffs that it may have mounted for itself there.
pub(super) fn remove(pins: &Path, folder: &Path) {
    // Each of them may be gone already, or never have been.
    let _: nix::Result<()> = umount(&folder.join(OWN_PINS));
    let _: std::io::Result<()> = fs::remove_dir_all(pins);
    let _: std::io::Result<()> = fs::remove_dir_all(folder);
}

fn remove_leftovers() {
    for parent in [root(), std::env::temp_dir()] {
        let Ok(entries) = fs::read_dir(&parent) else { continue };
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
            let is_left = pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
            if is_left {
                remove(&root().join(&name), &std::env::temp_dir().join(&name));
            }
        }
    }
}
