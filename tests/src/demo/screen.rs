//! The terminal: lines that stay, and below them a picture that is drawn anew in place. Where stdout is no terminal, the
//! picture becomes one plain line every two seconds.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::promise::grouped;

/// Between two drawings: fast enough to look alive.
const REDRAW: Duration = Duration::from_millis(250);

/// Between two plain lines: a log should stay short.
const PLAIN_LINE: Duration = Duration::from_secs(2);

/// Characters of a full bar, and the share that fills it, per cent.
const BAR: u32 = 24;
const FULL_BAR: f64 = 50.0;

/// What is to be seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Since the act began.
    pub elapsed: Duration,
    /// Requests in the last second.
    pub rate: u64,
    /// Answered requests of the act.
    pub answered: u64,
    /// Failed requests of the act.
    pub failed: u64,
    /// Long answers that are under way.
    pub streams: usize,
    /// The backends.
    pub backends: Vec<Row>,
}

/// A backend at one moment.
#[derive(Clone, Debug)]
pub struct Row {
    /// `b1`.
    pub name: String,
    /// Where it serves.
    pub address: String,
    /// As `status` has it; `-`: not in the pool; `?`: no agent to ask.
    pub state: String,
    /// Part of the last second's answers, per cent.
    pub share: f64,
    /// Active flows by the agent's count; `None`: it does not count this one, or does not run.
    pub flows: Option<u64>,
}

/// How things are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// In place; with colours or without.
    InPlace { colour: bool },
    /// Line by line.
    Plain,
}

/// Where the demo speaks.
#[derive(Debug)]
pub struct Screen {
    style: Style,
    drawn: usize,
    next: Instant,
    closed: bool,
}

impl Screen {
    /// Stdout as it is; `plain`: as if it were no terminal.
    pub fn for_stdout(plain: bool) -> Self {
        let dumb = std::env::var("TERM").map_or(true, |term| term == "dumb");
        let style = if plain || dumb || !io::stdout().is_terminal() {
            Style::Plain
        } else {
            Style::InPlace { colour: std::env::var_os("NO_COLOR").is_none() }
        };
        Self { style, drawn: 0, next: Instant::now(), closed: false }
    }

    /// A line that stays, above the picture.
    pub fn line(&mut self, text: &str) {
        let text = format!("{}{text}\n", self.erase());
        self.put(&text);
    }

    /// A line that stays and stands out.
    pub fn title(&mut self, text: &str) {
        if self.style == (Style::InPlace { colour: true }) {
            self.line(&format!("\x1b[1m{text}\x1b[0m"));
        } else {
            self.line(text);
        }
    }

    /// Draws the picture when it is time to.
    pub fn show(&mut self, picture: &Picture) {
        self.next = Instant::now() + if self.style == Style::Plain { PLAIN_LINE } else { REDRAW };
        let text = match self.style {
            Style::Plain => format!("{}\n", plain(picture)),
            Style::InPlace { colour } => {
                let erase = self.erase();
                let lines = drawn(picture, colour);
                self.drawn = lines.len();
                // No wrapping: a narrow terminal cuts lines off, and the picture stays as high as we think it is.
                format!("{erase}\x1b[?7l{}\n\x1b[?7h", lines.join("\n"))
            }
        };
        self.put(&text);
    }

    /// Whether it is time to draw.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// The picture goes; the next one belongs to something new.
    pub fn finish_picture(&mut self) {
        let erase = self.erase();
        self.put(&erase);
        self.next = Instant::now() + if self.style == Style::Plain { PLAIN_LINE } else { Duration::ZERO };
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn put(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        self.closed |= out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }
}

/// `   4.0 s   612 requests/s   b1 25 %   b2 0 % down   ...   52 flows   0 failed`
fn plain(picture: &Picture) -> String {
    let mut text = format!("{:6.1} s {:5} requests/s", picture.elapsed.as_secs_f64(), picture.rate);
    for row in &picture.backends {
        let state = if row.state == "up" { String::new() } else { format!(" {}", row.state) };
        let _ = write!(text, "  {} {:.0} %{state}", row.name, row.share);
    }
    let flows = match flows(picture) {
        Some(flows) => format!("{flows} active flows"),
        None => "no agent".to_owned(),
    };
    let _ = write!(text, "  {flows}  {} failed", picture.failed);
    text
}

fn drawn(picture: &Picture, colour: bool) -> Vec<String> {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut lines = vec![String::new()];
    for row in &picture.backends {
        let code = match row.state.as_str() {
            "up" => "32",
            "down" => "31",
            "draining" | "starting" => "33",
            _ => "2",
        };
        let flows = row.flows.map_or_else(|| "    - flows".to_owned(), |flows| format!("{flows:5} flows"));
        lines.push(format!(
            "  {:3} {:16} {} {} {:5.1} % {flows}",
            row.name,
            row.address,
            paint(code, &format!("{:9}", row.state)),
            paint("36", &format!("{:24}", bar(row.share))),
            row.share
        ));
    }
    let failed = format!("{} failed", grouped(picture.failed));
    lines.push(format!(
        "  {:5.1} s   {} requests/s   {} answered   {}   {} long answers",
        picture.elapsed.as_secs_f64(),
        picture.rate,
        grouped(picture.answered),
        if picture.failed == 0 { failed } else { paint("31", &failed) },
        picture.streams
    ));
    lines
}

/// Active flows of all backends; `None`: no agent to ask.
fn flows(picture: &Picture) -> Option<u64> {
    picture.backends.iter().filter_map(|row| row.flows).reduce(|a, b| a + b)
}

/// A bar of whole and partial blocks.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let wanted = share.clamp(0.0, FULL_BAR) / FULL_BAR * f64::from(BAR * 8);
    let eighths = (0..=BAR * 8).take_while(|n| f64::from(*n) <= wanted).last().unwrap_or(0);
    let part = EIGHTHS.get(eighths as usize % 8).copied().unwrap_or_default();
    format!("{}{part}", "█".repeat(eighths as usize / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let row = |name: &str, state: &str, share, flows| Row {
            name: name.into(),
            address: "10.30.0.21:8080".into(),
            state: state.into(),
            share,
            flows,
        };
        Picture {
            elapsed: Duration::from_millis(4_040),
            rate: 612,
            answered: 2_448,
            failed: 3,
            streams: 40,
            backends: vec![row("b1", "up", 66.6, Some(12)), row("b2", "down", 0.0, Some(0))],
        }
    }

    #[test]
    fn a_plain_line_says_what_the_picture_shows() {
        assert_eq!(plain(&picture()), "   4.0 s   612 requests/s  b1 67 %  b2 0 % down  12 active flows  3 failed");
    }

    #[test]
    fn without_an_agent_flows_are_not_counted() {
        let mut picture = picture();
        picture.backends.iter_mut().for_each(|row| row.flows = None);
        assert!(plain(&picture).contains("no agent"));
    }

    #[test]
    fn a_drawn_line_fits_a_terminal_and_a_bar_ends_at_its_length() {
        assert!(drawn(&picture(), false).iter().all(|line| line.chars().count() <= 80));
        assert_eq!(bar(66.6).chars().count(), 24);
        assert_eq!((bar(0.0).as_str(), bar(12.5).as_str(), bar(1.4).as_str()), ("", "██████", "▋"));
    }
}
