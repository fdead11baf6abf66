//! `check`: the configuration, as `run` and `reload` would see it.

use serde::Serialize;

use super::output::{Page, Paint};
use super::{Context, Failure};
use crate::config::{self, Config, Environment, Finding};

/// What `--output json` says.
#[derive(Serialize)]
struct Checked {
    ok: bool,
    file: String,
    errors: Vec<Line>,
    warnings: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(rename = "line")]
    number: Option<usize>,
    field: String,
    message: String,
}

impl From<&Finding> for Line {
    fn from(finding: &Finding) -> Self {
        Self { number: finding.line, field: finding.field.clone(), message: finding.message.clone() }
    }
}

pub(super) fn execute(context: &Context) -> Result<(), Failure> {
    let file = context.config.display().to_string();
    let lines = |findings: &[Finding]| findings.iter().map(Line::from).collect();
    match config::load(&context.config, &Environment::read()) {
        Ok((config, warnings)) => {
            let checked = Checked { ok: true, file, errors: Vec::new(), warnings: lines(&warnings) };
            context.output.print(&checked, |_, _: Paint| good(&config, &warnings))
        }
        Err(wrong) if context.output.is_json() => {
            let checked = Checked { ok: false, file, errors: lines(&wrong.errors), warnings: lines(&wrong.warnings) };
            context.output.print(&checked, |_, _| String::new())?;
            Err(Failure::Told { exit_code: 2 })
        }
        Err(wrong) => Err(wrong.into()),
    }
}

fn good(config: &Config, warnings: &[Finding]) -> String {
    let mut page = Page::default();
    for warning in warnings {
        page.line(format!("warning: {warning}"));
    }
    let backends = config.services.iter().map(|service| service.backends.len()).sum();
    page.line(format!(
        "{}: ok, {}, {}, {}",
        config.path.display(),
        several(config.services.len(), "service"),
        several(backends, "backend"),
        several(config.interfaces.len(), "interface")
    ));
    page.finish()
}

fn several(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
