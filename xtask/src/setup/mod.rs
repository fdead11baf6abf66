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
use crate::toolchain;

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

/// Installs what is missing. Fails when something needed cannot be had, and then says what to do by hand.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !report(need)).collect();
    if is_root() && find_program("apt-get").is_some() {
        let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
        debian::install(&packages)?;
    }
    if toolchain::find_compiler().is_none() {
        install_compiler_by_rustup()?;
    }
    if toolchain::find_bpf_linker().is_none() {
        linker::install()?;
    }
    install_cargo_command("fmt", "rustfmt")?;
    install_cargo_command("clippy", "clippy")?;
    fetch_crates()?;

    let still: Vec<&Need> = missing.into_iter().filter(|need| (need.find)().is_none()).collect();
    refuse_what_is_missing(&still)
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

/// A nightly is what rustup publishes the source of `core` with for this purpose; no default is changed.
fn install_compiler_by_rustup() -> Result<()> {
    let by_hand = format!(
        "No compiler for the BPF target could be installed: it takes rustc 1.{} or newer with the source of core.\n\
         \x20 Debian 12:  as root, `cargo xtask setup`, or by hand `apt-get install rustc-web rust-web-src {}`\n\
         \x20 elsewhere:  `rustup toolchain install nightly --profile minimal --component rust-src`\n\
         Then run `cargo xtask setup` again",
        toolchain::OLDEST_RUSTC_MINOR,
        linker::DEBIAN_LLVM
    );
    if find_program("rustup").is_none() {
        bail!(by_hand);
    }
    let arguments = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    process::run(Command::new("rustup").args(arguments)).context(by_hand.clone())?;
    toolchain::find_compiler().map(|_| ()).context(by_hand)
}

/// So that building takes no network from here on. Nothing is shown when all are there.
fn fetch_crates() -> Result<()> {
    let fetch = |more: &[&str]| {
        let mut command = cargo();
        let _ = command.args(["fetch", "--target"]).arg(format!("{ARCH}-unknown-linux-gnu")).args(more);
        command
    };
    if succeeds(&mut fetch(&["--offline"])) {
        println!("  found    crates of Cargo.lock");
        return Ok(());
    }
    process::run(&mut fetch(&[]))
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
