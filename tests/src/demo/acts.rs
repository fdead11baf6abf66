//! The story, act by act: each does one thing to the running system, waits until its time is up, and says what was promised
//! and what was seen. They build on each other: the order matters.

use std::time::{Duration, Instant};

use lb_agent::pure::model::BackendState;
use lb_agent::pure::snapshot::Snapshot;

use super::interrupt::Interrupted;
use super::play::{CONFIGURED, DETECTION, NAMES, ONE_PROBE, Play, SERVERS, find};
use super::promise::{Promise, grouped, seconds};
use super::record::{Record, Stream};
use super::traffic::{STREAMS, WORKERS};
use crate::scenario::WEB;

/// The server that is killed and comes back.
const VICTIM: usize = 1;

/// The server that is drained, and stays out.
const DRAINED: usize = 2;

/// The server that is added.
const ADDED: usize = CONFIGURED;

/// Waiting for what must come soon ends here; by then it counts as not seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// From the end of a backend's last flow to `disabled`: the agent's next looks at its flows.
const DRAIN_SEEN: Duration = Duration::from_millis(500);

/// From the start of an agent to its answering again: its programs are loaded and verified, its tables read.
const RESTART: Duration = Duration::from_secs(2);

/// An agent that has not answered by then will not.
const RESTART_PATIENCE: Duration = Duration::from_secs(15);

/// What happens in an act: plays it to its end and judges it. Returns when it ended and what became of its promises.
type Plot = fn(&mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted>;

/// An act.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Its name in the report.
    pub name: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What happens, and what to look at: one sentence.
    pub sentence: &'static str,
    /// Plays it.
    pub play: Plot,
}

/// The acts in their order.
pub const ACTS: [Act; 6] = [
    Act {
        name: "steady_load",
        title: "Steady load",
        sentence: "Clients ask one address, and Weir deals their requests out to four servers: look at the shares, \
                   each server should get about a quarter.",
        play: steady_load,
    },
    Act {
        name: "server_killed",
        title: "A server is killed",
        sentence: "b2's server process gets `kill -9` under full load: look how soon its share falls to nothing, and \
                   that only requests that met the dead server fail.",
        play: server_killed,
    },
    Act {
        name: "server_returns",
        title: "It comes back",
        sentence: "b2's server is started again: look how soon Weir trusts it with a share, and that nobody else is \
                   disturbed.",
        play: server_returns,
    },
    Act {
        name: "server_drained",
        title: "A server is drained",
        sentence: "An operator wants b3 free for maintenance: look at its share, which ends at once, and at its long \
                   answers, which may finish.",
        play: server_drained,
    },
    Act {
        name: "server_added",
        title: "A server is added",
        sentence: "A fifth server, b5, joins while everything runs: look at the shares, which become even again.",
        play: server_added,
    },
    Act {
        name: "agent_killed",
        title: "Weir's own agent is killed",
        sentence: "The agent gets `kill -9` and is away for a while: look at the requests, which go on, because the \
                   kernel forwards them without it.",
        play: agent_killed,
    },
];

fn steady_load(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let began = play.began;
    let end = play.finish_act()?;
    // Long answers, and at most one short request of each worker; both come and go while the agent counts.
    let (least, most) = (count_of(STREAMS) - 5, count_of(STREAMS + WORKERS) + 5);
    let status = play.status();
    let flows = status.and_then(|status| Some(status.services.iter().find(|s| s.name == WEB)?.active_flows));
    let record = play.traffic.record();
    let count = record.count(began, end);
    let promises = vec![
        Promise::no_request_fails(&count),
        Promise::even_shares(&count, &NAMES[..CONFIGURED]),
        Promise::streams_survive(record, began, None),
        Promise::new(
            "active flows by Weir's count",
            format!("{least} to {most}"),
            flows.map_or_else(|| "not seen".to_owned(), |flows| flows.to_string()),
            flows.is_some_and(|flows| (least..=most).contains(&flows)),
        ),
    ];
    Ok((end, promises))
}

