//! Seeing it: what happens to flows is told while somebody looks, packets are kept as they came and as they left, and nothing
//! remains on when nobody looks any more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use lb_agent::pure::command::Reply;
use lb_agent::pure::watch::TraceLine;
use lb_common::host::{HOST_CAPTURE, HOST_SLOW, HOST_TRACE, Host};
use lb_common::maps;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use weir_tests::client::held::Held;
use weir_tests::client::load::Load;
use weir_tests::scenario::{FAMILIES, MODES, Mode, Scenario, Setup};

const SOON: Duration = Duration::from_secs(20);

fn two(mode: Mode, family: weir_tests::lab::Family) -> Scenario {
    Setup { weights: vec![100; 2], ..Setup::new(mode, family) }.start()
}

fn wait_watched(scenario: &Scenario, watches: u64) {
    let _seen = scenario.agent.wait_until("as many look", SOON, |status| status.agent.watches == watches);
}

fn flags(scenario: &Scenario) -> u32 {
    let map = MapData::from_pin(scenario.agent.pin_dir().join(maps::HOST)).expect("HOST is pinned");
    let host: Array<_, Host> = Map::Array(map).try_into().expect("HOST is an array");
    host.get(&0, 0).expect("it has a value").flags & (HOST_TRACE | HOST_CAPTURE | HOST_SLOW)
}

fn requests(scenario: &Scenario, requests: u64) {
    Load::new(scenario.target(), requests).run(scenario.client()).assert_all_ok("while somebody looks");
}

fn lines(output: &[u8]) -> Vec<TraceLine> {
    let text = String::from_utf8(output.to_vec()).expect("JSON is text");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn a_trace_tells_the_life_of_every_flow() {
    for mode in MODES {
        for family in FAMILIES {
            let scenario = two(mode, family);
            assert_eq!(flags(&scenario), 0, "nobody looks");
            // Opened, confirmed and closed; what a DSR service's server says is not seen, and its flows linger.
            let seen_of_each = if mode == Mode::L2dsr { 2 } else { 3 };
            let count = (10 * seen_of_each).to_string();
            let trace = scenario.agent.start_cli(&["trace", "--service", "web", "--count", &count, "--output", "json"]);
            wait_watched(&scenario, 1);
            assert_eq!(flags(&scenario), HOST_TRACE | HOST_SLOW);
            requests(&scenario, 10);
            let output = scenario.agent.finish_cli(trace);
            let told = lines(&output.stdout);
            let mut of_each: BTreeMap<_, Vec<&str>> = BTreeMap::new();
            for line in &told {
                assert_eq!((line.service.as_deref(), line.protocol.as_str()), (Some("web"), "tcp"), "{line:?}");
                assert_eq!(line.vip, Some(scenario.target()), "{mode:?} {family:?}: {line:?}");
                let backend = line.backend.expect("every flow has a backend");
                assert!([scenario.backend(0), scenario.backend(1)].contains(&backend), "{line:?}");
                of_each.entry(line.client).or_default().push(&line.event);
            }
            assert_eq!(of_each.len(), 10, "{mode:?} {family:?}: {told:#?}");
            let life: &[&str] =
                if mode == Mode::L2dsr { &["opened", "confirmed"] } else { &["opened", "confirmed", "closed"] };
            assert!(of_each.values().all(|events| events == life), "{mode:?} {family:?}: {of_each:#?}");
            wait_watched(&scenario, 0);
            assert_eq!(flags(&scenario), 0, "nobody looks any more");
        }
    }
}

#[test]
fn filters_let_through_what_they_say() {
    let scenario = two(Mode::Nat, weir_tests::lab::Family::V4);
    let chosen = scenario.backend(0).to_string();
    let of_one = scenario.agent.start_cli(&["trace", "--backend", &chosen, "--count", "5", "--event", "opened"]);
    let of_nobody = scenario.agent.start_cli(&["trace", "--client", "198.51.100.0/24"]);
    let sampled = scenario.agent.start_cli(&["trace", "--sample", "1", "--event", "", "--count", "40", "-o", "json"]);
    let dropped = scenario.agent.start_cli(&["trace", "--verdict", "drop", "--count", "1"]);
    wait_watched(&scenario, 4);
    let fifth = scenario.agent.cli(&["trace"]);
    assert!(!fifth.status.success(), "four may look");
    assert!(String::from_utf8_lossy(&fifth.stderr).contains("end one of them"), "{fifth:?}");

    requests(&scenario, 40);
    let text = String::from_utf8(scenario.agent.finish_cli(of_one).stdout).expect("text");
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.lines().all(|line| line.contains(" opened ") && line.contains(&chosen)), "{text}");
    let packets = lines(&scenario.agent.finish_cli(sampled).stdout);
    assert!(packets.iter().all(|line| line.event == "packet"), "{packets:#?}");
    assert!(packets.iter().any(|l| l.from == "client") && packets.iter().any(|l| l.from == "backend"), "{packets:#?}");

    // A port that no service has.
    let nowhere = SocketAddr::new(scenario.target().ip(), 9);
    let knock =
        async move { tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect(nowhere)).await };
    drop(scenario.client().run(knock));
    let text = String::from_utf8(scenario.agent.finish_cli(dropped).stdout).expect("text");
    assert!(
        text.contains("dropped") && text.contains("drop_no_service") && text.contains(&nowhere.to_string()),
        "{text}"
    );

    let mut of_nobody = of_nobody;
    of_nobody.kill().expect("it runs");
    let output = of_nobody.wait_with_output().expect("it is dead");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    wait_watched(&scenario, 0);
    assert_eq!(flags(&scenario), 0);
}

