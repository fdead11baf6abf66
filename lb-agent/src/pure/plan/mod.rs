//! From what is to what should be: the operations, in an order in which every prefix is safe. A crash between two of them
//! leaves a packet path that works, and the next plan finds what is missing.
//!
//! What is pointed at comes before what points at it (backend entry → reply and ring → service), and goes after it. Slots of
//! rings that exist change by stores; which, the ring's own state says.

use std::collections::BTreeMap;

use lb_common::admission::Limits;
use lb_common::quic::QuicConfig;

use super::part::Part;
use super::tables::{Op, ServiceId, Source, Tables};

/// Slots to write, by service: a whole ring where none is there, single slots where one is.
pub type RingChanges = BTreeMap<ServiceId, Vec<(u32, u32)>>;

/// The operations that turn `observed` into `desired`. `slots` are those that rings which exist must store; `ring` gives the
/// whole content of one that must be made.
pub fn plan(
    observed: &Tables,
    desired: &Tables,
    slots: RingChanges,
    ring: impl Fn(ServiceId) -> Option<Vec<u32>>,
) -> Vec<Op> {
    let mut ops: Vec<Op> = changed(&observed.taps, &desired.taps).map(|(n, t)| Op::SetTap(n, t)).collect();
    add_host(observed, desired, &mut ops);
    ops.extend(changed(&observed.backends, &desired.backends).map(|(o, e)| Op::SetBackend(o, e)));
    ops.extend(changed(&observed.replies, &desired.replies).map(|(e, r)| Op::SetReply(e, r)));
    for (id, turns) in &desired.schedules {
        if observed.schedules.get(id) != Some(turns) {
            ops.push(Op::SetSchedule(*id, turns.clone()));
        }
    }
    for id in desired.rings.difference(&observed.rings) {
        ops.extend(ring(*id).map(|slots| Op::CreateRing(*id, slots)));
    }
    for (id, slots) in slots {
        if observed.rings.contains(&id) && desired.rings.contains(&id) && !slots.is_empty() {
            ops.push(Op::StoreSlots(id, slots));
        }
    }
    ops.extend(changed(&observed.limits, &desired.limits).map(|(id, l)| Op::SetLimits(id, l)));
    ops.extend(longest_first(changed(&observed.access, &desired.access)).map(|(s, rule)| Op::SetAccess(s, rule)));
    ops.extend(changed(&observed.quic_servers, &desired.quic_servers).map(|(k, o)| Op::SetQuicServer(k, o)));
    ops.extend(changed(&observed.quic, &desired.quic).map(|(id, c)| Op::SetQuic(id, c)));
    ops.extend(changed(&observed.services, &desired.services).map(|(e, s)| Op::SetService(e, s)));
    ops.extend(desired.prefixes.difference(&observed.prefixes).map(|p| Op::SetPrefix(*p)));
    remove(observed, desired, &mut ops);
    ops
}

/// The same for what judgements, sweeps and time can change, where pools and the network are as they were: nothing is made or
/// removed, so that backends come first, then slots, then services.
pub fn plan_part(observed: &Tables, desired: Part, slots: RingChanges) -> Vec<Op> {
    let mut ops = Vec::new();
    let changed = desired.backends.into_iter().filter(|(o, e)| observed.backends.get(o) != Some(e));
    ops.extend(changed.map(|(o, e)| Op::SetBackend(o, e)));
    let none = Vec::new();
    let changed = desired.schedules.into_iter().filter(|(id, t)| observed.schedules.get(id).unwrap_or(&none) != t);
    ops.extend(changed.map(|(id, turns)| Op::SetSchedule(id, turns)));
    let stored = slots.into_iter().filter(|(id, slots)| observed.rings.contains(id) && !slots.is_empty());
    ops.extend(stored.map(|(id, slots)| Op::StoreSlots(id, slots)));
    let changed = desired.services.into_iter().filter(|(e, s)| observed.services.get(e) != Some(s));
    ops.extend(changed.map(|(e, s)| Op::SetService(e, s)));
    ops
}

/// What packets are compared with: this host's own addresses first, so that nothing of its own is ever taken.
fn add_host(observed: &Tables, desired: &Tables, ops: &mut Vec<Op>) {
    ops.extend(desired.locals.difference(&observed.locals).map(|a| Op::SetLocal(*a)));
    if (observed.host_flags, observed.epoch_shift) != (desired.host_flags, desired.epoch_shift) {
        ops.push(Op::SetHost { flags: desired.host_flags, epoch_shift: desired.epoch_shift });
    }
    ops.extend(changed(&observed.interfaces, &desired.interfaces).map(|(i, e)| Op::SetInterface(i, e)));
    ops.extend(changed(&observed.vips, &desired.vips).map(|(a, e)| Op::SetVip(a, e)));
}

