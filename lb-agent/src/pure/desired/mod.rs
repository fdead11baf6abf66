//! What the maps should contain, read off the ledger. A function of its argument alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::admission::Limits;
use lb_common::backend::{
    BACKEND_ALIVE, BACKEND_ON_LINK, BACKEND_REACHABLE, BACKEND_SLOT_BY_SOURCE, BACKEND_VIA_TC, BackendEntry,
};
use lb_common::clock::ticks_for_ns;
use lb_common::endpoint::{Address, EndpointV4, EndpointV6};
use lb_common::host::{
    HOST_ANY_PORT, HOST_CAPTURE, HOST_ENCAP, HOST_LOCAL_INTERFACES, HOST_PREFIX_VIPS, HOST_REPLIES, HOST_SLOW,
    HOST_SNAT, HOST_TRACE, HOST_VETH_INTERFACES, INTERFACE_LOCAL, INTERFACE_VETH, InterfaceEntry, VIP_ASSIGNED,
    VIP_IS_BACKEND, VipEntry,
};
use lb_common::reply::{REPLY_COUNTS_LOAD, REPLY_SLOT_BY_SOURCE, REPLY_TRACKED, ReplyEntry};
use lb_common::service::{
    FORWARD_GUE, FORWARD_IPIP, FORWARD_L2DSR, FORWARD_NAT, SELECT_LEAST_CONN, SELECT_MAGLEV, SELECT_ROUND_ROBIN,
    SELECT_SOURCE_HASH, SERVICE_PREFIX, SERVICE_QUIC, SERVICE_SLOW, SERVICE_SNAT, SERVICE_UNTRACKED, ServiceEntry,
    TRACKING_FULL, TRACKING_MINIMAL, TRACKING_NONE,
};

use super::ledger::{Ledger, Member, Service};
use super::limits;
use super::model::{Forward, Select, ServiceKey, Tracking};
use super::network::{LinkKind, NetworkView, NextHop};
use super::tables::{Endpoint, Tables, address};
use super::{lookup, prefix};

/// An epoch is at most this part of the shortest idle timeout: a flow is seen this often before it could count as silent.
const EPOCHS_PER_IDLE: u16 = 8;

fn endpoint_of(addr: SocketAddr, protocol: u8) -> Endpoint {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(v4) => Endpoint::V4(EndpointV4 { addr: v4.octets(), port, protocol, zero: 0 }),
        IpAddr::V6(v6) => Endpoint::V6(EndpointV6 { addr: v6.octets(), port, protocol, zero: 0 }),
    }
}

/// Key of a service in the service maps.
pub fn endpoint(key: &ServiceKey) -> Endpoint {
    let len = key.prefix.unwrap_or(0);
    match endpoint_of(SocketAddr::new(key.vip, key.port), key.protocol.number()) {
        Endpoint::V4(e) => Endpoint::V4(EndpointV4 { zero: len, ..e }),
        Endpoint::V6(e) => Endpoint::V6(EndpointV6 { zero: len, ..e }),
    }
}

/// A service as the packet path sees it. A flow's entry is refreshed once an epoch, so that a live flow's may be an epoch
/// older than its silence: it counts as idle that much later, or the table would lose flows that are alive.
pub fn service_entry(service: &Service, epoch_shift: u32, now: Duration) -> ServiceEntry {
    let spec = &service.spec;
    let (first, last) = (spec.snat_ports.0.get(), spec.snat_ports.1.get());
    ServiceEntry {
        id: service.id,
        forward: match spec.forward {
            Forward::Nat => FORWARD_NAT,
            Forward::L2dsr => FORWARD_L2DSR,
            Forward::Ipip => FORWARD_IPIP,
            Forward::Gue => FORWARD_GUE,
        },
        select: match spec.select {
            Select::Maglev => SELECT_MAGLEV,
            Select::SourceHash => SELECT_SOURCE_HASH,
            Select::RoundRobin => SELECT_ROUND_ROBIN,
            Select::LeastConn => SELECT_LEAST_CONN,
        },
        tracking: match spec.tracking {
            Tracking::Full => TRACKING_FULL,
            Tracking::Minimal => TRACKING_MINIMAL,
            Tracking::None => TRACKING_NONE,
        },
        flags: if spec.snat { SERVICE_SNAT } else { 0 }
            | if spec.key.prefix.is_some() { SERVICE_PREFIX } else { 0 }
            | if spec.quic.is_some() { SERVICE_QUIC | SERVICE_SLOW } else { 0 }
            | if service.ring.is_all_tracked(now) { 0 } else { SERVICE_UNTRACKED }
            | limits::flags(spec),
        syn_ticks: ticks(spec.timeouts.syn),
        idle_ticks: ticks(spec.idle_timeout()).saturating_add(1 << epoch_shift),
        fin_ticks: ticks(spec.timeouts.fin),
        snat_port_first: first,
        snat_port_count: last.saturating_sub(first).saturating_add(1),
    }
}

