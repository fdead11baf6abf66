//! The few questions about interfaces that attaching has, asked of the kernel synchronously (rtnetlink(7)).

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Room for one answer: an RTM_NEWLINK with every attribute is about 2 KiB; virtual functions add more.
const ANSWER: usize = 64 << 10;

/// The XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttachedXdp {
    /// Its id.
    pub(super) program: u32,
    /// Whether the driver runs it, rather than the generic hook.
    pub(super) native: bool,
}

/// Which XDP program runs on an interface; `None`: none.
///
/// # Errors
/// What the kernel said; `NotFound` or `ENODEV` where there is no such interface.
pub(super) fn attached_xdp(ifindex: u32) -> io::Result<Option<AttachedXdp>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    let Some(RouteNetlinkMessage::NewLink(link)) = ask(RouteNetlinkMessage::GetLink(request), NLM_F_REQUEST)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let xdp: Vec<LinkXdp> = link
        .attributes
        .into_iter()
        .filter_map(|attribute| if let LinkAttribute::Xdp(xdp) = attribute { Some(xdp) } else { None })
        .flatten()
        .collect();
    let program = xdp.iter().find_map(|x| if let LinkXdp::ProgId(id) = x { Some(*id) } else { None });
    let native = xdp.iter().any(|x| matches!(x, LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware)));
    Ok(program.map(|program| AttachedXdp { program, native }))
}

/// Removes the clsact qdisc of an interface, and with it every filter there.
///
/// # Errors
/// What the kernel said.
pub(super) fn remove_clsact(ifindex: u32) -> io::Result<()> {
    let mut request = TcMessage::default();
    request.header.index = i32::try_from(ifindex).map_err(io::Error::other)?;
    request.header.parent = TcHandle::CLSACT;
    request.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    request.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    let _ack = ask(RouteNetlinkMessage::DelQueueDiscipline(request), NLM_F_REQUEST | NLM_F_ACK)?;
    Ok(())
}

/// Sends one request and takes its first answer; `None` where that is an acknowledgement.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    let _port = socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let sent = socket.send(&bytes, 0)?;
    if sent != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut answer = Vec::with_capacity(ANSWER);
    let _length = socket.recv(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(Some(inner)),
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(None),
    }
}