fn remove(observed: &Tables, desired: &Tables, ops: &mut Vec<Op>) {
    ops.extend(gone(&observed.taps, &desired.taps).map(Op::ClearTap));
    ops.extend(observed.prefixes.difference(&desired.prefixes).map(|p| Op::RemovePrefix(*p)));
    ops.extend(gone(&observed.services, &desired.services).map(Op::RemoveService));
    let unlimited = Limits::default();
    ops.extend(gone(&observed.limits, &desired.limits).map(|id| Op::SetLimits(id, unlimited)));
    ops.extend(shortest_first(gone(&observed.access, &desired.access)).map(Op::RemoveAccess));
    ops.extend(gone(&observed.quic, &desired.quic).map(|id| Op::SetQuic(id, QuicConfig::default())));
    ops.extend(gone(&observed.quic_servers, &desired.quic_servers).map(Op::RemoveQuicServer));
    ops.extend(observed.rings.difference(&desired.rings).map(|id| Op::RemoveRing(*id)));
    ops.extend(gone(&observed.schedules, &desired.schedules).map(|id| Op::SetSchedule(id, Vec::new())));
    ops.extend(gone(&observed.replies, &desired.replies).map(Op::RemoveReply));
    ops.extend(gone(&observed.backends, &desired.backends).map(Op::ClearBackend));
    ops.extend(gone(&observed.vips, &desired.vips).map(Op::RemoveVip));
    ops.extend(gone(&observed.interfaces, &desired.interfaces).map(Op::RemoveInterface));
    ops.extend(observed.locals.difference(&desired.locals).map(|a| Op::RemoveLocal(*a)));
}

/// Rules of access lists come in from the longest prefix to the shortest, and go from the shortest to the longest: then a source
/// about which the old list and the new one agree is treated so at every moment in between. Its new rule stands before any
/// shorter one that contradicts it, and its old one stays until every shorter one that contradicts it is gone.
fn longest_first(rules: impl Iterator<Item = (Source, u32)>) -> impl Iterator<Item = (Source, u32)> {
    let mut rules: Vec<_> = rules.collect();
    rules.sort_by_key(|(source, _)| std::cmp::Reverse(source.bits()));
    rules.into_iter()
}

/// As [`longest_first`] says.
fn shortest_first(rules: impl Iterator<Item = Source>) -> impl Iterator<Item = Source> {
    let mut rules: Vec<_> = rules.collect();
    rules.sort_by_key(Source::bits);
    rules.into_iter()
}

fn changed<'a, K: Ord + Copy, V: PartialEq + Copy>(
    observed: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> + 'a {
    desired.iter().filter(|(k, v)| observed.get(*k) != Some(*v)).map(|(k, v)| (*k, *v))
}

fn gone<'a, K: Ord + Copy, V>(
    observed: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    observed.keys().filter(|k| !desired.contains_key(*k)).copied()
}

/// What the maps contain once `op` has been carried out.
pub fn note(op: &Op, tables: &mut Tables) {
    match op {
        Op::SetHost { flags, epoch_shift } => (tables.host_flags, tables.epoch_shift) = (*flags, *epoch_shift),
        Op::SetLocal(a) => drop(tables.locals.insert(*a)),
        Op::RemoveLocal(a) => drop(tables.locals.remove(a)),
        Op::SetInterface(i, e) => drop(tables.interfaces.insert(*i, *e)),
        Op::RemoveInterface(i) => drop(tables.interfaces.remove(i)),
        Op::SetVip(a, e) => drop(tables.vips.insert(*a, *e)),
        Op::RemoveVip(a) => drop(tables.vips.remove(a)),
        Op::SetBackend(o, e) => drop(tables.backends.insert(*o, *e)),
        Op::ClearBackend(o) => drop(tables.backends.remove(o)),
        Op::SetReply(e, r) => drop(tables.replies.insert(*e, *r)),
        Op::RemoveReply(e) => drop(tables.replies.remove(e)),
        Op::SetSchedule(id, turns) if turns.is_empty() => drop(tables.schedules.remove(id)),
        Op::SetSchedule(id, turns) => drop(tables.schedules.insert(*id, turns.clone())),
        Op::CreateRing(id, _) => drop(tables.rings.insert(*id)),
        Op::StoreSlots(..) => {}
        Op::RemoveRing(id) => drop(tables.rings.remove(id)),
        Op::SetService(e, s) => drop(tables.services.insert(*e, *s)),
        Op::RemoveService(e) => drop(tables.services.remove(e)),
        Op::SetLimits(id, limits) if *limits == Limits::default() => drop(tables.limits.remove(id)),
        Op::SetLimits(id, limits) => drop(tables.limits.insert(*id, *limits)),
        Op::SetAccess(source, rule) => drop(tables.access.insert(*source, *rule)),
        Op::RemoveAccess(source) => drop(tables.access.remove(source)),
        Op::SetTap(n, t) => drop(tables.taps.insert(*n, *t)),
        Op::ClearTap(n) => drop(tables.taps.remove(n)),
        Op::SetPrefix(p) => drop(tables.prefixes.insert(*p)),
        Op::RemovePrefix(p) => drop(tables.prefixes.remove(p)),
        Op::SetQuic(id, config) if *config == QuicConfig::default() => drop(tables.quic.remove(id)),
        Op::SetQuic(id, config) => drop(tables.quic.insert(*id, *config)),
        Op::SetQuicServer(k, o) => drop(tables.quic_servers.insert(*k, *o)),
        Op::RemoveQuicServer(k) => drop(tables.quic_servers.remove(k)),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod access_tests;
