//! `unload` leaves the host as it was: no program, map, link, pin, address, route, queueing discipline or sysctl stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};
use weir_tests::client::load::Load;
use weir_tests::lab::{Family, Lab};
use weir_tests::netns::Netns;
use weir_tests::scenario::{MODES, Mode, Scenario, Setup};

/// The kernel frees what is no longer used after a grace period.
const FREED_WITHIN: Duration = Duration::from_secs(10);

/// What can be seen of a machine's network.
fn seen(machine: &Netns) -> String {
    let mut seen = String::new();
    for arguments in ["-o link", "-o addr", "route show table all", "-6 route show table all", "-4 rule", "-6 rule"] {
        // Carrier counters and expiry times move by themselves; names, flags, programs and addresses do not.
        let mut lines: Vec<String> = machine.ip_shows(arguments).lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        seen += &lines.join("\n");
    }
    let sysctls = machine.call(|| sysctls(Path::new("/proc/sys/net")));
    seen + &sysctls.join("\n")
}

fn sysctls(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("/proc/sys/net can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(sysctls(&path));
        } else if !path.ends_with("netfilter/nf_conntrack_count") {
            all.push(format!("{} = {}", path.display(), fs::read_to_string(&path).unwrap_or_default().trim()));
        }
    }
    all.sort();
    all
}

/// Ids of the programs, maps and links that are the agent's: those its file descriptors name, the links on the balancer's
/// programs, and the maps that those programs use.
fn ours(scenario: &Scenario) -> BTreeSet<Id> {
    let folder = format!("/proc/{}/fdinfo", scenario.agent.pid());
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the agent lives").flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let Ok(id) = value.trim().parse() else { continue };
            let _ = match key {
                "prog_id" => ids.insert(Id::Program(id)),
                "map_id" => ids.insert(Id::Map(id)),
                "link_id" => ids.insert(Id::Link(id)),
                _ => false,
            };
        }
    }
    let programs = loaded_programs().flatten().filter(|program| ids.contains(&Id::Program(program.id())));
    let maps: Vec<Id> = programs.filter_map(|p| p.map_ids().ok().flatten()).flatten().map(Id::Map).collect();
    ids.extend(maps);
    ids
}

/// A program, map or link of this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Program(u32),
    Map(u32),
    Link(u32),
}

/// All of them, whoever's they are.
fn loaded() -> BTreeSet<Id> {
    let programs = loaded_programs().flatten().map(|program| Id::Program(program.id()));
    let maps = loaded_maps().flatten().map(|map| Id::Map(map.id()));
    let links = loaded_links().flatten().map(|link| Id::Link(link.id()));
    programs.chain(maps).chain(links).collect()
}

fn machines(lab: &Lab) -> Vec<String> {
    std::iter::once(&*lab.balancer).chain(&lab.backends).map(seen).collect()
}

#[test]
fn unload_leaves_the_host_as_it_was() {
    for mode in MODES {
        let mut scenario = Setup { udp: true, ..Setup::new(mode, Family::V4) }.prepare();
        let before = machines(&scenario.lab);
        scenario.agent.launch();
        scenario.wait_all_up();
        Load::new(scenario.target(), 200).run(scenario.client()).assert_all_ok("before unload");
        let ours = ours(&scenario);
        assert!(ours.iter().any(|id| matches!(id, Id::Map(_))), "the agent holds maps: {ours:?}");
        assert!(scenario.agent.pin_dir().exists());

        let said = scenario.agent.unload();
        eprintln!("{mode:?}: {said}");
        assert!(!scenario.agent.pin_dir().exists(), "the pins are gone");
        for (before, after) in before.iter().zip(machines(&scenario.lab)) {
            let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), after.lines().collect());
            let difference: Vec<_> = before.symmetric_difference(&after).collect();
            assert!(difference.is_empty(), "{mode:?}: {difference:#?}");
        }
        let deadline = Instant::now() + FREED_WITHIN;
        loop {
            let left: Vec<_> = ours.intersection(&loaded()).copied().collect();
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{mode:?}: left are {left:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn unload_cleans_up_after_a_killed_agent() {
    let mut scenario = Setup::new(Mode::Nat, Family::V4).prepare();
    let before = seen(&scenario.lab.balancer);
    scenario.agent.launch();
    scenario.wait_all_up();
    scenario.agent.kill();
    let _ = scenario.agent.unload();
    assert!(!scenario.agent.pin_dir().exists(), "the pins are gone");
    assert_eq!(before, seen(&scenario.lab.balancer));
}
