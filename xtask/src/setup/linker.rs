//! bpf-linker: built by cargo against an LLVM that is at least as new as the one of the compiler whose bitcode it links.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, output, run};
use crate::toolchain::Toolchain;

/// The release that the flags below and `lb-agent/build.rs` are written for.
const VERSION: &str = "0.13.0";

/// LLVM releases that this bpf-linker knows.
const KNOWN_LLVMS: RangeInclusive<u32> = 21..=23;

/// Fits Debian's rustc-web.
pub(super) const DEBIAN_LLVM: &str = "llvm-22-dev";

/// Builds and installs it into cargo's bin directory: about a minute.
pub(super) fn install(compiler: &Toolchain) -> Result<()> {
    let oldest = compiler.llvm_major.max(*KNOWN_LLVMS.start());
    let (major, prefix) = (oldest..=*KNOWN_LLVMS.end())
        .find_map(|major| Some((major, find_llvm(major)?)))
        .with_context(|| {
            format!(
                "bpf-linker must be built with LLVM {oldest} or newer (its bitcode comes from {}), and no development files of it \
                 are here.\n\
                 \x20 Debian 12:  `apt-get install {DEBIAN_LLVM}`\n\
                 \x20 elsewhere:  LLVM's own packages (llvm-{oldest}-dev), or your distribution's llvm-devel {oldest}\n\
                 \x20 or:         put a released binary of bpf-linker (aya-rs/bpf-linker) into PATH\n\
                 Then run `cargo xtask setup` again",
                compiler.version
            )
        })?;
    println!("  building bpf-linker {VERSION} with LLVM {major}: about a minute");
    run(cargo()
        .args(["install", "--locked", "bpf-linker", "--version", VERSION, "--no-default-features"])
        .arg(format!("--features=llvm-{major}"))
        .env("LLVM_PREFIX", &prefix)
        .env("LIBRARY_PATH", prefix.join("lib")))
}

/// Where LLVM of this major version is installed, with what linking against it takes.
fn find_llvm(major: u32) -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    let candidates =
        [Some(debian), by_llvm_config(&format!("llvm-config-{major}"), major), by_llvm_config("llvm-config", major)];
    candidates.into_iter().flatten().find(|prefix| has_library(prefix))
}

fn by_llvm_config(program: &str, major: u32) -> Option<PathBuf> {
    let version = output(Command::new(program).arg("--version")).ok()?;
    let prefix = output(Command::new(program).arg("--prefix")).ok()?;
    (version.split('.').next()?.trim().parse() == Ok(major)).then(|| PathBuf::from(prefix.trim()))
}

fn has_library(prefix: &Path) -> bool {
    ["lib", "lib64"].iter().any(|directory| prefix.join(directory).join("libLLVM.so").exists())
}
