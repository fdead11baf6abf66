//! What the maps should contain of prefix VIPs and of QUIC's server IDs: the part of `desired` by which services and backends
//! are found otherwise than by one address.

use lb_common::endpoint::{EndpointV4, EndpointV6};

use super::desired::endpoint;
use super::ledger::{Ledger, Service};
use super::model::ServiceKey;
use super::prefix;
use super::tables::{Endpoint, Tables};

/// Key of a service without port and protocol: what the packet path finds a prefix's services by.
pub(super) fn prefix_of(key: &ServiceKey) -> Endpoint {
    match endpoint(key) {
        Endpoint::V4(e) => Endpoint::V4(EndpointV4 { port: [0, 0], protocol: 0, ..e }),
        Endpoint::V6(e) => Endpoint::V6(EndpointV6 { port: [0, 0], protocol: 0, ..e }),
    }
}

/// What shorter prefixes serve under longer ones: under which key, and whose it is.
pub(super) fn inherited(ledger: &Ledger) -> Vec<(ServiceKey, ServiceKey)> {
    let keys: Vec<ServiceKey> = ledger.services().values().map(|s| s.spec.key).filter(|k| k.prefix.is_some()).collect();
    prefix::inherited(&keys)
}

/// The same, in the tables.
pub(super) fn add_inherited(tables: &mut Tables, ledger: &Ledger) {
    for (at, of) in inherited(ledger) {
        if let Some(entry) = tables.services.get(&endpoint(&of)).copied() {
            let _ = tables.services.insert(endpoint(&at), entry);
        }
    }
}

/// Whom connection IDs name. Whoever is in the pool comes before those who are leaving it.
pub(super) fn add_quic(tables: &mut Tables, service: &Service) {
    let Some(quic) = &service.spec.quic else { return };
    let _ = tables.quic.insert(service.id, quic.config());
    for member in &service.members {
        if let Some(id) = member.server_id {
            let _ = tables.quic_servers.entry(id.key(service.id)).or_insert(member.owner);
        }
    }
}
