//! One case: a sentence, a packet, how it must end, what it must become and what must be counted.

use std::net::SocketAddr;

use lb_common::slot::Owner;
use lb_common::verdict::Verdict;

use super::build::{Packet, tcp, udp};
use super::expected::{Change, bytes_of, quoted, set};
use super::layout::Field;
use super::side::Side;
use crate::ground::CLIENT_MAC;
use crate::world::{OTHER, OUR_MAC, WIRE, World};

/// What is counted besides the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as `OwnerCounters` names them")]
pub enum Event {
    Opened,
    Confirmed,
    Closed,
    Reset,
    Message,
}

/// A service, its one backend and a client of it.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// TCP or UDP.
    pub protocol: u8,
    /// Where clients connect to.
    pub vip: SocketAddr,
    /// Where the backend listens.
    pub backend: SocketAddr,
    /// The backend's owner.
    pub owner: Owner,
    /// A client on the link.
    pub client: SocketAddr,
}

impl Service {
    /// The client's packet to the VIP.
    pub fn ask(&self) -> Packet {
        self.packet(self.client, self.vip)
    }

    /// The backend's packet to the client.
    pub fn answer(&self) -> Packet {
        self.packet(self.backend, self.client)
    }

    /// A packet of the service's protocol.
    pub fn packet(&self, src: SocketAddr, dst: SocketAddr) -> Packet {
        if self.protocol == 6 { tcp(src, dst) } else { udp(src, dst) }
    }

    /// MAC addresses towards the backend.
    pub fn macs(&self) -> Vec<Change> {
        let [high, low] = self.owner.to_be_bytes();
        vec![set(Field::DstMac, &[0x02, 0, 0, 0xbe, high, low]), set(Field::SrcMac, &OUR_MAC)]
    }

    /// What nat makes of the client's packet.
    pub fn to_backend(&self) -> Vec<Change> {
        let mut changes = self.macs();
        changes.push(Change::OneHop);
        changes.push(set(Field::Dst, &bytes_of(self.backend.ip())));
        changes.push(set(Field::DstPort, &self.backend.port().to_be_bytes()));
        changes
    }

    /// What nat makes of the backend's packet.
    pub fn to_client(&self) -> Vec<Change> {
        let mut changes = to_the_client();
        changes.push(set(Field::Src, &bytes_of(self.vip.ip())));
        changes.push(set(Field::SrcPort, &self.vip.port().to_be_bytes()));
        changes
    }

    /// What nat makes of an error about the VIP's packet.
    pub fn error_to_backend(&self) -> Vec<Change> {
        let mut changes = self.macs();
        changes.push(Change::OneHop);
        changes.push(set(Field::Dst, &bytes_of(self.backend.ip())));
        changes.push(quoted(Field::Src, &bytes_of(self.backend.ip())));
        changes.push(quoted(Field::SrcPort, &self.backend.port().to_be_bytes()));
        changes
    }

    /// What nat makes of an error about the client's packet.
    pub fn error_to_client(&self) -> Vec<Change> {
        let mut changes = to_the_client();
        changes.push(set(Field::Src, &bytes_of(self.vip.ip())));
        changes.push(quoted(Field::Dst, &bytes_of(self.vip.ip())));
        changes.push(quoted(Field::DstPort, &self.vip.port().to_be_bytes()));
        changes
    }
}

/// One hop more, and on to the client's link.
pub fn to_the_client() -> Vec<Change> {
    vec![set(Field::DstMac, &CLIENT_MAC), set(Field::SrcMac, &OUR_MAC), Change::OneHop]
}

/// The program that a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// XDP, on this interface.
    Xdp(u32),
    /// TC, on an interface that XDP does not see.
    Tc,
}

/// What is sent: a frame, or one that depends on the port that snat lent to the flow before.
pub(super) enum Send {
    Frame(Vec<u8>),
    Lent(Box<dyn Fn(u16) -> Vec<u8>>),
}