fn ticks(d: Duration) -> u16 {
    ticks_for_ns(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// Everything but the slots of rings.
pub fn desired(ledger: &Ledger, now: Duration) -> Tables {
    let mut tables = Tables { epoch_shift: epoch_shift(ledger), ..Tables::default() };
    add_network(&mut tables, ledger);
    for service in ledger.services().values() {
        add_service(&mut tables, service, ledger, now);
    }
    lookup::add_inherited(&mut tables, ledger);
    for owner in ledger.retired() {
        // Names no address and is not alive: whatever still names it is a miss.
        let _ = tables.backends.insert(owner, BackendEntry { service: u16::MAX, ..BackendEntry::default() });
    }
    add_taps(&mut tables, ledger);
    tables
}

/// Who looks for what is not there (any more) looks for nothing.
fn add_taps(tables: &mut Tables, ledger: &Ledger) {
    for (number, watch) in ledger.watches.iter() {
        if let Ok(tap) = watch.tap(ledger) {
            tables.host_flags |= HOST_TRACE | HOST_SLOW | if tap.captures() { HOST_CAPTURE } else { 0 };
            let _ = tables.taps.insert(number, tap);
        }
    }
}

/// VIPs that are ours to announce, and on which links: interface index and our MAC address there. Sets compare.
pub fn announced(ledger: &Ledger) -> BTreeSet<(IpAddr, u32, [u8; 6])> {
    let network = ledger.network();
    let is_own = |vip: &IpAddr| network.addresses.iter().any(|(ip, _, _)| ip == vip);
    let vips = ledger.specs().iter().flat_map(|s| prefix::announced(&s.key));
    let vips: BTreeSet<IpAddr> = vips.filter(|vip| !is_own(vip)).collect();
    let links = network.interfaces.iter().filter(|(_, i)| i.up && ledger.interfaces().contains(&i.name));
    links.flat_map(|(ifindex, i)| vips.iter().map(|vip| (*vip, *ifindex, i.mac))).collect()
}

/// Largest shift whose epoch fits `EPOCHS_PER_IDLE` times into every idle timeout.
pub fn epoch_shift(ledger: &Ledger) -> u32 {
    let shortest = ledger.services().values().map(|s| ticks(s.spec.idle_timeout())).min().unwrap_or(u16::MAX);
    (shortest / EPOCHS_PER_IDLE).max(1).ilog2()
}

fn add_network(tables: &mut Tables, ledger: &Ledger) {
    let network = ledger.network();
    tables.locals = network.addresses.iter().map(|(ip, _, _)| address(*ip)).collect();
    for (ifindex, interface) in &network.interfaces {
        if ledger.interfaces().contains(&interface.name) {
            let is_veth = interface.kind == LinkKind::Veth;
            if is_veth {
                tables.host_flags |= HOST_VETH_INTERFACES;
            }
            let entry = InterfaceEntry { mac: interface.mac, flags: if is_veth { INTERFACE_VETH } else { 0 } };
            let _ = tables.interfaces.insert(*ifindex, entry);
        }
    }
}

fn add_service(tables: &mut Tables, service: &Service, ledger: &Ledger, now: Duration) {
    let spec = &service.spec;
    let _ = tables.services.insert(endpoint(&spec.key), service_entry(service, tables.epoch_shift, now));
    let _ = tables.rings.insert(service.id);
    if !service.turns.is_empty() {
        let _ = tables.schedules.insert(service.id, service.turns.clone());
    }
    if spec.key.port == 0 {
        tables.host_flags |= HOST_ANY_PORT;
    }
    let of_new_flows = limits::limits(spec);
    if of_new_flows != Limits::default() {
        let _ = tables.limits.insert(service.id, of_new_flows);
    }
    tables.access.extend(limits::access(service.id, spec));
    if spec.forward.encapsulates() {
        tables.host_flags |= HOST_ENCAP;
    }
    add_vip(tables, &spec.key);
    lookup::add_quic(tables, service);
    if spec.forward == Forward::Nat {
        // Hairpin gives single flows one of our addresses even where the service as a whole does not.
        tables.host_flags |= if spec.snat { HOST_SNAT } else { HOST_SNAT | HOST_REPLIES };
        for ip in spec.snat_addresses.iter().map(|ip| address(*ip)) {
            // Nobody else holds it: we answer for it, and replies to it are ours.
            if tables.locals.insert(ip) {
                let _ = tables.vips.insert(ip, VipEntry { flags: 0 });
            }
        }
    }
    for member in &service.members {
        add_member(tables, service, member, ledger, now);
    }
}

fn add_vip(tables: &mut Tables, key: &ServiceKey) {
    if key.prefix.is_some() {
        tables.host_flags |= HOST_PREFIX_VIPS;
        let _ = tables.prefixes.insert(lookup::prefix_of(key));
        return;
    }
    let key = address(key.vip);
    let flags = if tables.locals.contains(&key) { VIP_ASSIGNED } else { 0 };
    let _ = tables.vips.insert(key, VipEntry { flags });
}

fn add_member(tables: &mut Tables, service: &Service, member: &Member, ledger: &Ledger, now: Duration) {
    let (entry, via) = backend_entry(service, member, ledger, now);
    let _ = tables.backends.insert(member.owner, entry);
    if let Some(ifindex) = via
        && let Some(interface) = ledger.network().interfaces.get(&ifindex)
    {
        let local = InterfaceEntry { mac: interface.mac, flags: INTERFACE_LOCAL };
        tables.host_flags |= HOST_LOCAL_INTERFACES;
        let _ = tables.interfaces.entry(ifindex).or_insert(local);
    }
    if service.spec.forward == Forward::Nat {
        let _ = tables.vips.entry(address(member.addr.ip())).or_insert(VipEntry { flags: VIP_IS_BACKEND });
        if !service.spec.snat {
            let at = endpoint_of(member.addr, service.spec.key.protocol.number());
            let _ = tables.replies.insert(at, reply_entry(service, member));
        }
    }
}

fn reply_entry(service: &Service, member: &Member) -> ReplyEntry {
    let key = &service.spec.key;
    let mut flags = 0;
    if service.spec.select == Select::SourceHash {
        flags |= REPLY_SLOT_BY_SOURCE;
    }
    if service.spec.tracking == Tracking::Full {
        flags |= REPLY_TRACKED;
    }
    if service.spec.select == Select::LeastConn || limits::is_capped(&service.spec) {
        flags |= REPLY_COUNTS_LOAD;
    }
    ReplyEntry {
        vip: address(key.vip),
        vip_port: key.port.to_be_bytes(),
        service: service.id,
        owner: member.owner,
        flags,
        zero: 0,
    }
}

/// The entry, and the interface whose peers live on this host where that is the way out.
pub(super) fn backend_entry(
    service: &Service,
    member: &Member,
    ledger: &Ledger,
    now: Duration,
) -> (BackendEntry, Option<u32>) {
    let spec = &service.spec;
    let mut entry = BackendEntry {
        service: service.id,
        addr: address(member.addr.ip()),
        port: member.addr.port().to_be_bytes(),
        weight: weight_now(member.weight, service.share_percent(member, now)),
        max_flows: limits::max_connections(spec, member.addr),
        ..BackendEntry::default()
    };
    if member.is_alive() {
        entry.flags |= BACKEND_ALIVE;
    }
    if spec.select == Select::SourceHash {
        entry.flags |= BACKEND_SLOT_BY_SOURCE;
    }
    if spec.forward.encapsulates() {
        let (source, bits) = spec.encap.source_towards(member.addr.ip());
        (entry.snat_addr, entry.source_bits) = (address(source), bits);
        if spec.forward == Forward::Gue {
            entry.port = spec.encap.gue_port.get().to_be_bytes();
        }
    }
    let network = ledger.network();
    let Some(
        NextHop::Resolved { ifindex, on_link, source, mtu, .. } | NextHop::Unresolved { ifindex, on_link, source, mtu },
    ) = network.next_hops.get(&member.addr.ip())
    else {
        return (entry, None);
    };
    entry.ifindex = *ifindex;
    entry.mtu = *mtu;
    if spec.forward == Forward::Nat {
        entry.snat_addr = snat_address(&spec.snat_addresses, member, *source);
    }
    if let Some(prefix) = on_link {
        entry.flags |= BACKEND_ON_LINK;
        entry.link_prefix = *prefix;
    }
    if let Some(NextHop::Resolved { dst_mac, src_mac, .. }) = network.next_hops.get(&member.addr.ip()) {
        entry.dst_mac = *dst_mac;
        entry.src_mac = *src_mac;
        // Only what shares a link with us can be reached by its MAC address alone.
        if spec.forward != Forward::L2dsr || on_link.is_some() {
            entry.flags |= BACKEND_REACHABLE;
        }
    }
    let via = is_local_peer(network, *ifindex, ledger.interfaces()).then_some(*ifindex);
    if via.is_some() {
        entry.flags |= BACKEND_VIA_TC;
    }
    (entry, via)
}

/// Weight for least_conn: at least 1 where there is any.
fn weight_now(weight: u16, percent: u8) -> u16 {
    let share = (u32::from(weight) * u32::from(percent)).div_ceil(100);
    u16::try_from(share).unwrap_or(weight)
}

/// Behind a bridge, a veth or a tap that we do not listen on live containers and VMs of this host.
fn is_local_peer(network: &NetworkView, ifindex: u32, ours: &[String]) -> bool {
    network
        .interfaces
        .get(&ifindex)
        .is_some_and(|i| matches!(i.kind, LinkKind::Bridge | LinkKind::Veth | LinkKind::Tun) && !ours.contains(&i.name))
}

/// Configured addresses are dealt out over backends, so that each brings its ports; without any, our own address serves.
fn snat_address(configured: &[IpAddr], member: &Member, source: IpAddr) -> Address {
    let nth = usize::from(member.owner) % configured.len().max(1);
    address(configured.get(nth).copied().unwrap_or(source))
}

#[cfg(test)]
mod tests;
