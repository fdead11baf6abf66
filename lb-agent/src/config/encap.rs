//! Reads and checks what a service says about encapsulation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::de::DeValue;

use super::report::Report;
use super::scalar;
use super::section::{Section, shown};
use super::service::Draft;
use crate::pure::encap::Encap;
use crate::pure::model::Forward;

/// Fields that mean something to `ipip` and `gue` alone.
const SOURCE: &str = "encap_source";
/// To `gue` alone.
const GUE_PORT: &str = "gue_port";

/// One outer source network.
#[derive(Clone, Copy)]
enum Network {
    V4(Ipv4Addr, u8),
    V6(Ipv6Addr, u8),
}

/// Reads `encap_source` and `gue_port`.
pub(super) fn read(report: &mut Report, section: &mut Section<'_, '_>) -> Encap {
    let mut encap = Encap::default();
    for network in section.read(report, SOURCE, networks).unwrap_or_default() {
        match network {
            Network::V4(base, prefix) => encap.source_v4 = (base, prefix),
            Network::V6(base, prefix) => encap.source_v6 = (base, prefix),
        }
    }
    if let Some(port) = section.read(report, GUE_PORT, scalar::number(1_u16, u16::MAX)) {
        encap.gue_port = port.try_into().unwrap_or(encap.gue_port);
    }
    encap
}

/// One network or one of each family.
fn networks(value: &DeValue<'_>) -> Result<Vec<Network>, String> {
    const WANTED: &str = "wanted a network in quotes, such as \"172.16.0.0/16\", or one of each family in a list";
    if let Some(text) = value.as_str() {
        return network(text).map(|network| vec![network]);
    }
    let items = value.as_array().ok_or_else(|| WANTED.to_owned())?;
    let mut read: Vec<Network> = Vec::new();
    for item in items {
        let text = item.get_ref().as_str().ok_or_else(|| format!("with {} in it, {WANTED}", shown(item.get_ref())))?;
        let next = network(text).map_err(|why| format!("with {text:?} in it, {why}"))?;
        if read.iter().any(|known| {
            matches!((known, next), (Network::V4(..), Network::V4(..)) | (Network::V6(..), Network::V6(..)))
        }) {
            return Err("with two networks of one family in it, wanted one of each".to_owned());
        }
        read.push(next);
    }
    Ok(read)
}

fn network(text: &str) -> Result<Network, String> {
    let wanted = || "wanted a network such as \"172.16.0.0/16\" or \"fd00:1:2:3::/64\"".to_owned();
    let (address, prefix) = text.split_once('/').ok_or_else(wanted)?;
    let (address, prefix): (IpAddr, u8) =
        (address.parse().map_err(|_| wanted())?, prefix.parse().map_err(|_| wanted())?);
    let (first, last, host_bits_are_zero) = match address {
        IpAddr::V4(a) => (8, 32, u64::from(a.to_bits()) << prefix.min(32) & 0xffff_ffff == 0),
        IpAddr::V6(a) => (32, 128, a.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0),
    };
    if !(first..=last).contains(&prefix) {
        return Err(format!("wanted a prefix length of {first} to {last}"));
    }
    if !host_bits_are_zero {
        return Err("wanted the network's own address: the bits behind the prefix are the flow's, write them as zero"
            .to_owned());
    }
    if address.is_multicast() || address.is_loopback() {
        return Err("wanted a unicast network that is not this host's loopback".to_owned());
    }
    Ok(match address {
        IpAddr::V4(a) => Network::V4(a, prefix),
        IpAddr::V6(a) => Network::V6(a, prefix),
    })
}

/// Says what does not go together.
pub(super) fn check(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    for (field, goes_with) in [(SOURCE, &[Forward::Ipip, Forward::Gue][..]), (GUE_PORT, &[Forward::Gue])] {
        if report.has_field(&draft.field(field)) && !goes_with.contains(&spec.forward) {
            let words: Vec<_> = goes_with.iter().map(|mode| format!("forward = {:?}", mode.name())).collect();
            report.error(&draft.field(field), format!("means nothing without {}", words.join(" or ")));
        }
    }
    if !spec.forward.encapsulates() {
        return;
    }
    let taken = std::iter::once(spec.key.vip).chain(spec.backends.iter().map(|backend| backend.addr.ip()));
    for address in taken.filter(|address| spec.encap.may_send_from(*address)) {
        let message = format!("{address} lies in the outer source network; outer sources must be nobody's addresses");
        report.error(&draft.field(SOURCE), message);
    }
}
