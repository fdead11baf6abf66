//! Compiles `lb-ebpf` for the BPF target and leaves the objects where `src/object.rs` embeds them.

// Shared with `cargo xtask setup`, which installs what this script looks for.
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";

/// The programs of `lb-ebpf`, one object each.
const OBJECTS: [&str; 3] = ["weir", "decap", "bench"];

/// `[profile.bpf]` of the workspace.
const PROFILE: &str = "bpf";

/// What cargo sets for build scripts, or the caller for the host's compiler (clippy among them), and must not reach the inner build.
const OUTER_ONLY: [&str; 8] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTDOC",
    "CARGO_BUILD_TARGET",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() {
    if let Err(error) = run() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["lb-ebpf", "lb-common", "Cargo.toml", "Cargo.lock", "xtask/src/toolchain.rs"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }

    let toolchain = toolchain::find_compiler().ok_or(
        "no compiler for the BPF target: it takes rustc 1.88 or newer with the source of core (Debian: rustc-web and \
         rust-web-src; elsewhere: rustup's rust-src). Run `cargo xtask setup`, which installs it or says how",
    )?;
    let linker = toolchain::find_bpf_linker()
        .ok_or("no bpf-linker in PATH or in cargo's bin directory. Run `cargo xtask setup`, which installs it")?;
    println!("cargo::rerun-if-changed={}", toolchain.rustc.display());
    println!("cargo::rerun-if-changed={}", linker.display());

    let objects = compile(&workspace, &shared_target_dir(&out_dir), &toolchain, &linker)?;
    for name in OBJECTS {
        let object = objects.join(name);
        let bytes = fs::read(&object).map_err(|error| format!("cannot read {}: {error}", object.display()))?;
        fs::write(out_dir.join(format!("{name}.bpf.o")), &bytes)?;
        println!("cargo::rustc-env={}_OBJECT_ID={:016x}", name.to_uppercase(), fnv1a(&bytes));
    }
    Ok(())
}

/// Runs the inner cargo; returns the directory of the objects it made.
fn compile(workspace: &Path, target_dir: &Path, toolchain: &Toolchain, linker: &Path) -> Result<PathBuf, String> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    let flags = [
        // The layout of `pt_regs` and the like, for aya-ebpf.
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        // 32-bit arithmetic and jumps, and atomics that return what was there (Linux 5.12): without them every short integer is
        // masked, and the stack of a chain of calls grows beyond what the verifier allows.
        "-Ctarget-cpu=v3".to_owned(),
        // Maps defined by `#[btf_map]` live in the object's BTF.
        "-Clink-arg=--btf".to_owned(),
        // The same sources give the same object wherever they lie.
        format!("--remap-path-prefix={}=.", workspace.display()),
    ];
    let mut cargo = Command::new(&toolchain.cargo);
    for variable in OUTER_ONLY {
        let _ = cargo.env_remove(variable);
    }
    let status = cargo
        .current_dir(workspace)
        .args(["build", "--package=lb-ebpf", "--bins", "-Zbuild-std=core"])
        .args(["--profile", PROFILE, "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .status()
        .map_err(|error| format!("cannot run {}: {error}", toolchain.cargo.display()))?;
    if !status.success() {
        println!(
            "cargo::error=lb-ebpf does not build for {TARGET}; below is what the compiler said. It was {}. (Is it bpf-linker \
             that failed? It must be built with LLVM {} or newer: {}.)",
            toolchain.version,
            toolchain.llvm_major,
            linker.display()
        );
        // Cargo shows what a script wrote to stderr only when the script fails.
        exit(1);
    }
    Ok(target_dir.join(TARGET).join(PROFILE))
}

/// One target directory for all profiles of the agent, so that `core` is built once. Not the agent's own: its lock is held while
/// this script runs. `OUT_DIR` is `target/PROFILE/build/PACKAGE/out`; should cargo change that, this is still inside `target`.
fn shared_target_dir(out_dir: &Path) -> PathBuf {
    out_dir.ancestors().nth(4).unwrap_or(out_dir).join("lb-ebpf")
}

/// 64-bit FNV-1a: tells two builds apart; no defence against forgery.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
