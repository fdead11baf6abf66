//! Where a packet leaves: towards a backend by what the agent wrote, towards a client by the host's routing table.

use super::Outcome;
use super::work::SheetOf;
use crate::backend::{BACKEND_REACHABLE, BACKEND_VIA_TC, BackendEntry};
use crate::family::Family;
use crate::host::INTERFACE_LOCAL;
use crate::packet::Packet;
use crate::tables::{Route, RouteQuery, Tables};
use crate::verdict::Verdict;

/// A way out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    ifindex: u32,
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    resolve: bool,
}

impl Way {
    /// By this interface, with these MAC addresses.
    pub(super) const fn plain(ifindex: u32, dst_mac: [u8; 6], src_mac: [u8; 6]) -> Self {
        Self { ifindex, dst_mac, src_mac, resolve: false }
    }
}

/// The way to a backend, for an IP packet of `len` bytes. `routed`: by its IP address, so that the kernel could find the MAC
/// address; otherwise the MAC address is all that names the backend.
#[inline(always)]
pub(super) fn to_backend<P: Packet>(b: &BackendEntry, len: u16, routed: bool) -> Result<Way, Verdict> {
    let known = b.flags & BACKEND_REACHABLE != 0;
    if b.flags & BACKEND_VIA_TC != 0 && !P::CAN_RESOLVE {
        return Err(Verdict::PassToTc);
    }
    let resolve = !known && routed && P::CAN_RESOLVE && b.ifindex != 0;
    if !known && !resolve {
        return Err(Verdict::DropNoNextHop);
    }
    if !P::CAN_RESOLVE && b.mtu != 0 && len > b.mtu {
        return Err(Verdict::DropTooBig);
    }
    Ok(Way { ifindex: b.ifindex, dst_mac: b.dst_mac, src_mac: b.src_mac, resolve })
}

/// The way to the client that `sheet.to` names.
#[inline(always)]
pub(super) fn to_client<F: Family, P: Packet, T: Tables>(p: &P, t: &T, sheet: &mut SheetOf<F>) -> Result<Way, Verdict> {
    sheet.query = RouteQuery {
        src: F::to_address(&sheet.to.vip),
        dst: F::to_address(&sheet.to.client),
        is_v6: F::IS_V6,
        protocol: sheet.ip.protocol,
        len: sheet.ip.len,
    };
    match t.route(&sheet.query) {
        Route::Known { ifindex, dst_mac, src_mac } => {
            if !P::CAN_RESOLVE && ifindex != p.arrival().ifindex && !takes_xdp(t, ifindex) {
                return Err(Verdict::PassToTc);
            }
            Ok(Way { ifindex, dst_mac, src_mac, resolve: false })
        }
        Route::Unresolved { ifindex } if P::CAN_RESOLVE => {
            Ok(Way { ifindex, dst_mac: [0; 6], src_mac: [0; 6], resolve: true })
        }
        Route::Unresolved { .. } => Err(Verdict::PassToTc),
        Route::TooBig => Err(Verdict::DropTooBig),
        Route::None => Err(Verdict::DropNoRoute),
    }
}

/// XDP can send to interfaces that we serve and that lead off this host; bridges and containers' veths take no XDP frames.
#[inline(always)]
fn takes_xdp<T: Tables>(t: &T, ifindex: u32) -> bool {
    matches!(t.interface(ifindex), Some(i) if i.flags & INTERFACE_LOCAL == 0)
}

/// Puts the packet on its way.
#[inline(always)]
pub(super) fn send<P: Packet>(p: &mut P, way: &Way, out: &mut Outcome) -> Result<(), Verdict> {
    if !way.resolve {
        let (d, s) = (&way.dst_mac, &way.src_mac);
        let macs = [d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5]];
        p.store::<12>(0, macs).ok_or(Verdict::DropInternal)?;
    }
    out.ifindex = way.ifindex;
    out.resolve = way.resolve;
    Ok(())
}
