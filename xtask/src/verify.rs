//! `cargo xtask verify`: the programs through the kernel's verifier, and what it counted.
//!
//! bpftool loads them with libbpf, so this also shows that the object does not depend on aya's loader.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, process};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::process::{cargo, find_program, is_root, run as run_command};
use crate::{build, setup};

/// What the verifier said of one program.
#[derive(Debug, PartialEq, Eq)]
struct Verified {
    program: String,
    /// Instructions it walked, over all paths.
    processed: u64,
    /// At how many it gives up.
    limit: u64,
    /// Most states that it held at once.
    peak_states: u64,
}

/// Builds, loads, prints one line a program. Leaves nothing loaded.
pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("loading BPF programs takes root. Run `sudo -E env PATH=\"$PATH\" cargo xtask verify`");
    }
    setup::run()?;
    // The build script is what we are after.
    run_command(cargo().args(["check", "--package=lb-agent", "--lib"]))?;
    let bpftool = find_program("bpftool").context("bpftool is missing. Run `cargo xtask setup`")?;
    let pins = PinDirectory::mount()?;
    let output = Command::new(bpftool)
        .args(["--debug", "prog", "loadall"])
        .arg(build::object())
        .arg(pins.0.join("programs"))
        .output()
        .context("cannot run bpftool")?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the verifier refused the programs:\n{}", rejection(&log));
    }
    println!("{:<24} {:>12} {:>12} {:>12}", "program", "processed", "of", "peak states");
    for verified in parse(&log) {
        println!(
            "{:<24} {:>12} {:>12} {:>12}",
            verified.program, verified.processed, verified.limit, verified.peak_states
        );
    }
    Ok(())
}

/// A bpffs of our own: whatever is pinned in it goes when it is unmounted.
struct PinDirectory(PathBuf);

impl PinDirectory {
    fn mount() -> Result<Self> {
        let directory = env::temp_dir().join(format!("weir-verify-{}", process::id()));
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mounted = mount(Some("bpf"), &directory, Some("bpf"), MsFlags::empty(), None::<&str>);
        let pins = Self(directory);
        mounted.with_context(|| format!("cannot mount a bpffs at {}", pins.0.display()))?;
        Ok(pins)
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        // Either fails when `mount` did, and there is nobody left to tell.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// libbpf frames the verifier's words on each program with a line that names it; the last of them counts.
fn parse(log: &str) -> Vec<Verified> {
    let mut verified = Vec::new();
    let mut program = None;
    for line in log.lines() {
        if let Some(name) = line.strip_suffix("-- BEGIN PROG LOAD LOG --").and_then(|line| line.split('\'').nth(1)) {
            program = Some(name.to_owned());
        } else if line.starts_with("processed ")
            && let Some(program) = program.take()
        {
            verified.extend(parse_counts(program, line));
        }
    }
    verified
}

/// "processed 10 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0"
fn parse_counts(program: String, line: &str) -> Option<Verified> {
    let words: Vec<&str> = line.split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1)?.parse().ok();
    Some(Verified {
        program,
        processed: after("processed")?,
        limit: after("limit")?,
        peak_states: after("peak_states")?,
    })
}

/// The end of the log: the verifier's reason and the path that led to it.
fn rejection(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("libbpf: map ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_gets_the_counts_of_its_own_log() {
        let log = "libbpf: map 'HOST': created successfully, fd=4\n\
                   libbpf: prog 'weir_ingress': -- BEGIN PROG LOAD LOG --\n0: R1=ctx()\n\
                   processed 10 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 2 mark_read 0\n\
                   -- END PROG LOAD LOG --\n\
                   libbpf: prog 'weir_reply': -- BEGIN PROG LOAD LOG --\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
        let counts = |program: &str, processed, peak_states| Verified {
            program: program.to_owned(),
            processed,
            limit: 1_000_000,
            peak_states,
        };
        assert_eq!(parse(log), [counts("weir_ingress", 10, 2), counts("weir_reply", 2, 0)]);
    }

    #[test]
    fn a_rejection_keeps_the_end_of_the_log() {
        let log = (0..100).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        assert!(rejection(&log).ends_with("line 99"));
        assert_eq!(rejection(&log).lines().count(), 60);
    }
}
