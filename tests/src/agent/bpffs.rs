//! The file system of pins: mounted once for all tests, cleared of what killed tests left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

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

fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(root()) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(rest) = name.strip_prefix("weir-test-") else { continue };
        let Some(pid) = rest.split('-').next() else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _: std::io::Result<()> = fs::remove_dir_all(root().join(&name));
        }
    }
}