/// How a case's world differs from the usual one.
type WorldChange = Box<dyn Fn(&mut World)>;

/// One case of a table.
#[must_use]
pub struct Case {
    pub(super) name: String,
    pub(super) world: Option<WorldChange>,
    pub(super) before: Vec<Vec<u8>>,
    pub(super) send: Send,
    pub(super) hook: Hook,
    pub(super) verdict: Verdict,
    pub(super) changes: Vec<Change>,
    pub(super) owner: Owner,
    pub(super) events: Vec<Event>,
    pub(super) leaves_by: u32,
    pub(super) is_sound: bool,
}

/// A case, named after the RFC's section or the behaviour that it shows.
pub fn case(side: Side, name: &str) -> Case {
    Case {
        name: format!("{name} ({})", side.name()),
        world: None,
        before: vec![],
        send: Send::Frame(vec![]),
        hook: Hook::Xdp(WIRE),
        verdict: Verdict::PassNotOurs,
        changes: vec![],
        owner: 0,
        events: vec![],
        leaves_by: WIRE,
        is_sound: true,
    }
}

impl Case {
    /// In a world that differs from the usual one.
    pub fn world(mut self, change: impl Fn(&mut World) + 'static) -> Self {
        self.world = Some(Box::new(change));
        self
    }

    /// After this packet. May be said more than once.
    pub fn after(mut self, packet: impl Into<Vec<u8>>) -> Self {
        self.before.push(packet.into());
        self
    }

    /// The packet.
    pub fn send(mut self, packet: impl Into<Vec<u8>>) -> Self {
        self.send = Send::Frame(packet.into());
        self
    }

    /// The packet, given the source port that the packet before got.
    pub fn send_to_lent(mut self, packet: impl Fn(u16) -> Packet + 'static) -> Self {
        self.send = Send::Lent(Box::new(move |port| packet(port).frame()));
        self
    }

    /// It comes in by another interface.
    pub const fn by(mut self, ifindex: u32) -> Self {
        self.hook = Hook::Xdp(ifindex);
        self
    }

    /// The TC program sees it.
    pub const fn tc(mut self) -> Self {
        self.hook = Hook::Tc;
        self
    }

    /// Its checksums or lengths are wrong on purpose: etherparse is not asked.
    pub const fn unsound(mut self) -> Self {
        self.is_sound = false;
        self
    }

    /// It leaves by another interface than usual.
    pub const fn leaves_by(mut self, ifindex: u32) -> Self {
        self.leaves_by = ifindex;
        self
    }

    /// It ends so, untouched.
    pub const fn ends(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// It is sent on with these changes.
    pub fn becomes(mut self, verdict: Verdict, changes: Vec<Change>) -> Self {
        (self.verdict, self.changes) = (verdict, changes);
        self
    }

    /// This packet is sent instead of it.
    pub fn answered(self, verdict: Verdict, packet: &Packet) -> Self {
        self.becomes(verdict, vec![Change::Answer(packet.frame())])
    }

    /// This owner's record counts it.
    pub fn counts(mut self, owner: Owner, events: &[Event]) -> Self {
        (self.owner, self.events) = (owner, events.to_vec());
        self
    }

    /// nat to the service's backend.
    pub fn forwards(self, service: &Service, events: &[Event]) -> Self {
        self.becomes(Verdict::Forward, service.to_backend()).counts(service.owner, events)
    }

    /// nat from the service's backend to its client, who is on another interface.
    pub fn replies(self, service: &Service, events: &[Event]) -> Self {
        self.becomes(Verdict::Reply, service.to_client()).counts(service.owner, events).leaves_by(OTHER)
    }

    /// An error for the service's backend.
    pub fn tells_backend(self, service: &Service) -> Self {
        self.becomes(Verdict::ForwardIcmp, service.error_to_backend())
    }

    /// An error for the service's client.
    pub fn tells_client(self, service: &Service) -> Self {
        self.becomes(Verdict::ReplyIcmp, service.error_to_client()).leaves_by(OTHER)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
