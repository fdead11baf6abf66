//! The stage: Weir in its laboratory, clients at work, and the picture of both. Waits and looks; the acts say for what.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use lb_agent::pure::snapshot::{BackendStatus, Snapshot};

use super::interrupt::{Interrupt, Interrupted};
use super::promise::{Promise, seconds};
use super::record::{Record, per_cent};
use super::screen::{Picture, Row, Screen};
use super::traffic::{REQUEST_LIMIT, Traffic};
use crate::lab::Family;
use crate::scenario::{Mode, Scenario, Setup, WEB};

/// Servers in the configuration.
pub const CONFIGURED: usize = 4;

/// All servers: one waits to be added.
pub const SERVERS: usize = CONFIGURED + 1;

/// Their names.
pub const NAMES: [&str; SERVERS] = ["b1", "b2", "b3", "b4", "b5"];

/// Between two looks at something that will change soon.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Between two looks at the clock while nothing is waited for.
const TICK: Duration = Duration::from_millis(100);

/// Between probes of a backend, as the configuration says, milliseconds.
const PROBE_INTERVAL_MS: u64 = 250;

/// Failed probes that take a backend down, as the configuration says.
const FALL: u32 = 3;

/// A probe starts at most one jittered interval (±20 %) after the one before has ended.
pub const ONE_PROBE: Duration = Duration::from_millis(PROBE_INTERVAL_MS * 6 / 5);

/// How long Weir may take to see that a server refuses connections.
pub const DETECTION: Duration = ONE_PROBE.saturating_mul(FALL);

/// Part of an act that a long answer takes: some end in each act, and a drain has time to finish.
const STREAMS_PER_ACT: u32 = 3;

/// Everything that plays.
#[derive(Debug)]
pub struct Play<'a> {
    /// Machines, servers, agent.
    pub scenario: Scenario,
    /// Clients.
    pub traffic: Traffic,
    /// When the act began.
    pub began: Instant,
    screen: &'a mut Screen,
    interrupt: &'a Interrupt,
    act: Duration,
}

impl<'a> Play<'a> {
    /// Builds machines, starts servers and Weir, waits until all is up, and sends the clients off.
    pub fn set_up(screen: &'a mut Screen, interrupt: &'a Interrupt, act: Duration) -> Result<Self, Interrupted> {
        let health = format!(
            "kind = \"http\"\npath = \"/health\"\ninterval = \"{PROBE_INTERVAL_MS}ms\"\ntimeout = \"{PROBE_INTERVAL_MS}ms\"\nrise = 1\nfall = {FALL}"
        );
        let setup = Setup { health, spare: SERVERS - CONFIGURED, ..Setup::new(Mode::Nat, Family::V4) };
        let mut scenario = setup.prepare();
        interrupt.sleep(Duration::ZERO)?;
        let started = catch_unwind(AssertUnwindSafe(|| {
            scenario.agent.launch();
            scenario.wait_all_up();
        }));
        // Whoever interrupts us may have ended the agent first: then it is no failure of its own, and ends in order.
        interrupt.sleep(Duration::ZERO)?;
        started.unwrap_or_else(|panic| resume_unwind(panic));
        let traffic = Traffic::start(scenario.client(), scenario.target(), act / STREAMS_PER_ACT);
        Ok(Self { scenario, traffic, began: Instant::now(), screen, interrupt, act })
    }

    /// Begins an act.
    pub fn begin_act(&mut self, title: &str, sentence: &str) {
        self.screen.finish_picture();
        self.screen.line("");
        self.screen.title(title);
        self.paragraph(sentence);
        self.began = Instant::now();
    }

    /// Plays on until the act's time is up and everything that clients asked in it has an answer or has failed. Returns the
    /// act's end.
    pub fn finish_act(&mut self) -> Result<Instant, Interrupted> {
        self.play_until(self.began + self.act)?;
        let end = Instant::now();
        while !self.traffic.record().is_complete_to(end) && end.elapsed() < REQUEST_LIMIT * 2 {
            self.pause(LOOK_AGAIN, None)?;
        }
        self.screen.finish_picture();
        Ok(end)
    }

