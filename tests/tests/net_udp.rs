//! Datagrams through the VIP: each flow on one backend, answers from the VIP, fragments in both directions.

use std::time::Duration;

use weir_tests::client::udp::Flows;
use weir_tests::lab::Nics;
use weir_tests::scenario::{DNS, FAMILIES, MODES, Mode, Setup};

#[test]
fn flows_stay_on_their_backend_and_answers_come_from_the_vip() {
    for mode in MODES {
        for family in FAMILIES {
            let mut scenario = Setup { udp: true, ..Setup::new(mode, family) }.start();
            // Until then datagrams of unknown flows go to the backend that was up first: they might be older than the others.
            let _ = scenario.wait_settled(Duration::from_secs(10));
            let flows = Flows { target: scenario.target(), flows: 100, datagrams: 200, size: 0 };
            let tally = flows.run(scenario.client());
            eprintln!(
                "{mode:?} {family:?}: {} of 20000 answered, {} moved, {:?}",
                tally.answered, tally.moved, tally.shares
            );
            assert_eq!(tally.wrong, Vec::<String>::new(), "{mode:?} {family:?}: answers come from the VIP");
            assert_eq!((tally.answered, tally.lost, tally.moved), (20_000, 0, 0), "{mode:?} {family:?}: {tally:?}");
            assert_eq!(tally.shares.len(), 4, "100 flows meet all backends: {:?}", tally.shares);
            let served: u64 = (0..4).map(|index| scenario.server(index).datagrams()).sum();
            assert_eq!(served, 20_000, "no datagram was doubled");
            let dns = scenario.agent.service(DNS);
            assert_eq!(dns.backends.iter().map(|b| b.new_flows).sum::<u64>(), 100, "{dns:#?}");
            // Two flows may share a flag of the epoch's bitmap: the later one is confirmed an epoch later than its second datagram.
            assert!(dns.active_flows >= 97 && dns.active_flows + dns.half_open_flows == 100, "{dns:#?}");
        }
    }
}

#[test]
fn fragments_follow_their_head_in_both_directions() {
    for mode in MODES {
        for family in FAMILIES {
            for nics in [Nics::One, Nics::Two] {
                if mode == Mode::L2dsr && nics == Nics::Two {
                    continue; // l2dsr's backends answer through the router: they are on its link.
                }
                let scenario = Setup { udp: true, nics, ..Setup::new(mode, family) }.start();
                let flows = Flows { target: scenario.target(), flows: 20, datagrams: 10, size: 4_000 };
                let tally = flows.run(scenario.client());
                let what = format!("{mode:?} {family:?} {nics:?}: {tally:?}, drops {:?}", scenario.drops());
                assert_eq!((tally.answered, tally.lost, tally.moved, tally.wrong.len()), (200, 0, 0, 0), "{what}");
            }
        }
    }
}
