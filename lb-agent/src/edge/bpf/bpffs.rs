//! The BPF filesystem that pins lie on: found or mounted, checked to outlive the agent, locked against a second one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::LoadError;
use super::leftovers::Leftovers;

/// Where the world expects the bpffs; sysfs allows no other directory there.
const USUAL: &str = "/sys/fs/bpf";

/// How long to wait for whoever just looks around on a bpffs (`ls`, or a child between fork and exec) before leaving it mounted.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(1);
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);

/// An exclusive hold on a directory; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Hold {
    _lock: Flock<File>,
}

impl Hold {
    /// Takes hold of `dir`, which exists.
    ///
    /// # Errors
    /// [`LoadError::Locked`] where another process has it.
    pub fn take(dir: &Path) -> Result<Self, LoadError> {
        // bpffs has no regular files to lock, but flock(2) works on directories of every filesystem.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
            .open(dir)
            .map_err(|source| file_error("open", dir, source))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(LoadError::Locked { path: dir.to_owned() }),
            Err((_, source)) => Err(file_error("lock", dir, source.into())),
        }
    }
}

/// Makes `pin_dir` a directory on a bpffs that outlives this process. What had to be mounted or made for it is noted in
/// `leftovers`, before it is done.
///
/// # Errors
/// Where there is no bpffs and none can be mounted, or where it would die with the agent. What was mounted is unmounted again.
pub(super) fn prepare(pin_dir: &Path, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    let result = mount_and_make(pin_dir, leftovers);
    if result.is_err() {
        restore(leftovers)?;
    }
    result
}

fn mount_and_make(pin_dir: &Path, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    if !on_bpffs(pin_dir) {
        mount_for(pin_dir, leftovers)?;
    }
    make(pin_dir, leftovers)?;
    let device = fs::metadata(pin_dir).map_err(|source| file_error("read", pin_dir, source))?.dev();
    if outlives_us(device) { Ok(()) } else { Err(LoadError::PrivateMount { path: pin_dir.to_owned() }) }
}

/// Undoes what [`prepare`] noted: removes directories that are empty, unmounts a bpffs on which nobody else has pinned anything.
///
/// # Errors
/// Where the kernel refuses to unmount for another reason than that it is in use.
pub(super) fn restore(leftovers: &mut Leftovers) -> Result<(), LoadError> {
    // Twice: before unmounting those on the bpffs go, afterwards those that carried it. A directory that is in use by others, or
    // gone already, is not ours to remove.
    for dir in leftovers.directories() {
        let _in_use = fs::remove_dir(&dir);
    }
    for at in leftovers.mounts() {
        if is_mount_point(&at) && is_empty(&at) {
            unmount(&at)?;
        }
        leftovers.forget_mount(&at)?;
    }
    for dir in leftovers.directories() {
        let _in_use = fs::remove_dir(&dir);
        leftovers.forget_directory(&dir)?;
    }
    Ok(())
}

/// Whether `path`, or the nearest of its ancestors that exists, lies on a bpffs.
fn on_bpffs(path: &Path) -> bool {
    path.ancestors().find_map(|p| statfs(p).ok()).is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_for(pin_dir: &Path, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    let usual = Path::new(USUAL);
    let at = if pin_dir.starts_with(usual) && usual.is_dir() { usual.to_owned() } else { pin_dir.to_owned() };
    make(&at, leftovers)?;
    leftovers.note_mount(&at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("bpf"), &at, Some("bpf"), flags, Some("mode=0700")) {
        Ok(()) => Ok(()),
        Err(errno) => {
            leftovers.forget_mount(&at)?;
            Err(LoadError::Mount { path: pin_dir.to_owned(), at, source: errno.into() })
        }
    }
}

/// Makes a directory and those that it lies in.
fn make(dir: &Path, leftovers: &mut Leftovers) -> Result<(), LoadError> {
    for missing in dir.ancestors().take_while(|p| !p.exists()) {
        leftovers.note_directory(missing)?;
    }
    fs::create_dir_all(dir).map_err(|source| file_error("make", dir, source))
}

fn unmount(at: &Path) -> Result<(), LoadError> {
    let deadline = Instant::now() + UNMOUNT_PATIENCE;
    loop {
        match umount(at) {
            Err(nix::Error::EBUSY) if Instant::now() < deadline => std::thread::sleep(UNMOUNT_PAUSE),
            // Somebody stays there: so does it, as on every host that mounts it at boot.
            Ok(()) | Err(nix::Error::EBUSY) => return Ok(()),
            Err(source) => return Err(file_error("unmount", at, source.into())),
        }
    }
}

fn is_mount_point(at: &Path) -> bool {
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    statfs(at).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) && at.parent().and_then(device) != device(at)
}

/// Whether nobody has pinned anything. The kernel itself puts `maps.debug` and `progs.debug` on a fresh bpffs; a dot in its name
/// tells what is the kernel's, for nobody else may have one (`bpf_lookup`).
fn is_empty(bpffs: &Path) -> bool {
    let is_kernels = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains('.');
    fs::read_dir(bpffs).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_kernels)))
}

/// Whether the filesystem on `device` is mounted where something sees it that lives longer than this process: in the mount
/// namespace of process 1 (in a container, the container's own), else of the oldest ancestor that may be asked. Where nobody may
/// be asked there is nothing to hold against it.
fn outlives_us(device: u64) -> bool {
    let wanted = format!("{}:{}", major(device), minor(device));
    std::iter::once(1)
        .chain(ancestors().into_iter().rev())
        .find_map(|process| fs::read_to_string(format!("/proc/{process}/mountinfo")).ok())
        // proc(5): the third field of mountinfo is the device.
        .is_none_or(|mounts| mounts.lines().any(|line| line.split(' ').nth(2) == Some(&wanted)))
}

/// Process ids from the parent upwards; at most 64, should /proc lie.
fn ancestors() -> Vec<u32> {
    let parent = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The command's name, in parentheses, may contain anything; after it come state and parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent > 0).then_some(parent)
    };
    std::iter::successors(parent(&std::process::id()), parent).take(64).collect()
}

pub(super) fn file_error(operation: &'static str, path: &Path, source: io::Error) -> LoadError {
    let remedy = match source.kind() {
        io::ErrorKind::PermissionDenied => "Run as root, or give the directory to the agent's user",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "Correct `pin_dir` or `state_dir` in the configuration"
        }
        _ => "Check the filesystem that it lies on",
    };
    LoadError::File { operation, path: path.to_owned(), source, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hold_on_a_directory_is_refused_until_the_first_is_gone() {
        let dir = std::env::temp_dir().join(format!("weir-hold-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let first = Hold::take(&dir).unwrap();
        assert!(matches!(Hold::take(&dir), Err(LoadError::Locked { .. })));
        drop(first);
        drop(Hold::take(&dir).unwrap());
        fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_filesystem_that_process_1_sees_outlives_us_and_an_unknown_one_does_not() {
        assert!(outlives_us(fs::metadata("/").unwrap().dev()));
        assert!(!outlives_us(u64::from(u32::MAX)));
    }
}