    /// Lets time pass.
    pub fn play_until(&mut self, until: Instant) -> Result<(), Interrupted> {
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            self.pause(TICK.min(rest), None)?;
        }
        Ok(())
    }

    /// Looks at `status` until `wanted` holds. Returns how long after `since` that was seen; `None` after `limit`.
    pub fn wait(
        &mut self,
        since: Instant,
        limit: Duration,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Result<Option<Duration>, Interrupted> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let status = self.status();
            if status.as_ref().is_some_and(&wanted) {
                return Ok(Some(since.elapsed()));
            }
            self.pause(LOOK_AGAIN, status)?;
        }
        Ok(None)
    }

    /// Waits until something holds of what clients have seen; `None` after `limit`.
    pub fn wait_for_clients<T>(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Record) -> Option<T>,
    ) -> Result<Option<T>, Interrupted> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(seen) = wanted(self.traffic.record()) {
                return Ok(Some(seen));
            }
            self.pause(LOOK_AGAIN, None)?;
        }
        Ok(None)
    }

    /// Tells what has just happened.
    pub fn tell(&mut self, text: &str) {
        let line = format!("  {:>8}  {text}", seconds(self.began.elapsed()));
        self.screen.line(&line);
    }

    /// A line that belongs to no moment.
    pub fn say(&mut self, text: &str) {
        self.screen.line(text);
    }

    /// A line that stands out.
    pub fn title(&mut self, text: &str) {
        self.screen.title(text);
    }

    /// Lines that a sentence fills.
    pub fn paragraph(&mut self, text: &str) {
        for line in wrapped(text) {
            self.screen.line(&line);
        }
    }

    /// Lets requests and long answers end. Returns how many long answers came whole and how many broke, in all.
    pub fn let_clients_end(&mut self) -> Result<(usize, usize), Interrupted> {
        self.traffic.let_end();
        let limit = self.stream_length() * 2;
        let _ = self.wait_for_clients(limit, |record| (record.streams_running() == 0).then_some(()))?;
        self.traffic.wait_for_end();
        self.screen.finish_picture();
        Ok(self.traffic.record().streams_ended())
    }

    /// Gives the agent an order as an operator would, and shows both. When it is refused, that is a broken promise.
    pub fn order(&mut self, words: &[&str]) -> Result<Instant, Promise> {
        let command = format!("lb-agent {}", words.join(" "));
        let output = self.scenario.agent.cli(words);
        let done = Instant::now();
        self.tell(&format!("$ {command}"));
        let said = if output.status.success() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said);
        for line in said.lines() {
            self.screen.line(&format!("            {line}"));
        }
        if output.status.success() { Ok(done) } else { Err(Promise::new(&command, "done", said.trim(), false)) }
    }

    /// What the agent says; `None`: it does not answer.
    pub fn status(&self) -> Option<Snapshot> {
        let output = self.scenario.agent.cli(&["status", "--output", "json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// The backend `index` of a status, where it is in the pool.
    pub fn backend<'s>(&self, status: &'s Snapshot, index: usize) -> Option<&'s BackendStatus> {
        find(status, self.scenario.backend(index))
    }

    /// How long an act is to take.
    pub const fn act_length(&self) -> Duration {
        self.act
    }

    /// How long a long answer takes.
    pub fn stream_length(&self) -> Duration {
        self.act / STREAMS_PER_ACT
    }

    fn pause(&mut self, time: Duration, status: Option<Snapshot>) -> Result<(), Interrupted> {
        if self.screen.is_due() {
            let status = status.or_else(|| self.status());
            let picture = self.picture(status.as_ref());
            self.screen.show(&picture);
        }
        if self.screen.is_closed() {
            return Err(Interrupted);
        }
        self.interrupt.sleep(time)
    }

    fn picture(&mut self, status: Option<&Snapshot>) -> Picture {
        let (now, began) = (Instant::now(), self.began);
        let scenario = &self.scenario;
        let record = self.traffic.record();
        let count = record.count(began, now);
        let (by_server, rate) = record.last_second(now);
        let all: u64 = by_server.values().sum();
        let rows = NAMES.iter().enumerate().map(|(index, name)| {
            let address = scenario.backend(index);
            let backend = status.and_then(|status| find(status, address));
            let state = match (status, backend) {
                (None, _) => "?",
                (Some(_), None) => "-",
                (Some(_), Some(backend)) => backend.state.name(),
            };
            Row {
                name: (*name).to_owned(),
                address: address.to_string(),
                state: state.to_owned(),
                share: per_cent(by_server.get(name).copied().unwrap_or_default(), all),
                flows: backend.map(|backend| backend.active_flows),
            }
        });
        Picture {
            elapsed: now - began,
            rate,
            answered: count.answered,
            failed: count.failures(),
            streams: record.streams_running(),
            backends: rows.collect(),
        }
    }
}

/// A backend of the service, by its address.
pub fn find(status: &Snapshot, address: SocketAddr) -> Option<&BackendStatus> {
    let web = status.services.iter().find(|service| service.name == WEB)?;
    web.backends.iter().find(|b| SocketAddr::new(b.address, b.port) == address)
}

/// Lines of at most 76 characters, moved in by two.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::from(" ")];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| line.chars().count() + word.chars().count() > 77) {
            lines.push(String::from(" "));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}
