//! `service list`.

use clap::Subcommand;

use super::output::{Paint, grouped};
use super::status::{forward, place, select};
use super::table::Table;
use super::{Context, Failure};
use crate::edge::api::Services;
use crate::pure::model::BackendState;

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show all services.
    List,
}

pub(super) async fn execute(context: &Context, Verb::List: Verb) -> Result<(), Failure> {
    let services = context.client.services().await?;
    context.output.print(&services, text)
}

fn text(services: &Services, paint: Paint) -> String {
    let mut table = Table::new(&["SERVICE", "VIP", "FORWARD", "SELECT", ">UP", ">BACKENDS", ">ACTIVE", ">HALF-OPEN"]);
    for service in &services.services {
        let up = service.backends.iter().filter(|backend| backend.state == BackendState::Up).count();
        table.row([
            service.name.as_str().into(),
            place(service).into(),
            forward(service.forward).into(),
            select(service.select).into(),
            up.to_string().into(),
            service.backends.len().to_string().into(),
            grouped(service.active_flows).into(),
            grouped(service.half_open_flows).into(),
        ]);
    }
    table.render(0, paint)
}
