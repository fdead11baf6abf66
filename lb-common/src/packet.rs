//! How the decision core reads and writes a packet's bytes. The kernel implements it over XDP and over socket buffers, the
//! host over a plain buffer.

use crate::csum::Change;

/// Where a packet comes from, and who has seen it before.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Interface it came in by.
    pub ifindex: u32,
    /// Whether this look keeps the flow table's books. The TC program does not where the XDP program has done so already.
    pub keeps_books: bool,
}

/// A frame from its Ethernet header on. Every access is checked: beyond the end is `None`, never a fault.
pub trait Packet {
    /// Whether the hook can leave the next hop's MAC address to the kernel (TC). XDP cannot; it also sees no packet larger than
    /// the wire's, as TC does after GRO.
    const CAN_RESOLVE: bool;

    /// Where it comes from.
    fn arrival(&self) -> Arrival;

    /// Whether the frame has at least `end` bytes.
    fn holds(&self, end: usize) -> bool;

    /// Copies `N` bytes that start at `at`.
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// Replaces `N` bytes that start at `at`.
    fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()>;

    /// `N` little-endian words of 64 bits from `AT` on, a place known at compile time: one check for all of them.
    #[inline(always)]
    fn words<const AT: usize, const N: usize>(&self) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(self.load::<8>(AT + i * 8)?);
        }
        Some(words)
    }

    /// `N` bytes from `AT` on, a place known at compile time.
    #[inline(always)]
    fn get<const AT: usize, const N: usize>(&self) -> Option<[u8; N]> {
        self.load(AT)
    }

    /// Replaces `N` bytes at `AT`, a place known at compile time.
    #[inline(always)]
    fn put<const AT: usize, const N: usize>(&mut self, bytes: [u8; N]) -> Option<()> {
        self.store(AT, bytes)
    }

    /// Lets the frame begin `BY` bytes earlier, for an outer header; what lies there is to be written. `None`: there is no room.
    #[inline(always)]
    fn begin_earlier<const BY: usize>(&mut self) -> Option<()> {
        self.make_room(0, BY)
    }

    /// Makes room for `by` bytes (20 to 48) between the link's header, tags and all, and the IP packet at `l3`; the link's header
    /// keeps its place at the front. `None`: there is none to be had.
    #[inline(always)]
    fn make_room(&mut self, _l3: usize, _by: usize) -> Option<()> {
        None
    }

    /// Takes `by` bytes away between the link's header and what follows them. `None`: it cannot be done here.
    #[inline(always)]
    fn take_away(&mut self, _l3: usize, _by: usize) -> Option<()> {
        None
    }

    /// Cuts the frame off after `len` bytes. `None`: it cannot be done here.
    #[inline(always)]
    fn cut(&mut self, _len: usize) -> Option<()> {
        None
    }

    /// Patches the TCP or UDP checksum at `at`: `pseudo` is what changed in the pseudo-header, `rest` what changed in the
    /// header itself. They come apart because a checksum that hardware will finish (CHECKSUM_PARTIAL) covers the
    /// pseudo-header only so far; socket buffers know, raw frames off a wire are always complete.
    #[inline(always)]
    fn patch_checksum(&mut self, at: usize, pseudo: Change, rest: Change, udp: bool) -> Option<()> {
        let old = self.load::<2>(at)?;
        let change = pseudo.and(rest);
        self.store(at, if udp { change.apply_udp(old) } else { change.apply(old) })
    }
}
