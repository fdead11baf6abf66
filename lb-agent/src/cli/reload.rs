//! `reload`: the agent reads its file again; all of it or nothing.

use super::backend::sentence;
use super::{Context, Failure};

pub(super) async fn execute(context: &Context) -> Result<(), Failure> {
    let reply = context.client.reload().await?;
    context.output.print(&reply, sentence)
}
