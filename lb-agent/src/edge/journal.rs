//! What must outlive the agent, in `state_dir`: the changes made at run time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::pure::wanted::RuntimeChanges;

/// Name of the file in `state_dir`.
const FILE: &str = "runtime.json";

/// Keeps runtime changes.
pub trait Journal: Send {
    /// What was saved last; nothing was: no changes.
    ///
    /// # Errors
    /// A file that cannot be read, or that somebody else wrote.
    fn load(&mut self) -> Result<RuntimeChanges, JournalError>;
    /// Saves all changes; when it returns, they survive a power cut.
    ///
    /// # Errors
    /// A file that cannot be written; what was saved before is still there.
    fn save(&mut self, changes: &RuntimeChanges) -> Result<(), JournalError>;
}

/// What went wrong with `state_dir`.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error(
        "cannot {operation} {path}: {source}. Check `state_dir` in [agent], its permissions and the space left; nothing was changed"
    )]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else wrote the file.
    #[error(
        "{path} is not what the agent wrote ({source}). Repair it, or move it away to forget all changes made at run time"
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// A JSON file, replaced as a whole.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
}

impl FileJournal {
    /// In this directory, which is made where it is missing.
    ///
    /// # Errors
    /// A directory that cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(state_dir).map_err(|source| JournalError::Io {
            operation: "create",
            path: state_dir.to_owned(),
            source,
        })?;
        Ok(Self { path: state_dir.join(FILE) })
    }

    fn write_new(&self, text: &[u8]) -> std::io::Result<()> {
        let draft = self.path.with_extension("json.new");
        let mut file = File::create(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        // The new name must reach the disk too.
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

impl Journal for FileJournal {
    fn load(&mut self) -> Result<RuntimeChanges, JournalError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(RuntimeChanges::default()),
            Err(source) => return Err(JournalError::Io { operation: "read", path: self.path.clone(), source }),
        };
        serde_json::from_slice(&text).map_err(|source| JournalError::Content { path: self.path.clone(), source })
    }

    fn save(&mut self, changes: &RuntimeChanges) -> Result<(), JournalError> {
        let error = |source| JournalError::Io { operation: "write", path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(changes).map_err(|e| error(e.into()))?;
        self.write_new(&text).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::wanted::{Intent, Override};

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weir-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let dir = directory("saved");
        let mut changes = RuntimeChanges::default();
        let addr = "10.0.0.1:80".parse().expect("an address");
        let change = Override { present: None, weight: Some(3), intent: Intent::Drain };
        let _ = changes.services.entry("web".into()).or_default().insert(addr, change);
        FileJournal::open(&dir).expect("opens").save(&changes).expect("saves");
        assert_eq!(FileJournal::open(&dir).expect("opens").load().expect("loads"), changes);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_file_that_somebody_else_wrote_is_named_and_kept() {
        let dir = directory("foreign");
        let mut journal = FileJournal::open(&dir).expect("opens");
        assert_eq!(journal.load().expect("empty"), RuntimeChanges::default());
        fs::write(dir.join(FILE), b"{").expect("writes");
        assert!(journal.load().expect_err("refused").to_string().contains("runtime.json"));
        fs::remove_dir_all(dir).expect("removed");
    }
}
