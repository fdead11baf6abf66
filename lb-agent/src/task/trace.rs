//! Brings what the packet path tells to those who look: opens and closes taps through the single writer, and gives each looker
//! what is its own. Whoever has gone, however it went, is noticed by its channel's end.

use bytes::Bytes;
use lb_common::trace::Sight;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::edge::api::{Request, Seen, Told, Viewing, WatchRequest};
use crate::edge::dataplane::Sights;
use crate::pure::command::{Command, Refusal, Reply};
use crate::pure::watch::Watch;

/// Records that wait for one looker, at most: 2,000 full-size packets are 18 MB. More are lost, and counted.
const SEEN_DEPTH: usize = 2_048;

/// Records taken before others have their turn.
const RECORDS_A_TURN: usize = 512;

/// Lookers are told this often what was lost.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// One who looks.
struct Looker {
    tap: u8,
    /// Records from before are a predecessor's.
    since_ns: u64,
    seen: mpsc::Sender<Told>,
    /// Found no room in `seen`.
    overrun: u64,
    told_lost: u64,
}

/// Runs until `stop`; then every looker's channel ends.
pub async fn run(
    mut sights: impl Sights,
    mut requests: mpsc::Receiver<WatchRequest>,
    commands: mpsc::Sender<Request>,
    now_ns: fn() -> u64,
    stop: CancellationToken,
) {
    let mut lookers: Vec<Looker> = Vec::new();
    let (gone_tx, mut gone) = mpsc::channel(lb_common::trace::TAPS);
    let mut turns = interval(TELL_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(tap) = gone.recv() => {
                lookers.retain(|looker: &Looker| looker.tap != tap);
                if ask(&commands, Command::Unwatch(tap)).await.is_err() {
                    return;
                }
            }
            request = requests.recv() => {
                let Some((watch, reply)) = request else { return };
                let opened = open(&commands, watch, now_ns).await;
                let viewing = opened.map(|(looker, viewing)| {
                    let (seen, gone, tap) = (looker.seen.clone(), gone_tx.clone(), looker.tap);
                    let stop = stop.clone();
                    drop(tokio::spawn(async move {
                        // At the end of the agent nothing may hold the channel open.
                        if stop.run_until_cancelled(seen.closed()).await.is_some() {
                            // Only the end of this task closes that channel.
                            let _ = gone.send(tap).await;
                        }
                    }));
                    lookers.push(looker);
                    viewing
                });
                // Whoever asked may have gone: then its channel is closed, and the tap with it.
                let _ = reply.send(viewing);
            }
            _ = turns.tick(), if !lookers.is_empty() => {
                for looker in &mut lookers {
                    tell_lost(looker, sights.lost(looker.tap));
                }
            }
            ready = sights.ready(), if !lookers.is_empty() => {
                if let Err(e) = ready {
                    tracing::error!("traces and captures end: the packet programs cannot be heard: {e}");
                    return;
                }
                while sights.take(RECORDS_A_TURN, &mut |sight, bytes| hand_out(&mut lookers, sight, bytes)) == RECORDS_A_TURN
                {
                    tokio::task::yield_now().await;
                    if stop.is_cancelled() || !gone.is_empty() {
                        break;
                    }
                }
            }
        }
    }
}

async fn open(
    commands: &mpsc::Sender<Request>,
    watch: Watch,
    now_ns: fn() -> u64,
) -> Result<(Looker, Viewing), Refusal> {
    let since_ns = now_ns();
    let events = watch.events;
    let Ok(Reply::Watching(tap)) = ask(commands, Command::Watch(Box::new(watch))).await? else {
        return Err(Refusal::Failed("the single writer answered something else".to_owned()));
    };
    let (seen, told) = mpsc::channel(SEEN_DEPTH);
    Ok((Looker { tap, since_ns, seen, overrun: 0, told_lost: 0 }, Viewing { told, events }))
}

/// What the single writer says; an error: it has ended.
async fn ask(commands: &mpsc::Sender<Request>, command: Command) -> Result<Result<Reply, Refusal>, Refusal> {
    let ended = || Refusal::Failed("the agent is ending".to_owned());
    let (reply, answer) = oneshot::channel();
    commands.send((command, reply)).await.map_err(|_| ended())?;
    match answer.await {
        Ok(Err(refusal)) => Err(refusal),
        Ok(Ok(reply)) => Ok(Ok(reply)),
        Err(_) => Err(ended()),
    }
}

fn hand_out(lookers: &mut [Looker], sight: &Sight, bytes: &[u8]) {
    let mut shared: Option<Bytes> = None;
    for looker in lookers.iter_mut().filter(|l| sight.taps >> l.tap & 1 != 0 && sight.time_ns >= l.since_ns) {
        let bytes = shared.get_or_insert_with(|| Bytes::copy_from_slice(bytes)).clone();
        if looker.seen.try_send(Told::Seen(Box::new(Seen { sight: *sight, bytes }))).is_err() {
            looker.overrun += 1;
        }
    }
}

fn tell_lost(looker: &mut Looker, in_kernel: u64) {
    let lost = looker.overrun + in_kernel;
    if lost != looker.told_lost && looker.seen.try_send(Told::Lost(lost)).is_ok() {
        looker.told_lost = lost;
    }
}
