//! `doctor`: what on this host stands in Weir's way, with a remedy for each.

use serde::Serialize;

use super::output::{Page, Paint, Tone};
use super::{Context, Failure};
use crate::config::{self, Environment};
use crate::edge::api::client::ClientError;
use crate::edge::doctor;
use crate::pure::doctor::{Finding, Level, judge};

/// What `--output json` says.
#[derive(Serialize)]
struct Diagnosis {
    findings: Vec<Finding>,
}

pub(super) async fn execute(context: &Context) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let loaded = config::load(&context.config, &Environment::read());
    let (agent, interfaces, services) = match loaded {
        Ok((config, warnings)) => {
            findings.push(Finding::ok("configuration", config.path.display().to_string()));
            findings.extend(warnings.iter().map(|warning| {
                Finding::warn("configuration", warning.to_string(), "change the file, or leave it if it is meant")
            }));
            (Some(config.agent), config.interfaces, config.services)
        }
        Err(wrong) => {
            let fail = |error: &config::Finding| Finding::fail("configuration", error.to_string(), "correct the file");
            findings.extend(wrong.errors.iter().map(fail));
            (None, Vec::new(), Vec::new())
        }
    };
    let pin_dir = agent.map_or_else(|| "/sys/fs/bpf/weir".into(), |agent| agent.pin_dir);
    let backends = services.iter().flat_map(|service| service.backends.iter().map(|backend| backend.addr)).collect();
    let facts = doctor::examine(&pin_dir, &interfaces, backends).await;
    findings.extend(judge(&facts, &services));
    findings.extend(running(context).await);

    let diagnosis = Diagnosis { findings };
    context.output.print(&diagnosis, text)?;
    let worst = diagnosis.findings.iter().map(|finding| finding.level).max();
    if worst == Some(Level::Fail) { Err(Failure::Told { exit_code: 1 }) } else { Ok(()) }
}

/// What a running agent says about itself.
async fn running(context: &Context) -> Vec<Finding> {
    let socket = context.client.path().display();
    match context.client.health().await {
        Ok(health) if health.problems.is_empty() => {
            vec![Finding::ok("agent", format!("{} answers on {socket}", health.version))]
        }
        Ok(health) => {
            let problem = |problem| Finding::fail("agent", problem, "see `lb-agent status` and the agent's log");
            health.problems.into_iter().map(problem).collect()
        }
        Err(ClientError::Unreachable { .. }) => {
            vec![Finding::warn("agent", format!("none answers on {socket}"), "systemctl start weir, or lb-agent run")]
        }
        Err(error) => vec![Finding::warn("agent", error.to_string(), "see the agent's log")],
    }
}

fn text(diagnosis: &Diagnosis, paint: Paint) -> String {
    let mut page = Page::default();
    let width = diagnosis.findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    for finding in &diagnosis.findings {
        let (tone, word) = match finding.level {
            Level::Ok => (Tone::Good, "ok  "),
            Level::Warn => (Tone::Careful, "warn"),
            Level::Fail => (Tone::Bad, "FAIL"),
        };
        let Finding { subject, message, .. } = finding;
        page.line(format!("{}  {subject:<width$}  {message}", paint.tint(tone, word)));
        if let Some(remedy) = &finding.remedy {
            page.line(format!("      {:width$}  > {remedy}", ""));
        }
    }
    let count = |level| diagnosis.findings.iter().filter(|finding| finding.level == level).count();
    page.line(format!("{} ok, {} to look at, {} in the way", count(Level::Ok), count(Level::Warn), count(Level::Fail)));
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_stands_above_its_remedy() {
        let findings =
            vec![Finding::ok("kernel", "6.18"), Finding::fail("interface eth9", "does not exist", "correct its name")];
        assert_eq!(
            text(&Diagnosis { findings }, Paint::Plain),
            "ok    kernel          6.18\nFAIL  interface eth9  does not exist\n                      > correct its name\n\
             1 ok, 0 to look at, 1 in the way\n"
        );
    }
}
