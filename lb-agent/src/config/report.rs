//! Collects what is to be said about a file while it is read: errors, warnings, and the line of every field, so that checks
//! made later can point at what they talk of.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{ConfigErrors, Finding, Warning};

/// The findings on one file.
pub(super) struct Report {
    file: PathBuf,
    /// Byte offset at which each line begins.
    line_starts: Vec<usize>,
    /// Line of every field that was read, by its path.
    places: BTreeMap<String, usize>,
    errors: Vec<Finding>,
    warnings: Vec<Warning>,
}

impl Report {
    /// Nothing is said yet.
    pub(super) fn new(file: &Path, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.to_owned(), line_starts, places: BTreeMap::new(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// Remembers where a field stands.
    pub(super) fn place(&mut self, field: &str, span: &Range<usize>) {
        let line = self.line_of(span);
        let _ = self.places.insert(field.to_owned(), line);
    }

    /// An error at a span of the text.
    pub(super) fn error_at(&mut self, span: Option<&Range<usize>>, field: &str, message: String) {
        let line = span.map(|span| self.line_of(span));
        self.errors.push(Finding { file: self.file.clone(), line, field: field.to_owned(), message });
    }

    /// An error about a field that was read.
    pub(super) fn error(&mut self, field: &str, message: String) {
        let line = self.line_of_field(field);
        self.errors.push(Finding { file: self.file.clone(), line, field: field.to_owned(), message });
    }

    /// A warning about a field that was read.
    pub(super) fn warning(&mut self, field: &str, message: String) {
        let line = self.line_of_field(field);
        self.warnings.push(Finding { file: self.file.clone(), line, field: field.to_owned(), message });
    }

    /// The value, if nothing is wrong.
    pub(super) fn conclude<T>(mut self, value: Option<T>) -> Result<(T, Vec<Warning>), ConfigErrors> {
        self.errors.sort_by_key(|finding| finding.line);
        self.warnings.sort_by_key(|finding| finding.line);
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            _ => Err(ConfigErrors { errors: self.errors, warnings: self.warnings }),
        }
    }

    /// Whether the file has the field.
    pub(super) fn has_field(&self, field: &str) -> bool {
        self.places.contains_key(field)
    }

    fn line_of(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }

    /// The line of a field, or of the nearest one around it: a default stands nowhere, its section does.
    fn line_of_field(&self, field: &str) -> Option<usize> {
        let mut path = field;
        loop {
            if let Some(line) = self.places.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind('.')?];
        }
    }
}
