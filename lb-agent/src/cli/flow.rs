//! `flow list`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::output::Paint;
use super::table::Table;
use super::target::Target;
use super::{Context, Failure};
use crate::edge::api::{DEFAULT_FLOW_LIMIT, MAX_FLOW_LIMIT};
use crate::pure::command::Reply;
use crate::pure::snapshot::FlowRow;

/// What can be done with flows.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show entries of the flow table.
    List(Filter),
}

/// Which flows.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only of this service.
    #[arg(long)]
    service: Option<String>,
    /// Only of this backend: address:port, or the address alone together with --service.
    #[arg(long)]
    backend: Option<Target>,
    /// At most so many.
    #[arg(long, default_value_t = DEFAULT_FLOW_LIMIT)]
    limit: usize,
}

pub(super) async fn execute(context: &Context, Verb::List(filter): Verb) -> Result<(), Failure> {
    if filter.limit > MAX_FLOW_LIMIT {
        return Err(Failure::Usage(format!("--limit is {}, at most {MAX_FLOW_LIMIT} are shown", filter.limit)));
    }
    let backend = match (filter.backend, &filter.service) {
        (None, _) => None,
        (Some(target), Some(service)) => Some(target.in_pool(context, service).await?),
        (Some(target), None) => Some(target.full().ok_or_else(|| {
            Failure::Usage("--backend without a port needs --service, which says whose port".to_owned())
        })?),
    };
    let rows = context.client.flows(filter.service.as_deref(), backend, filter.limit).await?;
    let is_cut = rows.len() == filter.limit;
    context.output.print(&Reply::Flows(rows), |reply, paint| match reply {
        Reply::Flows(rows) => text(rows, is_cut, paint),
        Reply::Done(_) | Reply::Watching(_) | Reply::Explanation(_) => String::new(),
    })
}

fn text(rows: &[FlowRow], is_cut: bool, paint: Paint) -> String {
    if rows.is_empty() {
        return "no flows (services with tracking other than full keep entries in transitions only)".to_owned();
    }
    let mut table = Table::new(&["SERVICE", "BACKEND", "STATE", ">SILENT", ">SLOT", "TAG", "CLIENT"]);
    for row in rows {
        table.row([
            row.service.as_str().into(),
            row.backend.to_string().into(),
            row.state.as_str().into(),
            humantime::format_duration(Duration::from_secs(row.silent_s)).to_string().into(),
            row.slot.to_string().into(),
            row.tag.as_str().into(),
            row.client.map_or_else(|| "-".to_owned(), |client| client.to_string()).into(),
        ]);
    }
    let more = if is_cut { format!("the first {}; --limit shows more\n", rows.len()) } else { String::new() };
    table.render(0, paint) + &more
}
