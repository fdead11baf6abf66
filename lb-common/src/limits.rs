//! Every bound that both worlds share, and the assertions that relate them.

/// Slots of a service's ring: a prime far above 100 × the usual pool, so that shares are true to a fraction of a percent
/// (Eisenbud et al., NSDI 2016, section 3.4). Fixed at build: inner maps of one outer map must agree.
pub const RING_SIZE: usize = 65_537;

/// Length of the ring's array: one slot of padding, because LLVM drops a bounds check that it can prove and the verifier cannot.
pub const RING_LEN: usize = RING_SIZE + 1;

/// Most services on one host; service ids are `0..MAX_SERVICES`.
pub const MAX_SERVICES: usize = 1_024;

/// Most (service, backend) pairs on one host, index 0 being "nobody": 15 bits in a slot.
pub const MAX_OWNERS: usize = 32_768;

/// Entries of one flow bucket: one cache line of eight 64-bit words.
pub const FLOW_BUCKET_ENTRIES: usize = 8;

/// Longest round_robin schedule, in turns; longer weight patterns are scaled down to it.
pub const SCHEDULE_TURNS: usize = 2_044;

/// Room in the table that tells the kernel's fragments apart, in datagrams in flight.
pub const MAX_FRAGMENTS: usize = 8_192;

/// Room for `snat` mappings on one host.
pub const MAX_SNAT_FLOWS: usize = 262_144;

/// Most host addresses, VIPs and interfaces the kernel side knows.
pub const MAX_ADDRESSES: usize = 4_096;

/// Most prefix VIPs of one family on one host.
pub const MAX_PREFIXES: usize = 1_024;

const _: () = assert!(RING_SIZE < 1 << 17, "slot numbers are computed from a 32-bit tag");
const _: () = assert!(MAX_OWNERS == 1 << 15, "owners are 15 bits in a slot");
const _: () = assert!(MAX_SERVICES <= 1 << 16, "service ids are 16 bits");
