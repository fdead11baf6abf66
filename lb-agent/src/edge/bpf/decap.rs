//! The decapsulation program on one interface of a backend. It is not pinned: it ends with whoever holds it.

use std::net::IpAddr;
use std::num::NonZeroU16;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode as Mode;
use aya::{Ebpf, EbpfLoader};
use lb_common::decap::Decapped;
use lb_common::endpoint::Address;
use lb_common::maps;

use super::error::{LoadError, root_cause};
use super::privilege;
use crate::config::XdpMode;
use crate::object::DECAP;
use crate::pure::tables::address;

/// What to take headers off, and where.
#[derive(Clone, Debug)]
pub struct DecapRequest {
    /// Name of the interface.
    pub interface: String,
    /// How the program is attached.
    pub mode: XdpMode,
    /// Outer destinations.
    pub own: Vec<IpAddr>,
    /// Inner destinations.
    pub vips: Vec<IpAddr>,
    /// UDP port of gue.
    pub gue_port: NonZeroU16,
}

/// The program, attached until this is dropped.
#[derive(Debug)]
pub struct Decapsulation {
    ebpf: Ebpf,
    /// How it is attached: `native` or `generic`.
    pub mode: &'static str,
    /// Why it is not native, where it was to be if possible.
    pub reason: Option<String>,
}

impl Decapsulation {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// Where the process may not, the kernel cannot, or the interface takes no program.
    pub fn attach(request: &DecapRequest) -> Result<Self, LoadError> {
        privilege::check()?;
        let fail = |reason: String| LoadError::Attach {
            interface: request.interface.clone(),
            reason,
            remedy: format!("`ethtool -i {}` names the driver; the kernel log may say more", request.interface),
        };
        let mut ebpf = EbpfLoader::new()
            .override_global(maps::DECAP_GUE_PORT, &request.gue_port.get(), true)
            .load(DECAP)
            .map_err(|error| fail(format!("loading the program: {}", root_cause(&error))))?;
        for (map, addresses) in [(maps::DECAP_OWN, &request.own), (maps::DECAP_VIPS, &request.vips)] {
            fill(&mut ebpf, map, addresses).map_err(|why| fail(format!("{map}: {why}")))?;
        }
        let program =
            ebpf.program_mut(maps::PROGRAM_DECAP).ok_or_else(|| fail("no program in the object".to_owned()))?;
        let xdp: &mut Xdp = program.try_into().map_err(|error| fail(root_cause(&error)))?;
        xdp.load().map_err(|error| fail(format!("loading the program: {}", root_cause(&error))))?;
        let mut reason = None;
        let native = request.mode != XdpMode::Generic
            && match xdp.attach(&request.interface, Mode::Driver) {
                Ok(_) => true,
                Err(error) if request.mode == XdpMode::Native => return Err(fail(root_cause(&error))),
                Err(error) => {
                    reason = Some(format!("no native XDP: {}", root_cause(&error)));
                    false
                }
            };
        if !native {
            let _link = xdp.attach(&request.interface, Mode::Skb).map_err(|error| fail(root_cause(&error)))?;
        }
        Ok(Self { ebpf, mode: if native { "native" } else { "generic" }, reason })
    }

    /// Packets so far, by what became of them.
    pub fn counters(&self) -> Vec<(Decapped, u64)> {
        let map = self.ebpf.map(maps::DECAP_COUNTERS);
        let counters = map.and_then(|map| PerCpuArray::<&MapData, u64>::try_from(map).ok());
        let total = |what: Decapped| {
            let values = counters.as_ref()?.get(&u32::from(what as u8), 0).ok()?;
            Some(values.iter().sum())
        };
        Decapped::ALL.into_iter().filter_map(|what| Some((what, total(what)?))).collect()
    }
}

fn fill(ebpf: &mut Ebpf, map: &str, addresses: &[IpAddr]) -> Result<(), String> {
    let map = ebpf.map_mut(map).ok_or_else(|| "not in the object".to_owned())?;
    let mut map = HashMap::<&mut MapData, Address, u32>::try_from(map).map_err(|error| root_cause(&error))?;
    for ip in addresses {
        map.insert(address(*ip), 1, 0).map_err(|error| root_cause(&error))?;
    }
    Ok(())
}
