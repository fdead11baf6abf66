//! The benchmark's own programs: what sends, what receives, and the floor.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, ProgramInfo, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::sys::SyscallError;
use aya::{Ebpf, EbpfLoader};
use lb_agent::object::BENCH;
use nix::time::{ClockId, clock_gettime};

use super::control::{
    CHECK, CHECK_COMPARE, CHECK_NOTE, CONTROL_MAP, Control, DATA_FLAGS, FLOOR, FLOWS, FRAME_LEN, GENERATE, KIND,
    KIND_DRAWN, KIND_IN_TURN, KIND_MIXED, KIND_SYN, NOTES_AT, PORT, RANDOM, RECEIVE, RECEIVED_MAP, Received, SENT_DATA,
    SYNS, SYNS_OF_256, TARGET, TURN, VIP,
};
use super::wire::{Pair, Wires};

/// Frames that the kernel sends before it lets the receiving side run, as DESIGN's figures were taken.
const BATCH: u32 = 64;

/// Frames in one system call: a tenth of a second. Each call makes its pages anew: of short calls one measures cold pages.
const SLICE: u32 = 1 << 18;

/// The VIP of everything that is measured.
pub const VIP_ADDRESS: [u8; 4] = [203, 0, 113, 10];

/// Its port.
pub const VIP_PORT: u16 = 8_000;

/// Flows whose destinations one part of the receiver's notes holds.
pub const NOTED_FLOWS: u32 = 1 << 17;

/// Every other packet of a flood, on average.
const SYNS_OF_256_IN_FLOOD: u64 = 128;

const ACK: u64 = 0x10;
const PSH: u64 = 0x08;
const SYN: u64 = 0x02;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// ACKs with ten bytes, of flows drawn uniformly from so many.
    Data(u32),
    /// The same with PSH set.
    Push(u32),
    /// SYNs, each of a new flow.
    Syn,
    /// Data of flows drawn from so many, and as many SYNs of new flows between.
    Flood(u32),
    /// SYNs of the flows that data is drawn from, one after the other.
    Open(u32),
    /// Data of these flows, one after the other.
    Refresh(u32),
}

/// What the receiver does with the destinations of established flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing: it only counts.
    Off,
    /// Notes them, in this part of its notes.
    Note(u8),
    /// Compares them with those that it has noted there.
    Compare(u8),
}

/// The programs, loaded.
pub struct Generator {
    ebpf: Ebpf,
    control: Control,
    floor: Pair,
}

/// What one run sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Data segments.
    pub data: u64,
    /// SYNs of new flows.
    pub syns: u64,
    /// How long it took.
    pub took: Duration,
}

