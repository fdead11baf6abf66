//! Levelled log of how packets end. The loader sets `AYA_LOG_LEVEL` (0: off); the verifier then removes every branch.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use lb_common::decide::Outcome;
use lb_common::verdict::{Fate, Verdict};

/// Warns of what should never be seen; tells of drops at `debug`.
#[inline(always)]
pub(crate) fn outcome<C: EbpfContext>(ctx: &C, out: &Outcome) {
    if matches!(out.verdict, Verdict::DropInternal) {
        warn!(ctx, "tables contradict each other: owner {}", out.owner);
    } else if matches!(out.verdict.fate(), Fate::Drop) {
        debug!(ctx, "dropped: verdict {}, owner {}, {} bytes", out.verdict as u8, out.owner, out.bytes);
    }
}
