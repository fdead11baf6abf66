//! Running other programs: every command is shown before it runs, and its failure names it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

/// Root of the workspace. Cargo says where it is when it runs us; the fallback is where we were built.
pub(crate) fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that runs us, in the workspace, as if called from a shell.
///
/// What `cargo run` sets for us must not reach it: build scripts that watch such a variable would make every crate above them
/// dirty whenever the developer changes between `cargo xtask` and cargo.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours)) {
        let _ = command.env_remove(name);
    }
    let _ = command.current_dir(workspace());
    command
}

/// Shows the command, runs it, lets it write to our terminal. An exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// What the command writes to stdout. For questions, so nothing is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", show(command)))?;
    if !output.status.success() {
        bail!("{}: {}\n{}", show(command), output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a question to a program is answered with exit code 0; a program that is not there answers no.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Where a program is, in `PATH` or where administrators' programs lie on Debian (not in everybody's `PATH`).
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Program and arguments on one line, the variables set for it before them; cargo's path is shortened to its name.
fn show(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}='{}'", name.to_string_lossy(), value?.to_string_lossy())));
    let program = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?"));
    let words = std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_its_error() {
        let error = run(Command::new("/bin/false").arg("now").env("MOOD", "bad")).unwrap_err();
        assert_eq!(error.to_string(), "MOOD='bad' false now: exit status: 1");
    }

    #[test]
    fn a_missing_program_is_found_nowhere_and_answers_no() {
        assert_eq!(find_program("no-such-program"), None);
        assert!(!succeeds(&mut Command::new("no-such-program")));
    }
}
