//! Packets to a VIP that end too early: dropped under a name once their destination can be read, the kernel's until then.

use std::collections::BTreeSet;

use lb_common::verdict::Verdict;

use super::case::{Case, Service, case};
use super::side::{BOTH, Side};

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [side.nat(), side.nat_udp()].map(|s| cut(side, &s))).flatten().collect()
}

/// The frame after so many bytes of it.
fn cut(side: Side, s: &Service) -> Vec<Case> {
    let frame = s.ask().payload(b"hello").frame();
    let (protocol, header) = if s.protocol == 6 { ("TCP", 20) } else { ("UDP", 8) };
    let l4 = if side.is_v6() { 54 } else { 34 };
    let lengths = BTreeSet::from([
        14,
        15,
        18,
        24,
        l4 - 1,
        l4,
        l4 + 1,
        l4 + 4,
        l4 + 7,
        l4 + header - 1,
        l4 + header,
        l4 + header + 4,
    ]);
    let cut = |len: usize| {
        let is_known = len >= l4;
        let verdict = if is_known { Verdict::DropMalformed } else { Verdict::PassNotOurs };
        case(side, &format!("RFC 1122 1.2.2: a {protocol} frame that ends after {len} bytes"))
            .send(frame[..len].to_vec())
            .ends(verdict)
    };
    lengths.into_iter().map(cut).collect()
}
