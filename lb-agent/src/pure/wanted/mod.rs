//! What the operator wants of each pool: the file and the changes made at run time, merged. Level-triggered: start, reload and
//! command all lead to the same value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::command::{BackendChange, Refusal};
use super::model::{Forward, Protocol, ServiceSpec};
use super::snapshot::Difference;

/// What a backend is meant to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Take new flows.
    #[default]
    Serve,
    /// Finish its flows and take no new ones.
    Drain,
    /// Take none and keep none.
    Disable,
}

/// Where a backend comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file names it.
    File,
    /// It was added at run time.
    Runtime,
}

/// One backend as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedBackend {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Relative share of new flows.
    pub weight: u16,
    /// What it is meant to do.
    pub intent: Intent,
    /// Who named it.
    pub origin: Origin,
}

/// How one backend differs from the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Not in the file, but wanted (`true`); in the file, but not wanted (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Another weight than the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Another intent than to serve.
    #[serde(default, skip_serializing_if = "is_serve")]
    pub intent: Intent,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_serve(intent: &Intent) -> bool {
    *intent == Intent::Serve
}

/// Everything that was changed at run time and outlives the agent: service name → backend → difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeChanges {
    /// By service name.
    #[serde(default)]
    pub services: BTreeMap<String, BTreeMap<SocketAddr, Override>>,
}

impl RuntimeChanges {
    /// The pool of a service: the file's backends in its order, then those added at run time by address.
    pub fn pool(&self, spec: &ServiceSpec) -> Vec<WantedBackend> {
        let none = BTreeMap::new();
        let overrides = self.services.get(&spec.name).unwrap_or(&none);
        let mut pool = Vec::with_capacity(spec.backends.len() + overrides.len());
        for b in &spec.backends {
            let change = overrides.get(&b.addr).cloned().unwrap_or_default();
            if change.present != Some(false) {
                let weight = change.weight.unwrap_or(b.weight);
                pool.push(WantedBackend { addr: b.addr, weight, intent: change.intent, origin: Origin::File });
            }
        }
        for (addr, change) in overrides {
            if change.present == Some(true) && !spec.backends.iter().any(|b| b.addr == *addr) {
                let weight = change.weight.unwrap_or(100);
                pool.push(WantedBackend { addr: *addr, weight, intent: change.intent, origin: Origin::Runtime });
            }
        }
        pool
    }

    /// These changes with one more. `specs` are all services, for what they may not share.
    ///
    /// # Errors
    /// Why the change makes no sense.
    pub fn with(
        &self,
        specs: &[ServiceSpec],
        service: &str,
        addr: SocketAddr,
        change: &BackendChange,
    ) -> Result<Self, Refusal> {
        let Some(spec) = specs.iter().find(|s| s.name == service) else {
            let names: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
            return Err(Refusal::NotFound(format!("no service \"{service}\"; there are: {}", names.join(", "))));
        };
        let present = self.pool(spec).into_iter().find(|b| b.addr == addr);
        if let BackendChange::Add { weight } = change {
            return self.with_added(specs, spec, addr, *weight, present.is_some());
        }
        let Some(present) = present else {
            return Err(Refusal::NotFound(format!(
                "service \"{service}\" has no backend {addr}; `lb-agent backend list {service}` shows its pool"
            )));
        };
        let filed = spec.backends.iter().find(|b| b.addr == addr);
        let mut next = self.clone();
        let of_service = next.services.entry(service.to_owned()).or_default();
        let entry = of_service.entry(addr).or_default();
        match change {
            BackendChange::Add { .. } => {}
            BackendChange::Remove { .. } => {
                *entry = Override { present: filed.is_some().then_some(false), ..Override::default() };
            }
            BackendChange::Drain if present.intent == Intent::Disable => {
                return Err(Refusal::Conflict(format!("{addr} is disabled: it has no flows to finish")));
            }
            BackendChange::Drain => entry.intent = Intent::Drain,
            BackendChange::Undrain if present.intent != Intent::Drain => {
                return Err(Refusal::Conflict(format!("{addr} is not draining")));
            }
            BackendChange::Undrain | BackendChange::Enable => entry.intent = Intent::Serve,
            BackendChange::Disable => entry.intent = Intent::Disable,
            BackendChange::Weight { weight } => {
                entry.weight = (filed.map(|b| b.weight) != Some(*weight)).then_some(*weight);
            }
        }
        next.tidy(specs);
        Ok(next)
    }

