//! An owner loses its slots: it is drained, or has failed, or is silent. Only its own slots change.

use std::time::Duration;

use lb_common::slot::{NOBODY, Owner, Slot};

use super::{RingState, Stores};

impl RingState {
    /// Begins a transition in one owner's slots alone: a backend that is drained, or that has failed and still answers, gets no new
    /// flows from here on and keeps its old ones. `heirs` is the ring without it.
    pub fn move_off(&mut self, owner: Owner, heirs: &[Owner], now: Duration) -> Stores {
        self.change(now, |i, slot| heirs.get(i).copied().filter(|heir| slot.current() == owner && *heir != owner))
    }

    /// Rule 5: `dead` is silent, and `heirs` (the ring without it) take its place at once, with its flows. No other slot is
    /// touched.
    pub fn bereave(&mut self, dead: Owner, heirs: &[Owner], now: Duration) -> Stores {
        let named = self.slots_naming(dead);
        self.bereave_slots(dead, &named, |i| heirs.get(i as usize).copied().unwrap_or(NOBODY), now)
    }

    /// Takes an owner's slots away without waiting for the ring without it: `heirs` names as many owners as it is asked for,
    /// who take over in the order of the slots; where it names fewer, the pool is empty. `is_dead`: as [`Self::bereave`], else as
    /// [`Self::move_off`].
    pub fn hand_over(
        &mut self,
        owner: Owner,
        is_dead: bool,
        heirs: impl FnOnce(usize) -> Vec<Owner>,
        now: Duration,
    ) -> Stores {
        let mut slots = self.slots_naming(owner);
        let is_current = |i: &u32| self.slots[*i as usize].current() == owner;
        let mut heirs = heirs(slots.iter().filter(|i| is_current(i)).count()).into_iter();
        if is_dead {
            let heir = |_| heirs.next().unwrap_or(NOBODY);
            return self.bereave_slots(owner, &slots, heir, now);
        }
        slots.retain(is_current);
        let changes = slots.into_iter().map(|i| (i, heirs.next().unwrap_or(NOBODY))).collect::<Vec<_>>();
        self.change_slots(&changes, now)
    }

    /// `heir` is asked for the slots alone whose current owner is dead.
    fn bereave_slots(
        &mut self,
        dead: Owner,
        slots: &[u32],
        mut heir: impl FnMut(u32) -> Owner,
        now: Duration,
    ) -> Stores {
        let mut stores = Stores::with_capacity(slots.len());
        for i in slots {
            let slot = &mut self.slots[*i as usize];
            let bereaved = slot.bereave(dead, if slot.current() == dead { heir(*i) } else { NOBODY });
            if bereaved != *slot {
                *slot = bereaved;
                stores.push((*i, bereaved.0));
            }
        }
        self.note_changes(&stores, now);
        stores
    }

    /// Slots that name an owner, as current or previous. A failure waits for this, in every ring that the failed machine is in:
    /// sixteen slots are asked at once, and most of the sixteens name nobody.
    fn slots_naming(&self, owner: Owner) -> Vec<u32> {
        const AT_ONCE: usize = 16;
        let names = |slot: &Slot| slot.current() == owner || slot.in_transition() && slot.previous() == owner;
        // Without branches and as wide as a slot, so that the compiler asks several in one instruction.
        let may_name = |slot: &Slot| u32::from(slot.current() == owner) | u32::from(slot.previous() == owner);
        let mut found = Vec::new();
        for (first, slots) in (0_u32..).step_by(AT_ONCE).zip(self.slots.chunks(AT_ONCE)) {
            if slots.iter().fold(0, |any, slot| any | may_name(slot)) != 0 {
                found.extend((first..).zip(slots).filter(|(_, slot)| names(slot)).map(|(i, _)| i));
            }
        }
        found
    }
}
