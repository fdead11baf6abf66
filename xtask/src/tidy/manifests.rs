//! What the crates at the bottom may depend on: the walls that an import rule cannot see.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Finding, Severity};
use crate::process::{cargo, output};

/// Package and everything it may depend on outside its tests.
const ALLOWED: [(&str, &[&str]); 3] = [
    ("lb-common", &["zerocopy", "aya"]),
    ("lb-ebpf", &["lb-common", "aya-ebpf", "aya-log-ebpf"]),
    ("xtask", &["anyhow", "clap", "nix", "serde", "serde_json"]),
];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata =
        output(cargo().current_dir(root).args(["metadata", "--no-deps", "--format-version=1", "--offline"]))?;
    check_metadata(&serde_json::from_str(&metadata).context("cargo metadata")?)
}

fn check_metadata(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    for (name, allowed) in ALLOWED {
        let package =
            packages.iter().find(|package| package["name"] == name).with_context(|| format!("no package {name}"))?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // `kind` is null for ordinary dependencies, "dev" or "build" for others.
        for dependency in dependencies.filter(|dependency| dependency["kind"].is_null()) {
            let dependency = dependency["name"].as_str().unwrap_or_default();
            if !allowed.contains(&dependency) {
                let message = format!("{name} may not depend on {dependency}; only on {}", allowed.join(", "));
                findings.push(Finding {
                    severity: Severity::Error,
                    path: format!("{name}/Cargo.toml"),
                    line: 0,
                    message,
                });
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &Value) -> Value {
        json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn a_dependency_that_would_break_a_wall_is_found_and_those_of_tests_are_free() {
        let metadata = json!({ "packages": [
            package("lb-common", &json!([{ "name": "zerocopy", "kind": null }, { "name": "proptest", "kind": "dev" }])),
            package("lb-ebpf", &json!([{ "name": "aya-ebpf", "kind": null }])),
            package("xtask", &json!([{ "name": "lb-agent", "kind": null }])),
        ]});
        let findings = check_metadata(&metadata).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.starts_with("xtask may not depend on lb-agent"));
    }

    #[test]
    fn a_package_that_is_gone_is_an_error() {
        assert!(check_metadata(&json!({ "packages": [] })).is_err());
    }
}
