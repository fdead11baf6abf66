//! What is measured: the list of cases, and which of them were asked for. Pure.

use lb_common::service::{
    FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN,
    TRACKING_FULL, TRACKING_MINIMAL,
};

use super::generator::Traffic;

/// `forward` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forward {
    /// `nat`, without `snat`.
    Nat,
    /// `l2dsr`.
    L2dsr,
    /// `ipip`, IPv4 in IPv4.
    Ipip,
    /// `gue`, in IPv4.
    Gue,
}

/// `select` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Select {
    /// `maglev`.
    Maglev,
    /// `round_robin`.
    RoundRobin,
    /// `least_conn`.
    LeastConn,
}

/// `tracking` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracking {
    /// `full`.
    Full,
    /// `minimal`.
    Minimal,
}

/// The service that packets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// How it forwards.
    pub forward: Forward,
    /// How it selects.
    pub select: Select,
    /// What it tracks.
    pub tracking: Tracking,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data of established flows, every slot settled.
    Data,
    /// The same with PSH set.
    Push,
    /// Data of established flows, every tenth slot in transition.
    Transition,
    /// SYNs of new flows into an empty table, as many as it was made for.
    Syn,
    /// Data of established flows, and as many SYNs of new ones.
    Flood,
    /// No packets: the agent's sweep over so many live flows.
    Sweep,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// `forward/select/tracking/flows/kind`.
    pub name: String,
    /// Whose packets; `None`: the peer's.
    pub service: Option<Service>,
    /// Established flows.
    pub flows: u32,
    /// What happens.
    pub kind: Kind,
}

/// Flows that are there at once, at most: the stated capacity of the tables that are measured.
pub const MOST_FLOWS: u32 = 1_000_000;

const FLOWS: [u32; 4] = [1, 10_000, 100_000, MOST_FLOWS];

/// Established flows under a flood.
const FLOODED_FLOWS: u32 = 100_000;

impl Forward {
    const ALL: [Self; 3] = [Self::Ipip, Self::Nat, Self::L2dsr];

    /// As configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::L2dsr => "l2dsr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }

    /// As the packet path knows it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Nat => FORWARD_NAT,
            Self::L2dsr => FORWARD_L2DSR,
            Self::Ipip => FORWARD_IPIP,
            Self::Gue => FORWARD_GUE,
        }
    }
}

impl Select {
    /// As configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round_robin",
            Self::LeastConn => "least_conn",
        }
    }

    /// As the packet path knows it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Maglev => SELECT_MAGLEV,
            Self::RoundRobin => SELECT_ROUND_ROBIN,
            Self::LeastConn => SELECT_LEAST_CONN,
        }
    }
}

impl Tracking {
    /// As configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Minimal => "minimal",
        }
    }

    /// As the packet path knows it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Full => TRACKING_FULL,
            Self::Minimal => TRACKING_MINIMAL,
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Push => "psh",
            Self::Transition => "transition",
            Self::Syn => "syn",
            Self::Flood => "flood",
            Self::Sweep => "sweep",
        }
    }
}

impl Case {
    fn new(service: Service, flows: u32, kind: Kind) -> Self {
        let Service { forward, select, tracking } = service;
        let name = [forward.name(), select.name(), tracking.name(), &flows_name(flows), kind.name()].join("/");
        Self { name, service: Some(service), flows, kind }
    }

    fn of_peer(flows: u32, kind: Kind) -> Self {
        Self { name: ["peer", &flows_name(flows), kind.name()].join("/"), service: None, flows, kind }
    }

    /// What is sent to measure it; `None`: nothing.
    pub const fn traffic(&self) -> Option<Traffic> {
        match self.kind {
            Kind::Data | Kind::Transition => Some(Traffic::Data(self.flows)),
            Kind::Push => Some(Traffic::Push(self.flows)),
            Kind::Syn => Some(Traffic::Syn),
            Kind::Flood => Some(Traffic::Flood(self.flows)),
            Kind::Sweep => None,
        }
    }

    /// The service's `forward`.
    pub const fn forward(&self) -> &'static str {
        match self.service {
            Some(service) => service.forward.name(),
            None => "ipip",
        }
    }

    /// The service's `select`.
    pub const fn select(&self) -> &'static str {
        match self.service {
            Some(service) => service.select.name(),
            None => "maglev",
        }
    }

    /// The service's `tracking`.
    pub const fn tracking(&self) -> &'static str {
        match self.service {
            Some(service) => service.tracking.name(),
            None => "lru",
        }
    }

    /// Share of the ring.
    pub const fn slots_in_transition_percent(&self) -> u8 {
        if matches!(self.kind, Kind::Transition) { 10 } else { 0 }
    }

    /// What the packets are, in a word.
    pub const fn packet(&self) -> &'static str {
        match self.kind {
            Kind::Data | Kind::Transition => "tcp data",
            Kind::Push => "tcp data, psh",
            Kind::Syn => "tcp syn",
            Kind::Flood => "tcp data and syn",
            Kind::Sweep => "none",
        }
    }
}

