//! What goes together with prefix VIPs and with QUIC, and what does not.

use std::net::SocketAddr;

use lb_common::limits::{MAX_PREFIXES, MAX_SERVICES};

use super::report::Report;
use super::service::Draft;
use crate::pure::model::{Forward, Protocol, ServiceKey};
use crate::pure::prefix;

/// Says what contradicts itself in one service.
pub(super) fn check(report: &mut Report, draft: &Draft) {
    check_prefix(report, draft);
    check_quic(report, draft);
}

fn check_prefix(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    if spec.key.prefix.is_some() && spec.forward == Forward::Nat && !spec.snat {
        let message = format!(
            "nat without snat does not go with a prefix ({}): a reply would have to come from the very address that its client \
             used, and only snat remembers which. Set snat = true, or use forward = \"l2dsr\"",
            spec.key.vip_text()
        );
        report.error(&draft.field("vip"), message);
    }
}

fn check_quic(report: &mut Report, draft: &Draft) {
    let spec = &draft.spec;
    let Some(quic) = &spec.quic else {
        for (at, backend) in spec.backends.iter().enumerate() {
            if draft.server_ids.contains_key(&backend.addr) {
                let field = draft.field(&format!("backend #{}.server_id", at + 1));
                report.error(&field, "means nothing without [service.quic]".to_owned());
            }
        }
        return;
    };
    if spec.key.protocol != Protocol::Udp {
        let message = "needs protocol = \"udp\": that is what QUIC runs over".to_owned();
        report.error(&draft.field("quic"), message);
    }
    let wanted = usize::from(quic.server_id_length);
    for (at, backend) in spec.backends.iter().enumerate() {
        let place = draft.field(&format!("backend #{}", at + 1));
        if let Some(id) = quic.server_ids.get(&backend.addr)
            && id.octets().len() != wanted
        {
            let message = format!("found \"{id}\", wanted {wanted} octets, as server_id_length says");
            report.error(&format!("{place}.server_id"), message);
        }
        let before: Vec<SocketAddr> = spec.backends.iter().take(at).map(|b| b.addr).collect();
        if let Some(namesake) = quic.namesake(backend.addr, before) {
            let message = format!(
                "{} has the server ID \"{}\", and so has {namesake}; give one of them another (server_id), or make IDs longer \
                 (server_id_length): without one, a backend has the last octets of its address",
                backend.addr,
                quic.server_id(backend.addr)
            );
            report.error(&place, message);
        }
    }
}

