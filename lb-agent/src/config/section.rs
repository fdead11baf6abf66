//! Reads one table of the file, field by field. A section knows which fields it was asked for, so what remains is unknown, and
//! the list of what is allowed cannot drift from the code that reads it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Report;

/// One table: its path, its fields, those asked for so far.
pub(super) struct Section<'t, 'i> {
    /// Path of the section: `service "llm".health`; empty at the top.
    pub(super) path: String,
    table: Option<&'t DeTable<'i>>,
    asked: Vec<&'static str>,
    /// Reported already; not to be called unknown as well.
    refused: Vec<&'static str>,
}

/// A field as it stands in the file.
pub(super) type Value<'t, 'i> = &'t Spanned<DeValue<'i>>;

impl<'t, 'i> Section<'t, 'i> {
    /// A section that stands in the file; `None`: one that does not, so that every field has its default.
    pub(super) fn new(path: String, table: Option<&'t DeTable<'i>>) -> Self {
        Self { path, table, asked: Vec::new(), refused: Vec::new() }
    }

    /// Path of one of its fields.
    pub(super) fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A field, if it is there. Every field is asked for through here.
    pub(super) fn get(&mut self, report: &mut Report, key: &'static str) -> Option<Value<'t, 'i>> {
        self.asked.push(key);
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        report.place(&self.field(key), &name.span());
        Some(value)
    }

    /// Whether the field was asked for, and so is allowed.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.asked.contains(&key)
    }

    /// A field that is refused if it is there: it is not among those allowed here.
    pub(super) fn get_refused(&mut self, report: &mut Report, key: &'static str) -> Option<Value<'t, 'i>> {
        let value = self.get(report, key);
        let _ = self.asked.pop();
        if value.is_some() {
            self.refused.push(key);
        }
        value
    }

    /// Whether the section stands in the file.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// A field that `parse` understands; `Err` says what is wanted. `None`: absent, or wrong and reported.
    pub(super) fn read<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(report, key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(wanted) => {
                let message = format!("found {}, {wanted}", shown(value.get_ref()));
                report.error_at(Some(&value.span()), &self.field(key), message);
                None
            }
        }
    }

    /// The same; absent is an error too. What is wanted is what `parse` says to an empty text.
    pub(super) fn require<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let there = self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key));
        if there {
            return self.read(report, key, parse);
        }
        self.asked.push(key);
        let wanted = parse(&DeValue::String("".into())).err().unwrap_or_default();
        report.error(&self.field(key), format!("is missing, {wanted}"));
        None
    }

    /// A table within.
    pub(super) fn section(&mut self, report: &mut Report, key: &'static str) -> Section<'t, 'i> {
        let path = self.field(key);
        let table = self.get(report, key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let message = format!("found {}, wanted a section: [{key}]", shown(value.get_ref()));
                report.error_at(Some(&value.span()), &path, message);
            }
            table
        });
        Section::new(path, table)
    }

    /// The tables of a list, with their places.
    pub(super) fn tables(&mut self, report: &mut Report, key: &'static str) -> Vec<(&'t DeTable<'i>, Range<usize>)> {
        let Some(value) = self.get(report, key) else { return Vec::new() };
        let mut tables = Vec::new();
        let items: Vec<_> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let is_list = value.get_ref().is_array();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) if is_list => tables.push((table, item.span())),
                _ => {
                    let message =
                        format!("found {}, wanted sections: [[{}]]", shown(item.get_ref()), bare(&self.field(key)));
                    report.error_at(Some(&item.span()), &self.field(key), message);
                }
            }
        }
        tables
    }

    /// Every field that was not asked for is unknown.
    pub(super) fn finish(self, report: &mut Report) {
        let Some(table) = self.table else { return };
        for (name, _) in table {
            let key = name.get_ref().as_ref();
            if !self.asked.contains(&key) && !self.refused.contains(&key) {
                let hint = did_you_mean(key, &self.asked);
                let message = format!("unknown field. {hint}Allowed here: {}", self.asked.join(", "));
                report.error_at(Some(&name.span()), &self.field(key), message);
            }
        }
    }
}

/// `Did you mean "interval"? `, or nothing when nothing is near.
pub(super) fn did_you_mean(found: &str, allowed: &[&str]) -> String {
    let nearest = allowed
        .iter()
        .map(|word| (strsim::jaro_winkler(&found.to_lowercase(), word), *word))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        // 0.8: one or two wrong letters of a word; below it, guesses are noise.
        Some((likeness, word)) if likeness >= 0.8 => format!("Did you mean \"{word}\"? "),
        _ => String::new(),
    }
}

/// A value, as an error shows it.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(when) => when.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// The integer's value; `None` where it does not fit.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `service "llm".backend` → `service.backend`, as the file writes it.
fn bare(path: &str) -> String {
    path.split('.').map(|part| part.split(' ').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}
