//! Levelled log of how packets end. The loader sets `AYA_LOG_LEVEL` (0: off); the verifier then removes every branch.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, error, info};
use lb_common::decide::{Outcome, Sent};
use lb_common::verdict::{Fate, Verdict};

/// The levels of `packet_log`: `error` says what should never be seen, `info` tells of drops too, `debug` of every packet.
#[inline(always)]
pub(crate) fn outcome<C: EbpfContext>(ctx: &C, out: &Outcome) {
    let (verdict, owner) = (out.verdict as u8, out.owner);
    if matches!(out.verdict, Verdict::DropInternal) {
        error!(ctx, "tables contradict each other: owner {}", owner);
    } else if matches!(out.verdict.fate(), Fate::Drop) {
        info!(ctx, "dropped: verdict {}, owner {}, {} bytes", verdict, owner, out.bytes);
    } else {
        debug!(ctx, "verdict {}, owner {}, {} bytes", verdict, owner, out.bytes);
    }
}

/// The same of a packet that was sent on at a glance.
#[inline(always)]
pub(crate) fn sent<C: EbpfContext>(ctx: &C, sent: &Sent) {
    debug!(ctx, "verdict {}, owner {}, {} bytes", Verdict::Forward as u8, sent.owner, sent.bytes);
}
