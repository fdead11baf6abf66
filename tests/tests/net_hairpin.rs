//! Clients on the backends' own link, and a backend that is its own client: their answers would bypass us, so they are
//! given one of our addresses, without being asked for it.

use weir_tests::client::load::Load;
use weir_tests::client::udp::Flows;
use weir_tests::lab::Nics;
use weir_tests::scenario::{FAMILIES, Mode, Setup};

#[test]
fn a_backend_is_a_client_like_others() {
    for nics in [Nics::One, Nics::Two] {
        for family in FAMILIES {
            let scenario = Setup { nics, udp: true, weights: vec![100; 3], ..Setup::new(Mode::Nat, family) }.start();
            let load = Load { concurrency: 8, ..Load::new(scenario.target(), 600) };
            let tally = load.run(&scenario.lab.backends[0]);
            let what = format!("{nics:?} {family:?}, drops {:?}", scenario.drops());
            tally.assert_all_ok(&what);
            assert!(tally.share("b1") > 100, "it is its own client too: {:?}", tally.shares);
            assert!(tally.share("b2") > 100, "{:?}", tally.shares);
            let flows = Flows { target: scenario.target(), flows: 30, datagrams: 10, size: 0 };
            let tally = flows.run(&scenario.lab.backends[1]);
            assert_eq!(
                (tally.answered, tally.lost, tally.moved, tally.wrong.len()),
                (300, 0, 0, 0),
                "{what}: {tally:?}"
            );
        }
    }
}

#[test]
fn a_client_on_the_backends_link_is_served_beside_those_from_afar() {
    for family in FAMILIES {
        let scenario = Setup { nics: Nics::One, spare: 1, ..Setup::new(Mode::Nat, family) }.start();
        // The spare machine serves nobody: it is a neighbour of the backends.
        let near = Load::new(scenario.target(), 1_000).start(&scenario.lab.backends[4]);
        let far = Load::new(scenario.target(), 1_000).run(scenario.client());
        far.assert_all_ok("from afar");
        near.await_end().assert_all_ok("from the backends' link");
    }
}
