//! The demo: Weir's main job, shown to somebody who has never seen a load balancer, in about a minute and a half.
//!
//! Reading order: [`acts`] (the story), [`play`] (the stage that it is played on), [`traffic`] (the clients), [`record`]
//! (what they saw), [`promise`] (whether that is what was promised), [`screen`] and [`report`] (how it is told),
//! [`interrupt`] and [`leftovers`] (how it ends, whatever happens).

pub mod acts;
pub mod interrupt;
pub mod leftovers;
pub mod play;
pub mod promise;
pub mod record;
pub mod report;
pub mod screen;
pub mod traffic;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Args;
use lb_agent::pure::snapshot::Snapshot;
use nix::unistd::geteuid;

use acts::{ACTS, Act};
use interrupt::{Interrupt, Interrupted};
use leftovers::Before;
use play::{CONFIGURED, NAMES, Play};
use promise::{Promise, grouped};
use report::{ActReport, Report};
use screen::Screen;

/// A promise was broken, or the demo could not be played.
const BROKEN: u8 = 1;

/// It was asked for wrongly.
const USAGE: u8 = 2;

/// Ended by a signal, as shells number it.
const INTERRUPTED: u8 = 130;

/// How the demo is to be played.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long each of the six acts takes, at least
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(5..=600))]
    seconds_per_act: u16,
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
}

/// How a performance ended.
enum End {
    /// With its last act.
    Played(Box<Report>),
    /// By a signal, or because nobody reads any more.
    Interrupted,
    /// By a failure of the laboratory, which has been told.
    Failed,
}

/// Plays the demo. Exit codes: 0 everything promised was true, 1 something was not, 2 it was asked for wrongly, 130 it was
/// interrupted.
pub fn run(options: &Options) -> ExitCode {
    if !geteuid().is_root() {
        eprintln!(
            "The demo makes network namespaces and loads programs into the kernel, which takes root. \
             Run `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
        );
        return ExitCode::from(USAGE);
    }
    if let Some(path) = &options.report
        && let Err(e) = report::check_writable(path)
    {
        eprintln!("cannot write the report to {}: {e}", path.display());
        return ExitCode::from(USAGE);
    }
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(e) => {
            eprintln!("cannot listen for Ctrl-C: {e}");
            return ExitCode::from(BROKEN);
        }
    };
    interrupt.quieten_panics();
    let (before, began, mut screen) = (Before::look(), Instant::now(), Screen::for_stdout(options.plain));
    let end = perform(options, &mut screen, &interrupt);
    let left = before.compare();
    let code = conclude(end, &left, began.elapsed(), &mut screen, options.report.as_deref());
    for thing in left {
        eprintln!("left behind: {thing}");
    }
    code
}

/// The whole performance, taking down included. A panic of the laboratory ends it; what it built is taken down all the same.
fn perform(options: &Options, screen: &mut Screen, interrupt: &Interrupt) -> End {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let act = Duration::from_secs(options.seconds_per_act.into());
        welcome(screen);
        let mut play = Play::set_up(screen, interrupt, act)?;
        // The stage outlives a panic of an act, so that it is taken down in order.
        let told = catch_unwind(AssertUnwindSafe(|| tell_story(&mut play)));
        if told.is_err() && !interrupt.has_come() {
            eprintln!("--- end of the agent's log ---\n{}", play.scenario.agent.log_tail());
        }
        Ok(told)
    }));
    match played {
        Ok(Ok(Ok(Ok(report)))) => End::Played(Box::new(report)),
        Ok(Ok(Ok(Err(Interrupted))) | Err(Interrupted)) => End::Interrupted,
        Ok(Ok(Err(_))) | Err(_) if interrupt.has_come() || screen.is_closed() => End::Interrupted,
        Ok(Ok(Err(_))) | Err(_) => End::Failed,
    }
}

fn welcome(screen: &mut Screen) {
    screen.title("Weir shares the work of one address among several servers. Like this:");
    screen.line("(building a small network with real HTTP servers inside this machine ...)");
}

