//! Builds a round_robin service's schedule: whose turn it is, turn after turn, for the cursors of all CPUs.
//!
//! In: members in any order. Out: at most `SCHEDULE_TURNS` turns. The order is nginx's smooth weighted round robin: a heavy
//! member's turns are spread over the cycle, not bunched. A cycle holds every member exactly as often as its weight,
//! divided by the weights' greatest common divisor, says; so equal members get one turn each and every CPU is true to one
//! connection. Patterns that do not fit are rounded to the longest schedule, each member keeping at least one turn.

use lb_common::limits::SCHEDULE_TURNS;
use lb_common::slot::{NOBODY, Owner};

use super::maglev::{Member, apportion};

/// `SCHEDULE_TURNS` where turns are counted by 32 bits.
const TURNS: u32 = 2_044;
const _: () = assert!(TURNS as usize == SCHEDULE_TURNS);

/// Most members that all get a turn: `check` refuses larger pools with round_robin, and [`build`] serves the heaviest.
pub const MAX_MEMBERS: usize = SCHEDULE_TURNS;

/// The turns of these members, at most `SCHEDULE_TURNS`; none where no member has a weight.
pub fn build(members: &[Member]) -> Vec<Owner> {
    let mut walkers = walkers(members);
    let total: i64 = walkers.iter().map(|w| w.turns).sum();
    (0..total).map(|_| next(&mut walkers, total)).collect()
}

/// A member on its way through the cycle.
struct Walker {
    owner: Owner,
    /// Turns it has in a cycle.
    turns: i64,
    /// nginx's `current_weight`: how far it is ahead of the turns it got.
    credit: i64,
}

/// The member furthest ahead takes the turn; ties go to the earlier one.
fn next(walkers: &mut [Walker], total: i64) -> Owner {
    let mut best = 0;
    for i in 0..walkers.len() {
        walkers[i].credit += walkers[i].turns;
        if walkers[i].credit > walkers[best].credit {
            best = i;
        }
    }
    let Some(walker) = walkers.get_mut(best) else { return NOBODY };
    walker.credit -= total;
    walker.owner
}

/// Members with a turn, in the order of their identities, so that hosts agree and a schedule does not depend on the file's order.
fn walkers(members: &[Member]) -> Vec<Walker> {
    let mut sorted: Vec<Member> = members.iter().copied().filter(|m| m.weight > 0).collect();
    if sorted.len() > MAX_MEMBERS {
        sorted.sort_unstable_by_key(|m| (u32::MAX - m.weight, m.key, m.owner));
        sorted.truncate(MAX_MEMBERS);
    }
    sorted.sort_unstable_by_key(|m| (m.key, m.owner));
    let weights: Vec<u32> = sorted.iter().map(|m| m.weight).collect();
    let turns = fit(&weights);
    sorted.iter().zip(turns).map(|(m, t)| Walker { owner: m.owner, turns: i64::from(t), credit: 0 }).collect()
}

/// Turns per cycle: the weights in lowest terms where these fit, else rounded to `TURNS`, at least one each.
fn fit(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|w| u64::from(w / divisor)).sum();
    if total <= u64::from(TURNS) {
        return weights.iter().map(|w| w / divisor).collect();
    }
    // The light ones get one turn each; the others share what is left. Sharing anew may make another one light.
    let mut is_light = vec![false; weights.len()];
    loop {
        let heavy: Vec<u32> = weights.iter().zip(&is_light).map(|(&w, &light)| if light { 0 } else { w }).collect();
        let lights = is_light.iter().filter(|light| **light).count();
        let mut turns = apportion(&heavy, TURNS - u32::try_from(lights).unwrap_or(TURNS));
        let mut found = false;
        for (turn, light) in turns.iter_mut().zip(&mut is_light) {
            if *turn == 0 {
                found |= !*light;
                (*turn, *light) = (1, true);
            }
        }
        if !found {
            return turns;
        }
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers of a test are small")]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(i, w): (usize, &u32)| Member { key: i as u64, owner: i as Owner + 1, weight: *w };
        weights.iter().enumerate().map(member).collect()
    }

    fn turns(weights: &[u32]) -> Vec<Owner> {
        build(&members(weights))
    }

    #[test]
    fn five_one_one_is_as_smooth_as_nginx_makes_it() {
        assert_eq!(turns(&[5, 1, 1]), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn equal_members_get_one_turn_each_whatever_their_weight() {
        assert_eq!(turns(&[100, 100, 100]), [1, 2, 3]);
        assert_eq!(turns(&[65_535; 1_000]).len(), 1_000);
        assert_eq!(turns(&[7; 2_044]).len(), 2_044);
    }

    #[test]
    fn weights_are_taken_in_lowest_terms() {
        assert_eq!(turns(&[100, 100, 200]), [3, 1, 2, 3]);
        assert_eq!(turns(&[0, 300, 0]), [2]);
    }

    #[test]
    fn nobody_has_a_turn_in_an_empty_pool() {
        assert_eq!(build(&[]), Vec::<Owner>::new());
        assert_eq!(build(&members(&[0, 0])), Vec::<Owner>::new());
    }

    #[test]
    fn a_pattern_that_does_not_fit_keeps_its_proportion_and_its_light_members() {
        let mut weights = vec![1; 500];
        weights.extend([65_535, 32_768]);
        let turns = turns(&weights);
        assert_eq!(turns.len(), SCHEDULE_TURNS);
        let count = |owner: Owner| turns.iter().filter(|t| **t == owner).count();
        assert!((1..=500).all(|o| count(o) == 1));
        assert_eq!((count(501), count(502)), (1_029, 515));
    }

    #[test]
    fn of_too_many_members_the_heaviest_are_served() {
        let mut weights = vec![1; 3_000];
        weights[2_999] = 2;
        assert!(build(&members(&weights)).contains(&3_000));
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let mut pool = members(&[3, 1, 4, 1, 5, 9, 2, 6]);
        let before = build(&pool);
        pool.reverse();
        assert!(build(&pool) == before);
    }

    #[test]
    fn no_window_of_a_cycle_favours_anybody_by_more_than_a_turn() {
        let weights = [3, 1, 4, 1, 5, 9, 2, 6];
        let turns = turns(&weights);
        let total: u32 = weights.iter().sum();
        for n in 1..=turns.len() {
            for (i, w) in weights.iter().enumerate() {
                let got = turns[..n].iter().filter(|t| **t == i as Owner + 1).count() as f64;
                let due = n as f64 * f64::from(*w) / f64::from(total);
                assert!((got - due).abs() <= 1.5, "after {n} turns member {i} has {got}, is due {due}");
            }
        }
    }
}
