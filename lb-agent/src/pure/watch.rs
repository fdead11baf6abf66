//! What an operator looks at, in names; and what the packet path is asked for it, in numbers. The names are what is wanted: they
//! are looked up anew whenever the ledger changes, and a question about what is not there is asked of nobody.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use lb_common::trace::{
    ANY_SERVICE, EVENT_DROPPED, EVENT_PACKET, EVENTS, MAX_SNAPLEN, TAP_AFTER, TAP_BEFORE, TAP_ON, TAPS, Tap, words,
};
use lb_common::verdict::Verdict;
use serde::{Deserialize, Serialize};

use super::command::Refusal;
use super::ledger::Ledger;
use super::tables::address;

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    addr: IpAddr,
    len: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network: wanted an address, or address/length such as 192.0.2.0/24");
        let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let len = len.map_or(Ok(most), |len| len.parse().map_err(|_| wrong()))?;
        if len > most { Err(wrong()) } else { Ok(Self { addr, len }) }
    }
}

impl Network {
    /// Address and mask, in words of the packet path's.
    fn words(self) -> ([u32; 4], [u32; 4]) {
        let len = if self.addr.is_ipv4() { u32::from(self.len) + 96 } else { u32::from(self.len) };
        let mask = lb_common::endpoint::Address((u128::MAX.checked_shl(128 - len).unwrap_or(0)).to_be_bytes());
        let (net, mask) = (words(&address(self.addr)), words(&mask));
        ([net[0] & mask[0], net[1] & mask[1], net[2] & mask[2], net[3] & mask[3]], mask)
    }

    /// Whether an address lies in it.
    pub fn contains(self, addr: IpAddr) -> bool {
        let ((net, mask), a) = (self.words(), words(&address(addr)));
        (0..4).all(|i| a[i] & mask[i] == net[i])
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Only of this service.
    pub service: Option<String>,
    /// Only of this backend.
    pub backend: Option<SocketAddr>,
    /// Only of clients in this network.
    pub client: Option<Network>,
    /// Only packets that end so; empty: every end of a packet of ours.
    pub verdicts: Vec<Verdict>,
    /// `EVENT_*` bits.
    pub events: u16,
    /// Every how many packets of a CPU one is told of; 0: none.
    pub sample: u32,
    /// Packets as they came.
    pub before: bool,
    /// Packets as they leave.
    pub after: bool,
    /// Bytes kept of a packet.
    pub snaplen: u32,
}

impl Watch {
    /// The number of a service or backend that is looked for; `None`: of any.
    ///
    /// # Errors
    /// What it names is not there, or not unique.
    fn ids(&self, ledger: &Ledger) -> Result<(u16, Option<u16>), Refusal> {
        let service = match &self.service {
            Some(name) => Some(ledger.service(name).ok_or_else(|| {
                Refusal::NotFound(format!("no service \"{name}\"; `lb-agent service list` shows them"))
            })?),
            None => None,
        };
        let id = service.map_or(ANY_SERVICE, |s| s.id);
        let Some(addr) = self.backend else { return Ok((id, None)) };
        let services = ledger.services().values().filter(|s| id == ANY_SERVICE || s.id == id);
        let found: Vec<_> =
            services.flat_map(|s| s.members.iter().map(move |m| (s, m))).filter(|(_, m)| m.addr == addr).collect();
        match found[..] {
            [(service, member)] => Ok((service.id, Some(member.owner))),
            [] => Err(Refusal::NotFound(format!("no backend {addr}; `lb-agent backend list` shows them"))),
            _ => Err(Refusal::Invalid(format!("{addr} serves several services: say which one, with `service`"))),
        }
    }

    /// What the packet path is asked.
    ///
    /// # Errors
    /// As for the names in it.
    pub fn tap(&self, ledger: &Ledger) -> Result<Tap, Refusal> {
        let (service, owner) = self.ids(ledger)?;
        let (client, client_mask) = self.client.map(Network::words).unwrap_or_default();
        let mut flags = TAP_ON;
        flags |= if self.before { TAP_BEFORE } else { 0 };
        flags |= if self.after { TAP_AFTER } else { 0 };
        let verdicts = self.verdicts.iter().fold(0, |bits, verdict| bits | 1 << *verdict as u8);
        Ok(Tap {
            verdicts: if verdicts == 0 { Tap::OPEN.verdicts } else { verdicts },
            client,
            client_mask,
            snaplen: self.snaplen.min(u32::try_from(MAX_SNAPLEN).unwrap_or(u32::MAX)),
            service,
            owner: owner.unwrap_or(Tap::OPEN.owner),
            events: self.events,
            flags,
            sample: self.sample,
            ..Tap::OPEN
        })
    }
}

/// Those who look, by the number of their tap.
#[derive(Clone, Debug, Default)]
pub struct Watches([Option<Watch>; TAPS]);

impl Watches {
    /// One more; its number.
    ///
    /// # Errors
    /// Everybody's taps are taken.
    pub fn open(&mut self, watch: Watch) -> Result<u8, Refusal> {
        let free = self.0.iter().position(Option::is_none).ok_or_else(|| {
            Refusal::Conflict(format!("{TAPS} traces and captures run already, and no more fit: end one of them first"))
        })?;
        self.0[free] = Some(watch);
        u8::try_from(free).map_err(|e| Refusal::Failed(e.to_string()))
    }

