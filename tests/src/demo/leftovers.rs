//! What the demo may leave behind: nothing. Looks before and after, takes away what is its own, and names what stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use nix::mount::{MntFlags, umount2};

/// Where mounts appear that others may share: made by the first who needs them.
const SHARED_MOUNTS: [&str; 2] = ["/sys/fs/bpf", "/run/netns"];

/// What was there before the demo.
#[derive(Debug)]
pub struct Before {
    mounts: Vec<PathBuf>,
}

impl Before {
    /// Looks.
    pub fn look() -> Self {
        Self { mounts: mounts() }
    }

    /// After everything has been taken down: removes mounts that the demo brought and nobody uses, and returns what is
    /// still there of it. Empty: all is as it was.
    pub fn compare(&self) -> Vec<String> {
        for mount in SHARED_MOUNTS.map(PathBuf::from) {
            let is_ours = !self.mounts.contains(&mount) && mounts().contains(&mount);
            if is_ours && is_empty(&mount) {
                // Whoever has begun to use it keeps it: then it is busy.
                let _: nix::Result<()> = umount2(&mount, MntFlags::empty());
            }
        }
        let own = process::id();
        let (netns, test) = (format!("weir-{own}-"), format!("weir-test-{own}-"));
        let mut left = Vec::new();
        let mut look = |what: &str, folder: &Path, prefix: &str| {
            let names = entries(folder).into_iter().filter(|name| name.starts_with(prefix));
            left.extend(names.map(|name| format!("{what} {}", folder.join(name).display())));
        };
        look("namespace", Path::new("/run/netns"), &netns);
        look("pins", Path::new("/sys/fs/bpf"), &test);
        look("folder", &std::env::temp_dir(), &test);
        left.extend(children(own).into_iter().map(|child| format!("process {child}")));
        let new = mounts().into_iter().filter(|mount| !self.mounts.contains(mount));
        left.extend(new.filter(|mount| is_of_ours(mount, own)).map(|mount| format!("mount {}", mount.display())));
        left
    }
}

/// A mount that nobody but this process can have made.
fn is_of_ours(mount: &Path, own: u32) -> bool {
    mount
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(&format!("weir-{own}-")) || name.starts_with(&format!("weir-test-{own}-")))
        || SHARED_MOUNTS.iter().any(|shared| mount == Path::new(shared)) && is_empty(mount)
}

fn mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// A bpffs always holds two files of the kernel's own.
fn is_empty(folder: &Path) -> bool {
    entries(folder).iter().all(|name| ["maps.debug", "progs.debug"].contains(&name.as_str()))
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Processes whose parent is `own`, with their names.
fn children(own: u32) -> Vec<String> {
    let processes = entries(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    processes.filter_map(|pid| child(&pid, own).ok().flatten()).collect()
}

/// `pid (name)` when this process is a child of `own`.
fn child(pid: &str, own: u32) -> io::Result<Option<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // "12 (name, with any character) S 1 ...": the parent is the second word after the last parenthesis.
    let Some((head, tail)) = stat.rsplit_once(')') else { return Ok(None) };
    let parent = tail.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Ok((parent == Some(own)).then(|| format!("{head})")))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_lives_is_left_over_and_one_that_has_ended_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().to_string();
        let lists = |pid: &str| children(process::id()).iter().any(|line| line.starts_with(&format!("{pid} (")));
        assert!(lists(&pid));
        drop(child.stdin.take());
        let _ = child.wait().unwrap();
        assert!(!lists(&pid));
    }
}
