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
        IpAddr::V4(a) => (8, 32, a.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::environment::Environment;
    use super::super::file::parse;
    use super::*;

    /// A service of these fields, and what it is told.
    fn read(fields: &str, vip: &str, backend: &str) -> Result<Encap, Vec<String>> {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"llm\"\nvip = \"{vip}\"\nport = 8000\n{fields}\n\
             [[service.backend]]\naddress = \"{backend}\"\n"
        );
        match parse(&text, Path::new("weir.toml"), &Environment::default()) {
            Ok((config, _)) => Ok(config.services[0].encap),
            Err(errors) => Err(errors.errors.iter().map(ToString::to_string).collect()),
        }
    }

    #[track_caller]
    fn refused(fields: &str, vip: &str, backend: &str, why: &str) {
        let errors = read(fields, vip, backend).expect_err("it is wrong");
        assert!(errors.iter().any(|error| error.contains(why)), "{errors:#?}");
    }

    const V4: &str = "203.0.113.10";
    const V6: &str = "2001:db8::10";

    #[test]
    fn every_pair_of_families_but_6in4_goes_together() {
        for forward in ["ipip", "gue"] {
            let fields = format!("forward = \"{forward}\"");
            for (vip, backend) in [(V4, "10.0.0.11"), (V6, "fd00::11"), (V4, "fd00::11")] {
                assert_eq!(read(&fields, vip, backend), Ok(Encap::default()), "{forward}: {vip} to {backend}");
            }
            refused(
                &fields,
                V6,
                "10.0.0.11",
                "not of one family; a backend that answers IPv6 clients has an IPv6 address",
            );
        }
    }

    #[test]
    fn sources_and_port_are_read_as_written() {
        let fields = "forward = \"gue\"\nencap_source = [\"10.9.0.0/20\", \"fd09::/64\"]\ngue_port = 9886";
        let encap = read(fields, V4, "10.0.0.11").expect("it is right");
        assert_eq!(encap.source_v4, (Ipv4Addr::new(10, 9, 0, 0), 20));
        assert_eq!((encap.source_v6.1, encap.gue_port.get()), (64, 9_886));
        let one = read("forward = \"ipip\"\nencap_source = \"10.9.0.1/32\"", V4, "10.0.0.11").expect("it is right");
        assert_eq!(one.source_towards("10.0.0.11".parse().expect("an address")).1, 0);
    }

    #[test]
    fn what_means_nothing_or_cannot_be_is_refused_with_the_reason() {
        for (fields, why) in [
            ("encap_source = \"10.9.0.0/16\"", "means nothing without forward = \"ipip\" or forward = \"gue\""),
            ("forward = \"ipip\"\ngue_port = 6080", "means nothing without forward = \"gue\""),
            ("forward = \"ipip\"\nencap_source = \"10.9.0.1/16\"", "the bits behind the prefix are the flow's"),
            ("forward = \"ipip\"\nencap_source = \"10.0.0.0/4\"", "prefix length of 8 to 32"),
            ("forward = \"ipip\"\nencap_source = \"10.9.0.0\"", "wanted a network such as"),
            ("forward = \"ipip\"\nencap_source = [\"10.9.0.0/16\", \"10.8.0.0/16\"]", "two networks of one family"),
            ("forward = \"ipip\"\nencap_source = \"203.0.113.0/24\"", "203.0.113.10 lies in the outer source network"),
            ("forward = \"ipip\"\nsnat = true", "goes with forward = \"nat\" only"),
            ("forward = \"gue\"\ngue_port = 0", "wanted a number, 1 to 65535"),
        ] {
            refused(fields, V4, "10.0.0.11", why);
        }
    }

    #[test]
    fn the_client_packets_port_is_the_backends() {
        refused("forward = \"ipip\"", V4, "10.0.0.11\"\nport = \"9000", "wanted a number");
        let text = "10.0.0.11\"\nport = 9000 # \"";
        refused("forward = \"ipip\"", V4, text, "the client's packet reaches the backend as it is");
    }
}
