//! `trace`: what happens to flows, line by line, as it happens.

use std::io::{ErrorKind, Write as _};
use std::ops::ControlFlow;

use clap::Args;

use super::output::{Paint, Tone};
use super::watching::Whose;
use super::{Context, Failure};
use crate::pure::watch::{LostLine, TraceLine};

/// What to look for.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// Only these: opened, confirmed, moved, evicted, refused, closed, reset, dropped, with commas [default: all].
    #[arg(long, value_name = "EVENT,…")]
    event: Option<String>,
    /// Also every Nth packet of each CPU.
    #[arg(long, value_name = "N")]
    sample: Option<u32>,
}

pub(super) async fn execute(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let own = [("event", arguments.event.clone()), ("sample", arguments.sample.map(|n| n.to_string()))];
    let path = arguments.whose.path(context, "trace", &own).await?;
    let mut lines = Lines::default();
    context.client.stream(&path, |bytes| lines.take(bytes, context.output.is_json(), context.output.paint)).await?;
    if lines.lost > 0 {
        eprintln!("lost: {} (too many at once; narrow it down with --service, --client or --event)", lines.lost);
    }
    Ok(())
}

/// Puts lines together from what comes.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    lost: u64,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], json: bool, paint: Paint) -> Result<ControlFlow<()>, Failure> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(ControlFlow::Continue(())) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&whole).lines() {
            if let Ok(LostLine { lost }) = serde_json::from_str(line) {
                self.lost = lost;
            }
            text.push_str(&if json { line.to_owned() } else { human(line, paint) });
            text.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            // A reader that has gone away (`| head`) has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(Failure::Failed(format!("cannot write to standard output: {error}"))),
        }
    }
}

fn human(line: &str, paint: Paint) -> String {
    if let Ok(LostLine { lost }) = serde_json::from_str(line) {
        return paint.tint(Tone::Bad, &format!("{lost} lost so far"));
    }
    let Ok(line) = serde_json::from_str::<TraceLine>(line) else { return line.to_owned() };
    let known = |end: Option<std::net::SocketAddr>| end.map_or_else(|| "?".to_owned(), |end| end.to_string());
    let (client, vip) = (known(line.client), known(line.vip));
    let (from, to) = if line.from == "backend" { (vip, client) } else { (client, vip) };
    let tone = match line.event.as_str() {
        "opened" | "confirmed" => Tone::Good,
        "dropped" | "refused" => Tone::Bad,
        "reset" | "evicted" | "moved" => Tone::Careful,
        _ => Tone::Faint,
    };
    let event = paint.tint(tone, &format!("{:<9}", line.event));
    let service = line.service.as_deref().unwrap_or("-");
    let backend = line.backend.map_or_else(|| "-".to_owned(), |backend| backend.to_string());
    let bytes = if line.event == "packet" { format!(" {} bytes", line.bytes) } else { String::new() };
    // The day is the reader's.
    let time = line.time.split_once('T').map_or(line.time.as_str(), |(_, time)| time);
    format!("{time} {event} {} {from} > {to} {service} {backend} {}{bytes}", line.protocol, line.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_between_whom_of_which_service_to_which_backend() {
        let line = TraceLine {
            time: "2026-01-02T03:04:05.000000006Z".to_owned(),
            event: "opened".to_owned(),
            protocol: "tcp".to_owned(),
            client: "192.0.2.7:40000".parse().ok(),
            vip: "203.0.113.10:8000".parse().ok(),
            from: "client".to_owned(),
            service: Some("llm".to_owned()),
            backend: "10.0.0.11:8000".parse().ok(),
            verdict: "forward".to_owned(),
            bytes: 60,
            interface: "eth0".to_owned(),
        };
        let shown = |line: &TraceLine| human(&serde_json::to_string(line).unwrap(), Paint::Plain);
        assert_eq!(
            shown(&line),
            "03:04:05.000000006Z opened    tcp 192.0.2.7:40000 > 203.0.113.10:8000 llm 10.0.0.11:8000 forward"
        );
        let reply = TraceLine { from: "backend".to_owned(), event: "packet".to_owned(), ..line };
        assert!(shown(&reply).contains("203.0.113.10:8000 > 192.0.2.7:40000 llm 10.0.0.11:8000 forward 60 bytes"));
        assert_eq!(human("{\"lost\":3}", Paint::Plain), "3 lost so far");
    }
}
