//! Loads the agent's programs, unpinned, and prints what the verifier counted: one line a program. `cargo xtask verify` runs it.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::Instant;

use anyhow::{Context, Result};
use aya::EbpfLoader;
use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use lb_agent::object::OBJECT;
use lb_common::maps;

/// At how many instructions, over all paths, the verifier gives up (linux/bpf_verifier.h).
const LIMIT: u32 = 1_000_000;

fn main() -> Result<()> {
    let mut ebpf = EbpfLoader::new()
        .override_global("AYA_LOG_LEVEL", &0_u8, false)
        .load(OBJECT)
        .context("the object does not load; loading takes root")?;
    println!("{:<16} {:>12} {:>12} {:>12} {:>10}", "program", "processed", "of", "jited bytes", "ms");
    let began = Instant::now();
    let xdp: &mut Xdp = ebpf.program_mut(maps::PROGRAM_INGRESS).context("no XDP program")?.try_into()?;
    xdp.load().context("the verifier refuses the XDP program")?;
    report(maps::PROGRAM_INGRESS, &xdp.info()?, began);
    let began = Instant::now();
    let tc: &mut SchedClassifier = ebpf.program_mut(maps::PROGRAM_REPLY).context("no TC program")?.try_into()?;
    tc.load().context("the verifier refuses the TC program")?;
    report(maps::PROGRAM_REPLY, &tc.info()?, began);
    Ok(())
}

fn report(program: &str, info: &ProgramInfo, began: Instant) {
    let processed = info.verified_instruction_count().map_or_else(|| "?".to_owned(), |n| n.to_string());
    let ms = began.elapsed().as_millis();
    println!("{program:<16} {processed:>12} {LIMIT:>12} {:>12} {ms:>10}", info.size_jitted());
}