fn server_killed(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let died = Instant::now();
    play.scenario.kill_server(VICTIM);
    play.tell("kill -9 of b2's server");
    let found = wait_state(play, died, VICTIM, BackendState::Down)?;
    tell_reason(play, VICTIM, found);
    let its_own = play.traffic.record().streams_of(NAMES[VICTIM], died);
    let lost = its_own.filter(|stream| stream.is_whole() == Some(false)).count();
    play.tell(&format!("{lost} of its long answers broke with it: nobody else can finish those"));
    let end = play.finish_act()?;
    let others: Vec<&str> =
        NAMES[..CONFIGURED].iter().enumerate().filter(|(i, _)| *i != VICTIM).map(|(_, n)| *n).collect();
    let record = play.traffic.record();
    let count = record.count(died, end);
    let known = record.count(died + found.unwrap_or(PATIENCE), end);
    let promises = vec![
        Promise::within("its death is found", DETECTION, found),
        Promise::fails_only_until_found(&count, died, DETECTION),
        Promise { what: "share of each of the other 3".into(), ..Promise::even_shares(&known, &others) },
        Promise::streams_survive(record, died, Some(NAMES[VICTIM])),
    ];
    Ok((end, promises))
}

fn server_returns(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let began = play.began;
    play.scenario.revive_server(VICTIM);
    let back = Instant::now();
    play.tell("b2's server is started");
    let trusted = wait_state(play, back, VICTIM, BackendState::Up)?;
    tell_reason(play, VICTIM, trusted);
    judge_newcomer(play, began, back, VICTIM, &NAMES[..CONFIGURED])
}

fn server_drained(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let (began, address) = (play.began, play.scenario.backend(DRAINED).to_string());
    let drained = match play.order(&["backend", "drain", WEB, &address]) {
        Ok(acknowledged) => acknowledged,
        Err(refused) => return Ok((play.finish_act()?, vec![refused])),
    };
    // When the last of its long answers ended, once none is under way.
    let all_ended = |record: &Record| {
        let ends = record.streams_of(NAMES[DRAINED], began).map(|stream| Some(stream.end.as_ref()?.0));
        Some(ends.collect::<Option<Vec<Instant>>>()?.into_iter().max().unwrap_or(drained))
    };
    let patience = play.stream_length() + PATIENCE;
    let last = play.wait_for_clients(patience, all_ended)?.unwrap_or(drained);
    play.tell("its last long answer has ended");
    let seen = wait_state(play, last.max(drained), DRAINED, BackendState::Disabled)?;
    tell_reason(play, DRAINED, seen);
    let end = play.finish_act()?;
    let record = play.traffic.record();
    let after = record.count(drained, end);
    let new = after.of(NAMES[DRAINED]);
    let finished: Vec<_> = record.streams_of(NAMES[DRAINED], began).map(Stream::is_whole).collect();
    let whole = finished.iter().filter(|whole| **whole == Some(true)).count();
    let promises = vec![
        Promise::no_request_fails(&record.count(began, end)),
        Promise::new("requests to b3 once drained", "0", format!("{new} of {}", grouped(after.total())), new == 0),
        Promise::new(
            "its long answers that finished",
            "all",
            format!("{whole} of {}", finished.len()),
            whole == finished.len() && whole > 0,
        ),
        Promise::within("drained, after the last ended", DRAIN_SEEN, seen),
        Promise::streams_survive(record, began, None),
    ];
    Ok((end, promises))
}

fn server_added(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let (began, address) = (play.began, play.scenario.backend(ADDED).to_string());
    let asked = Instant::now();
    if let Err(refused) = play.order(&["backend", "add", WEB, &address]) {
        return Ok((play.finish_act()?, vec![refused]));
    }
    let trusted = wait_state(play, asked, ADDED, BackendState::Up)?;
    tell_reason(play, ADDED, trusted);
    judge_newcomer(play, began, asked, ADDED, &serving_at_the_end())
}

