//! The two netlink sockets: one for questions and their answers, one for notifications.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use tokio::time::timeout;

use super::NetlinkError;
use super::decode::{self, Event, Link, NeighbourKey, Route};
use super::keeper::OURS;

/// The kernel answers inside `sendmsg`; what takes this long will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries for a dump that was interrupted by changes. Each has cost a whole dump; after that many we take what we have, and the
/// notifications of those very changes mend it.
const DUMP_TRIES: usize = 5;
/// Receive buffer for notifications, in bytes: a thousand neighbours that change at once need about 700 KiB of socket memory.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;
/// Everything that a next hop depends on.
const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Denial {
    /// The kernel said no.
    Refused(io::Error),
    /// The socket no longer works.
    Broken(NetlinkError),
}

impl Denial {
    fn listing(self, what: &'static str) -> NetlinkError {
        match self {
            Self::Refused(source) => NetlinkError::Refused { what, source },
            Self::Broken(error) => error,
        }
    }
}

/// Questions, one at a time.
pub(super) struct Requests {
    socket: TokioSocket,
    sequence: u32,
}

impl Requests {
    /// A socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: TokioSocket::new(NETLINK_ROUTE).map_err(NetlinkError::Open)?, sequence: 0 })
    }

    /// The interface called `name`.
    pub(super) async fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(decode::event).and_then(|event| match event {
                Event::Link(link) => Some(link),
                _ => None,
            })),
            // ENODEV; EINVAL and ERANGE for what can be no name.
            Err(Denial::Refused(error))
                if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ERANGE)) =>
            {
                Ok(None)
            }
            Err(denial) => Err(denial.listing("an interface")),
        }
    }

    /// Every interface.
    pub(super) async fn dump_links(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.dump(RouteNetlinkMessage::GetLink(message), "interfaces").await
    }

    /// Every address of this host.
    pub(super) async fn dump_addresses(&mut self) -> Result<Vec<Event>, NetlinkError> {
        self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), "addresses").await
    }

    /// Every neighbour entry, ARP and IPv6.
    pub(super) async fn dump_neighbours(&mut self) -> Result<Vec<Event>, NetlinkError> {
        self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), "neighbours").await
    }

    /// The kernel's routing decision for packets of this host to `address`.
    pub(super) async fn route(&mut self, address: IpAddr) -> Result<Route, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        match self.ask(RouteNetlinkMessage::GetRoute(message), 0).await {
            Ok(answers) => Ok(answers
                .iter()
                .find_map(|answer| match answer {
                    RouteNetlinkMessage::NewRoute(found) => Some(decode::route(found)),
                    _ => None,
                })
                .unwrap_or_else(|| Route::Unroutable("kernel's route cannot be read".to_owned()))),
            Err(Denial::Refused(error)) => Ok(Route::Unroutable(match error.raw_os_error() {
                // EINVAL: a blackhole route.
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL) => "no route to host".to_owned(),
                Some(libc::EACCES) => "route prohibits it".to_owned(),
                _ => format!("kernel gives no route: {error}"),
            })),
            Err(Denial::Broken(error)) => Err(error),
        }
    }

    /// Has the kernel resolve a neighbour now and keep it fresh, marked as ours. Kernels before 5.16 only resolve it.
    pub(super) async fn manage_neighbour(&mut self, key: NeighbourKey) -> Result<(), Denial> {
        let mut message = neighbour(key);
        // As Cilium does. Without a MAC address and with NTF_USE the entry is made if it is missing and keeps its state
        // if it is not; the kernel then starts to resolve it.
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Protocol(OURS));
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.ask(RouteNetlinkMessage::NewNeighbour(message), flags).await.map(drop)
    }

    /// Deletes a neighbour entry; the kernel makes a plain one when it next sends there.
    pub(super) async fn delete_neighbour(&mut self, key: NeighbourKey) -> Result<(), Denial> {
        self.ask(RouteNetlinkMessage::DelNeighbour(neighbour(key)), NLM_F_ACK).await.map(drop)
    }

    async fn dump(&mut self, message: RouteNetlinkMessage, what: &'static str) -> Result<Vec<Event>, NetlinkError> {
        let answers = self.ask(message, NLM_F_DUMP).await.map_err(|denial| denial.listing(what))?;
        Ok(answers.iter().filter_map(decode::event).collect())
    }

    /// Sends `message` and collects what is answered, until the end of it.
    async fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Denial> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut answer = Answer::default();
        for _ in 0..DUMP_TRIES {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            answer = timeout(ANSWER_TIMEOUT, self.exchange(&bytes))
                .await
                .map_err(io::Error::from)
                .and_then(|answer| answer)
                .map_err(|source| Denial::Broken(NetlinkError::Socket { doing: "waiting for an answer", source }))?;
            if !answer.interrupted {
                break;
            }
        }
        match answer.refused {
            Some(error) => Err(Denial::Refused(error)),
            None => Ok(answer.messages),
        }
    }

    async fn exchange(&self, bytes: &[u8]) -> io::Result<Answer> {
        let kernel = SocketAddr::new(0, 0);
        let sent = self.socket.send_to(bytes, &kernel).await?;
        debug_assert_eq!(sent, bytes.len(), "netlink datagrams are sent whole or not at all");
        let mut answer = Answer::default();
        while !answer.complete {
            let (datagram, _from) = self.socket.recv_from_full().await?;
            for raw in split(&datagram) {
                // Else it is the late answer to a question that we gave up.
                if raw.sequence_number() == self.sequence {
                    answer.take(&raw);
                }
            }
        }
        Ok(answer)
    }
}

