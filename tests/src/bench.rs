//! Both worlds side by side: every packet goes through the real programs and through the host twin, and what they say and leave
//! behind must be the same.

use std::cell::Cell;
use std::collections::HashMap;

use lb_common::flow::FlowEntry;
use lb_common::slot::{Owner, Slot};
use lb_common::stats::OwnerCounters;
use lb_common::verdict::Verdict;

use crate::age::{older_flow, older_fragment, older_snat};
use crate::host::Host;
use crate::packet::{Fields, read};
use crate::rig::{Ran, Rig};
use crate::world::{WIRE, World};

/// The programs in the kernel and their twin, with the same tables.
pub struct Bench {
    /// The kernel.
    pub rig: Rig,
    /// The twin.
    pub host: Host,
}

impl Bench {
    /// Both, with the world's tables.
    pub fn new(world: World) -> Self {
        let rig = Rig::load(&world).expect("the programs load");
        Self { rig, host: Host::new(world) }
    }

    /// What becomes of a frame that comes off the wire.
    #[track_caller]
    pub fn xdp(&mut self, frame: &[u8]) -> Ran {
        self.xdp_by(frame, WIRE)
    }

    /// What becomes of a frame that comes in by `ifindex`.
    #[track_caller]
    pub fn xdp_by(&mut self, frame: &[u8], ifindex: u32) -> Ran {
        let kernel = self.rig.run_xdp(frame, ifindex).expect("the XDP program runs");
        same("XDP", frame, kernel, &self.host.run_xdp(frame, ifindex))
    }

    /// What becomes of a frame that TC sees.
    #[track_caller]
    pub fn tc(&mut self, frame: &[u8]) -> Ran {
        // Loopback's own MAC address: a packet for another is another host's.
        let mut frame = frame.to_vec();
        frame[..6].fill(0);
        let kernel = self.rig.run_tc(&frame).expect("the TC program runs");
        same("TC", &frame, kernel, &self.host.run_tc(&frame, WIRE))
    }

    /// The verdict on a frame that comes off the wire.
    #[track_caller]
    pub fn verdict(&mut self, frame: &[u8]) -> Verdict {
        self.xdp(frame).verdict.expect("every packet is counted")
    }

    /// Sends a frame that must end with `verdict`, and reads what leaves.
    #[track_caller]
    pub fn sent(&mut self, frame: &[u8], verdict: Verdict) -> Fields {
        let ran = self.xdp(frame);
        assert_eq!(ran.verdict, Some(verdict), "of {:?}", read(frame));
        read(&ran.frame).expect("what leaves is sound")
    }

    /// Owner of the backend that a client's packet goes to.
    #[track_caller]
    pub fn owner_of(&mut self, frame: &[u8]) -> Owner {
        let out = self.sent(frame, Verdict::Forward);
        Owner::from_be_bytes([out.dst_mac[4], out.dst_mac[5]])
    }

    /// Counters of an owner.
    pub fn counters(&mut self, owner: Owner) -> OwnerCounters {
        self.rig.counters(owner).expect("the counters can be read")
    }

    /// Every entry of the flow table that is not free.
    pub fn flows(&mut self) -> Vec<FlowEntry> {
        let flows = self.rig.flows().expect("the flow table can be read");
        flows.into_iter().map(FlowEntry).filter(|e| !e.is_free()).collect()
    }

    /// The one flow in the table.
    #[track_caller]
    pub fn flow(&mut self) -> FlowEntry {
        match *self.flows() {
            [flow] => flow,
            ref flows => panic!("one flow in the table: {flows:?}"),
        }
    }

    /// Lets everything grow older by `ticks`. The clock stands still.
    pub fn age(&mut self, ticks: u16) {
        self.rig.age(ticks).expect("the maps can be written");
        let host = &self.host;
        host.flows.iter().for_each(|f| f.set(older_flow(f.get(), ticks)));
        host.epochs.iter().for_each(|word| word.set(0));
        host.tokens.set(0);
        host.snat_forward.borrow_mut().values_mut().for_each(|e| *e = older_snat(*e, ticks));
        for entry in host.fragments.borrow_mut().values_mut() {
            *entry = Box::leak(Box::new(older_fragment(**entry, ticks)));
        }
    }

    /// Changes what the agent has written.
    pub fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.host.world);
        self.rig.fill(&self.host.world).expect("the maps can be written");
    }

    /// Changes every slot of a service.
    pub fn turn_ring(&mut self, service: u16, change: impl Fn(Slot) -> Slot) {
        self.change(|world| world.turn_ring(service, change));
    }

    /// Everything that packets have changed is the same in both worlds.
    #[track_caller]
    pub fn compare_tables(&mut self) {
        let flows: Vec<u64> = self.host.flows.iter().map(Cell::get).collect();
        assert_eq!(self.rig.flows().expect("the flow table"), flows, "flow table");
        let epochs: Vec<u64> = self.host.epochs.iter().map(Cell::get).collect();
        assert_eq!(self.rig.epochs().expect("the epoch bitmap"), epochs, "epoch bitmap");
        self.compare_tuples();
        let owners: Vec<Owner> = self.host.world.backends.keys().copied().collect();
        for owner in owners {
            self.compare_counters(owner);
        }
    }

    #[track_caller]
    pub(crate) fn compare_tuples(&mut self) {
        let (forward, reverse) = self.rig.snat().expect("snat's maps");
        assert_eq!(forward, *self.host.snat_forward.borrow(), "snat forward");
        assert_eq!(reverse, copied(&self.host.snat_reverse.borrow()), "snat reverse");
        let fragments = self.rig.fragments().expect("the fragments");
        assert_eq!(fragments, copied(&self.host.fragments.borrow()), "fragments");
    }

    #[track_caller]
    pub(crate) fn compare_counters(&mut self, owner: Owner) {
        let counters = self.host.counters.borrow().get(&owner).copied().unwrap_or_default();
        assert_eq!(self.rig.counters(owner).expect("the counters"), counters, "counters of owner {owner}");
        let load = self.host.loads.borrow().get(&owner).copied().unwrap_or_default();
        assert_eq!(self.rig.load_of(owner).expect("the loads"), load, "load of owner {owner}");
    }
}

fn copied<K: Copy + Eq + std::hash::Hash, V: Copy>(map: &HashMap<K, &V>) -> HashMap<K, V> {
    map.iter().map(|(key, value)| (*key, **value)).collect()
}

#[track_caller]
fn same(hook: &str, frame: &[u8], kernel: Ran, host: &Ran) -> Ran {
    assert!(
        kernel == *host,
        "{hook}: kernel and host differ on {:?}\n  in     {}\n  kernel {:?} {} {}\n  host   {:?} {} {}",
        read(frame),
        hex(frame),
        kernel.verdict,
        kernel.action,
        hex(&kernel.frame),
        host.verdict,
        host.action,
        hex(&host.frame),
    );
    kernel
}

/// The headers in hexadecimal, for frames that no parser can read.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().take(160).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