#[test]
fn whoever_is_killed_looks_no_longer() {
    let mut scenario = two(Mode::Nat, weir_tests::lab::Family::V4);
    let mut trace = scenario.agent.start_cli(&["trace"]);
    let mut capture = scenario.agent.start_cli(&["capture", "--service", "web", "-w", "-"]);
    wait_watched(&scenario, 2);
    assert_eq!(flags(&scenario), HOST_TRACE | HOST_CAPTURE | HOST_SLOW);
    // SIGKILL.
    capture.kill().expect("it runs");
    drop(capture.wait());
    wait_watched(&scenario, 1);
    assert_eq!(flags(&scenario), HOST_TRACE | HOST_SLOW);
    trace.kill().expect("it runs");
    drop(trace.wait());
    wait_watched(&scenario, 0);
    assert_eq!(flags(&scenario), 0);

    // And where it is the agent that dies, the next one switches off what nobody listens to.
    let trace = scenario.agent.start_cli(&["trace"]);
    wait_watched(&scenario, 1);
    scenario.agent.kill();
    drop(scenario.agent.finish_cli(trace));
    assert_eq!(flags(&scenario), HOST_TRACE | HOST_SLOW);
    requests(&scenario, 20);
    scenario.agent.launch();
    assert_eq!(flags(&scenario), 0);

    // In order, it does so itself.
    let trace = scenario.agent.start_cli(&["trace"]);
    wait_watched(&scenario, 1);
    scenario.agent.terminate();
    drop(scenario.agent.finish_cli(trace));
    assert_eq!(flags(&scenario), 0);
}

#[test]
fn flows_are_listed_counted_and_found_by_their_tuple() {
    for (mode, family) in MODES.into_iter().zip([FAMILIES[0], FAMILIES[1], FAMILIES[0]]) {
        let scenario = two(mode, family);
        let held = Held::open(scenario.client(), scenario.target(), 8, &[]);
        let what = format!("{mode:?} {family:?}");
        let count = |arguments: &[&str]| -> u64 {
            let text = scenario.agent.cli_ok(&[&["flow", "count", "--output", "json"], arguments].concat());
            let Reply::FlowCounts(rows) = serde_json::from_str(&text).expect("JSON") else { panic!("{text}") };
            rows.iter().map(|row| row.flows).sum()
        };
        assert_eq!(count(&["--state", "established"]), 8, "{what}");
        let of_each =
            [0, 1].map(|index| count(&["--state", "established", "--backend", &scenario.backend(index).to_string()]));
        assert_eq!(of_each.iter().sum::<u64>(), 8, "{what}");
        assert_eq!(count(&["--protocol", "udp"]), 0, "{what}");

        let client = held.tuples()[0];
        let tuple = ["tcp", &client.to_string(), &scenario.target().to_string()].map(str::to_owned);
        let show = |tuple: &[String]| {
            let tuple: Vec<&str> = tuple.iter().map(String::as_str).collect();
            scenario.agent.cli(&[&["flow", "show"][..], &tuple].concat())
        };
        let found = show(&tuple);
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(found.status.success() && text.contains("established"), "{what}: {text}");
        let nobody = [tuple[0].clone(), SocketAddr::new(client.ip(), 1).to_string(), tuple[2].clone()];
        let missing = show(&nobody);
        assert_eq!(missing.status.code(), Some(1), "{what}");
        assert!(String::from_utf8_lossy(&missing.stdout).contains("not in the flow table"), "{what}");

        let of_client = scenario.agent.cli(&["flow", "list", "--client", &client.ip().to_string(), "--output", "json"]);
        if mode == Mode::NatSnat {
            let Reply::Flows(rows) = serde_json::from_slice(&of_client.stdout).expect("JSON") else {
                panic!("no rows")
            };
            let row = rows.iter().find(|row| row.client == Some(client));
            assert_eq!(row.and_then(|row| row.vip), Some(scenario.target()), "{what}: {rows:#?}");
        } else {
            assert!(String::from_utf8_lossy(&of_client.stderr).contains("flow show"), "{what}: {of_client:?}");
        }
        drop(held);
    }
}

