//! `cargo xtask setup`: finds what building and testing take, installs what is missing, and says what it could not install.
//!
//! Looks first and installs only what it did not find, so a second run changes nothing. As root on Debian and its kin everything
//! comes from apt; elsewhere the compiler comes from rustup.

mod debian;
mod linker;

use std::env::consts::ARCH;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo, find_program, is_root, succeeds};
use crate::toolchain::{self, Toolchain};

/// One thing that we take from the machine.
struct Need {
    what: &'static str,
    /// Where it is or which version it has; `None`: missing.
    find: fn() -> Option<String>,
    /// Debian packages that bring it, or that its installation takes.
    packages: &'static [&'static str],
    /// Nothing but the tests that only root can run uses it.
    only_for_root: bool,
}

const NEEDS: [Need; 6] = [
    Need {
        what: "compiler for the BPF target",
        find: || toolchain::find_compiler().map(|found| found.version),
        packages: &["rustc-web", "rust-web-src"],
        only_for_root: false,
    },
    Need {
        what: "bpf-linker",
        find: || toolchain::find_bpf_linker().map(|path| path.display().to_string()),
        packages: &[linker::DEBIAN_LLVM],
        only_for_root: false,
    },
    Need { what: "ip", find: || program("ip"), packages: &["iproute2"], only_for_root: true },
    Need { what: "ethtool", find: || program("ethtool"), packages: &["ethtool"], only_for_root: true },
    Need { what: "bpftool", find: || program("bpftool"), packages: &["bpftool"], only_for_root: true },
    Need { what: "curl", find: || program("curl"), packages: &["curl"], only_for_root: true },
];

/// A nightly is what rustup publishes the source of `core` with for this purpose; no default is changed.
const RUSTUP_ARGUMENTS: &str = "toolchain install nightly --profile minimal --component rust-src";

/// Installs what is missing. Fails when something needed cannot be had, and then says what to do by hand.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !report(need)).collect();
    if is_root() && find_program("apt-get").is_some() {
        let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
        debian::install(&packages)?;
    }
    let compiler = toolchain::find_compiler().map_or_else(install_compiler_by_rustup, Ok)?;
    if toolchain::find_bpf_linker().is_none() {
        linker::install(&compiler)?;
    }
    install_cargo_command("fmt", "rustfmt")?;
    install_cargo_command("clippy", "clippy")?;
    fetch_crates(&compiler)?;

    let still: Vec<&Need> = missing.into_iter().filter(|need| (need.find)().is_none()).collect();
    refuse_what_is_missing(&still)
}

/// Installs Debian packages that only one command needs; says which, where it cannot.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() || find_program("apt-get").is_none() {
        bail!("missing: {0}. On Debian, as root: `apt-get install {0}`", packages.join(" "));
    }
    debian::install(packages)
}

/// Prints whether a need is met; returns it.
fn report(need: &Need) -> bool {
    let found = (need.find)();
    match &found {
        Some(found) => println!("  found    {}: {found}", need.what),
        None => println!("  missing  {}", need.what),
    }
    found.is_some()
}

fn refuse_what_is_missing(still: &[&Need]) -> Result<()> {
    let packages = |needs: &[&Need]| needs.iter().flat_map(|need| need.packages).copied().collect::<Vec<_>>().join(" ");
    let (later, now): (Vec<&Need>, Vec<&Need>) = still.iter().partition(|need| need.only_for_root && !is_root());
    if !now.is_empty() {
        let names = now.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
        bail!("still missing: {names}. On Debian they are in: {}", packages(&now));
    }
    if !later.is_empty() {
        println!("Only the tests that need root miss: {} (as root: `cargo xtask setup`)", packages(&later));
    }
    Ok(())
}

fn program(name: &str) -> Option<String> {
    find_program(name).map(|path| path.display().to_string())
}

fn install_compiler_by_rustup() -> Result<Toolchain> {
    let by_hand = format!(
        "no compiler for the BPF target could be installed: it takes rustc 1.{} or newer with the source of core.\n\
         \x20 Debian 12:  as root, with bookworm-security among apt's sources: `apt-get install rustc-web rust-web-src {}`\n\
         \x20 elsewhere:  `rustup {RUSTUP_ARGUMENTS}`\n\
         Then run `cargo xtask setup` again",
        toolchain::OLDEST_RUSTC_MINOR,
        linker::DEBIAN_LLVM
    );
    if find_program("rustup").is_none()
        || process::run(Command::new("rustup").args(RUSTUP_ARGUMENTS.split(' '))).is_err()
    {
        bail!(by_hand);
    }
    toolchain::find_compiler().context(by_hand)
}

/// So that building takes no network from here on. That includes what `core`'s own workspace names: cargo asks the registry for
/// all of it before it builds `core` alone.
fn fetch_crates(compiler: &Toolchain) -> Result<()> {
    let host = format!("{ARCH}-unknown-linux-gnu");
    let fetch = |more: &[&str]| {
        let mut command = cargo_of(compiler);
        let _ = command.args(["fetch", "-Zbuild-std=core", "--target", "bpfel-unknown-none", "--target", &host]);
        let _ = command.args(more);
        command
    };
    if succeeds(&mut fetch(&["--offline"])) {
        println!("  found    crates of Cargo.lock");
        return Ok(());
    }
    process::run(&mut fetch(&[]))
}

fn cargo_of(compiler: &Toolchain) -> Command {
    let mut command = Command::new(&compiler.cargo);
    let _ = command.current_dir(process::workspace()).env("RUSTC", &compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
    command
}

fn install_cargo_command(subcommand: &str, component: &str) -> Result<()> {
    if succeeds(cargo().args([subcommand, "--version"])) {
        println!("  found    cargo {subcommand}");
        return Ok(());
    }
    process::run(Command::new("rustup").args(["component", "add", component])).with_context(|| {
        format!("cargo {subcommand} is missing and rustup did not install it. With Debian's own cargo: `apt-get install rustfmt-web rust-web-clippy`")
    })
}