/// A number of flows as people say it: 10k, 1M.
pub fn flows_name(flows: u32) -> String {
    match flows {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

/// Every case, in the order in which they are shown. The peer's are there where there is a peer.
pub fn all(has_peer: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    if has_peer {
        cases.extend(FLOWS.iter().map(|flows| Case::of_peer(*flows, Kind::Data)));
        cases.push(Case::of_peer(MOST_FLOWS, Kind::Syn));
    }
    for forward in Forward::ALL {
        let service = |select, tracking| Service { forward, select, tracking };
        let ring = [service(Select::Maglev, Tracking::Full), service(Select::Maglev, Tracking::Minimal)];
        let table = [service(Select::LeastConn, Tracking::Full), service(Select::RoundRobin, Tracking::Full)];
        let mut add = |services: &[Service], flows: &[u32], kind| {
            for service in services {
                cases.extend(flows.iter().map(|flows| Case::new(*service, *flows, kind)));
            }
        };
        add(&ring, &FLOWS, Kind::Data);
        add(&table, &FLOWS, Kind::Data);
        add(&ring[..1], &[1, MOST_FLOWS], Kind::Push);
        add(&ring, &FLOWS, Kind::Transition);
        add(&ring, &[MOST_FLOWS], Kind::Syn);
        add(&table, &[MOST_FLOWS], Kind::Syn);
    }
    let gue = Service { forward: Forward::Gue, select: Select::Maglev, tracking: Tracking::Full };
    cases.extend([1, MOST_FLOWS].map(|flows| Case::new(gue, flows, Kind::Data)));
    for select in [Select::Maglev, Select::LeastConn] {
        let service = Service { forward: Forward::Nat, select, tracking: Tracking::Full };
        cases.push(Case::new(service, FLOODED_FLOWS, Kind::Flood));
    }
    let service = Service { forward: Forward::Nat, select: Select::Maglev, tracking: Tracking::Full };
    cases.push(Case::new(service, MOST_FLOWS, Kind::Sweep));
    cases
}

/// Cases whose name is or contains one of `wanted`; all of them where nothing is wanted. A word that is some case's whole name
/// stands for that one alone.
///
/// # Errors
/// A word that no case's name contains, with all names.
pub fn choose(cases: Vec<Case>, wanted: &[String]) -> Result<Vec<Case>, String> {
    if wanted.is_empty() {
        return Ok(cases);
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    if let Some(word) = wanted.iter().find(|word| !names.iter().any(|name| name.contains(word.as_str()))) {
        return Err(format!("no case is called {word}; there are:\n  {}", names.join("\n  ")));
    }
    let is_whole: Vec<bool> = wanted.iter().map(|word| names.contains(&word.as_str())).collect();
    let is_chosen = |case: &Case| {
        wanted
            .iter()
            .zip(&is_whole)
            .any(|(word, whole)| case.name == *word || (!whole && case.name.contains(word.as_str())))
    };
    Ok(cases.iter().filter(|case| is_chosen(case)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn chosen(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
        choose(all(false), &wanted).unwrap().into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = all(true);
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        assert_eq!(choose(all(true), &[]).unwrap(), cases);
        assert_eq!(all(false).len() + 5, cases.len());
    }

    #[test]
    fn a_whole_name_chooses_one_case_and_a_part_all_that_have_it() {
        assert_eq!(chosen(&["nat/maglev/full/1/data"]), ["nat/maglev/full/1/data"]);
        assert_eq!(chosen(&["sweep", "nat/maglev/full/1M/d"]), ["nat/maglev/full/1M/data", "nat/maglev/full/1M/sweep"]);
    }

    #[test]
    fn a_word_that_is_in_no_name_is_refused_with_the_names_that_there_are() {
        let error = choose(all(false), &["nat".to_owned(), "gre".to_owned()]).unwrap_err();
        assert!(error.starts_with("no case is called gre; there are:\n  ipip/maglev/full/1/data\n"), "{error}");
    }

    #[test]
    fn numbers_of_flows_are_said_as_people_say_them() {
        assert_eq!([1, 999, 10_000, 1_500, 1_000_000].map(flows_name), ["1", "999", "10k", "1500", "1M"]);
    }
}
