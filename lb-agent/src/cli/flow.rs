//! `flow list`, `flow count`, `flow show`: what the flow table holds.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::explain::Flow;
use super::output::{Page, Paint, Tone, grouped};
use super::table::Table;
use super::target::Target;
use super::{Context, Failure, watching};
use crate::edge::api::{DEFAULT_FLOW_LIMIT, MAX_FLOW_LIMIT};
use crate::pure::command::Reply;
use crate::pure::flows::FlowFilter;
use crate::pure::model::Protocol;
use crate::pure::snapshot::{Explanation, FlowCount, FlowQuery, FlowRow};

/// What can be done with flows.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show entries of the flow table. It holds hashes: clients are known of services with snat only.
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many.
        #[arg(long, default_value_t = DEFAULT_FLOW_LIMIT)]
        limit: usize,
    },
    /// Count entries by service, backend and state.
    Count(Filter),
    /// Find one flow's entry by its tuple.
    Show(Flow),
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
    /// Only of this client, or of clients in this network, where clients are known (snat).
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    client: Option<String>,
    /// Only in these states: half_open, adopted, established, fin_client, fin_server, ended, with commas.
    #[arg(long, value_name = "STATE,…")]
    state: Option<String>,
    /// Only of services of this protocol.
    #[arg(long, value_enum)]
    protocol: Option<Transport>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
}

impl Filter {
    async fn asked(self, context: &Context, limit: Option<usize>) -> Result<FlowFilter, Failure> {
        let backend = watching::backend(context, self.backend, self.service.as_deref()).await?;
        let protocol = self.protocol.map(|protocol| match protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        });
        Ok(FlowFilter { service: self.service, backend, client: self.client, state: self.state, protocol, limit })
    }
}

pub(super) async fn execute(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { filter, limit } => list(context, filter, limit).await,
        Verb::Count(filter) => {
            let counts = context.client.flow_counts(&filter.asked(context, None).await?).await?;
            context.output.print(&Reply::FlowCounts(counts), |reply, paint| match reply {
                Reply::FlowCounts(counts) => count_text(counts, paint),
                _ => String::new(),
            })
        }
        Verb::Show(flow) => show(context, &flow.query(false)?).await,
    }
}

async fn list(context: &Context, filter: Filter, limit: usize) -> Result<(), Failure> {
    if limit > MAX_FLOW_LIMIT {
        return Err(Failure::Usage(format!("--limit is {limit}, at most {MAX_FLOW_LIMIT} are shown")));
    }
    let rows = context.client.flows(&filter.asked(context, Some(limit)).await?).await?;
    let is_cut = rows.len() == limit;
    context.output.print(&Reply::Flows(rows), |reply, paint| match reply {
        Reply::Flows(rows) => list_text(rows, is_cut, paint),
        _ => String::new(),
    })
}

fn list_text(rows: &[FlowRow], is_cut: bool, paint: Paint) -> String {
    if rows.is_empty() {
        return "no flows (services with tracking other than full keep entries in transitions only)".to_owned();
    }
    let mut table = Table::new(&["SERVICE", "BACKEND", "STATE", ">SILENT", ">SLOT", "TAG", "CLIENT", "VIP", "SOURCE"]);
    let known = |end: Option<std::net::SocketAddr>| end.map_or_else(|| "-".to_owned(), |end| end.to_string());
    for row in rows {
        table.row([
            row.service.as_str().into(),
            row.backend.to_string().into(),
            row.state.as_str().into(),
            silence(row.silent_s).into(),
            row.slot.to_string().into(),
            row.tag.as_str().into(),
            known(row.client).into(),
            known(row.vip).into(),
            known(row.source).into(),
        ]);
    }
    let more = if is_cut {
        format!("the first {}; --limit shows more, `lb-agent flow count` counts them all\n", rows.len())
    } else {
        String::new()
    };
    table.render(0, paint) + &more
}

fn count_text(counts: &[FlowCount], paint: Paint) -> String {
    if counts.is_empty() {
        return "no flows (services with tracking other than full keep entries in transitions only)".to_owned();
    }
    let mut table = Table::new(&["SERVICE", "BACKEND", "STATE", ">FLOWS"]);
    for row in counts {
        table.row([
            row.service.as_str().into(),
            row.backend.to_string().into(),
            row.state.as_str().into(),
            grouped(row.flows).into(),
        ]);
    }
    let total = counts.iter().map(|row| row.flows).sum();
    table.render(0, paint) + &format!("{} in all\n", grouped(total))
}

/// The entry, or exit code 1 where there is none.
async fn show(context: &Context, query: &FlowQuery) -> Result<(), Failure> {
    let explanation = context.client.explain(query).await?;
    let is_known = explanation.entry.is_some();
    context.output.print(&Reply::Explanation(explanation), |reply, paint| match reply {
        Reply::Explanation(explanation) => show_text(query, explanation, paint),
        _ => String::new(),
    })?;
    if is_known { Ok(()) } else { Err(Failure::Told { exit_code: 1 }) }
}

fn show_text(query: &FlowQuery, told: &Explanation, paint: Paint) -> String {
    let mut page = Page::default();
    page.line(format!("{} {} > {}", query.protocol.name(), query.client, query.vip));
    if let Some(service) = &told.service {
        page.line(format!("service  {service}"));
    }
    match &told.entry {
        Some(entry) => {
            let backend = entry.backend.map_or_else(|| "gone".to_owned(), |backend| backend.to_string());
            page.line(format!("backend  {backend} (owner {})", entry.owner));
            page.line(format!("state    {}, silent {}", paint.tint(Tone::Good, &entry.state), silence(entry.silent_s)));
            page.line(format!("tag      {}", entry.tag));
        }
        None => page.line(format!("state    {}", paint.tint(Tone::Careful, "not in the flow table"))),
    }
    if let Some(slot) = told.slot {
        page.line(format!("slot     {slot}, {}", told.slot_state.as_deref().unwrap_or("unknown")));
    }
    if told.entry.as_ref().is_none_or(|entry| entry.backend != told.backend)
        && let Some(backend) = told.backend
    {
        page.line(format!("a packet of it goes to {backend}: `lb-agent explain` says why"));
    }
    page.finish()
}

fn silence(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
