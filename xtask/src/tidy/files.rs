//! What every file must be: opened by its room, of one subject, safe outside a few rooms, the same in tests and in use.

use super::source::Source;
use super::{Finding, Severity};

/// Beyond it, ask whether the file still has one subject.
const LONG: usize = 400;

/// The only files that may say `unsafe`.
const UNSAFE_ROOMS: [&str; 15] = [
    "lb-common/src/pod.rs",
    "lb-ebpf/src/tables.rs",
    "lb-ebpf/src/bucket.rs",
    "lb-ebpf/src/counters.rs",
    "lb-ebpf/src/route.rs",
    "lb-ebpf/src/near.rs",
    "lb-ebpf/src/atomic.rs",
    "lb-ebpf/src/packet.rs",
    "lb-ebpf/src/apart.rs",
    "lb-ebpf/src/word.rs",
    "lb-ebpf/src/exit.rs",
    "lb-ebpf/src/tap.rs",
    "lb-ebpf/src/decap/tables.rs",
    "lb-ebpf/src/bench/frame.rs",
    "lb-agent/src/edge/bpf/mmap.rs",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, line, message: String| {
        findings.push(Finding { severity, path: source.path.to_owned(), line, message });
    };
    // Tests beside a file belong to that file's room.
    if !source.text.starts_with("//!") && !source.path.ends_with("/tests.rs") {
        add(
            Severity::Error,
            1,
            "the file must open with `//!`: which room it is, what it decides, touches or waits for".into(),
        );
    }
    let lines = source.text.lines().count();
    if lines > LONG {
        add(Severity::Warning, 0, format!("{lines} lines: does it still have one subject? Split it at {LONG}"));
    }
    if !UNSAFE_ROOMS.contains(&source.path) {
        for line in source.lines_with("unsafe") {
            add(Severity::Error, line, format!("`unsafe` lives in {} alone: move it there", UNSAFE_ROOMS.join(", ")));
        }
    }
    for (index, line) in source.code.lines().enumerate().take(source.product_lines) {
        if line.contains("cfg!(test)") || line.contains("cfg(not(test))") {
            add(Severity::Error, index + 1, "code must be the same in tests and in use: pass the difference in".into());
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(Severity, usize)> {
        check(&Source::new(path, text)).into_iter().map(|finding| (finding.severity, finding.line)).collect()
    }

    #[test]
    fn a_file_without_a_door_plate_is_an_error() {
        assert_eq!(found("a/src/lib.rs", "fn main() {}\n"), [(Severity::Error, 1)]);
    }

    #[test]
    fn unsafe_is_an_error_outside_its_rooms_and_free_in_words_and_names() {
        let code = "//! Room.\n#![deny(unsafe_code)]\n// unsafe\nconst WORD: &str = r#\"unsafe \"quoted\" \"#;\nunsafe fn f() {}\n";
        assert_eq!(found("lb-agent/src/edge/bpf/load.rs", code), [(Severity::Error, 5)]);
        assert_eq!(found("lb-agent/src/edge/bpf/mmap.rs", code), []);
    }

    #[test]
    fn a_long_file_is_a_warning() {
        let text = "//! Room.\n".repeat(LONG + 1);
        assert_eq!(found("a/src/lib.rs", &text), [(Severity::Warning, 0)]);
    }

    #[test]
    fn code_that_asks_whether_it_is_tested_is_an_error() {
        assert_eq!(found("a/src/lib.rs", "//! Room.\nfn f() -> bool {\n    cfg!(test)\n}\n"), [(Severity::Error, 3)]);
    }
}