/// Says where prefixes are too many.
pub(super) fn check_limits(report: &mut Report, drafts: &[Draft]) {
    for is_v4 in [true, false] {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        let of_family = drafts.iter().map(|d| d.spec.key).filter(|key| key.vip.is_ipv4() == is_v4);
        let keys: Vec<ServiceKey> = of_family.collect();
        let prefixes = keys.iter().filter(|key| key.prefix.is_some()).count();
        if prefixes > MAX_PREFIXES {
            let message =
                format!("there are {prefixes} services on {family} prefixes; one host has room for {MAX_PREFIXES}");
            report.error("service", message);
            continue;
        }
        let entries = keys.len() + prefix::inherited(&keys).len();
        if entries > MAX_SERVICES && keys.len() <= MAX_SERVICES {
            let message = format!(
                "nested {family} prefixes serve what those around them serve too, which makes {entries} entries; one host has \
                 room for {MAX_SERVICES}. Nest less, or serve fewer ports"
            );
            report.error("service", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::file::parse;
    use crate::config::{Config, Environment};

    fn read(service: &str) -> Result<Config, Vec<String>> {
        let text = format!("[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"s\"\nport = 443\n{service}");
        let read = parse(&text, Path::new("weir.toml"), &Environment::default());
        read.map(|(config, _)| config).map_err(|e| e.errors.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn refused(service: &str, words: &[&str]) {
        let errors = read(service).expect_err("it is refused");
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(words.iter().all(|word| errors[0].contains(word)), "{errors:?}");
    }

    const BACKEND: &str = "[[service.backend]]\naddress = \"10.0.0.11\"\n";

    #[test]
    fn a_prefix_goes_with_l2dsr_and_with_snat_and_not_with_nat_alone() {
        let vip = "vip = \"198.18.0.0/16\"\n";
        let config = read(&format!("{vip}forward = \"l2dsr\"\n{BACKEND}")).expect("it is right");
        assert_eq!(config.services[0].key.to_string(), "198.18.0.0/16 port 443/tcp");
        assert!(read(&format!("{vip}snat = true\n{BACKEND}")).is_ok());
        refused(&format!("{vip}{BACKEND}"), &["service \"s\".vip", "198.18.0.0/16", "snat = true", "l2dsr"]);
    }

    #[test]
    fn no_backend_lies_within_a_prefix() {
        let text = format!("vip = \"10.0.0.0/8\"\nforward = \"l2dsr\"\n{BACKEND}");
        refused(&text, &["backend #1.address", "lies within the VIP of service \"s\""]);
    }

    #[test]
    fn prefixes_of_different_lengths_are_different_vips() {
        let other = "[[service]]\nname = \"t\"\nport = 443\nvip = \"198.18.0.0/24\"\nforward = \"l2dsr\"\n";
        assert!(read(&format!("vip = \"198.18.0.0/16\"\nforward = \"l2dsr\"\n{BACKEND}{other}{BACKEND}")).is_ok());
    }

    #[test]
    fn quic_has_defaults_and_backends_have_ids() {
        let second = "[[service.backend]]\naddress = \"10.0.0.12\"\nserver_id = \"0A0b0c0d\"\n";
        let config = read(&format!("vip = \"203.0.113.9\"\nprotocol = \"udp\"\n{BACKEND}{second}[service.quic]\n"));
        let config = config.expect("it is right");
        let quic = config.services[0].quic.as_ref().expect("it is QUIC's");
        assert_eq!((quic.config_rotation, quic.server_id_length, quic.nonce_length), (0, 4, 8));
        let ids: Vec<String> = config.services[0].backends.iter().map(|b| quic.server_id(b.addr).to_string()).collect();
        assert_eq!(ids, ["0a00000b", "0a0b0c0d"]);
    }

    #[test]
    fn what_does_not_go_with_quic_is_refused_with_the_reason() {
        let udp = "vip = \"203.0.113.9\"\nprotocol = \"udp\"\n";
        let id = |id: &str| format!("[[service.backend]]\naddress = \"10.0.0.11\"\nserver_id = {id}\n");
        let quic = "[service.quic]\nserver_id_length = 2\n";
        refused(&format!("vip = \"203.0.113.9\"\n{BACKEND}[service.quic]\n"), &["quic", "protocol = \"udp\""]);
        refused(&format!("{udp}{}", id("\"0a0b\"")), &["server_id", "without [service.quic]"]);
        refused(&format!("{udp}{}{quic}", id("\"0a\"")), &["backend #1.server_id", "found \"0a\", wanted 2 octets"]);
        refused(&format!("{udp}{}{quic}", id("\"0x\"")), &["wanted 1 to 15 octets"]);
        refused(&format!("{udp}{}{quic}", id("\"0a0\"")), &["wanted 1 to 15 octets"]);
        let twice = "[[service.backend]]\naddress = \"10.9.0.11\"\n";
        refused(&format!("{udp}{BACKEND}{twice}{quic}"), &["backend #2", "\"000b\"", "10.0.0.11:443"]);
        refused(&format!("{udp}{BACKEND}[service.quic]\nconfig_rotation = 7\n"), &["config_rotation", "0 to 6"]);
        refused(&format!("{udp}{BACKEND}[service.quic]\nnonce_length = 3\n"), &["nonce_length", "4 to 18"]);
        let long = "[service.quic]\nserver_id_length = 12\nnonce_length = 8\n";
        refused(&format!("{udp}{BACKEND}{long}"), &["nonce_length", "together they may have 19"]);
    }
}
