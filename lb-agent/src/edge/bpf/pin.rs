//! What lies where under `pin_dir`, and whether what lies there may be used.
//!
//! ```text
//! pin_dir/SERVICES_V4 ...           every map of lb_common::maps
//! pin_dir/rings/<service id>        each service's ring, so that adopting needs no CAP_SYS_ADMIN (BPF_MAP_GET_FD_BY_ID does)
//! pin_dir/programs/<build>_<name>   the programs, by the build they come from
//! pin_dir/links/<interface>_xdp     XDP
//! pin_dir/links/<interface>_tc      TC on an interface of the configuration
//! pin_dir/links/<interface>_local   TC on a bridge of local containers
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError, MapInfo};
use lb_common::{ABI_VERSION, maps};

use super::bpffs::file_error;
use super::error::{LoadError, errno};
use super::host_record::HostRecord;
use super::layout::{Sizes, shapes};

/// The log's ring buffer (`aya-log-ebpf`), pinned so that a program that was adopted can still be heard.
pub(super) const LOG_MAP: &str = "AYA_LOGS";

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// XDP on an interface of the configuration.
    Xdp,
    /// TC on an interface of the configuration.
    Tc,
    /// TC on a bridge of local containers.
    Local,
}

impl LinkKind {
    const ALL: [Self; 3] = [Self::Xdp, Self::Tc, Self::Local];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Xdp => "_xdp",
            Self::Tc => "_tc",
            Self::Local => "_local",
        }
    }
}

/// The pins of one agent.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
}

/// What is pinned.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing that could be used; what lay there half-made is gone.
    Nothing,
    /// Every map, in our layout.
    Maps {
        /// Their sizes.
        sizes: Sizes,
        /// The host's record.
        host: HostRecord,
    },
}

impl Pins {
    /// Under `pin_dir`, which lies on a bpffs.
    pub(super) fn new(pin_dir: &Path) -> Self {
        Self { dir: pin_dir.to_owned() }
    }

    /// A map's pin.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A ring's pin.
    pub(super) fn ring(&self, service: u16) -> PathBuf {
        self.dir.join("rings").join(service.to_string())
    }

    /// A program's pin.
    pub(super) fn program(&self, build: &str, name: &str) -> PathBuf {
        self.dir.join("programs").join(format!("{build}_{name}"))
    }

    /// A link's pin.
    pub(super) fn link(&self, interface: &str, kind: LinkKind) -> PathBuf {
        self.dir.join("links").join(format!("{}{}", escape(interface), kind.suffix()))
    }

    /// Opens a pinned map.
    ///
    /// # Errors
    /// [`LoadError::Map`] where it is missing or no map.
    pub(super) fn open(&self, name: &str) -> Result<MapData, LoadError> {
        let path = self.map(name);
        MapData::from_pin(&path).map_err(|e| LoadError::Map { path, what: open_error(&e) })
    }

    /// Makes the directories below `pin_dir`.
    ///
    /// # Errors
    /// Where one cannot be made.
    pub(super) fn make_directories(&self) -> Result<(), LoadError> {
        for name in ["rings", "programs", "links"] {
            let dir = self.dir.join(name);
            fs::create_dir_all(&dir).map_err(|source| file_error("make", &dir, source))?;
        }
        Ok(())
    }

    /// Finds out what is pinned, and checks every map of it. `HOST`'s version number is written last of all, so that pins
    /// without it are the remains of a crash during the first load: nothing forwards by them yet, and they are removed.
    ///
    /// # Errors
    /// [`LoadError::Layout`] and [`LoadError::Map`]; the pins are kept.
    pub(super) fn find(&self, wanted: &Sizes) -> Result<Found, LoadError> {
        let path = self.map(maps::HOST);
        let map = match MapData::from_pin(&path) {
            Ok(map) => map,
            Err(e) if errno(&e) == Some(libc::ENOENT) => return self.start_over(),
            Err(e) => return Err(LoadError::Map { path, what: open_error(&e) }),
        };
        let host =
            HostRecord::map(&map).map_err(|e| LoadError::Map { path, what: format!("cannot be mapped: {e}") })?;
        match host.abi_version() {
            0 => self.start_over(),
            ABI_VERSION => Ok(Found::Maps { sizes: self.check(wanted)?, host }),
            found => Err(LoadError::Layout { path: self.dir.clone(), found, wanted: ABI_VERSION }),
        }
    }

