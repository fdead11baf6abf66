//! The keyed hash of a flow: bucket and tag from the two halves of one 64-bit value.
//!
//! Multiply and fold with secret odd multipliers (the multiply-shift family of Dietzfelbinger et al., J. Algorithms 25, 1997,
//! with a finaliser after Steele et al., OOPSLA 2014). The secret keeps clients from aiming at one bucket or one backend; it
//! is no cryptographic hash, and nothing here relies on one.

use crate::flow::FlowKey;

/// Secret of one host.
pub type Seed = [u64; 4];

#[inline(always)]
const fn fold(h: u64, word: u64, multiplier: u64) -> u64 {
    let x = (h ^ word).wrapping_mul(multiplier | 1);
    x ^ x >> 32
}

#[inline(always)]
const fn finish(h: u64) -> u64 {
    let h = (h ^ h >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 32
}

#[inline(always)]
const fn ports_and_service(client_port: [u8; 2], vip_port: [u8; 2], service: u16) -> u64 {
    (u16::from_be_bytes(client_port) as u64) << 32 | (u16::from_be_bytes(vip_port) as u64) << 16 | service as u64
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn halves(h: u64, source: u64, by_source: bool) -> FlowKey {
    let tag = if by_source { source as u32 & 0xffff_0000 | h as u32 & 0xffff } else { h as u32 };
    FlowKey { bucket: (h >> 32) as u32, tag }
}

/// Key of an IPv4 flow. `by_source`: the tag's upper half comes from the client's address alone.
#[inline(always)]
pub const fn flow_v4(
    seed: &Seed,
    client: [u8; 4],
    client_port: [u8; 2],
    vip_port: [u8; 2],
    service: u16,
    by_source: bool,
) -> FlowKey {
    let address = fold(seed[0], u32::from_be_bytes(client) as u64, seed[1]);
    let h = finish(fold(address ^ seed[2], ports_and_service(client_port, vip_port, service), seed[3]));
    halves(h, finish(address ^ service as u64), by_source)
}

/// Key of an IPv6 flow. `by_source`: the tag's upper half comes from the client's address alone.
#[inline(always)]
pub const fn flow_v6(
    seed: &Seed,
    client: &[u8; 16],
    client_port: [u8; 2],
    vip_port: [u8; 2],
    service: u16,
    by_source: bool,
) -> FlowKey {
    let c = client;
    let high = u64::from_be_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]);
    let low = u64::from_be_bytes([c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]]);
    let address = fold(fold(seed[0], high, seed[1]) ^ seed[2], low, seed[1]);
    let h = finish(fold(address ^ seed[2], ports_and_service(client_port, vip_port, service), seed[3]));
    halves(h, finish(address ^ service as u64), by_source)
}

/// The key of a flow to one address of an IPv4 prefix VIP: `key` says all but which.
#[inline(always)]
pub const fn to_vip_v4(seed: &Seed, key: FlowKey, vip: [u8; 4], by_source: bool) -> FlowKey {
    mixed(key, finish(fold(seed[2], u32::from_be_bytes(vip) as u64, seed[0])), by_source)
}

/// The same for IPv6.
#[inline(always)]
pub const fn to_vip_v6(seed: &Seed, key: FlowKey, vip: &[u8; 16], by_source: bool) -> FlowKey {
    let v = vip;
    let high = u64::from_be_bytes([v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]]);
    let low = u64::from_be_bytes([v[8], v[9], v[10], v[11], v[12], v[13], v[14], v[15]]);
    mixed(key, finish(fold(fold(seed[2], high, seed[0]) ^ seed[3], low, seed[0])), by_source)
}

/// Two keyed hashes of different things: their sum is as good as either. The client's half of a `source_hash` tag stays.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn mixed(key: FlowKey, h: u64, by_source: bool) -> FlowKey {
    let tag = if by_source { h as u32 & 0xffff } else { h as u32 };
    FlowKey { bucket: key.bucket ^ (h >> 32) as u32, tag: key.tag ^ tag }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::slot_of;

    const SEED: Seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211, 0x0f1e_2d3c_4b5a_6978, 0x1357_9bdf_0246_8ace];

    #[test]
    fn the_hash_is_what_it_was() {
        let k = flow_v4(&SEED, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), 80_u16.to_be_bytes(), 3, false);
        assert_eq!(k, flow_v4(&SEED, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), 80_u16.to_be_bytes(), 3, false));
        assert_ne!(k, flow_v4(&SEED, [192, 0, 2, 7], 40_001_u16.to_be_bytes(), 80_u16.to_be_bytes(), 3, false));
        assert_ne!(k, flow_v4(&SEED, [192, 0, 2, 7], 40_000_u16.to_be_bytes(), 80_u16.to_be_bytes(), 4, false));
    }

    #[test]
    fn consecutive_ports_spread_evenly_over_slots_and_buckets() {
        let (mut slots, mut buckets) = ([0_u32; 16], [0_u32; 16]);
        for port in 1_024..60_000_u16 {
            let k = flow_v4(&SEED, [10, 0, 0, 1], port.to_be_bytes(), [0, 80], 0, false);
            slots[slot_of(k.tag, false) as usize * 16 / 65_537] += 1;
            buckets[(k.bucket & 15) as usize] += 1;
        }
        for n in slots.iter().chain(&buckets) {
            assert!((3_500..3_880).contains(n), "{slots:?} {buckets:?}");
        }
    }

    #[test]
    fn source_hash_keeps_a_client_on_one_slot_and_its_flows_apart() {
        let a = flow_v4(&SEED, [10, 0, 0, 1], [4, 1], [0, 80], 0, true);
        let b = flow_v4(&SEED, [10, 0, 0, 1], [4, 2], [0, 80], 0, true);
        assert_eq!(slot_of(a.tag, true), slot_of(b.tag, true));
        assert_ne!(a.tag, b.tag);
        let a = flow_v6(&SEED, &[7; 16], [4, 1], [0, 80], 0, true);
        let b = flow_v6(&SEED, &[7; 16], [4, 2], [0, 80], 0, true);
        assert_eq!(slot_of(a.tag, true), slot_of(b.tag, true));
    }

    #[test]
    fn addresses_of_a_prefix_have_flows_of_their_own_and_spread_evenly() {
        let client = flow_v4(&SEED, [10, 0, 0, 1], [4, 1], [0, 80], 0, false);
        let mut slots = [0_u32; 16];
        for n in 0..65_536_u32 {
            let [.., a, b] = n.to_be_bytes();
            slots[slot_of(to_vip_v4(&SEED, client, [198, 18, a, b], false).tag, false) as usize * 16 / 65_537] += 1;
        }
        assert!(slots.iter().all(|n| (3_800..4_400).contains(n)), "{slots:?}");
    }

    #[test]
    fn source_hash_keeps_a_client_on_its_slot_at_every_address_of_a_prefix() {
        let client = flow_v6(&SEED, &[7; 16], [4, 1], [0, 80], 0, true);
        let (a, b) = (to_vip_v6(&SEED, client, &[1; 16], true), to_vip_v6(&SEED, client, &[2; 16], true));
        assert_eq!(slot_of(a.tag, true), slot_of(b.tag, true));
        assert_ne!(a, b);
    }
}
