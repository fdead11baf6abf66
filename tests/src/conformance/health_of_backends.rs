//! Pools in trouble: empty, dead, out of reach, or in the middle of a change (DESIGN's slot rules).

use lb_common::backend::{BACKEND_ALIVE, BACKEND_REACHABLE, BACKEND_VIA_TC};
use lb_common::slot::{NOBODY, Owner, Slot};
use lb_common::verdict::Verdict;

use super::case::Event::{Confirmed, Message, Opened};
use super::case::{Case, Service, case};
use super::side::{BOTH, Side};
use crate::world::{OTHER, World, backend_entry};

pub(super) fn cases() -> Vec<Case> {
    BOTH.into_iter().flat_map(|side| [pools(side), ways(side), changes(side)]).flatten().collect()
}

fn pools(side: Side) -> Vec<Case> {
    let (empty, dead) = (side.empty(), side.dead());
    let nat = side.nat();
    let id = nat.owner;
    vec![
        case(side, "an empty pool drops a SYN, so that its repetition succeeds")
            .send(empty.ask().flags("S"))
            .ends(Verdict::DropNoBackend),
        case(side, "an empty pool drops data").send(empty.ask()).ends(Verdict::DropNoBackend),
        case(side, "an empty pool drops an RST").send(empty.ask().flags("R")).ends(Verdict::DropNoBackend),
        case(side, "an emptied pool keeps no old ring")
            .world(move |w| w.turn_ring(id, |_| Slot::settled(NOBODY)))
            .send(nat.ask().flags("S"))
            .ends(Verdict::DropNoBackend),
        case(side, "a settled slot routes until the agent has changed it, dead owner or not")
            .send(dead.ask().flags("S"))
            .forwards(&dead, &[Opened]),
    ]
}

fn ways(side: Side) -> Vec<Case> {
    let (unresolved, narrow, nat) = (side.unresolved(), side.narrow_backend(), side.nat());
    let owner = nat.owner;
    let room = 1_280 - if side.is_v6() { 60 } else { 40 };
    vec![
        case(side, "a backend whose next hop is unknown")
            .send(unresolved.ask().flags("S"))
            .ends(Verdict::DropNoNextHop)
            .counts(unresolved.owner, &[Opened]),
        case(side, "a packet that just fits the way to the backend")
            .send(narrow.ask().payload(&vec![1; room]))
            .forwards(&narrow, &[Opened]),
        case(side, "a backend behind another interface")
            .world(move |w| w.backend(owner).ifindex = OTHER)
            .send(nat.ask())
            .forwards(&nat, &[Opened])
            .leaves_by(OTHER),
        case(side, "a backend in a container is TC's to reach")
            .world(move |w| w.backend(owner).flags |= BACKEND_VIA_TC)
            .send(nat.ask())
            .ends(Verdict::PassToTc)
            .counts(owner, &[Opened]),
        case(side, "a reply of a backend whose next hop is unknown finds its client all the same")
            .world(move |w| w.backend(owner).flags &= !BACKEND_REACHABLE)
            .send(nat.answer())
            .replies(&nat, &[]),
        case(side, "a reply of a dead backend finds its client all the same")
            .world(move |w| w.backend(owner).flags &= !BACKEND_ALIVE)
            .send(nat.answer())
            .replies(&nat, &[]),
    ]
}

/// The nat service's second backend.
fn heir(side: Side) -> Service {
    let mut heir = side.nat();
    heir.backend.set_ip(side.backend(12));
    heir.owner += 100;
    heir
}

/// Every slot of the nat service goes from its backend to the heir.
fn in_transition(side: Side, previous_flags: u16) -> impl Fn(&mut World) {
    let (from, to) = (side.nat(), heir(side));
    move |world| {
        let entry = backend_entry(to.owner, from.owner, to.backend.ip(), to.backend.port());
        let _new = world.backends.insert(to.owner, entry);
        world.backend(from.owner).flags = previous_flags;
        let owner: Owner = to.owner;
        world.turn_ring(from.owner, move |slot| slot.change_to(owner));
    }
}

fn changes(side: Side) -> Vec<Case> {
    let (old, new) = (side.nat(), heir(side));
    let alive = BACKEND_ALIVE | BACKEND_REACHABLE;
    let during = |name: &str| case(side, name).world(in_transition(side, alive));
    let after_death = |name: &str| case(side, name).world(in_transition(side, BACKEND_REACHABLE));
    vec![
        during("slot rule 2: in transition a SYN goes to the current owner")
            .send(old.ask().flags("S"))
            .forwards(&new, &[Opened]),
        during("slot rule 2: in transition an untracked flow stays with the previous owner")
            .send(old.ask())
            .forwards(&old, &[Opened]),
        during("slot rule 2: in transition a tracked flow stays with its owner")
            .after(old.ask().flags("S"))
            .send(old.ask().flags("AP"))
            .forwards(&new, &[Confirmed, Message]),
        during("slot rule 2: in transition a repeated SYN does not change owner")
            .after(old.ask().flags("S"))
            .send(old.ask().flags("S"))
            .forwards(&new, &[]),
        during("slot rule 2: in transition an RST of an untracked flow finds the previous owner")
            .send(old.ask().flags("R"))
            .forwards(&old, &[]),
        after_death("slot rule 2: a dead previous owner keeps no flow").send(old.ask()).forwards(&new, &[Opened]),
        during("slot rule 2: a reply of the previous owner finds its client").send(old.answer()).replies(&old, &[]),
    ]
}