/// Source, destination, and what tells a segment from others.
fn read(frame: &[u8]) -> (IpAddr, IpAddr, (u16, u16, u32)) {
    let headers = PacketHeaders::from_ethernet_slice(frame).expect("an independent reader understands it");
    let (from, to): (IpAddr, IpAddr) = match headers.net.expect("IP") {
        NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Arp(arp) => panic!("no ARP belongs to a service: {arp:?}"),
    };
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else { panic!("the service is TCP's") };
    (from, to, (tcp.source_port, tcp.destination_port, tcp.sequence_number))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one capture, read from its beginning to its end")]
fn a_capture_holds_packets_as_they_came_and_as_they_left() {
    for mode in MODES {
        for family in FAMILIES {
            let scenario = two(mode, family);
            let capture = scenario.agent.start_cli(&["capture", "--service", "web", "-w", "-", "--count", "60"]);
            wait_watched(&scenario, 1);
            requests(&scenario, 12);
            let output = scenario.agent.finish_cli(capture);
            assert!(String::from_utf8_lossy(&output.stderr).contains("60 packets captured"), "{output:?}");

            let mut reader = PcapNgReader::new(output.stdout.as_slice()).expect("it begins as pcapng does");
            let (mut names, mut seen, mut last) = (Vec::new(), BTreeMap::<_, Vec<_>>::new(), Duration::ZERO);
            let mut counted = 0;
            while let Some(block) = reader.next_block() {
                match block.expect("a whole block") {
                    Block::InterfaceDescription(place) => {
                        let name = place.options.iter().find_map(|option| match option {
                            InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                            _ => None,
                        });
                        names.push(name.expect("every interface has a name"));
                        assert!(place.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                    }
                    Block::EnhancedPacket(packet) => {
                        let name = &names[packet.interface_id as usize];
                        let comment = packet.options.iter().find_map(|option| match option {
                            EnhancedPacketOption::Comment(comment) => Some(comment.to_string()),
                            _ => None,
                        });
                        assert!(comment.is_some_and(|words| words.contains(" web ")), "who and why");
                        assert_eq!(packet.original_len as usize, packet.data.len(), "whole packets");
                        last = last.max(packet.timestamp);
                        seen.entry(name.rsplit(' ').next().expect("a word").to_owned())
                            .or_default()
                            .push(read(&packet.data));
                    }
                    Block::InterfaceStatistics(_) => counted += 1,
                    _ => {}
                }
            }
            let what = format!("{mode:?} {family:?}: {names:?}");
            let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
            assert!(
                now.checked_sub(last).is_some_and(|ago| ago < Duration::from_secs(120)),
                "{what}: the time is the wall clock's"
            );
            assert!(counted >= names.len(), "{what}: losses are told of");
            let (came, left) = (&seen["in"], &seen["out"]);
            let vip = scenario.target().ip();
            let backends = [0, 1].map(|index| scenario.backend(index).ip());
            let to_vip = came.iter().filter(|(_, to, _)| *to == vip).count();
            assert!(to_vip >= 5, "{what}: {came:?}");
            if mode == Mode::L2dsr {
                assert_eq!(to_vip, came.len(), "{what}: only the client's half comes by");
                assert!(left.iter().all(|(_, to, _)| *to == vip), "{what}: {left:?}");
                continue;
            }
            assert!(left.iter().any(|(_, to, _)| backends.contains(to)), "{what}: {left:?}");
            assert!(left.iter().all(|(from, to, _)| backends.contains(to) || *from == vip), "{what}: {left:?}");
            assert!(came.iter().any(|(from, _, _)| backends.contains(from)), "{what}: {came:?}");
            // What goes to a backend came to the VIP: the same segment.
            let rewritten = left.iter().filter(|(_, to, _)| backends.contains(to));
            for (_, _, (_, _, sequence)) in rewritten {
                assert!(came.iter().any(|(_, to, (_, _, s))| *to == vip && s == sequence), "{what}: {sequence}");
            }
        }
    }
}
