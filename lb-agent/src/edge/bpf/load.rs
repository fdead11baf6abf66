//! From the embedded object to programs that run: maps made or adopted, programs pinned, interfaces attached.

use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use lb_common::hash::Seed;
use lb_common::host::Host;
use lb_common::{ABI_VERSION, maps};
use nix::net::if_::if_nametoindex;

use super::attach::{self, Links, TcWay};
use super::bpffs::{self, Hold, file_error};
use super::error::{LoadError, errno};
use super::flows::FlowReader;
use super::forwarding;
use super::host_record::HostRecord;
use super::layout::{Sizes, shapes};
use super::leftovers::Leftovers;
use super::log::PacketLogReader;
use super::maps::BpfDataPlane;
use super::pin::{Found, LOG_MAP, Pins, remove};
use super::sights::SightReader;
use super::sweep::BpfSweeper;
use super::{privilege, seed};
use crate::config::{AgentConfig, InterfaceConfig, PacketLog};
use crate::pure::snapshot::InterfaceStatus;

/// Length of an epoch until the agent has said which idle timeouts there are: 2^4 ticks, 4.3 s.
const FIRST_EPOCH_SHIFT: u32 = 4;

/// Lines of the verifier's log that an error shows.
const VERIFIER_LINES: usize = 8;

/// The object and how to load it.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The ELF.
    pub object: &'a [u8],
    /// Changes with every change of the ELF; letters, digits and `-` only.
    pub id: &'a str,
    /// How the TC program is attached.
    pub tc: TcWay,
}

impl Build<'static> {
    /// The object that this agent carries, attached as this kernel can.
    pub fn embedded() -> Self {
        Self { object: crate::object::OBJECT, id: crate::object::OBJECT_ID, tc: TcWay::of_this_kernel() }
    }
}

/// A packet path that runs.
#[derive(Debug)]
pub struct Loaded {
    /// The single writer's handle.
    pub dataplane: BpfDataPlane,
    /// The sweep's.
    pub sweeper: BpfSweeper,
    /// The flow table, for looking.
    pub flows: FlowReader,
    /// What the packet programs tell of packets.
    pub sights: SightReader,
    /// The programs and where they hang.
    pub links: Links,
    /// Whether the maps were there before.
    pub adopted: bool,
    /// What is not as configured, but works.
    pub problems: Vec<String>,
    /// How each interface is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the packet programs say; `None` where `packet_log` is off.
    pub log: Option<PacketLogReader>,
    /// Keeps others off `pin_dir` and `state_dir`; hold it as long as the agent runs.
    pub holds: [Hold; 2],
}

/// Sets the packet path up, or adopts the one that runs.
///
/// # Errors
/// Each says what to do. Whatever forwarded before goes on; what a first start had made is removed again.
pub fn open(agent: &AgentConfig, interfaces: &[InterfaceConfig], build: &Build<'_>) -> Result<Loaded, LoadError> {
    privilege::check()?;
    let _all_exist = attach::indices(interfaces)?;
    make_state_dir(&agent.state_dir)?;
    let state_hold = Hold::take(&agent.state_dir)?;
    let mut leftovers = Leftovers::read(&agent.state_dir)?;
    bpffs::prepare(&agent.pin_dir, &mut leftovers)?;
    let pins_hold = Hold::take(&agent.pin_dir)?;
    forwarding::enable(&mut leftovers)?;
    let pins = Pins::new(&agent.pin_dir);
    let wanted = Sizes::for_flows(agent.flow_table_entries, cpus()?);
    let found = pins.find(&wanted)?;
    let adopted = matches!(found, Found::Maps { .. });
    let ready = Ready { agent, interfaces, build, pins: &pins, wanted, found };
    match ready.go(leftovers) {
        Ok(parts) => Ok(parts.with([pins_hold, state_hold], adopted)),
        Err(e) => {
            if !adopted {
                // Nothing forwarded before, so nothing shall be half-done now. The first error is the one to tell.
                drop(pins_hold);
                let _told_already = pins.remove();
                let _told_already = Leftovers::read(&agent.state_dir)
                    .and_then(|mut notes| forwarding::restore(&mut notes).and_then(|()| bpffs::restore(&mut notes)));
            }
            Err(e)
        }
    }
}

/// Everything is checked and held; from here on things are made.
struct Ready<'a> {
    agent: &'a AgentConfig,
    interfaces: &'a [InterfaceConfig],
    build: &'a Build<'a>,
    pins: &'a Pins,
    wanted: Sizes,
    found: Found,
}

