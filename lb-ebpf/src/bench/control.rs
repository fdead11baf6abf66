//! What the benchmark tells its programs and reads back: words of two arrays. Compiled twice, here and by the benchmark itself
//! (the tests crate), so that the two cannot drift.
#![allow(dead_code, clippy::allow_attributes, reason = "each side uses another part of it")]

/// Name of the array of one [`Control`].
pub(crate) const CONTROL_MAP: &str = "CONTROL";
/// Name of the array of one [`Received`].
pub(crate) const RECEIVED_MAP: &str = "RECEIVED";
/// Name of the array that knows each flow's destination.
pub(crate) const SEEN_MAP: &str = "SEEN";
/// Name of the generator.
pub(crate) const GENERATE: &str = "weir_generate";
/// Name of the program that nothing can be faster than.
pub(crate) const FLOOR: &str = "weir_floor";
/// Name of the program that frames end in.
pub(crate) const RECEIVE: &str = "weir_receive";

/// What to generate, and how far it has come. Words, because user space may only send bytes that it knows.
pub(crate) type Control = [u64; 16];

/// Interface that frames are redirected to.
pub(crate) const TARGET: usize = 0;
/// One of the kinds below.
pub(crate) const KIND: usize = 1;
/// Established flows to draw from, at most [`MOST_FLOWS`].
pub(crate) const FLOWS: usize = 2;
/// The drawing's state; not zero.
pub(crate) const RANDOM: usize = 3;
/// SYNs of new flows that were sent: the number of the next flow.
pub(crate) const SYNS: usize = 4;
/// TCP flags of data segments.
pub(crate) const DATA_FLAGS: usize = 5;
/// The VIP, as the word that its four bytes are in wire order.
pub(crate) const VIP: usize = 6;
/// The VIP's port, as the word that its two bytes are in wire order.
pub(crate) const PORT: usize = 7;
/// What the receiver does with each flow's destination: one of the checks below.
pub(crate) const CHECK: usize = 8;
/// Of 256 packets, on average, how many are SYNs ([`KIND_MIXED`]).
pub(crate) const SYNS_OF_256: usize = 9;
/// Packets of established flows that were sent.
pub(crate) const SENT_DATA: usize = 10;
/// Next flow of [`KIND_IN_TURN`].
pub(crate) const TURN: usize = 11;
/// Added to a flow's number before its destination is noted: whoever compares has a part of the array for itself.
pub(crate) const NOTES_AT: usize = 12;

/// Data segments of flows drawn uniformly.
pub(crate) const KIND_DRAWN: u64 = 0;
/// Data segments of one flow after the other.
pub(crate) const KIND_IN_TURN: u64 = 1;
/// SYNs, each of a flow that never was before.
pub(crate) const KIND_SYN: u64 = 2;
/// Both: drawn data, and SYNs between.
pub(crate) const KIND_MIXED: u64 = 3;

/// It notes it.
pub(crate) const CHECK_NOTE: u64 = 1;
/// It compares it with what it has noted.
pub(crate) const CHECK_COMPARE: u64 = 2;

/// Established flows that there can be: the address's lower 20 bits.
pub(crate) const MOST_FLOWS: u32 = 1 << 20;

/// What has come back.
pub(crate) type Received = [u64; 4];

/// Frames.
pub(crate) const FRAMES: usize = 0;
/// Frames of established flows (checked runs only).
pub(crate) const DATA_FRAMES: usize = 1;
/// Of those, frames that went elsewhere than was noted.
pub(crate) const MOVED: usize = 2;

/// Length of a generated frame: eight words.
pub(crate) const FRAME_LEN: usize = 64;
