//! What `trace` and `capture` ask in common: whose packets, how many, how long.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::target::Target;
use super::{Context, Failure};
use crate::edge::api::client::segment;
use crate::pure::watch::Network;

/// Whose packets, how many, how long.
#[derive(Debug, Args)]
pub(super) struct Whose {
    /// Only of this service.
    #[arg(long)]
    service: Option<String>,
    /// Only of this backend: address:port, or the address alone together with --service.
    #[arg(long)]
    backend: Option<Target>,
    /// Only of this client, or of clients in this network: 192.0.2.7, 2001:db8::/32.
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    client: Option<String>,
    /// Only packets that end so: names as in `status`, with commas; `drop` means every drop.
    #[arg(long, value_name = "VERDICT,…")]
    verdict: Option<String>,
    /// End after so many.
    #[arg(long)]
    count: Option<u64>,
    /// End after this time: 30s, 5m.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

/// The backend that is meant, where one is.
pub(super) async fn backend(
    context: &Context,
    target: Option<Target>,
    service: Option<&str>,
) -> Result<Option<SocketAddr>, Failure> {
    match (target, service) {
        (None, _) => Ok(None),
        (Some(target), Some(service)) => target.in_pool(context, service).await.map(Some),
        (Some(target), None) => target.full().map(Some).ok_or_else(|| {
            Failure::Usage("--backend without a port needs --service, which says whose port".to_owned())
        }),
    }
}

impl Whose {
    /// The request's path, up to what is this verb's own.
    pub(super) async fn path(
        &self,
        context: &Context,
        verb: &str,
        own: &[(&str, Option<String>)],
    ) -> Result<String, Failure> {
        if let Some(client) = &self.client {
            let _valid: Network = client.parse().map_err(|e| Failure::Usage(format!("--client: {e}")))?;
        }
        let backend = backend(context, self.backend, self.service.as_deref()).await?;
        let common = [
            ("service", self.service.clone()),
            ("backend", backend.map(|backend| backend.to_string())),
            ("client", self.client.clone()),
            ("verdict", self.verdict.clone()),
            ("count", self.count.map(|count| count.to_string())),
            ("seconds", self.duration.map(|duration| duration.as_secs_f64().to_string())),
        ];
        let asked = common.iter().chain(own).filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let asked: Vec<_> = asked.map(|(name, value)| format!("{name}={}", segment(value))).collect();
        Ok(format!("/v1/{verb}?{}", asked.join("&")))
    }
}
