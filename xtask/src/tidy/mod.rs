//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! Each rule takes a file's path and text and returns findings, so each is tested on a few lines of source. What a rule allows is
//! a table at the top of its file. If you change a rule of `ARCHITECTURE.md`, change it here in the same commit.

mod source;
mod imports;
mod files;
mod verdicts;
mod manifests;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, workspace};
use source::Source;

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    /// Path from the root of the workspace.
    path: String,
    /// Counted from 1; 0 is the file as a whole.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

/// Whether it fails the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

/// Prints every finding; fails if one is an error.
pub(crate) fn run() -> Result<()> {
    let root = workspace();
    let mut findings = manifests::check(&root)?;
    let paths = rust_files(&root)?;
    for path in &paths {
        let text = std::fs::read_to_string(root.join(path))?;
        findings.extend(check_file(path, &text));
    }
    for Finding { severity, path, line, message } in &findings {
        let severity = if *severity == Severity::Error { "error" } else { "warning" };
        println!("{severity}: {path}:{line}: {message}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        bail!("tidy: {errors} rules of the house broken (ARCHITECTURE.md explains them)");
    }
    println!("tidy: {} files keep the rules of the house", paths.len());
    Ok(())
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::new(path, text);
    [imports::check(&source), files::check(&source), verdicts::check(&source)].concat()
}

/// Every Rust file that git tracks or would track, from the root of the workspace.
fn rust_files(root: &Path) -> Result<Vec<String>> {
    let listed = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        "*.rs",
    ]))?;
    let exists = |path: &&str| root.join(PathBuf::from(path)).is_file();
    Ok(listed.lines().filter(exists).map(ToOwned::to_owned).collect())
}