/// The answer to one request, as it comes in.
#[derive(Debug, Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    refused: Option<io::Error>,
    interrupted: bool,
    complete: bool,
}

impl Answer {
    fn take(&mut self, raw: &NetlinkBuffer<&[u8]>) {
        self.interrupted |= raw.flags() & NLM_F_DUMP_INTR != 0;
        let single = raw.flags() & NLM_F_MULTIPART == 0;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(raw.clone().into_inner())
            .map(|message| message.payload)
        {
            Ok(NetlinkPayload::InnerMessage(message)) => {
                self.messages.push(message);
                self.complete |= single;
            }
            Ok(NetlinkPayload::Error(error)) => {
                // No code: an acknowledgement.
                self.refused = error.code.map(|_| error.to_io());
                self.complete = true;
            }
            Ok(NetlinkPayload::Done(done)) => {
                self.refused = (done.code < 0).then(|| io::Error::from_raw_os_error(-done.code));
                self.complete = true;
            }
            Ok(_) => {}
            // One line of a dump that the library does not understand; what depends on it will say that it is missing.
            Err(_) => self.complete |= single,
        }
    }
}

/// What came in on the notification socket.
#[derive(Debug)]
pub(super) enum Notice {
    /// Changes, in order.
    Events(Vec<Event>),
    /// There were changes that we cannot know: the buffer overflowed (`ENOBUFS`), or one could not be read.
    Lost,
}

/// Notifications of the groups in [`GROUPS`].
pub(super) struct Notifications {
    socket: TokioSocket,
}

impl Notifications {
    /// Subscribes in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        let inner = socket.socket_mut();
        // Beyond rmem_max only with CAP_NET_ADMIN; without it the default has to do, and an overflow only costs a dump.
        if setsockopt(&inner.as_fd(), sockopt::RcvBufForce, &EVENT_BUFFER).is_err() {
            drop(inner.set_rx_buf_sz(libc::c_int::try_from(EVENT_BUFFER).unwrap_or(libc::c_int::MAX)));
        }
        inner.bind(&SocketAddr::new(0, 0)).map_err(NetlinkError::Open)?;
        for group in GROUPS {
            inner.add_membership(group as u32).map_err(NetlinkError::Open)?;
        }
        Ok(Self { socket })
    }

    /// The next notifications. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Result<Notice, NetlinkError> {
        match self.socket.recv_from_full().await {
            Ok((datagram, _from)) => Ok(notice(&datagram)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Notice::Lost),
            Err(source) => Err(NetlinkError::Socket { doing: "following changes", source }),
        }
    }
}

fn notice(datagram: &[u8]) -> Notice {
    let mut events = Vec::new();
    for raw in split(datagram) {
        match raw.message_type() {
            // Routes, rules and next-hop groups are not read: that they changed is enough, and a full BGP table may be at it.
            libc::RTM_NEWROUTE
            | libc::RTM_DELROUTE
            | libc::RTM_NEWRULE
            | libc::RTM_DELRULE
            | RTM_NEWNEXTHOP
            | RTM_DELNEXTHOP => {
                if events.last() != Some(&Event::Routing) {
                    events.push(Event::Routing);
                }
            }
            _ => match NetlinkMessage::<RouteNetlinkMessage>::deserialize(raw.into_inner())
                .map(|message| message.payload)
            {
                Ok(NetlinkPayload::InnerMessage(message)) => events.extend(decode::event(&message)),
                Ok(NetlinkPayload::Overrun(_)) | Err(_) => return Notice::Lost,
                Ok(_) => {}
            },
        }
    }
    Notice::Events(events)
}

/// linux/rtnetlink.h; libc does not have them.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// The messages of a datagram. What follows a malformed one cannot be found and is left out.
fn split(mut rest: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(NetlinkBuffer::new_checked(rest).ok()?.length()).ok()?;
        let (message, _) = rest.split_at_checked(length)?;
        // NLMSG_ALIGN; the last one is not padded.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkBuffer::new(message))
    })
}

fn neighbour((ifindex, address): NeighbourKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
