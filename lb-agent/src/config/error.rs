//! What is wrong with a configuration file, told so that it can be put right: file, line, field, what was found, what is
//! allowed.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing to say about one place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// Path of the field: `service "llm".health.interval`; empty: the file as a whole.
    pub field: String,
    /// What was found, what is allowed, what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Something that will work, and probably not as meant.
pub type Warning = Finding;

/// Everything that is wrong with a file, in the order of its lines; never empty. Nothing of the file is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The errors.
    pub errors: Vec<Finding>,
    /// What else was noticed.
    pub warnings: Vec<Warning>,
}

impl ConfigErrors {
    /// The file could not be read at all.
    pub(super) fn unreadable(file: &Path, source: &std::io::Error) -> Self {
        let remedy = match source.kind() {
            std::io::ErrorKind::NotFound => {
                "Write one (see README.md, \"Five minutes\"), or name another with --config"
            }
            std::io::ErrorKind::PermissionDenied => "Run as root, or make it readable",
            _ => "Name another with --config",
        };
        let message = format!("cannot read the configuration: {source}. {remedy}");
        let finding = Finding { file: file.to_owned(), line: None, field: String::new(), message };
        Self { errors: vec![finding], warnings: Vec::new() }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}