/// Plays the acts, and then takes Weir out.
fn tell_story(play: &mut Play<'_>) -> Result<Report, Interrupted> {
    let status = play.status().unwrap_or_default();
    introduce(play, &status);
    let mut acts = Vec::with_capacity(ACTS.len());
    for (act, number) in ACTS.iter().zip(1..) {
        acts.push(play_act(play, act, number)?);
    }
    play.say("");
    play.title("The last long answers end, and Weir is taken out.");
    let (whole, broken) = play.let_clients_end()?;
    let end = take_out(play);
    Ok(Report {
        weir: status.agent.version,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        cpus: available_parallelism().map_or(1, usize::from),
        interfaces: status.interfaces.into_iter().map(|interface| (interface.name, interface.mode)).collect(),
        config: play.scenario.agent.config_text(),
        acts,
        long_answers_whole: whole,
        long_answers_broken: broken,
        end,
        kept: false,
    })
}

/// Who is who.
fn introduce(play: &mut Play<'_>, status: &Snapshot) {
    let target = play.scenario.target();
    let interfaces: Vec<String> = status.interfaces.iter().map(|i| format!("{} ({} XDP)", i.name, i.mode)).collect();
    let route = format!("  {} clients ──► {target} ──► Weir ──", traffic::WORKERS);
    play.say("");
    for (index, name) in NAMES.iter().enumerate() {
        let (before, branch, after) = match index {
            0 => (route.as_str(), "┬─►", ""),
            CONFIGURED => ("", "   ", "   not in use yet"),
            index if index + 1 == CONFIGURED => ("", "└─►", ""),
            _ => ("", "├─►", ""),
        };
        let (width, address) = (route.chars().count(), play.scenario.backend(index));
        play.say(&format!("{before:width$}{branch} {name} {address}{after}"));
    }
    play.say("");
    play.paragraph(&format!(
        "{target} is the only address that clients know. No machine has it: Weir's program in the kernel of the machine \
         between, on {}, takes what is sent there and passes it on to a server that is well. Each server is asked for \
         /health four times a second. Clients ask short questions, each on a new connection; beside them {} long \
         answers trickle in at any time. A connection is called a flow.",
        interfaces.join(" and "),
        traffic::STREAMS
    ));
}

fn play_act(play: &mut Play<'_>, act: &Act, number: usize) -> Result<ActReport, Interrupted> {
    play.begin_act(&format!("{number}/{}  {}", ACTS.len(), act.title), act.sentence);
    let began = play.began;
    let (end, promises) = (act.play)(play)?;
    let count = play.traffic.record().count(began, end);
    let report = ActReport::new(act.name, act.title, end - began, &count, promises);
    play.paragraph(&report.seen());
    Ok(report)
}

/// `unload`, and a look at what it leaves on the balancer.
fn take_out(play: &mut Play<'_>) -> Vec<Promise> {
    if let Err(refused) = play.order(&["unload"]) {
        return vec![refused];
    }
    let links = play.scenario.lab.balancer.ip_shows("-details link show");
    let programs = links.matches("prog/xdp").count();
    let pins = play.scenario.agent.pin_dir().exists();
    let seen = format!("{programs} programs{}", if pins { ", pins in bpffs" } else { "" });
    vec![Promise::new("left on Weir's host by `unload`", "0 programs", seen, programs == 0 && !pins)]
}

fn conclude(end: End, left: &[String], took: Duration, screen: &mut Screen, file: Option<&Path>) -> ExitCode {
    let seen = if left.is_empty() { "nothing".to_owned() } else { format!("{} things", left.len()) };
    let nothing = Promise::new("left behind by this demo", "nothing", seen.clone(), left.is_empty());
    let mut report = match end {
        End::Played(report) => report,
        End::Interrupted => {
            screen.line(&format!("\nInterrupted. Everything is taken down again; left behind: {seen}."));
            return ExitCode::from(INTERRUPTED);
        }
        End::Failed => {
            screen.line(&format!("\nThe demo could not be played to its end; left behind: {seen}."));
            return ExitCode::from(BROKEN);
        }
    };
    report.end.push(nothing);
    let (all, kept) = report.tally();
    report.kept = all == kept;
    screen.line("");
    for line in report.lines() {
        screen.line(&line);
    }
    screen.line("");
    let requests = grouped(report.acts.iter().map(|act| act.requests).sum());
    let took = report::took(took);
    screen.title(&if report.kept {
        format!("All {all} promises were kept, over {requests} requests in {took}.")
    } else {
        format!("{} of {all} promises were BROKEN, over {requests} requests in {took}.", all - kept)
    });
    if let Some(Err(e)) = file.map(|file| report.write(file)) {
        eprintln!("cannot write the report: {e}");
        return ExitCode::from(BROKEN);
    }
    if report.kept { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}
