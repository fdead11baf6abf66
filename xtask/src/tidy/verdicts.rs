//! Every end of a packet has a name, and the name in `/metrics` is the name in the code.

use std::collections::BTreeSet;

use super::source::Source;
use super::{Finding, Severity};

const FILE: &str = "lb-common/src/verdict.rs";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.path != FILE {
        return Vec::new();
    }
    let error = |line, message| Finding { severity: Severity::Error, path: FILE.to_owned(), line, message };
    let mut names = BTreeSet::new();
    let mut findings = Vec::new();
    for (line, variant, name) in entries(source.text) {
        let due = snake_case(variant);
        if name != due {
            findings.push(error(line, format!("verdict {variant} is named \"{name}\"; it must be \"{due}\"")));
        }
        if !names.insert(name) {
            findings.push(error(line, format!("two verdicts are named \"{name}\"")));
        }
    }
    if names.is_empty() {
        findings.push(error(0, "no entry of `verdicts!` found: has its form changed? Change tidy with it".to_owned()));
    }
    findings
}

/// Lines of the form `Variant = 7, "name", Fate;`.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let (variant, rest) = line.trim().split_once(" = ")?;
        let (number, rest) = rest.split_once(", \"")?;
        let (name, _fate) = rest.split_once("\", ")?;
        number.parse::<u8>().is_ok().then_some((index + 1, variant, name))
    })
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::new();
    for c in camel.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        check(&Source::new(FILE, text)).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_verdict_is_called_the_same_in_code_and_metrics() {
        assert_eq!(found("    PassNotIp = 0, \"pass_not_ip\", Pass;\n    DropTtl = 15, \"drop_ttl\", Drop;\n"), []);
        let wrong = found("    DropTtl = 15, \"ttl\", Drop;\n");
        assert_eq!(wrong, [(1, "verdict DropTtl is named \"ttl\"; it must be \"drop_ttl\"".to_owned())]);
    }

    #[test]
    fn two_verdicts_do_not_share_a_counter() {
        let twice = found("DropTtl = 15, \"drop_ttl\", Drop;\nDropTtl = 16, \"drop_ttl\", Drop;\n");
        assert_eq!(twice, [(2, "two verdicts are named \"drop_ttl\"".to_owned())]);
    }

    #[test]
    fn a_list_that_tidy_cannot_read_is_an_error_and_not_a_pass() {
        assert_eq!(found("enum Verdict {}\n").len(), 1);
    }
}