impl Generator {
    /// Loads them, and puts the floor on a pair of its own.
    pub fn load(wires: &Wires) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(BENCH).context("the benchmark's own programs")?;
        for name in [GENERATE, FLOOR, RECEIVE] {
            program(&mut ebpf, name)?.load().with_context(|| format!("the verifier refuses {name}"))?;
        }
        let floor = wires.pair()?;
        let xdp = program(&mut ebpf, FLOOR)?;
        let _link = wires.in_device(|| Ok(xdp.attach_to_if_index(floor.far, XdpMode::Driver)?))?;
        let mut control = Control::default();
        control[RANDOM] = 0x9e37_79b9_7f4a_7c15;
        control[VIP] = u32::from_ne_bytes(VIP_ADDRESS).into();
        control[PORT] = u16::from_ne_bytes(VIP_PORT.to_be_bytes()).into();
        let mut generator = Self { ebpf, control, floor };
        generator.receive_on(generator.floor.near)?;
        Ok(generator)
    }

    /// The pair that the floor is on.
    pub const fn floor(&self) -> &Pair {
        &self.floor
    }

    /// What the kernel knows of the floor.
    pub fn floor_info(&self) -> Result<ProgramInfo> {
        let xdp: &Xdp = self.ebpf.program(FLOOR).context("no floor")?.try_into()?;
        Ok(xdp.info()?)
    }

    /// Frames that come back by this interface end here.
    pub fn receive_on(&mut self, near: u32) -> Result<()> {
        let _link = program(&mut self.ebpf, RECEIVE)?.attach_to_if_index(near, XdpMode::Driver)?;
        Ok(())
    }

    /// What has come back since the programs were loaded.
    pub fn received(&self) -> Result<Received> {
        let map = self.ebpf.map(RECEIVED_MAP).context("no map of what came back")?;
        Ok(Array::<&MapData, Received>::try_from(map)?.get(&0, 0)?)
    }

    /// Sends `frames`, rounded up to whole batches.
    pub fn send(&mut self, traffic: Traffic, check: Check, near: u32, frames: u32) -> Result<Sent> {
        self.prepare(traffic, check, near)?;
        let began = Instant::now();
        let mut left = frames.div_ceil(BATCH) * BATCH;
        while left > 0 {
            let now = left.min(SLICE);
            self.slice(now)?;
            left -= now;
        }
        self.sent(began.elapsed())
    }

    /// Sends for so long.
    pub fn send_for(&mut self, traffic: Traffic, check: Check, near: u32, time: Duration) -> Result<Sent> {
        self.prepare(traffic, check, near)?;
        let began = Instant::now();
        while began.elapsed() < time {
            self.slice(SLICE)?;
        }
        self.sent(began.elapsed())
    }

    fn prepare(&mut self, traffic: Traffic, check: Check, near: u32) -> Result<()> {
        let (kind, flows, flags) = match traffic {
            Traffic::Data(flows) => (KIND_DRAWN, flows, ACK),
            Traffic::Push(flows) => (KIND_DRAWN, flows, ACK | PSH),
            Traffic::Syn => (KIND_SYN, 1, SYN),
            Traffic::Flood(flows) => (KIND_MIXED, flows, ACK),
            Traffic::Open(flows) => (KIND_IN_TURN, flows, SYN),
            Traffic::Refresh(flows) => (KIND_IN_TURN, flows, ACK),
        };
        self.control[TARGET] = near.into();
        self.control[KIND] = kind;
        self.control[FLOWS] = flows.into();
        self.control[DATA_FLAGS] = flags;
        self.control[SYNS_OF_256] = SYNS_OF_256_IN_FLOOD;
        self.control[TURN] = 0;
        let (what, part) = match check {
            Check::Off => (0, 0),
            Check::Note(part) => (CHECK_NOTE, part),
            Check::Compare(part) => (CHECK_COMPARE, part),
        };
        self.control[CHECK] = what;
        self.control[NOTES_AT] = u64::from(part) * u64::from(NOTED_FLOWS);
        let control = self.control;
        Ok(self.control_map()?.set(0, control, 0)?)
    }

    /// One system call's frames. A signal ends the call early, and whoever waits for it is asked between calls.
    fn slice(&mut self, frames: u32) -> Result<()> {
        let frame = [0_u8; FRAME_LEN];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = frames;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        match program(&mut self.ebpf, GENERATE)?.test_run(options) {
            Ok(_) => Ok(()),
            Err(e) if is_interrupted(&e) => Ok(()),
            Err(e) => Err(e).context("the kernel cannot run live frames (it takes Linux 5.18)"),
        }
    }

    fn sent(&mut self, took: Duration) -> Result<Sent> {
        let before = self.control;
        self.control = self.control_map()?.get(&0, 0)?;
        let more = |word: usize| self.control[word].wrapping_sub(before[word]);
        Ok(Sent { data: more(SENT_DATA), syns: more(SYNS), took })
    }

    fn control_map(&mut self) -> Result<Array<&mut MapData, Control>> {
        Ok(Array::try_from(self.ebpf.map_mut(CONTROL_MAP).context("no map of orders")?)?)
    }
}

/// Time that this thread has had a CPU.
pub fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

fn is_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. })
        if io_error.kind() == std::io::ErrorKind::Interrupted)
}
