//! `unload`: the host as it was, whether an agent runs or not.

use super::backend::sentence;
use super::{Context, Failure};
use crate::config::{self, Environment};
use crate::edge::api::client::ClientError;
use crate::pure::command::Reply;

pub(super) async fn execute(context: &Context) -> Result<(), Failure> {
    let reply = match context.client.unload().await {
        Ok(reply) => reply,
        // No agent: what it left is pinned, and can be taken away without it.
        Err(ClientError::Unreachable { .. }) => {
            let (config, _) = config::load(&context.config, &Environment::read())?;
            crate::run::unload(&config.agent).map_err(|error| Failure::Agent(error.into()))?;
            let pins = config.agent.pin_dir.display();
            Reply::Done(format!("unloaded without an agent: nothing is pinned below {pins} any more"))
        }
        Err(error) => return Err(error.into()),
    };
    context.output.print(&reply, sentence)
}
