//! Programs on interfaces: attached once, adopted ever after, replaced without losing a packet.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as Mode, xdp::XdpLink};
use aya::util::KernelVersion;
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::error::{LoadError, errno, root_cause};
use super::leftovers::Leftovers;
use super::pin::{LinkKind, Pins, remove};
use super::{filter, rtnl};
use crate::config::{InterfaceConfig, XdpMode};
use crate::pure::snapshot::InterfaceStatus;

/// How the TC program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcWay {
    /// By a pinned tcx link: Linux 6.6 and later.
    Link,
    /// By a filter on a clsact qdisc.
    Filter,
}

impl TcWay {
    /// What this kernel can do.
    pub fn of_this_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version < KernelVersion::new(6, 6, 0) => Self::Filter,
            _ => Self::Link,
        }
    }
}

/// The programs and where they hang. Dropping it changes nothing: everything is pinned.
#[derive(Debug)]
pub struct Links {
    pins: Pins,
    xdp: Xdp,
    xdp_id: u32,
    tc: SchedClassifier,
    way: TcWay,
    leftovers: Leftovers,
    interfaces: BTreeMap<u32, String>,
    locals: BTreeMap<u32, String>,
}

impl Links {
    pub(super) fn new(
        pins: Pins,
        xdp: Xdp,
        tc: SchedClassifier,
        way: TcWay,
        leftovers: Leftovers,
    ) -> Result<Self, LoadError> {
        let info = xdp.info();
        let xdp_id = info
            .map_err(|e| LoadError::System { what: "a program's id".to_owned(), source: std::io::Error::other(e) })?
            .id();
        let (interfaces, locals) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { pins, xdp, xdp_id, tc, way, leftovers, interfaces, locals })
    }

    /// Attaches to exactly these interfaces: what hangs already is adopted, and given the program of this build where it runs
    /// another; interfaces that are not named lose theirs. Says how each ended up.
    ///
    /// # Errors
    /// Where an interface is missing or takes no program. What this call attached is detached again, the rest left as it was.
    pub fn set_interfaces(&mut self, wanted: &[InterfaceConfig]) -> Result<Vec<InterfaceStatus>, LoadError> {
        let indices = indices(wanted)?;
        let before = self.pins.links();
        let mut statuses = Vec::new();
        for (config, ifindex) in wanted.iter().zip(&indices) {
            match self.attach(config, *ifindex) {
                Ok(status) => statuses.push(status),
                Err(e) => {
                    self.undo(&before)?;
                    return Err(e);
                }
            }
        }
        for (name, kind, path) in self.pins.links() {
            if kind != LinkKind::Local && !wanted.iter().any(|i| i.name == name) {
                remove(&path)?;
            }
        }
        let gone: Vec<String> =
            self.interfaces.values().filter(|name| !wanted.iter().any(|i| &i.name == *name)).cloned().collect();
        for name in gone {
            self.remove_filter(&name)?;
        }
        self.interfaces = indices.into_iter().zip(wanted.iter().map(|i| i.name.clone())).collect();
        Ok(statuses)
    }

    /// Puts the TC program on a further interface: the bridge or veth of local containers, whose replies never pass XDP. One
    /// that is there already is adopted.
    ///
    /// # Errors
    /// Where the interface is gone or takes no program.
    pub fn attach_local(&mut self, ifindex: u32) -> Result<(), LoadError> {
        if self.interfaces.contains_key(&ifindex) || self.locals.contains_key(&ifindex) {
            return Ok(());
        }
        let name = name_of(ifindex)?;
        self.attach_tc(&name, LinkKind::Local)?;
        let _new = self.locals.insert(ifindex, name);
        Ok(())
    }

    /// Takes the TC program off every local interface but these: those of earlier runs, too.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn retain_locals(&mut self, wanted: &[u32]) -> Result<(), LoadError> {
        let names: Vec<String> = wanted.iter().filter_map(|ifindex| name_of(*ifindex).ok()).collect();
        for (name, kind, path) in self.pins.links() {
            if kind == LinkKind::Local && !names.contains(&name) {
                remove(&path)?;
            }
        }
        let gone: Vec<u32> = self.locals.keys().filter(|ifindex| !wanted.contains(ifindex)).copied().collect();
        for ifindex in gone {
            if let Some(name) = self.locals.remove(&ifindex) {
                self.remove_filter(&name)?;
            }
        }
        Ok(())
    }

    /// Takes the TC program off a local interface; nothing where it has none, or is gone itself.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn detach_local(&mut self, ifindex: u32) -> Result<(), LoadError> {
        let Some(name) = self.locals.remove(&ifindex) else { return Ok(()) };
        remove(&self.pins.link(&name, LinkKind::Local))?;
        self.remove_filter(&name)
    }

    /// How the TC program is attached.
    pub fn tc_way(&self) -> TcWay {
        self.way
    }

    /// Id of the XDP program, as `bpftool prog` shows it.
    pub fn program_id(&self) -> u32 {
        self.xdp_id
    }

    fn attach(&mut self, config: &InterfaceConfig, ifindex: u32) -> Result<InterfaceStatus, LoadError> {
        let reason = self.attach_xdp(config, ifindex)?;
        self.attach_tc(&config.name, LinkKind::Tc)?;
        remove(&self.pins.link(&config.name, LinkKind::Local))?;
        let _configured_now = self.locals.remove(&ifindex);
        let native = rtnl::attached_xdp(ifindex).ok().flatten().is_some_and(|xdp| xdp.native);
        let mode = if native { "native" } else { "generic" }.to_owned();
        Ok(InterfaceStatus { name: config.name.clone(), mode, reason })
    }

    /// Why it is not native, where it was to be if possible.
    fn attach_xdp(&mut self, config: &InterfaceConfig, ifindex: u32) -> Result<Option<String>, LoadError> {
        let pin = self.pins.link(&config.name, LinkKind::Xdp);
        let attached = rtnl::attached_xdp(ifindex)
            .map_err(|source| LoadError::System { what: format!("the XDP program of {}", config.name), source })?;
        if let Some(link) = pinned(&pin) {
            let program = link.info().map_or(0, |info| info.program_id());
            let fits = |native: bool| match config.mode {
                XdpMode::Auto => true,
                XdpMode::Native => native,
                XdpMode::Generic => !native,
            };
            // A link whose interface was removed stays pinned and runs nowhere, whatever bears the interface's name now.
            match attached {
                Some(now) if now.program == program && fits(now.native) => {
                    if program != self.xdp_id {
                        self.replace_xdp(link, &config.name)?;
                    }
                    let fell_back = config.mode == XdpMode::Auto && !now.native;
                    return Ok(fell_back.then(|| "attached so by an earlier run".to_owned()));
                }
                // Then the TC program's link is that of an interface that is gone, too.
                _ => {
                    drop(link);
                    remove(&pin)?;
                    remove(&self.pins.link(&config.name, LinkKind::Tc))?;
                }
            }
        }
        let mut reason = None;
        let link = match config.mode {
            XdpMode::Generic => self.new_xdp(ifindex, Mode::Skb),
            XdpMode::Native => self.new_xdp(ifindex, Mode::Driver),
            XdpMode::Auto => self.new_xdp(ifindex, Mode::Driver).or_else(|e| {
                if is_taken(&e) {
                    return Err(e);
                }
                reason = Some(format!("no native XDP: {}", root_cause(&e)));
                self.new_xdp(ifindex, Mode::Skb)
            }),
        };
        let link = link.map_err(|e| xdp_error(config, ifindex, &e))?;
        pin_link(link, &pin, &config.name)?;
        Ok(reason)
    }

    fn new_xdp(&mut self, ifindex: u32, mode: Mode) -> Result<FdLink, ProgramError> {
        let id = self.xdp.attach_to_if_index(ifindex, mode)?;
        let link = self.xdp.take_link(id)?;
        // Before 5.9 there are no XDP links, and aya attaches by netlink: that would end with the agent.
        FdLink::try_from(link).map_err(|_| std::io::Error::from_raw_os_error(libc::EOPNOTSUPP).into())
    }

    fn replace_xdp(&mut self, link: FdLink, interface: &str) -> Result<(), LoadError> {
        let replace = |xdp: &mut Xdp| {
            let link = XdpLink::try_from(link).map_err(std::io::Error::other)?;
            let id = xdp.attach_to_link(link)?;
            // Closes our handle of the link; its pin keeps it attached.
            xdp.take_link(id).map(drop)
        };
        replace(&mut self.xdp).map_err(|e: ProgramError| attach_error(interface, "replacing the XDP program", &e, None))
    }

    fn attach_tc(&mut self, interface: &str, kind: LinkKind) -> Result<(), LoadError> {
        match self.way {
            TcWay::Link => self.attach_tcx(interface, kind),
            TcWay::Filter => filter::attach(&mut self.tc, interface, &mut self.leftovers)
                .map_err(|e| attach_error(interface, "the TC program as a filter", &e, None)),
        }
    }

    /// An update of a link that runs this program already changes nothing, and one of a link whose interface is gone fails: so
    /// that the kernel says which of them is alive. (Asking an interface for its programs takes CAP_SYS_ADMIN.)
    fn attach_tcx(&mut self, interface: &str, kind: LinkKind) -> Result<(), LoadError> {
        let pin = self.pins.link(interface, kind);
        if let Some(link) = pinned(&pin) {
            match replace_tcx(&mut self.tc, link) {
                Err(e) if errno(&e) == Some(libc::ENOLINK) => remove(&pin)?,
                Err(e) => return Err(attach_error(interface, "replacing the TC program", &e, None)),
                Ok(()) => return Ok(()),
            }
        }
        let attach = |tc: &mut SchedClassifier| {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = tc.attach_with_options(interface, TcAttachType::Ingress, options)?;
            FdLink::try_from(tc.take_link(id)?).map_err(|e| std::io::Error::other(e).into())
        };
        let link =
            attach(&mut self.tc).map_err(|e: ProgramError| attach_error(interface, "the TC program", &e, None))?;
        pin_link(link, &pin, interface)
    }

    fn remove_filter(&mut self, interface: &str) -> Result<(), LoadError> {
        match self.way {
            TcWay::Link => Ok(()),
            TcWay::Filter => filter::remove(interface, &mut self.leftovers),
        }
    }

    fn undo(&mut self, before: &[(String, LinkKind, std::path::PathBuf)]) -> Result<(), LoadError> {
        for link in self.pins.links() {
            if !before.contains(&link) {
                remove(&link.2)?;
            }
        }
        Ok(())
    }
}