struct Parts {
    dataplane: BpfDataPlane,
    sweeper: BpfSweeper,
    sights: SightReader,
    flows: FlowReader,
    links: Links,
    problems: Vec<String>,
    interfaces: Vec<InterfaceStatus>,
    log: Option<PacketLogReader>,
}

impl Parts {
    fn with(self, holds: [Hold; 2], adopted: bool) -> Loaded {
        let Self { dataplane, sweeper, sights, flows, links, problems, interfaces, log } = self;
        Loaded { dataplane, sweeper, flows, sights, links, adopted, problems, interfaces, log, holds }
    }
}

impl Ready<'_> {
    fn go(self, leftovers: Leftovers) -> Result<Parts, LoadError> {
        let mut problems = Vec::new();
        let (sizes, host) = match self.found {
            Found::Nothing => (self.wanted, None),
            Found::Maps { sizes, ref host } => (sizes, Some(host.clone())),
        };
        if sizes.buckets != self.wanted.buckets {
            problems.push(format!(
                "the pinned flow table was made for {} flows, not the {} of flow_table_entries; `lb-agent unload` and a new start \
                 (which ends every flow) change it",
                sizes.flows(),
                self.agent.flow_table_entries
            ));
        }
        self.pins.make_directories()?;
        let mut ebpf = self.load(&sizes)?;
        match host {
            Some(host) => {
                if let Some(host) = host.read() {
                    seed::keep(&self.agent.state_dir, &host.seed)?;
                }
            }
            None => problems.extend(self.complete(&sizes)?),
        }
        let (xdp, tc) = self.programs(&mut ebpf)?;
        let adopted = matches!(self.found, Found::Maps { .. });
        let mut links = Links::new(self.pins.clone(), xdp, tc, self.build.tc, leftovers)?;
        let dataplane = BpfDataPlane::open(self.pins, adopted)?;
        let sweeper = BpfSweeper::open(self.pins)?;
        let sights = SightReader::open(self.pins)?;
        let flows = FlowReader::open(self.pins)?;
        let interfaces = links.set_interfaces(self.interfaces)?;
        self.forget_other_builds()?;
        let log = match self.agent.packet_log {
            PacketLog::Off => None,
            _ => PacketLogReader::take(&mut ebpf).map_or_else(
                |e| {
                    problems.push(e);
                    None
                },
                Some,
            ),
        };
        Ok(Parts { dataplane, sweeper, sights, flows, links, problems, interfaces, log })
    }

    /// Creates and pins the maps that are not pinned; reuses those that are.
    fn load(&self, sizes: &Sizes) -> Result<Ebpf, LoadError> {
        let level = log_level(self.agent.packet_log);
        let can_capture = u8::from(can_capture());
        let mut loader = EbpfLoader::new();
        let _ = loader
            .override_global(aya_log::LEVEL, &level, false)
            .override_global("CAN_CAPTURE", &can_capture, true)
            .map_max_entries(maps::FLOWS, sizes.buckets)
            .map_max_entries(maps::EPOCHS, sizes.epoch_words)
            .map_max_entries(maps::COUNTERS, sizes.counters())
            .map_max_entries(maps::VERDICTS, sizes.cpus);
        for name in maps::ALL.iter().chain(&[LOG_MAP]) {
            let _ = loader.map_pin_path(name, self.pins.map(name));
        }
        loader.load(self.build.object).map_err(|e| LoadError::Object { source: Box::new(e) })
    }

    /// Checks the maps that were just made and writes the host's record, its version last. Returns what was wrong with the
    /// seed's file, if something was.
    fn complete(&self, sizes: &Sizes) -> Result<Option<String>, LoadError> {
        for shape in shapes(sizes) {
            let path = self.pins.map(shape.name);
            let map = self.pins.open(shape.name)?;
            let info = map.info().map_err(|e| LoadError::Map { path: path.clone(), what: e.to_string() })?;
            if let Some(what) = shape.difference(&info) {
                return Err(LoadError::Map { path, what: format!("{what} (object and agent do not agree)") });
            }
        }
        let (seed, problem) = seed::choose(&self.agent.state_dir, rand::random::<Seed>())?;
        let host = Host {
            abi_version: ABI_VERSION,
            flow_mask: sizes.buckets - 1,
            epoch_mask: sizes.epoch_words - 1,
            epoch_shift: FIRST_EPOCH_SHIFT,
            cpus: sizes.cpus,
            route_from: if_nametoindex("lo")
                .map_err(|e| LoadError::System { what: "the index of lo".to_owned(), source: e.into() })?,
            seed,
            ..Host::default()
        };
        let map = self.pins.open(maps::HOST)?;
        let record = HostRecord::map(&map)
            .map_err(|e| LoadError::Map { path: self.pins.map(maps::HOST), what: format!("cannot be mapped: {e}") })?;
        record.write(&host);
        Ok(problem)
    }

    /// The programs of this build: from their pins where an earlier run has left them, else through the verifier and pinned.
    fn programs(&self, ebpf: &mut Ebpf) -> Result<(Xdp, SchedClassifier), LoadError> {
        let build = self.build_name();
        let pin = |name| self.pins.program(&build, name);
        let (ingress, reply) = (pin(maps::PROGRAM_INGRESS), pin(maps::PROGRAM_REPLY));
        if !ingress.exists() {
            load_program::<Xdp>(ebpf, maps::PROGRAM_INGRESS, &ingress)?;
        }
        if !reply.exists() {
            load_program::<SchedClassifier>(ebpf, maps::PROGRAM_REPLY, &reply)?;
        }
        let xdp =
            Xdp::from_pin(&ingress, XdpAttachType::Interface).map_err(|e| program_error(maps::PROGRAM_INGRESS, &e))?;
        let tc = SchedClassifier::from_pin(&reply).map_err(|e| program_error(maps::PROGRAM_REPLY, &e))?;
        Ok((xdp, tc))
    }

    /// What distinguishes programs: the object and what is fixed in them when they are loaded.
    fn build_name(&self) -> String {
        format!("{}-{}", self.build.id, log_level(self.agent.packet_log))
    }

    fn forget_other_builds(&self) -> Result<(), LoadError> {
        let ours = self.build_name();
        for (build, path) in self.pins.builds() {
            if build != ours {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The two program types, which aya loads and pins by inherent methods.
trait Loadable: Sized {
    fn load_and_pin(program: &mut aya::programs::Program, pin: &Path) -> Result<(), ProgramError>;
}

impl Loadable for Xdp {
    fn load_and_pin(program: &mut aya::programs::Program, pin: &Path) -> Result<(), ProgramError> {
        let program: &mut Self = program.try_into()?;
        program.load()?;
        program.pin(pin).map_err(|e| std::io::Error::other(e).into())
    }
}

impl Loadable for SchedClassifier {
    fn load_and_pin(program: &mut aya::programs::Program, pin: &Path) -> Result<(), ProgramError> {
        let program: &mut Self = program.try_into()?;
        program.load()?;
        program.pin(pin).map_err(|e| std::io::Error::other(e).into())
    }
}

/// How often a program is shown to the verifier before "try again" is its last word; as libbpf does.
const LOAD_ATTEMPTS: u32 = 5;

fn load_program<P: Loadable>(ebpf: &mut Ebpf, name: &'static str, pin: &Path) -> Result<(), LoadError> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| program_error(name, &ProgramError::InvalidName { name: name.to_owned() }))?;
    let mut attempts = LOAD_ATTEMPTS;
    loop {
        attempts -= 1;
        match P::load_and_pin(program, pin) {
            // A signal is pending for us: the verifier gives up before it has judged anything.
            Err(e) if errno(&e) == Some(libc::EAGAIN) && attempts > 0 => {}
            done => return done.map_err(|e| program_error(name, &e)),
        }
    }
}

fn program_error(program: &'static str, error: &ProgramError) -> LoadError {
    let remedy = match errno(error) {
        Some(libc::EPERM) => {
            "Is BPF locked down (`sysctl kernel.unprivileged_bpf_disabled`, `cat /sys/kernel/security/lockdown`)?"
        }
        _ => "The kernel must be 5.15 or newer; please report these words with its version",
    };
    LoadError::Program { program, reason: reason(error), remedy }
}

/// A verifier's log has thousands of lines, and the last few say why.
fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(VERIFIER_LINES)..];
    format!("{io_error}; the verifier's last words: {}", last.join(" | "))
}

/// Levels of `aya-log`: 0 is off, 1 error, 3 info, 4 debug.
const fn log_level(log: PacketLog) -> u8 {
    match log {
        PacketLog::Off => 0,
        PacketLog::Error => 1,
        PacketLog::Info => 3,
        PacketLog::Debug => 4,
    }
}

/// Whether packet programs can copy from frames (`bpf_xdp_load_bytes`).
pub fn can_capture() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 18, 0))
}

fn make_state_dir(dir: &Path) -> Result<(), LoadError> {
    std::fs::create_dir_all(dir).map_err(|source| file_error("make", dir, source))
}

/// Possible CPUs: the packet programs find their counters by the number of the CPU they run on.
fn cpus() -> Result<u32, LoadError> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(file, source)| LoadError::System { what: format!("the possible CPUs in {file}"), source })?;
    u32::try_from(cpus)
        .map_err(|e| LoadError::System { what: "the number of CPUs".to_owned(), source: std::io::Error::other(e) })
}
