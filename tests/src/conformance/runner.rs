//! Runs a table: every case in the kernel and on the host, from a clean slate, and says which failed and how.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use lb_common::slot::Owner;
use lb_common::stats::OwnerCounters;
use lb_common::verdict::{Fate, Verdict};

use super::case::{Case, Event, Hook, Send};
use super::expected::{difference, expected, sound};
use super::layout::{Field, Layout, Level};
use super::side::world;
use crate::bench::Bench;
use crate::host::action;
use crate::rig::Ran;
use crate::world::WIRE;

/// Runs every case of a subject. Panics with the names of those that failed.
#[expect(clippy::print_stdout, reason = "cargo shows it of a test that fails, and names the case that panicked")]
pub fn run(subject: &str, cases: Vec<Case>) {
    let usual = world();
    let mut bench = Bench::new(usual.clone());
    let mut is_usual = true;
    let (mut failures, total) = (Vec::new(), cases.len());
    for case in cases {
        // Shown by whatever panics within.
        println!("{subject}: {}", case.name);
        let world = (case.world.is_some() || !is_usual).then(|| {
            let mut world = usual.clone();
            case.world.iter().for_each(|change| change(&mut world));
            world
        });
        bench.forget(world);
        is_usual = case.world.is_none();
        if let Err(error) = check(&mut bench, &case) {
            failures.push(format!("  {}\n      {error:#}", case.name));
        }
        bench.compare_traces();
    }
    bench.compare_tables();
    println!("{subject}: {total} cases, {} failed", failures.len());
    assert!(failures.is_empty(), "{subject}: {} of {total} failed\n{}", failures.len(), failures.join("\n"));
}

fn check(bench: &mut Bench, case: &Case) -> Result<()> {
    let mut lent = None;
    for frame in &case.before {
        let ran = run_one(bench, case.hook, frame)?;
        let port = Layout::of(&ran.frame).find(Level::Packet, Field::SrcPort);
        lent = port.map(|range| u16::from_be_bytes([ran.frame[range.start], ran.frame[range.start + 1]]));
    }
    let mut sent = match &case.send {
        Send::Frame(frame) => frame.clone(),
        Send::Lent(packet) => packet(lent.context("no packet before this one had a source port")?),
    };
    if case.hook == Hook::Tc {
        sent[..6].fill(0);
    }
    if case.is_sound && matches!(case.verdict.fate(), Fate::Send) && case.verdict != Verdict::ArpReply {
        sound(&sent).context("what the case sends")?;
    }
    let before = counters(bench)?;
    let ran = run_one(bench, case.hook, &sent)?;
    let after = counters(bench)?;

    let verdict = ran.verdict.map_or("nothing", Verdict::name);
    ensure!(ran.verdict == Some(case.verdict), "ends as {verdict} instead of {}", case.verdict.name());
    let wanted = action_of(case);
    ensure!(ran.action == wanted, "the program returns {} instead of {wanted}", ran.action);
    // A report is a packet of its own; tests/tests/too_big.rs reads it field by field.
    if case.verdict != Verdict::SendTooBig {
        let wanted = expected(&sent, &case.changes, &ran.frame)?;
        ensure!(ran.frame == wanted, "leaves otherwise than expected: {}", difference(&wanted, &ran.frame));
    }
    if case.is_sound && matches!(case.verdict.fate(), Fate::Send) && case.verdict != Verdict::ArpReply {
        sound(&ran.frame).context("what leaves")?;
    }
    count(case, &sent, before, &after)
}

/// Runs a frame in the kernel and on the host, which must agree.
fn run_one(bench: &mut Bench, hook: Hook, frame: &[u8]) -> Result<Ran> {
    let (kernel, host) = match hook {
        Hook::Xdp(ifindex) => (bench.rig.run_xdp(frame, ifindex)?, bench.host.run_xdp(frame, ifindex)),
        Hook::Tc => {
            let mut frame = frame.to_vec();
            frame[..6].fill(0);
            (bench.rig.run_tc(&frame)?, bench.host.run_tc(&frame, WIRE))
        }
    };
    if kernel != host {
        let names = [&kernel, &host].map(|ran| ran.verdict.map_or("nothing", Verdict::name));
        bail!("the kernel says {}, the host {}; {}", names[0], names[1], difference(&host.frame, &kernel.frame));
    }
    Ok(kernel)
}

fn action_of(case: &Case) -> u32 {
    match (case.hook, case.verdict.fate()) {
        (Hook::Tc, Fate::Pass) => action::TC_UNSPEC,
        (Hook::Tc, Fate::Drop) => action::TC_SHOT,
        (Hook::Tc, Fate::Send) => action::TC_REDIRECT,
        (Hook::Xdp(_), Fate::Pass) => action::XDP_PASS,
        (Hook::Xdp(_), Fate::Drop) => action::XDP_DROP,
        (Hook::Xdp(ifindex), Fate::Send) if ifindex == case.leaves_by => action::XDP_TX,
        (Hook::Xdp(_), Fate::Send) => action::XDP_REDIRECT,
    }
}

type Records = BTreeMap<Owner, OwnerCounters>;

fn counters(bench: &mut Bench) -> Result<Records> {
    let owners: Vec<Owner> = bench.host.world.backends.keys().copied().collect();
    owners.into_iter().map(|owner| Ok((owner, bench.rig.counters(owner)?))).collect()
}

/// The owner's record has counted what the case says, and no other record anything.
fn count(case: &Case, sent: &[u8], mut before: Records, after: &Records) -> Result<()> {
    if let Some(record) = before.get_mut(&case.owner) {
        let bytes = ip_len(sent).context("no IP packet")?;
        match case.verdict {
            Verdict::Forward => (record.packets, record.bytes) = (record.packets + 1, record.bytes + bytes),
            Verdict::Reply => {
                (record.reply_packets, record.reply_bytes) = (record.reply_packets + 1, record.reply_bytes + bytes);
            }
            _ => {}
        }
        for event in &case.events {
            match event {
                Event::Opened => record.opened += 1,
                Event::Confirmed => record.confirmed += 1,
                Event::Closed => record.closed += 1,
                Event::Reset => record.reset += 1,
                Event::Message => record.messages += 1,
            }
        }
    }
    for (owner, wanted) in &before {
        let got = &after[owner];
        ensure!(got == wanted, "owner {owner} counts {got:?} instead of {wanted:?}");
    }
    Ok(())
}

/// Length of the IP packet by its own account.
fn ip_len(frame: &[u8]) -> Option<u64> {
    let layout = Layout::of(frame);
    let range = layout.find(Level::Packet, Field::Length)?;
    let len = u64::from(u16::from_be_bytes([frame[range.start], frame[range.start + 1]]));
    let is_v6 = layout.find(Level::Packet, Field::FlowLabel).is_some();
    Some(if is_v6 { len + 40 } else { len })
}