/// Finds every interface, before anything is changed.
pub(super) fn indices(wanted: &[InterfaceConfig]) -> Result<Vec<u32>, LoadError> {
    wanted
        .iter()
        .map(|i| if_nametoindex(i.name.as_str()).map_err(|_| LoadError::Interface { name: i.name.clone() }))
        .collect()
}

fn name_of(ifindex: u32) -> Result<String, LoadError> {
    let name: CString =
        if_indextoname(ifindex).map_err(|_| LoadError::Interface { name: format!("with index {ifindex}") })?;
    Ok(name.to_string_lossy().into_owned())
}

fn replace_tcx(tc: &mut SchedClassifier, link: FdLink) -> Result<(), ProgramError> {
    let link = SchedClassifierLink::try_from(link).map_err(std::io::Error::other)?;
    let id = tc.attach_to_link(link)?;
    // Closes our handle of the link; its pin keeps it attached.
    tc.take_link(id).map(drop)
}

fn pinned(pin: &Path) -> Option<FdLink> {
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

fn pin_link(link: FdLink, pin: &Path, interface: &str) -> Result<(), LoadError> {
    // Closes our handle of the link; its pin keeps it attached.
    link.pin(pin).map(drop).map_err(|e| LoadError::Attach {
        interface: interface.to_owned(),
        reason: format!("pinning the link at {}: {}", pin.display(), root_cause(&e)),
        remedy: "Check that `pin_dir` is writable".to_owned(),
    })
}

fn xdp_error(config: &InterfaceConfig, ifindex: u32, error: &ProgramError) -> LoadError {
    if is_taken(error) {
        let program = rtnl::attached_xdp(ifindex).ok().flatten().map_or(0, |xdp| xdp.program);
        return LoadError::Attach {
            interface: config.name.clone(),
            reason: format!("another XDP program is attached there (id {program})"),
            remedy: format!(
                "See `bpftool prog show id {program}`; detach it with `ip link set dev {} xdp off`, or end its owner",
                config.name
            ),
        };
    }
    let remedy = (config.mode == XdpMode::Native)
        .then(|| format!("Use `mode = \"auto\"`, or check the driver: `ethtool -i {}`", config.name));
    let what = if config.mode == XdpMode::Native { "native XDP" } else { "XDP" };
    attach_error(&config.name, what, error, remedy)
}

fn is_taken(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

fn attach_error(interface: &str, what: &str, error: &ProgramError, remedy: Option<String>) -> LoadError {
    let usual = match errno(error) {
        Some(libc::EPERM | libc::EACCES) => "Give the agent CAP_NET_ADMIN and CAP_BPF".to_owned(),
        _ => format!("`ethtool -i {interface}` names the driver; the kernel log may say more"),
    };
    LoadError::Attach {
        interface: interface.to_owned(),
        reason: format!("{what}: {}", root_cause(error)),
        remedy: remedy.unwrap_or(usual),
    }
}
