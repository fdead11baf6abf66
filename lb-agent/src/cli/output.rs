//! Where answers go: standard output, as text for people or as JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use super::Failure;

/// Prints answers in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    pub(super) paint: Paint,
}

impl Output {
    pub(super) fn new(json: bool, paint: Paint) -> Self {
        Self { json, paint }
    }

    /// Whether programs are reading.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// The answer, as JSON or as `text` makes it.
    pub(super) fn print<T: Serialize>(self, answer: &T, text: impl FnOnce(&T, Paint) -> String) -> Result<(), Failure> {
        if !self.json {
            return print(&text(answer, self.paint));
        }
        let json = serde_json::to_string_pretty(answer);
        print(&json.map_err(|error| Failure::Failed(format!("cannot write the answer as JSON: {error}")))?)
    }
}

/// Writes to standard output, with a line's end. A reader that has gone away (`| head`) has read enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A text that grows by lines.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// One more line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.block(line);
        self.0.push('\n');
    }

    /// Lines that have their ends already.
    pub(super) fn block(&mut self, lines: impl AsRef<str>) {
        self.0.push_str(lines.as_ref());
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// On a terminal.
    Colours,
    /// Everywhere else.
    Plain,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Careful,
    Bad,
    Faint,
    Strong,
}

impl Paint {
    /// Colours on a terminal that has not been asked to do without (<https://no-color.org>).
    pub(super) fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if std::io::stdout().is_terminal() && wanted && able { Self::Colours } else { Self::Plain }
    }

    /// The words in their colour.
    pub(super) fn tint(self, tone: Tone, words: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Careful => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        match self {
            Self::Colours => format!("\x1b[{code}m{words}\x1b[0m"),
            Self::Plain => words.to_owned(),
        }
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves a whole part: `5.3 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut tenths = u128::from(number) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 91_234, 1_234_567].map(grouped), ["0", "999", "1,000", "91,234", "1,234,567"]);
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        assert_eq!(
            [0, 1023, 1024, 5_512_345, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "5.2 MiB", "15.9 EiB"]
        );
    }

    #[test]
    fn plain_words_have_no_escapes() {
        assert_eq!(Paint::Plain.tint(Tone::Bad, "down"), "down");
        assert_eq!(Paint::Colours.tint(Tone::Bad, "down"), "\x1b[31mdown\x1b[0m");
    }
}
