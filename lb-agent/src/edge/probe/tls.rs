//! TLS for HTTPS checks: by default any certificate will do (a probe judges liveness, not identity).

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::uri::Authority;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::Failure;
use crate::pure::model::HttpProbe;

/// The two client configurations, each made when first needed: reading the host's root certificates takes milliseconds, and
/// hosts without any exist.
#[derive(Debug, Default)]
pub(super) struct Tls {
    insecure: OnceLock<Result<Arc<ClientConfig>, String>>,
    verified: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Completes a TLS handshake over `stream`, with `wanted`'s host (else the address) as the server's name.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        wanted: &HttpProbe,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let config = if wanted.tls_insecure {
            self.insecure.get_or_init(|| configure(Trust::Any))
        } else {
            self.verified.get_or_init(|| configure(Trust::Roots))
        };
        let config = config.as_ref().map_err(|why| Failure::answered(why.clone()))?;
        let name = server_name(addr, wanted)?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Failure::answered("TLS: connection closed during the handshake"),
            _ => Failure::caused_by(&error, "TLS"),
        })
    }
}

/// Whose certificates pass.
#[derive(Clone, Copy)]
enum Trust {
    Any,
    Roots,
}

fn configure(trust: Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let mut config = match trust {
        Trust::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
            .with_no_client_auth(),
        Trust::Roots => builder.with_root_certificates(roots()?).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every probe is a full handshake: a resumed session would hide a certificate that has gone bad.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Distributions ship the odd certificate that rustls does not take; one of many is no reason to have none.
    let (taken, _refused) = store.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err("no root certificates on this host. Install ca-certificates, or set tls_insecure = true".to_owned());
    }
    Ok(store)
}

fn server_name(addr: SocketAddr, wanted: &HttpProbe) -> Result<ServerName<'static>, Failure> {
    let Some(host) = &wanted.host else { return Ok(ServerName::IpAddress(addr.ip().into())) };
    // The Host header may carry a port and an IPv6 address stands in brackets; a server name has neither.
    let authority = host.parse::<Authority>().ok();
    let name = authority.as_ref().map_or(host.as_str(), Authority::host).trim_matches(['[', ']']);
    ServerName::try_from(name.to_owned())
        .map_err(|_| Failure::answered(format!("{host:?} is no TLS server name. Correct host in the health check")))
}

/// Accepts every certificate, but not every signature: the server must still hold the key it shows.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_the_host_without_port_or_brackets() {
        let addr = "192.0.2.7:8443".parse().unwrap();
        let name = |host: Option<&str>| {
            let probe = HttpProbe {
                path: "/".into(),
                host: host.map(Into::into),
                headers: vec![],
                status_first: 200,
                status_last: 399,
                body_contains: None,
                tls_insecure: true,
            };
            server_name(addr, &probe).map(|name| name.to_str().into_owned())
        };
        assert_eq!(name(None).unwrap(), "192.0.2.7");
        assert_eq!(name(Some("api.example.com")).unwrap(), "api.example.com");
        assert_eq!(name(Some("api.example.com:8443")).unwrap(), "api.example.com");
        assert_eq!(name(Some("[2001:db8::7]:8443")).unwrap(), "2001:db8::7");
        assert!(name(Some("not a name")).is_err());
    }
}
