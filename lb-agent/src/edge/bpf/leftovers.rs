//! What the agent made on this host outside its pins, so that `unload` can take it away: mounts, directories, qdiscs,
//! switches.
//!
//! One line each in `state_dir/leftovers`, written before a directory is made or a bpffs mounted: a crash in between leaves a note
//! about nothing, which is harmless, and never a thing without a note. Mounts and qdiscs end with the boot: what has their name
//! after it is somebody else's, so that a first line says which boot the notes are of.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::bpffs::file_error;
use super::error::LoadError;

const MOUNT: &str = "mount ";
const DIRECTORY: &str = "directory ";
const QDISC: &str = "qdisc ";
const SYSCTL: &str = "sysctl ";
const BOOT: &str = "boot ";

/// The notes.
#[derive(Debug)]
pub(super) struct Leftovers {
    file: PathBuf,
    boot: String,
    lines: BTreeSet<String>,
}

impl Leftovers {
    /// Reads the notes of earlier runs; there may be none.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub(super) fn read(state_dir: &Path) -> Result<Self, LoadError> {
        let file = state_dir.join("leftovers");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(file_error("read", &file, source)),
        };
        // Without /proc every boot is the same one, as on a host that never reboots.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned();
        Ok(Self::parse(file, boot, &text))
    }

    /// Mount points of a bpffs.
    pub(super) fn mounts(&self) -> Vec<PathBuf> {
        self.with(MOUNT).map(PathBuf::from).collect()
    }

    /// Directories, the innermost first.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.with(DIRECTORY).map(PathBuf::from).rev().collect()
    }

    /// Interfaces that were given a clsact qdisc.
    pub(super) fn qdiscs(&self) -> Vec<String> {
        self.with(QDISC).map(str::to_owned).collect()
    }

    /// Switches that were set, and what they were before.
    pub(super) fn sysctls(&self) -> Vec<(PathBuf, String)> {
        self.with(SYSCTL)
            .filter_map(|s| s.rsplit_once(' '))
            .map(|(path, value)| (path.into(), value.to_owned()))
            .collect()
    }

    /// Notes a switch and what it was.
    pub(super) fn note_sysctl(&mut self, switch: &Path, value: &str) -> Result<(), LoadError> {
        self.note(format!("{SYSCTL}{} {value}", switch.display()))
    }

    /// Strikes a switch out.
    pub(super) fn forget_sysctl(&mut self, switch: &Path, value: &str) -> Result<(), LoadError> {
        self.forget(&format!("{SYSCTL}{} {value}", switch.display()))
    }

    /// Notes a mount.
    pub(super) fn note_mount(&mut self, at: &Path) -> Result<(), LoadError> {
        self.note(format!("{MOUNT}{}", at.display()))
    }

    /// Notes a directory.
    pub(super) fn note_directory(&mut self, dir: &Path) -> Result<(), LoadError> {
        self.note(format!("{DIRECTORY}{}", dir.display()))
    }

    /// Notes a qdisc.
    pub(super) fn note_qdisc(&mut self, interface: &str) -> Result<(), LoadError> {
        self.note(format!("{QDISC}{interface}"))
    }

    /// Strikes a mount out.
    pub(super) fn forget_mount(&mut self, at: &Path) -> Result<(), LoadError> {
        self.forget(&format!("{MOUNT}{}", at.display()))
    }

    /// Strikes a directory out.
    pub(super) fn forget_directory(&mut self, dir: &Path) -> Result<(), LoadError> {
        self.forget(&format!("{DIRECTORY}{}", dir.display()))
    }

    /// Strikes a qdisc out.
    pub(super) fn forget_qdisc(&mut self, interface: &str) -> Result<(), LoadError> {
        self.forget(&format!("{QDISC}{interface}"))
    }

    fn parse(file: PathBuf, boot: String, text: &str) -> Self {
        let is_of_this_boot = text.lines().any(|line| line.strip_prefix(BOOT) == Some(&boot));
        let lines = text
            .lines()
            .filter(|line| line.starts_with(DIRECTORY) || (is_of_this_boot && !line.starts_with(BOOT)))
            .map(str::to_owned)
            .collect();
        Self { file, boot, lines }
    }

    fn with(&self, kind: &'static str) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().filter_map(move |line| line.strip_prefix(kind))
    }

    fn note(&mut self, line: String) -> Result<(), LoadError> {
        if self.lines.insert(line) { self.write() } else { Ok(()) }
    }

    fn forget(&mut self, line: &str) -> Result<(), LoadError> {
        if self.lines.remove(line) { self.write() } else { Ok(()) }
    }

    fn write(&self) -> Result<(), LoadError> {
        if self.lines.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &self.file, e)),
                _ => Ok(()),
            };
        }
        let mut text = format!("{BOOT}{}\n", self.boot);
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        replace(&self.file, text.as_bytes())
    }
}

/// Replaces a file's content at once and for good: whoever reads it, before or after a crash, sees the old or the new. Nobody
/// but its owner may read it.
pub(super) fn replace(file: &Path, content: &[u8]) -> Result<(), LoadError> {
    let fresh = file.with_extension("new");
    let write = || {
        let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&fresh, file)?;
        file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|source| file_error("write", file, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_qdiscs_of_another_boot_are_not_ours() {
        let text = "boot one\ndirectory /x\nmount /y\nqdisc eth0\n";
        let read = |boot: &str| Leftovers::parse(PathBuf::from("/nowhere"), boot.to_owned(), text);
        assert_eq!(
            (read("one").mounts().len(), read("one").qdiscs().len(), read("one").directories().len()),
            (1, 1, 1)
        );
        assert_eq!(
            (read("two").mounts().len(), read("two").qdiscs().len(), read("two").directories().len()),
            (0, 0, 1)
        );
    }

    #[test]
    fn notes_survive_the_process_and_an_empty_list_leaves_no_file() {
        let dir = std::env::temp_dir().join(format!("weir-leftovers-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut notes = Leftovers::read(&dir).unwrap();
        notes.note_mount(Path::new("/a b")).unwrap();
        notes.note_directory(Path::new("/x")).unwrap();
        notes.note_directory(Path::new("/x/y")).unwrap();
        let mut read = Leftovers::read(&dir).unwrap();
        assert_eq!(read.mounts(), [PathBuf::from("/a b")]);
        assert_eq!(read.directories(), [PathBuf::from("/x/y"), PathBuf::from("/x")]);
        read.forget_mount(Path::new("/a b")).unwrap();
        read.forget_directory(Path::new("/x")).unwrap();
        read.forget_directory(Path::new("/x/y")).unwrap();
        assert!(!dir.join("leftovers").exists());
        fs::remove_dir(&dir).unwrap();
    }
}