    /// Builds whose programs are pinned, each as often as it has programs.
    pub(super) fn builds(&self) -> Vec<(String, PathBuf)> {
        entries(&self.dir.join("programs"))
            .into_iter()
            .filter_map(|path| Some((path.file_name()?.to_str()?.split_once('_')?.0.to_owned(), path)))
            .collect()
    }

    /// Interfaces and kinds of pinned links.
    pub(super) fn links(&self) -> Vec<(String, LinkKind, PathBuf)> {
        let parse = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            let (interface, kind) =
                LinkKind::ALL.iter().find_map(|kind| Some((name.strip_suffix(kind.suffix())?, *kind)))?;
            Some((unescape(interface), kind, path))
        };
        entries(&self.dir.join("links")).into_iter().filter_map(parse).collect()
    }

    /// Removes every pin: links first, so that nothing forwards by maps that are going. Directories go with them, `pin_dir`
    /// itself too where it is no mount point.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub(super) fn remove(&self) -> Result<(), LoadError> {
        for name in ["links", "programs", "rings"] {
            let dir = self.dir.join(name);
            for path in entries(&dir) {
                remove(&path)?;
            }
            match fs::remove_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file_error("remove", &dir, e)),
                _ => {}
            }
        }
        for name in maps::ALL.iter().chain(&[LOG_MAP]) {
            remove(&self.map(name))?;
        }
        // Not empty: others pin here too. Busy: a mount point, which is the bpffs room's business.
        let _kept = fs::remove_dir(&self.dir);
        Ok(())
    }

    fn start_over(&self) -> Result<Found, LoadError> {
        for name in maps::ALL.iter().chain(&[LOG_MAP]) {
            remove(&self.map(name))?;
        }
        for path in entries(&self.dir.join("rings")) {
            remove(&path)?;
        }
        Ok(Found::Nothing)
    }

    /// Sizes of the pinned maps. That of the flow table is taken as it is: it was configured otherwise when it was made.
    fn check(&self, wanted: &Sizes) -> Result<Sizes, LoadError> {
        let entries = |name| Ok(self.info(name)?.max_entries());
        let sizes = Sizes { buckets: entries(maps::FLOWS)?, epoch_words: entries(maps::EPOCHS)?, cpus: wanted.cpus };
        for shape in shapes(&sizes) {
            if let Some(what) = shape.difference(&self.info(shape.name)?) {
                return Err(LoadError::Map { path: self.map(shape.name), what });
            }
        }
        if sizes.buckets.is_power_of_two() {
            Ok(sizes)
        } else {
            Err(LoadError::Map { path: self.map(maps::FLOWS), what: "is no power of two in size".to_owned() })
        }
    }

    fn info(&self, name: &str) -> Result<MapInfo, LoadError> {
        let path = self.map(name);
        MapInfo::from_pin(&path).map_err(|e| LoadError::Map { path, what: open_error(&e) })
    }
}

/// Removes a pin; it may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path, source)),
        _ => Ok(()),
    }
}

fn open_error(error: &MapError) -> String {
    match errno(error) {
        Some(libc::ENOENT) => "is missing".to_owned(),
        _ => format!("cannot be opened: {}", super::error::root_cause(error)),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default()
}

/// bpffs refuses names with a dot (`bpf_lookup`), and VLAN interfaces have one.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_survive_their_pins() {
        for name in ["eth0", "eth0.100", "br_tc", "a%2eb", "50%.1"] {
            assert!(!escape(name).contains('.'));
            assert_eq!(unescape(&escape(name)), name);
        }
    }
}
