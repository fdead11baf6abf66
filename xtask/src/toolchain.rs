//! Finds what compiles for the BPF target: a Rust compiler with the source of `core`, a cargo that fits it, and bpf-linker.
//!
//! Shared as source by `lb-agent/build.rs` (which uses what it finds) and `cargo xtask setup` (which installs what is missing),
//! so the two cannot disagree. Touches the file system and asks compilers for their version; installs nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest release whose `core` builds for the BPF target as we use it: the workspace's `rust-version`.
pub(crate) const OLDEST_RUSTC_MINOR: u32 = 88;

/// A compiler whose sysroot holds the source of `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// The compiler itself, never a rustup proxy: a proxy would follow the caller's `RUSTUP_TOOLCHAIN`.
    pub(crate) rustc: PathBuf,
    /// The cargo of the same release where there is one, else the one that runs us.
    pub(crate) cargo: PathBuf,
    /// As the compiler says it; for messages.
    pub(crate) version: String,
    /// Major version of its LLVM. bpf-linker reads its bitcode only when built with this LLVM or a newer one.
    pub(crate) llvm_major: u32,
}

/// What a compiler says about itself in `rustc -vV`.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    line: String,
    minor: u32,
    llvm_major: u32,
}

/// The first compiler that will do: the distribution's, then rustup's nightly, then the one that compiles everything else.
///
/// The language features we need are asked for by `RUSTC_BOOTSTRAP`, so a stable compiler will do.
pub(crate) fn find_compiler() -> Option<Toolchain> {
    let candidates = [Some(PathBuf::from("/usr/bin/rustc")), rustup_nightly(), Some(rustc_of_caller())];
    candidates.into_iter().flatten().find_map(|rustc| examine(&rustc))
}

/// bpf-linker, in `PATH` or where `cargo install` puts it.
pub(crate) fn find_bpf_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
}

fn examine(rustc: &Path) -> Option<Toolchain> {
    let version = parse_version(&output(Command::new(rustc).arg("-vV"))?)?;
    let sysroot = PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?.trim());
    let has_core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file();
    if version.minor < OLDEST_RUSTC_MINOR || !has_core {
        return None;
    }
    let real = sysroot.join("bin/rustc");
    Some(Toolchain {
        rustc: if real.is_file() { real } else { rustc.to_path_buf() },
        cargo: cargo_of(&sysroot, version.minor).unwrap_or_else(cargo_of_caller),
        version: version.line,
        llvm_major: version.llvm_major,
    })
}

/// `-Zbuild-std` reads manifests of the compiler's release, which a much older cargo may not understand.
fn cargo_of(sysroot: &Path, minor: u32) -> Option<PathBuf> {
    let cargo = sysroot.join("bin/cargo");
    let line = output(Command::new(&cargo).arg("--version"))?;
    (minor_of(line.split_whitespace().nth(1)?)? == minor).then_some(cargo)
}

fn rustup_nightly() -> Option<PathBuf> {
    let path = output(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]))?;
    Some(PathBuf::from(path.trim()))
}

/// Cargo tells its build scripts which compiler it uses, and whoever it runs which cargo it is.
fn rustc_of_caller() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

fn cargo_of_caller() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn parse_version(verbose: &str) -> Option<Version> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Version {
        line: verbose.lines().next()?.to_owned(),
        minor: minor_of(field("release:")?)?,
        llvm_major: field("LLVM version:")?.split('.').next()?.parse().ok()?,
    })
}

/// 96 of "1.96.0-nightly".
fn minor_of(release: &str) -> Option<u32> {
    release.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// What a command prints; `None` when it cannot be run or fails, which here always means "not this one".
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_judged_by_its_release_and_its_llvm() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                       release: 1.96.0-nightly\nLLVM version: 22.1.8\n";
        let version = parse_version(verbose).unwrap();
        assert_eq!((version.minor, version.llvm_major), (96, 22));
        assert!(version.line.starts_with("rustc 1.96.0"));
    }

    #[test]
    fn what_is_no_compiler_is_passed_over() {
        assert_eq!(parse_version("zsh: command not found\n"), None);
        assert_eq!(examine(Path::new("/nonexistent/rustc")), None);
    }
}
