//! Who may import whom: deciding, touching and waiting stay in their rooms.

use super::source::Source;
use super::{Finding, Severity};

/// A part of the tree, and what its code may not name.
struct Room {
    /// Files below this path ...
    below: &'static str,
    /// ... except these.
    except: &'static [&'static str],
    /// Paths, with everything below them.
    forbidden: &'static [&'static str],
    /// What the room is for, and so where the import belongs.
    law: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        below: "lb-common/src/",
        except: &["lb-common/src/pod.rs"],
        forbidden: &["std", "alloc", "aya", "aya_ebpf", "core::ptr"],
        law: "lb-common is compiled for the kernel too: core and zerocopy only, bytes and tables come in through traits",
    },
    Room {
        below: "lb-ebpf/src/",
        except: &[],
        forbidden: &["std", "alloc", "zerocopy"],
        law: "the packet path holds bytes and maps; choices and layouts belong to lb-common",
    },
    Room {
        below: "lb-agent/src/pure/",
        except: &[],
        forbidden: &[
            "tokio",
            "aya",
            "rtnetlink",
            "tracing",
            "log",
            "rand",
            "nix",
            "libc",
            "std::fs",
            "std::io",
            "std::env",
            "std::process",
            "std::thread",
            "std::sync",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "crate::edge",
            "crate::task",
            "crate::cli",
            "crate::config",
            "crate::run",
        ],
        law: "pure decides: values in, values out; clock, randomness and readings are arguments",
    },
    Room {
        below: "lb-agent/src/edge/",
        except: &[],
        forbidden: &["crate::task", "crate::run", "crate::cli", "crate::config::load", "crate::config::file"],
        law: "edges touch and obey; waiting belongs to task, and the values of the configuration are handed in",
    },
    Room {
        below: "lb-agent/src/task/",
        except: &[],
        forbidden: &[
            "aya",
            "rtnetlink",
            "netlink_packet_route",
            "crate::edge::bpf",
            "crate::cli",
            "crate::config::load",
            "crate::config::file",
            "crate::run",
        ],
        law: "tasks wait and pass on; they reach the world through the traits of edge",
    },
    Room {
        below: "lb-agent/src/config/",
        except: &[],
        forbidden: &["tokio", "aya", "crate::edge", "crate::task", "crate::cli", "crate::run"],
        law: "config turns what humans write into values that cannot be wrong",
    },
    Room {
        below: "xtask/src/",
        except: &[],
        forbidden: &["lb_common", "lb_agent", "aya"],
        law: "xtask must build on a fresh machine, before anything of ours does",
    },
];

/// What an edge may use of `pure`: the nouns, not the deciders.
const NOUNS: [&str; 10] = [
    "crate::pure::model",
    "crate::pure::network",
    "crate::pure::tables",
    "crate::pure::sweep",
    "crate::pure::snapshot",
    "crate::pure::command",
    "crate::pure::wanted",
    "crate::pure::watch",
    "crate::pure::flows",
    "crate::pure::doctor::facts",
];

/// Edges that others may name: a contract between them, without a concrete edge behind it.
const SHARED_EDGES: [&str; 1] = ["dataplane"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let edge = edge_of(source.path);
    let mut findings = Vec::new();
    for named in source.paths() {
        let broken = ROOMS
            .iter()
            .filter(|room| source.path.starts_with(room.below) && !room.except.contains(&source.path))
            .find(|room| room.forbidden.iter().any(|forbidden| is_below(&named.path, forbidden)))
            .map(|room| room.law)
            .or_else(|| edge.and_then(|edge| breaks_edge_law(edge, &named.path)));
        if let Some(law) = broken {
            let message = format!("`{}` does not belong here: {law}", named.path);
            findings.push(Finding {
                severity: Severity::Error,
                path: source.path.to_owned(),
                line: named.line,
                message,
            });
        }
    }
    findings
}

fn breaks_edge_law(edge: &str, path: &str) -> Option<&'static str> {
    if is_below(path, "crate::pure") && !NOUNS.iter().any(|noun| is_below(path, noun)) {
        return Some(
            "edges know the nouns of pure (model, network, tables, sweep, snapshot, command, wanted, watch, flows, doctor::facts), not the deciders",
        );
    }
    let other = path.strip_prefix("crate::edge::")?.split("::").next()?;
    let is_module = other.starts_with(char::is_lowercase);
    (is_module && other != edge && !SHARED_EDGES.contains(&other))
        .then_some("edges do not know each other; a task joins them")
}

/// `bpf` of `lb-agent/src/edge/bpf/load.rs`; the door `edge/mod.rs` is none.
fn edge_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("lb-agent/src/edge/")?;
    let first = inside.split('/').next()?;
    let edge = first.strip_suffix(".rs").unwrap_or(first);
    (edge != "mod").then_some(edge)
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&Source::new(path, text)).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn pure_code_that_names_an_edge_is_found_in_a_group_and_inline() {
        let grouped =
            messages("lb-agent/src/pure/plan.rs", "use crate::{\n    pure::model::Service,\n    edge::bpf::Map,\n};\n");
        assert_eq!(grouped.len(), 1);
        assert_eq!(grouped[0].0, 3);
        assert!(grouped[0].1.starts_with("`crate::edge::bpf::Map` does not belong here: pure decides"));
        assert_eq!(messages("lb-agent/src/pure/plan.rs", "fn now() { std::thread::yield_now() }\n").len(), 1);
    }

    #[test]
    fn data_types_and_the_words_of_comments_strings_and_tests_are_free() {
        let text = "//! Not crate::edge.\nuse std::net::IpAddr;\nuse std::time::Instant;\nconst NAME: &str = \"tokio::spawn\";\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(messages("lb-agent/src/pure/model.rs", text), []);
    }

    #[test]
    fn an_edge_knows_the_nouns_and_itself_but_no_decider_and_no_other_edge() {
        let path = "lb-agent/src/edge/bpf/load.rs";
        assert_eq!(
            messages(path, "use crate::pure::model::Service;\nuse crate::edge::{bpf::maps, dataplane::DataPlane};\n"),
            []
        );
        assert_eq!(messages(path, "use crate::pure::plan;\n").len(), 1);
        assert_eq!(messages(path, "use crate::edge::probe::Prober;\n").len(), 1);
        assert_eq!(messages("lb-agent/src/edge/mod.rs", "pub use crate::edge::probe::Prober;\n"), []);
    }

    #[test]
    fn the_core_has_no_std_except_where_the_host_needs_it() {
        assert_eq!(messages("lb-common/src/parse.rs", "use std::vec::Vec;\n").len(), 1);
        assert_eq!(messages("lb-common/src/pod.rs", "use aya::Pod;\n"), []);
    }

    #[test]
    fn a_name_that_only_begins_like_a_forbidden_one_is_free() {
        assert_eq!(messages("lb-agent/src/pure/model.rs", "use crate::edges::Thing;\nuse tokio_like::x;\n"), []);
    }
}
