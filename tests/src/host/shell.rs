//! The shell around the core said again in a few lines: what XDP and TC make of a frame.

use lb_common::decide::{Work, at_a_glance, in_full};
use lb_common::host::HOST_LOCAL_INTERFACES;
use lb_common::packet::{Arrival, Packet};
use lb_common::verdict::{Fate, Verdict};

use super::Host;
use crate::ground::Asker;
use crate::rig::Ran;

/// Actions of XDP and TC as the kernel numbers them.
pub mod action {
    /// `XDP_DROP`.
    pub const XDP_DROP: u32 = 1;
    /// `XDP_PASS`.
    pub const XDP_PASS: u32 = 2;
    /// `XDP_TX`.
    pub const XDP_TX: u32 = 3;
    /// `XDP_REDIRECT`.
    pub const XDP_REDIRECT: u32 = 4;
    /// `TC_ACT_UNSPEC`.
    pub const TC_UNSPEC: u32 = u32::MAX;
    /// `TC_ACT_SHOT`.
    pub const TC_SHOT: u32 = 2;
    /// `TC_ACT_REDIRECT`.
    pub const TC_REDIRECT: u32 = 7;
}

impl Host {
    /// What the XDP program does with a frame that comes in by `ifindex`.
    pub fn run_xdp(&self, frame: &[u8], ifindex: u32) -> Ran {
        self.asker.set(Asker::Xdp);
        let is_local = self.is_local_interface(ifindex) == Some(true);
        if self.world.host.flags & HOST_LOCAL_INTERFACES != 0 && is_local {
            return Ran { action: action::XDP_PASS, verdict: Some(Verdict::PassToTc), frame: frame.to_vec() };
        }
        let mut wire = Wire { bytes: frame.to_vec(), arrival: Arrival { ifindex, keeps_books: true } };
        let sent = if self.glances { at_a_glance(&mut wire, &self, &self.world.host) } else { None };
        self.glanced.set(self.glanced.get() + u32::from(sent.is_some()));
        let out = sent.map_or_else(|| in_full(&mut wire, &self, &mut Work::default()), Into::into);
        self.count(&out);
        let action = match out.verdict.fate() {
            Fate::Pass => action::XDP_PASS,
            Fate::Drop => action::XDP_DROP,
            Fate::Send if out.ifindex == ifindex => action::XDP_TX,
            Fate::Send => action::XDP_REDIRECT,
        };
        Ran { action, verdict: Some(out.verdict), frame: wire.bytes }
    }

    /// What the TC program does with a frame that comes in by `ifindex`, if that interface's MAC address is all zeroes.
    pub fn run_tc(&self, frame: &[u8], ifindex: u32) -> Ran {
        self.asker.set(Asker::Tc(frame.len()));
        let is_others = frame[..6] != [0; 6] && frame[0] & 1 == 0;
        if is_others {
            return Ran { action: action::TC_UNSPEC, verdict: None, frame: frame.to_vec() };
        }
        let behind_xdp = self.is_local_interface(ifindex) == Some(false);
        let arrival = Arrival { ifindex, keeps_books: !behind_xdp };
        let mut buffer = Buffer(Wire { bytes: frame.to_vec(), arrival });
        let out = in_full(&mut buffer, &self, &mut Work::default());
        let is_counted = !(behind_xdp && out.verdict.fate() == Fate::Pass);
        if is_counted {
            self.count(&out);
        }
        let action = match out.verdict.fate() {
            Fate::Pass => action::TC_UNSPEC,
            Fate::Drop => action::TC_SHOT,
            Fate::Send => action::TC_REDIRECT,
        };
        Ran { action, verdict: is_counted.then_some(out.verdict), frame: buffer.0.bytes }
    }
}

/// A frame as XDP sees it.
struct Wire {
    bytes: Vec<u8>,
    arrival: Arrival,
}

impl Packet for Wire {
    const CAN_RESOLVE: bool = false;

    fn arrival(&self) -> Arrival {
        self.arrival
    }

    fn holds(&self, end: usize) -> bool {
        end <= self.bytes.len()
    }

    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        self.bytes.get_mut(at..at + N)?.copy_from_slice(&bytes);
        Some(())
    }

    fn make_room(&mut self, l3: usize, by: usize) -> Option<()> {
        let _none = self.bytes.splice(l3..l3, vec![0; by]);
        Some(())
    }

    fn take_away(&mut self, l3: usize, by: usize) -> Option<()> {
        let _gone = self.bytes.drain(l3..l3 + by);
        Some(())
    }

    fn cut(&mut self, len: usize) -> Option<()> {
        self.bytes.truncate(len);
        Some(())
    }
}

/// A frame as TC sees it.
struct Buffer(Wire);

impl Packet for Buffer {
    const CAN_RESOLVE: bool = true;

    fn arrival(&self) -> Arrival {
        self.0.arrival()
    }

    fn holds(&self, end: usize) -> bool {
        self.0.holds(end)
    }

    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.load(at)
    }

    fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        self.0.store(at, bytes)
    }

    /// Behind tags in the frame the kernel's helper would make its room in the wrong place.
    fn make_room(&mut self, l3: usize, by: usize) -> Option<()> {
        if l3 == 14 { self.0.make_room(l3, by) } else { None }
    }
}
