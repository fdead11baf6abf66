//! What operators ask the writer for.

use std::net::SocketAddr;

use super::Reconcile;
use crate::edge::dataplane::DataPlane;
use crate::edge::journal::Journal;
use crate::pure::command::{BackendChange, Command, Refusal, Reply};
use crate::pure::report;

impl<D: DataPlane, J: Journal> Reconcile<D, J> {
    pub(super) fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Backend { service, address, change } => self.change_backend(&service, address, &change),
            Command::Reload => self.reload(),
            Command::Watch(watch) => {
                let _exists = watch.tap(&self.ledger)?;
                self.is_unsure = true;
                Ok(Reply::Watching(self.ledger.watches.open(*watch)?))
            }
            Command::Unwatch(tap) => {
                self.ledger.watches.close(tap);
                self.is_unsure = true;
                Ok(Reply::Done("looks no longer".to_owned()))
            }
            Command::Explain(query) => {
                let mut answer = self.dataplane.explain(&query).map_err(|e| Refusal::Failed(e.to_string()))?;
                report::name(&self.ledger, &mut answer);
                Ok(Reply::Explanation(answer))
            }
            Command::Unload => Err(Refusal::Failed("unload is taken before".to_owned())),
        }
    }

    /// A change is only done when the maps have taken it.
    pub(super) fn carried_out(&self, reply: Reply) -> Result<Reply, Refusal> {
        match (self.retry_at, &reply) {
            (Some(_), Reply::Done(what)) => Err(Refusal::Failed(format!(
                "accepted ({what}), but not yet in the maps: {}. The agent retries",
                self.problems.get("maps").map_or("", String::as_str)
            ))),
            _ => Ok(reply),
        }
    }

    fn change_backend(&mut self, service: &str, addr: SocketAddr, change: &BackendChange) -> Result<Reply, Refusal> {
        let now = self.clock.now();
        let changes = self.ledger.prepare(service, addr, change)?;
        // Written before it is done: what an operator was told survives a crash.
        self.journal.save(&changes).map_err(|e| Refusal::Failed(e.to_string()))?;
        let specs = self.ledger.specs().to_vec();
        self.ledger.want(specs, changes, now)?;
        let done = if matches!(change, BackendChange::Remove { force: true }) {
            let cut = self.ledger.cut(service, addr, now);
            format!("backend {addr} removed from {service}, {cut} flows cut")
        } else {
            report::acknowledge(&self.ledger, service, addr, change)
        };
        Ok(Reply::Done(done))
    }

    fn reload(&mut self) -> Result<Reply, Refusal> {
        let now = self.clock.now();
        let config = (self.reload)().map_err(Refusal::Invalid)?;
        if config.agent != self.config.agent || config.interfaces != self.config.interfaces {
            return Err(Refusal::Conflict(
                "[agent] or [[interface]] has changed: restart the agent to apply it (no packet is lost). Nothing was \
                 changed"
                    .to_owned(),
            ));
        }
        let mut changes = self.ledger.changes().clone();
        changes.tidy(&config.services);
        if let Some((a, b)) = changes.shared_reply(&config.services) {
            return Err(Refusal::Conflict(format!(
                "\"{a}\" and \"{b}\" would share a backend in nat without snat, together with what was added at run \
                 time. Nothing was changed"
            )));
        }
        self.journal.save(&changes).map_err(|e| Refusal::Failed(e.to_string()))?;
        self.ledger.want(config.services.clone(), changes, now)?;
        let text = format!("{} reloaded: {} services", config.path.display(), config.services.len());
        tracing::info!("{text}");
        self.config = config;
        Ok(Reply::Done(text))
    }
}
