//! `capture`: packets as they come and as they leave, to a pcapng file or through a pipe.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;

use super::watching::Whose;
use super::{Context, Failure};

/// What to keep, and where.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// File to write; `-` is standard output: `… -w - | tshark -r -`.
    #[arg(long, short = 'w', value_name = "FILE")]
    write: PathBuf,
    /// Bytes kept of a packet, at most 9216.
    #[arg(long, value_name = "BYTES")]
    snaplen: Option<u32>,
    /// Packets as they came only.
    #[arg(long, conflicts_with = "after")]
    before: bool,
    /// Packets as they leave only.
    #[arg(long)]
    after: bool,
}

pub(super) async fn execute(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let side = match (arguments.before, arguments.after) {
        (true, _) => "before",
        (_, true) => "after",
        _ => "both",
    };
    let own = [("side", Some(side.to_owned())), ("snaplen", arguments.snaplen.map(|n| n.to_string()))];
    let path = arguments.whose.path(context, "capture", &own).await?;
    let name = arguments.write.display().to_string();
    let mut file: Box<dyn Write> = if name == "-" {
        if std::io::stdout().is_terminal() {
            return Err(Failure::Usage(
                "standard output is a terminal: pipe it into tshark, or name a file".to_owned(),
            ));
        }
        Box::new(std::io::stdout())
    } else {
        let file = File::create(&arguments.write);
        Box::new(file.map_err(|error| Failure::Failed(format!("cannot write {name}: {error}")))?)
    };
    let mut blocks = Blocks::default();
    let written = context.client.stream(&path, |bytes| {
        blocks.take(bytes);
        // What comes in one piece ends with a whole block: so does the file, whenever we are stopped.
        match file.write_all(bytes).and_then(|()| file.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(Failure::Failed(format!("cannot write {name}: {error}"))),
        }
    });
    tokio::select! {
        written = written => written?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::Failed(format!("cannot wait for the end: {error}")))?;
        }
    }
    eprintln!("{} packets captured", blocks.packets);
    Ok(())
}

/// Block type of a packet (draft-ietf-opsawg-pcapng, section 4.3).
const PACKET: u32 = 6;

/// Counts packets by the heads of their blocks.
#[derive(Default)]
struct Blocks {
    packets: u64,
    head: Vec<u8>,
    /// Bytes of the present block that are still to come.
    left: usize,
}

impl Blocks {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let (head, rest) = bytes.split_at(bytes.len().min(8 - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            if self.head.len() < 8 {
                continue;
            }
            // The agent is on this machine: its byte order is ours.
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
            self.packets += u64::from(number(&self.head[..4]) == PACKET);
            self.left = usize::try_from(number(&self.head[4..])).unwrap_or(0).saturating_sub(8);
            self.head.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_however_the_stream_is_cut() {
        let block = |kind: u32, length: u32| {
            let mut bytes = [kind.to_ne_bytes(), length.to_ne_bytes()].concat();
            bytes.resize(length as usize, 6);
            bytes
        };
        let stream =
            [block(0x0a0d_0d0a, 28), block(1, 40), block(6, 32), block(6, 100), block(5, 24), block(6, 36)].concat();
        for piece in [1, 3, 7, 50, stream.len()] {
            let mut blocks = Blocks::default();
            stream.chunks(piece).for_each(|bytes| blocks.take(bytes));
            assert_eq!((blocks.packets, blocks.left), (3, 0), "in pieces of {piece}");
        }
    }
}
