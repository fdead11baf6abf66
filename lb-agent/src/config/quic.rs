//! Reads `[service.quic]` and the server IDs of its backends.

use std::collections::BTreeMap;

use lb_common::quic::{NONCE_MIN, ROTATION_MAX, SERVER_ID_AND_NONCE_MAX, SERVER_ID_MAX};
use toml::de::DeValue;

use super::report::Report;
use super::scalar;
use super::section::Section;
use crate::pure::quic::{QuicSpec, ServerId};

/// An IPv4 address: IDs that are derived from addresses differ.
const DEFAULT_SERVER_ID: u8 = 4;
/// A server that draws nonces by chance meets one twice after billions of connections.
const DEFAULT_NONCE: u8 = 8;

/// `None`: the service is not QUIC's.
pub(super) fn read(report: &mut Report, mut section: Section<'_, '_>) -> Option<QuicSpec> {
    if !section.is_there() {
        return None;
    }
    let longest = u8::try_from(SERVER_ID_MAX).unwrap_or(u8::MAX);
    let nonce = scalar::number(NONCE_MIN, SERVER_ID_AND_NONCE_MAX - 1);
    let spec = QuicSpec {
        config_rotation: section.read(report, "config_rotation", scalar::number(0, ROTATION_MAX)).unwrap_or(0),
        server_id_length: section
            .read(report, "server_id_length", scalar::number(1, longest))
            .unwrap_or(DEFAULT_SERVER_ID),
        nonce_length: section.read(report, "nonce_length", nonce).unwrap_or(DEFAULT_NONCE),
        length_self_description: section.read(report, "length_self_description", scalar::flag).unwrap_or(false),
        server_ids: BTreeMap::new(),
    };
    if spec.server_id_length + spec.nonce_length > SERVER_ID_AND_NONCE_MAX {
        let message = format!(
            "found {}, with a server ID of {}: together they may have {SERVER_ID_AND_NONCE_MAX} octets, as a connection ID has \
             20 at most",
            spec.nonce_length, spec.server_id_length
        );
        report.error(&section.field("nonce_length"), message);
    }
    section.finish(report);
    Some(spec)
}

/// `"0a0b"`: two hexadecimal digits an octet.
pub(super) fn server_id(value: &DeValue<'_>) -> Result<ServerId, String> {
    let octets = value.as_str().filter(|text| text.len().is_multiple_of(2) && text.is_ascii()).and_then(|text| {
        let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()
    });
    let id = octets.and_then(|octets| ServerId::new(&octets));
    id.ok_or_else(|| format!("wanted 1 to {SERVER_ID_MAX} octets in hexadecimal digits, such as \"0a0b\""))
}
