//! Builds a service's Maglev ring: deterministic, from nothing but the backends' identities and weights.
//!
//! In: members in any order. Out: `RING_SIZE` owners. Guarantees, each with its test below:
//! - slot counts are the true proportion of the weights, rounded by largest remainder: 2:1:1 gives 2:1:1, equal members
//!   differ by at most one slot;
//! - the ring depends on the members alone, not on their order and not on the past, so that every host behind one
//!   ECMP route computes the same one;
//! - when one of 100 members goes, 0.6 % of the other members' slots move at most (1.1 % for one of 400).
//!
//! Source: Eisenbud et al., NSDI 2016, section 3.4. Ours is the order of turns: a member takes a turn as often as its slot
//! count says, spread evenly over the rounds, instead of a whole number of turns per round.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use lb_common::limits::{MAX_OWNERS, RING_SIZE};
use lb_common::slot::{NOBODY, Owner};

/// `RING_SIZE` where slot numbers are 32 bits.
const SIZE: u32 = 65_537;
const _: () = assert!(SIZE as usize == RING_SIZE);

/// One backend that wants slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is on every host: [`identity`] of its address and port.
    pub key: u64,
    /// What its slots hold on this host.
    pub owner: Owner,
    /// Its share relative to the other members' weights; 0: no slots.
    pub weight: u32,
}

/// What a member needs while slots are given out.
struct Turn {
    owner: Owner,
    /// Slots it is due.
    due: u32,
    /// Slots it has yet to take.
    left: u32,
    /// Its part of a turn that has not come up yet, in `1/rounds`.
    credit: u32,
    /// The next slot of its permutation.
    next: u32,
    /// Step of its permutation, `1..RING_SIZE`: `RING_SIZE` is prime, so that every slot is met once.
    step: u32,
}

/// Identity of a backend: the same on every host, whatever index it has there.
///
/// The address's eight 16-bit words (IPv4 in its mapped form, scope ignored) and the port, each folded in by splitmix64's
/// finaliser (Steele et al., OOPSLA 2014). It is no secret and need not be: clients cannot choose backends' addresses.
pub fn identity(addr: &SocketAddr) -> u64 {
    let ip = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let words = ip.segments().into_iter().chain([addr.port()]);
    words.fold(GOLDEN, |hash, word| mix(hash ^ u64::from(word)))
}

/// The canonical ring of these members: `RING_SIZE` owners; all of them [`NOBODY`] where no member has a weight.
///
/// It is also the answer to "who inherits?": the heirs of a failed backend's slots are the owners that these slots have in
/// the canonical ring without it. They come in proportion to the weights, and what is left to move later is the
/// permutations' disruption alone.
///
/// A member whose share is below half a slot of 65,537 may get none.
pub fn build(members: &[Member]) -> Vec<Owner> {
    let mut ring = vec![NOBODY; RING_SIZE];
    let mut turns = turns(members);
    // Each round gives a member `due / rounds` turns: about one, and all have taken what they are due in the last.
    let rounds = SIZE.div_ceil(u32::try_from(turns.len()).unwrap_or(SIZE).max(1));
    let mut taken = vec![0_u64; RING_SIZE.div_ceil(64)];
    for _ in 0..rounds {
        for turn in &mut turns {
            turn.credit += turn.due;
            while turn.credit >= rounds && turn.left > 0 {
                turn.credit -= rounds;
                turn.left -= 1;
                ring[take_next(turn, &mut taken)] = turn.owner;
            }
        }
    }
    ring
}

/// Who takes over `slots` slots of a member that has failed, in the order of those slots, until the canonical ring without it is
/// made: as many to each of `members` as its weight says, by largest remainder; none where nobody has a weight. `gone` is
/// the failed member's key: it says who is first, so that not always the same ones get what cannot be divided.
///
/// Making a ring takes a millisecond, this microseconds: a machine that serves a hundred services fails in a hundred rings at
/// once. A member's slots lie scattered over the ring, so that their order is as good as chance for whoever hashes to them.
pub fn stand_ins(members: &[Member], slots: usize, gone: u64) -> Vec<Owner> {
    let mut sorted: Vec<&Member> = members.iter().filter(|m| m.weight > 0).collect();
    if sorted.is_empty() || slots == 0 {
        return Vec::new();
    }
    sorted.sort_unstable_by_key(|m| (m.key, m.owner));
    let first = usize::try_from(mix(gone) % sorted.len() as u64).unwrap_or(0);
    sorted.rotate_left(first);
    let weights: Vec<u32> = sorted.iter().map(|m| m.weight).collect();
    let wanted = u32::try_from(slots).unwrap_or(SIZE).min(SIZE);
    let mut left: Vec<(Owner, u32)> = sorted.iter().map(|m| m.owner).zip(apportion(&weights, wanted)).collect();
    let mut heirs = Vec::with_capacity(slots);
    while heirs.len() < wanted as usize {
        // One each: members with more to take come again.
        left.retain_mut(|(owner, due)| {
            if *due > 0 {
                heirs.push(*owner);
            }
            *due = due.saturating_sub(1);
            *due > 0
        });
    }
    heirs
}