    fn with_added(
        &self,
        specs: &[ServiceSpec],
        spec: &ServiceSpec,
        addr: SocketAddr,
        weight: u16,
        present: bool,
    ) -> Result<Self, Refusal> {
        if present {
            return Err(Refusal::Conflict(format!(
                "service \"{}\" has backend {addr} already; `backend weight` changes its weight",
                spec.name
            )));
        }
        fits(spec, addr).map_err(Refusal::Invalid)?;
        if let Some(quic) = &spec.quic
            && let Some(namesake) = quic.namesake(addr, self.pool(spec).into_iter().map(|b| b.addr))
        {
            return Err(Refusal::Conflict(format!(
                "{addr} and {namesake} would have the same QUIC server ID \"{}\"; give {addr} one of its own in the file \
                 (server_id), or make IDs longer (server_id_length)",
                quic.server_id(addr)
            )));
        }
        let mut next = self.clone();
        let filed = spec.backends.iter().find(|b| b.addr == addr).map(|b| b.weight);
        let change = Override {
            present: filed.is_none().then_some(true),
            weight: (filed != Some(weight)).then_some(weight),
            intent: Intent::Serve,
        };
        let _ = next.services.entry(spec.name.clone()).or_default().insert(addr, change);
        next.tidy(specs);
        if let Some((a, b)) = next.shared_reply(specs) {
            return Err(Refusal::Conflict(format!(
                "{addr} would serve both \"{a}\" and \"{b}\" in nat without snat: its replies could belong to either. \
                 Give one of them `snat = true`, or another port"
            )));
        }
        Ok(next)
    }

    /// Drops what says nothing (any more): services that are gone, overrides that equal the file.
    pub fn tidy(&mut self, specs: &[ServiceSpec]) {
        self.services.retain(|name, overrides| {
            let Some(spec) = specs.iter().find(|s| s.name == *name) else {
                return false;
            };
            overrides.retain(|addr, change| {
                let filed = spec.backends.iter().find(|b| b.addr == *addr);
                match filed {
                    Some(b) => {
                        change.present = change.present.filter(|present| !present);
                        change.weight = change.weight.filter(|w| *w != b.weight);
                        *change != Override::default()
                    }
                    None => change.present == Some(true),
                }
            });
            !overrides.is_empty()
        });
    }

    /// Two nat services without snat that would share a backend's address, port and protocol.
    pub fn shared_reply(&self, specs: &[ServiceSpec]) -> Option<(String, String)> {
        let mut seen: BTreeMap<(SocketAddr, Protocol), &str> = BTreeMap::new();
        for spec in specs.iter().filter(|s| s.forward == Forward::Nat && !s.snat) {
            let addrs: BTreeSet<_> = self.pool(spec).into_iter().map(|b| b.addr).collect();
            for addr in addrs {
                if let Some(other) = seen.insert((addr, spec.key.protocol), &spec.name) {
                    return Some((other.to_owned(), spec.name.clone()));
                }
            }
        }
        None
    }

    /// Where this differs from the file, for `status`.
    pub fn differences(&self, specs: &[ServiceSpec]) -> Vec<Difference> {
        let mut rows = Vec::new();
        for spec in specs {
            for (addr, change) in self.services.get(&spec.name).into_iter().flatten() {
                let filed = spec.backends.iter().find(|b| b.addr == *addr);
                let mut row = |what: &str, file: String, runtime: String| {
                    rows.push(Difference {
                        service: spec.name.clone(),
                        backend: Some(*addr),
                        what: what.to_owned(),
                        file,
                        runtime,
                    });
                };
                match change.present {
                    Some(true) => row("added", "absent".into(), format!("weight {}", change.weight.unwrap_or(100))),
                    Some(false) => row("removed", "present".into(), "absent".into()),
                    None => {
                        if let (Some(weight), Some(b)) = (change.weight, filed) {
                            row("weight", b.weight.to_string(), weight.to_string());
                        }
                    }
                }
                match change.intent {
                    Intent::Serve => {}
                    Intent::Drain => row("draining", "serves".into(), "drained".into()),
                    Intent::Disable => row("disabled", "serves".into(), "disabled".into()),
                }
            }
        }
        rows
    }
}

/// Whether a backend may serve this service at all.
///
/// # Errors
/// Why not.
pub fn fits(spec: &ServiceSpec, addr: SocketAddr) -> Result<(), String> {
    if !spec.forward.joins(spec.key.vip, addr.ip()) {
        return Err(format!(
            "backend {addr} and VIP {} are of different address families; {} cannot translate between them",
            spec.key.vip,
            spec.forward.name()
        ));
    }
    if spec.key.holds(addr.ip()) {
        let what = if spec.key.prefix.is_some() { "lies within the VIP" } else { "is the VIP itself" };
        return Err(format!("backend {addr} {what}"));
    }
    if spec.forward.keeps_port() && addr.port() != spec.key.port {
        let (mode, port) = (spec.forward.name(), spec.key.port);
        return Err(format!("{mode} cannot change the port: backend {addr} must listen on {port}"));
    }
    if spec.key.port == 0 && addr.port() != 0 {
        return Err(format!("the service takes every port, so backend {addr} keeps the client's: give it port 0"));
    }
    if spec.key.port != 0 && addr.port() == 0 {
        return Err(format!("backend {addr} needs a port"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
