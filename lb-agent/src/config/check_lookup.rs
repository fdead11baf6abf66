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
            let message = format!("there are {prefixes} services on {family} prefixes; one host has room for {MAX_PREFIXES}");
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