/// The first free slot of a member's permutation, marked as taken. There is one, because dues add up to the ring.
fn take_next(turn: &mut Turn, taken: &mut [u64]) -> usize {
    loop {
        let slot = turn.next as usize;
        turn.next += turn.step;
        if turn.next >= SIZE {
            turn.next -= SIZE;
        }
        // A bitmap, because 8 KiB stay in the first-level cache and the ring's 128 KiB do not.
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        if taken[word] & bit == 0 {
            taken[word] |= bit;
            return slot;
        }
    }
}

/// Members with slots, in the order of their identities.
fn turns(members: &[Member]) -> Vec<Turn> {
    let mut sorted: Vec<Member> = members.iter().copied().filter(|m| m.weight > 0).collect();
    sorted.sort_unstable_by_key(|m| (m.key, m.owner));
    let weights: Vec<u32> = sorted.iter().map(|m| m.weight).collect();
    let dues = apportion(&weights, SIZE);
    let turn = |(m, due): (&Member, u32)| Turn {
        owner: m.owner,
        due,
        left: due,
        credit: 0,
        next: reduce(mix(m.key), SIZE),
        step: reduce(mix(m.key ^ GOLDEN), SIZE - 1) + 1,
    };
    sorted.iter().zip(dues).map(turn).filter(|t| t.due > 0).collect()
}

/// Splits `seats` in proportion to the weights by largest remainder (Hamilton's method); ties go to the earlier member.
/// The parts add up to `seats`, or all are 0 where every weight is.
pub(super) fn apportion(weights: &[u32], seats: u32) -> Vec<u32> {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let exact = |w: u32| u64::from(w) * u64::from(seats);
    let mut parts: Vec<u32> = weights.iter().map(|&w| narrow(exact(w) / total)).collect();
    let given: u64 = parts.iter().copied().map(u64::from).sum();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| Reverse(exact(weights[i]) % total));
    let left = usize::try_from(u64::from(seats) - given).unwrap_or(usize::MAX);
    for &i in by_remainder.iter().take(left) {
        parts[i] += 1;
    }
    parts
}

/// 2^64 divided by the golden ratio: splitmix64's increment.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// splitmix64's finaliser: every bit of the input reaches every bit of the output.
pub(super) const fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn reduce(hash: u64, below: u32) -> u32 {
    narrow(hash % u64::from(below))
}

fn narrow(below_seats: u64) -> u32 {
    u32::try_from(below_seats).expect("a quotient by the total of weights is at most `seats`, a rest below its modulus")
}

const _: () = assert!(MAX_OWNERS <= RING_SIZE, "every member of the largest pool has a slot at equal weights");

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers of a test are small")]
mod tests {
    use super::*;