fn agent_killed(play: &mut Play<'_>) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let began = play.began;
    let before = play.status();
    let killed = Instant::now();
    play.scenario.agent.kill();
    play.tell("kill -9 of the agent");
    play.play_until(killed + play.act_length() * 2 / 5)?;
    let started = Instant::now();
    play.scenario.agent.launch_without_waiting();
    play.tell("the agent is started again");
    let flows_before = before.as_ref().map_or(0, opened_flows);
    // It has read what it left, counters included.
    let back = play.wait(started, RESTART_PATIENCE, |s| s.agent.adopted && opened_flows(s) >= flows_before)?;
    let after = play.status();
    play.tell(&match back {
        Some(time) => format!("it is back, {} after its start, and knows what it left", seconds(time)),
        None => "it is not back".to_owned(),
    });
    let end = play.finish_act()?;
    let flows_after = after.as_ref().map_or(0, opened_flows);
    let state = |index: usize| after.as_ref().and_then(|status| play.backend(status, index)).map(|b| b.state);
    let is_out = matches!(state(DRAINED), Some(BackendState::Draining | BackendState::Disabled));
    let remembers = is_out && state(ADDED) == Some(BackendState::Up);
    let record = play.traffic.record();
    let away = record.count(killed, started);
    let promises = vec![
        Promise { what: "failed requests without an agent".into(), ..Promise::no_request_fails(&away) },
        Promise::no_request_fails(&record.count(began, end)),
        Promise::streams_survive(record, began, None),
        Promise::within("it takes up what is there", RESTART, back),
        Promise::new(
            "what the operator changed",
            "b3 out, b5 in",
            if remembers { "remembered" } else { "forgotten" },
            remembers,
        ),
        Promise::new(
            "counted flows",
            "go on counting",
            format!("{} before, {} after", grouped(flows_before), grouped(flows_after)),
            flows_before > 0 && flows_after >= flows_before + away.total(),
        ),
    ];
    Ok((end, promises))
}

/// A server that has joined at `since` serves, and nobody else has noticed.
fn judge_newcomer(
    play: &mut Play<'_>,
    began: Instant,
    since: Instant,
    index: usize,
    serving: &[&str],
) -> Result<(Instant, Vec<Promise>), Interrupted> {
    let name = NAMES[index];
    let first = play.wait_for_clients(PATIENCE, |record| record.first_answer(name, since))?;
    let end = play.finish_act()?;
    let record = play.traffic.record();
    let together = record.count(since + first.unwrap_or(PATIENCE), end);
    let promises = vec![
        Promise::within(&format!("{name} answers its first request"), ONE_PROBE, first),
        Promise::no_request_fails(&record.count(began, end)),
        Promise::even_shares(&together, serving),
        Promise::streams_survive(record, began, None),
    ];
    Ok((end, promises))
}

/// Waits until the agent sees a backend in a state; how long after `since` that was.
fn wait_state(
    play: &mut Play<'_>,
    since: Instant,
    index: usize,
    state: BackendState,
) -> Result<Option<Duration>, Interrupted> {
    let address = play.scenario.backend(index);
    play.wait(since, PATIENCE, |status| find(status, address).is_some_and(|b| b.state == state))
}

/// Tells in the agent's words why a backend is in its state.
fn tell_reason(play: &mut Play<'_>, index: usize, seen: Option<Duration>) {
    let status = play.status();
    let backend = status.as_ref().and_then(|status| play.backend(status, index));
    let text = match (backend, seen) {
        (Some(b), Some(_)) => format!("Weir: {} is {} ({})", NAMES[index], b.state.name(), b.reason),
        (Some(b), None) => format!("Weir still has {} as {} ({})", NAMES[index], b.state.name(), b.reason),
        (None, _) => format!("Weir says nothing about {}", NAMES[index]),
    };
    play.tell(&text);
}

/// Flows that were opened since the program was loaded.
fn opened_flows(status: &Snapshot) -> u64 {
    status.services.iter().flat_map(|service| &service.backends).map(|backend| backend.new_flows).sum()
}

/// Who serves in the last acts.
fn serving_at_the_end() -> Vec<&'static str> {
    (0..SERVERS).filter(|index| *index != DRAINED).map(|index| NAMES[index]).collect()
}

fn count_of(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}
