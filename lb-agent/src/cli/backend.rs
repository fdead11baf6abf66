//! `backend list|add|remove|drain|undrain|weight|disable|enable`.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::Paint;
use super::status::backends_table;
use super::target::Target;
use super::wait::{self, End};
use super::{Context, Failure};
use crate::edge::api::Backends;
use crate::pure::command::{BackendChange, Reply};
use crate::pure::snapshot::ServiceStatus;

/// Share of new flows of a backend that says nothing about it, as in the file.
const DEFAULT_WEIGHT: u16 = 100;

/// What can be done with backends. Changes survive a restart of the agent; `status` shows where they differ from the file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the backends of a service, or of all.
    List {
        /// Only of this service.
        service: Option<String>,
    },
    /// Add a backend; it serves after its first passed probe.
    Add {
        #[command(flatten)]
        which: Which,
        /// Relative share of new flows, 0 to 65535.
        #[arg(long, default_value_t = DEFAULT_WEIGHT)]
        weight: u16,
    },
    /// Drain a backend, then remove it.
    Remove {
        #[command(flatten)]
        which: Which,
        /// Do not drain: cut its flows at once, and say how many.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        waiting: wait::Arguments,
    },
    /// Give a backend no new flows and let the old ones end; it is `disabled` then.
    Drain {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        waiting: wait::Arguments,
    },
    /// Take a drain back.
    Undrain(Which),
    /// Change a backend's share of new flows.
    Weight {
        #[command(flatten)]
        which: Which,
        /// Relative share of new flows, 0 to 65535; 0: none.
        weight: u16,
    },
    /// Give a backend no flows and cut those it has.
    Disable(Which),
    /// Bring a disabled backend back.
    Enable(Which),
}

/// The backends of all services.
#[derive(Serialize)]
struct Pools {
    pools: Vec<Backends>,
}

/// One backend.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Service.
    service: String,
    /// Backend: address:port, or the address alone where it is clear.
    backend: Target,
}

pub(super) async fn execute(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { service } => list(context, service).await,
        Verb::Add { which, weight } => {
            let backend = which.backend.for_service(context, &which.service).await?;
            change(context, &which.service, backend, BackendChange::Add { weight }).await
        }
        Verb::Remove { which, force, waiting } => {
            let backend = which.backend.in_pool(context, &which.service).await?;
            change(context, &which.service, backend, BackendChange::Remove { force }).await?;
            wait::until(context, &which.service, backend, End::Gone, &waiting).await
        }
        Verb::Drain { which, waiting } => {
            let backend = which.backend.in_pool(context, &which.service).await?;
            change(context, &which.service, backend, BackendChange::Drain).await?;
            wait::until(context, &which.service, backend, End::Drained, &waiting).await
        }
        Verb::Undrain(which) => change_known(context, which, BackendChange::Undrain).await,
        Verb::Weight { which, weight } => change_known(context, which, BackendChange::Weight { weight }).await,
        Verb::Disable(which) => change_known(context, which, BackendChange::Disable).await,
        Verb::Enable(which) => change_known(context, which, BackendChange::Enable).await,
    }
}

async fn change_known(context: &Context, which: Which, what: BackendChange) -> Result<(), Failure> {
    let backend = which.backend.in_pool(context, &which.service).await?;
    change(context, &which.service, backend, what).await
}

async fn change(context: &Context, service: &str, backend: SocketAddr, what: BackendChange) -> Result<(), Failure> {
    let reply = context.client.change_backend(service, backend, &what).await?;
    context.output.print(&reply, sentence)
}

/// What the agent says it has done.
pub(super) fn sentence(reply: &Reply, _: Paint) -> String {
    match reply {
        Reply::Done(sentence) => sentence.clone(),
        Reply::Flows(_) | Reply::FlowCounts(_) | Reply::Watching(_) | Reply::Explanation(_) => "done".to_owned(),
    }
}

async fn list(context: &Context, service: Option<String>) -> Result<(), Failure> {
    if let Some(service) = service {
        let pool = context.client.backends(&service).await?;
        return context.output.print(&pool, |pool, paint| backends_table(&pool.backends).render(0, paint));
    }
    let services = context.client.services().await?.services;
    let pool = |service: ServiceStatus| Backends { service: service.name, backends: service.backends };
    let all = Pools { pools: services.into_iter().map(pool).collect() };
    context.output.print(&all, |all, paint| {
        let pools = all.pools.iter().map(|pool| {
            let table = backends_table(&pool.backends).render(2, paint);
            format!("service {}\n{table}", pool.service)
        });
        pools.collect::<Vec<_>>().join("\n")
    })
}