    fn member(n: u16, weight: u32) -> Member {
        let addr = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 8_000));
        Member { key: identity(&addr), owner: n + 1, weight }
    }

    fn pool(n: u16) -> Vec<Member> {
        (0..n).map(|i| member(i, 100)).collect()
    }

    fn count(ring: &[Owner], owner: Owner) -> usize {
        ring.iter().filter(|o| **o == owner).count()
    }

    /// Share (of 1) of the slots of others than `owner` that differ.
    fn moved_of_others(before: &[Owner], after: &[Owner], owner: Owner) -> f64 {
        let others = before.iter().zip(after).filter(|(b, _)| **b != owner);
        let moved = others.clone().filter(|(b, a)| a != b).count();
        moved as f64 / others.count() as f64
    }

    #[test]
    fn equal_members_differ_by_at_most_one_slot() {
        for n in [1, 3, 7, 100, 400, 1_000, 5_000] {
            let ring = build(&pool(n));
            let counts: Vec<usize> = (1..=n).map(|o| count(&ring, o)).collect();
            let (least, most) = (counts.iter().min().expect("not empty"), counts.iter().max().expect("not empty"));
            assert!(most - least <= 1, "{n} members: {least}..{most}");
            assert_eq!(counts.iter().sum::<usize>(), RING_SIZE);
        }
    }

    #[test]
    fn two_one_one_gives_two_one_one() {
        let ring = build(&[member(0, 200), member(1, 100), member(2, 100)]);
        assert_eq!((count(&ring, 1), count(&ring, 2), count(&ring, 3)), (32_769, 16_384, 16_384));
    }

    #[test]
    fn extreme_weights_are_kept_in_true_proportion() {
        let ring = build(&[member(0, 65_535), member(1, 1), member(2, 0)]);
        assert_eq!((count(&ring, 1), count(&ring, 2), count(&ring, 3)), (65_536, 1, 0));
        let ring = build(&[member(0, u32::MAX), member(1, u32::MAX)]);
        assert_eq!((count(&ring, 1).abs_diff(count(&ring, 2))), 1);
    }

    #[test]
    fn an_empty_pool_has_a_ring_of_nobody() {
        assert!(build(&[]).iter().all(|o| *o == NOBODY));
        assert!(build(&[member(0, 0)]).iter().all(|o| *o == NOBODY));
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let mut members: Vec<Member> = (0..50).map(|i| member(i, 1 + u32::from(i) % 7)).collect();
        let ring = build(&members);
        members.reverse();
        members.swap(3, 30);
        assert!(build(&members) == ring);
    }

    #[test]
    fn owner_indices_differ_between_hosts_and_rings_do_not() {
        let here = pool(20);
        let there: Vec<Member> = here.iter().map(|m| Member { owner: m.owner + 500, ..*m }).collect();
        let same = build(&here).iter().zip(build(&there)).all(|(a, b)| a + 500 == b);
        assert!(same);
    }

    #[test]
    fn a_member_that_comes_back_finds_its_slots() {
        let mut members = pool(100);
        let before = build(&members);
        let gone = members.remove(40);
        assert!(build(&members) != before);
        members.push(gone);
        assert!(build(&members) == before);
    }

    #[test]
    fn one_of_a_hundred_that_fails_moves_at_most_a_hundredth_of_the_other_slots() {
        let members = pool(100);
        let before = build(&members);
        for gone in (0..members.len()).step_by(5) {
            let rest: Vec<Member> = members.iter().copied().filter(|m| *m != members[gone]).collect();
            let moved = moved_of_others(&before, &build(&rest), members[gone].owner);
            assert!(moved <= 0.01, "member {gone}: {:.2} % of the others' slots moved", moved * 100.0);
        }
    }

    #[test]
    fn disruption_stays_below_two_percent_for_other_pools_and_weights() {
        for n in [2_u16, 3, 10, 400, 1_000] {
            let members: Vec<Member> = (0..n).map(|i| member(i, 1 + u32::from(i) * 7 % 10)).collect();
            let before = build(&members);
            for gone in (0..members.len()).step_by(members.len().div_ceil(5)) {
                let rest: Vec<Member> = members.iter().copied().filter(|m| *m != members[gone]).collect();
                let moved = moved_of_others(&before, &build(&rest), members[gone].owner);
                assert!(moved <= 0.02, "{gone} of {n}: {:.2} % of the others' slots moved", moved * 100.0);
            }
        }
    }

    #[test]
    fn the_heirs_of_a_failed_member_take_over_in_proportion() {
        let members: Vec<Member> = (0..4).map(|i| member(i, if i == 3 { 200 } else { 100 })).collect();
        let (before, heirs) = (build(&members), build(&members[1..]));
        let inherited = |owner| before.iter().zip(&heirs).filter(|(b, h)| **b == 1 && **h == owner).count() as f64;
        let lost = count(&before, 1) as f64;
        for (owner, share) in [(2, 0.25), (3, 0.25), (4, 0.5)] {
            assert!((inherited(owner) / lost - share).abs() < 0.02, "owner {owner}: {}", inherited(owner) / lost);
        }
    }

    #[test]
    fn stand_ins_take_over_by_weight_whatever_their_order_and_begin_with_another_for_another_failure() {
        let mut members: Vec<Member> = (0..4).map(|i| member(i, if i == 3 { 200 } else { 100 })).collect();
        let heirs = stand_ins(&members, 1_000, 7);
        assert_eq!([1, 2, 3, 4].map(|owner| count(&heirs, owner)), [200, 200, 200, 400]);
        members.reverse();
        assert_eq!(stand_ins(&members, 1_000, 7), heirs);
        let firsts: std::collections::BTreeSet<Owner> = (0..50).map(|gone| stand_ins(&members, 1, gone)[0]).collect();
        assert_eq!(firsts.len(), 1, "the heaviest alone is due one of one");
        let equal = pool(4);
        let firsts: std::collections::BTreeSet<Owner> = (0..50).map(|gone| stand_ins(&equal, 1, gone)[0]).collect();
        assert_eq!(firsts.len(), 4);
        assert!(stand_ins(&[], 10, 7).is_empty());
        assert!(stand_ins(&[member(0, 0)], 10, 7).is_empty());
    }

    #[test]
    fn a_weight_change_moves_little_more_than_it_must() {
        let mut members = pool(10);
        let before = build(&members);
        members[4].weight = 200;
        let after = build(&members);
        let moved = before.iter().zip(&after).filter(|(b, a)| a != b).count();
        let must = count(&after, 5) - count(&before, 5);
        assert!(moved < must + RING_SIZE / 50, "{moved} slots moved, {must} had to");
    }

    #[test]
    fn an_identity_is_what_it_was() {
        assert_eq!(identity(&SocketAddr::from(([192, 0, 2, 1], 80))), 3_253_595_426_616_688_070);
        assert_ne!(
            identity(&SocketAddr::from(([192, 0, 2, 1], 80))),
            identity(&SocketAddr::from(([192, 0, 2, 1], 81)))
        );
        let mapped = SocketAddr::from((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 80));
        assert_eq!(identity(&mapped), identity(&SocketAddr::from(([192, 0, 2, 1], 80))));
    }

    #[test]
    fn parts_add_up_and_ties_go_to_the_first() {
        assert_eq!(apportion(&[1, 1, 1], 10), [4, 3, 3]);
        assert_eq!(apportion(&[5, 3, 1], 4), [2, 1, 1]);
        assert_eq!(apportion(&[0, 0], 4), [0, 0]);
    }
}