    /// One less.
    pub fn close(&mut self, tap: u8) {
        if let Some(place) = self.0.get_mut(usize::from(tap)) {
            *place = None;
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Watch)> {
        (0_u8..).zip(&self.0).filter_map(|(tap, watch)| Some((tap, watch.as_ref()?)))
    }
}

/// Events by their names.
///
/// # Errors
/// In words, which name is none.
pub fn events(names: &str) -> Result<u16, String> {
    names.split(',').filter(|name| !name.is_empty()).try_fold(0, |bits, name| {
        let found = EVENTS.iter().find(|(bit, known)| *known == name && *bit != EVENT_PACKET);
        found.map(|(bit, _)| bits | bit).ok_or_else(|| {
            let names: Vec<_> = EVENTS.iter().filter(|(bit, _)| *bit != EVENT_PACKET).map(|(_, name)| *name).collect();
            format!("{name:?} is no event; there are: {}", names.join(", "))
        })
    })
}

/// Verdicts by their names; `drop` stands for all that begin so.
///
/// # Errors
/// In words, which name is none.
pub fn verdicts(names: &str) -> Result<Vec<Verdict>, String> {
    let mut found = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let is_it = |v: &&Verdict| v.name() == name || (name == "drop" && v.name().starts_with("drop_"));
        let known = found.len();
        found.extend(Verdict::ALL.iter().filter(is_it));
        if found.len() == known {
            let names: Vec<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
            return Err(format!("{name:?} is no verdict; there are: drop (all that drop), {}", names.join(", ")));
        }
    }
    Ok(found)
}

/// What is told of where nobody says what: everything that happens to flows, and drops.
pub fn all_events() -> u16 {
    EVENTS.iter().map(|(bit, _)| bit).fold(0, |bits, bit| bits | bit) & !EVENT_PACKET
}

/// One line of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When: RFC 3339, with nanoseconds.
    pub time: String,
    /// What: `opened`, `confirmed`, `closed`, `reset`, `refused`, `evicted`, `moved`, `dropped`, `packet`.
    pub event: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or a number.
    pub protocol: String,
    /// The client; port 0 where it is not known (an ICMP error, a later fragment).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// The VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<SocketAddr>,
    /// `client` or `backend`: who sent the packet.
    pub from: String,
    /// Service, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Backend, where it goes to or comes from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// How the packet ended.
    pub verdict: String,
    /// Length of the IP packet, bytes.
    pub bytes: u32,
    /// Interface it came in by.
    pub interface: String,
}

/// A line that tells of what is missing: records that found no room, since the trace began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostLine {
    /// How many.
    pub lost: u64,
}

/// Whether a filter of events can ever show something.
pub const fn is_silent(events: u16, sample: u32) -> bool {
    events & !EVENT_PACKET == 0 && sample == 0
}

const _: () = assert!(EVENT_DROPPED > 0xff, "flow events are the tally's bits");

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_of_both_families_hold_what_lies_in_them() {
        for (net, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
        ] {
            assert!(network(net).contains(inside.parse().unwrap()), "{net} {inside}");
            assert!(!network(net).contains(outside.parse().unwrap()), "{net} {outside}");
        }
        assert!(network("::/0").contains("192.0.2.1".parse().unwrap()), "mapped: every client there is");
        for wrong in ["192.0.2.0/33", "192.0.2", "::/129", "a/8", "192.0.2.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_are_none_are_answered_with_those_there_are() {
        assert_eq!(events("opened,closed").unwrap().count_ones(), 2);
        assert!(events("opend").unwrap_err().contains("opened"));
        assert!(events("packet").is_err(), "that is what `sample` is for");
        assert_eq!(verdicts("drop_ttl,forward").unwrap(), [Verdict::DropTtl, Verdict::Forward]);
        assert!(verdicts("drop").unwrap().len() > 10);
        assert!(verdicts("dropped").unwrap_err().contains("drop_ttl"));
    }

    #[test]
    fn the_fifth_who_looks_is_refused_until_another_has_gone() {
        let watch = Watch {
            service: None,
            backend: None,
            client: None,
            verdicts: Vec::new(),
            events: all_events(),
            sample: 0,
            before: false,
            after: false,
            snaplen: 0,
        };
        let mut watches = Watches::default();
        let taps: Vec<_> = (0..TAPS).map(|_| watches.open(watch.clone()).unwrap()).collect();
        assert_eq!(taps, [0, 1, 2, 3]);
        assert!(matches!(watches.open(watch.clone()), Err(Refusal::Conflict(_))));
        watches.close(2);
        assert_eq!(watches.open(watch).unwrap(), 2);
    }
}
