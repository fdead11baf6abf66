//! Rust source as tidy sees it: comments and literals blanked, the tests at the end cut off, paths spelled out.

/// Everything that the rules ask of a file.
pub(super) struct Source<'a> {
    /// Path from the root of the workspace.
    pub(super) path: &'a str,
    /// As written.
    pub(super) text: &'a str,
    /// `text` with comments and the contents of literals as blanks: same lines, same columns, nothing but code.
    pub(super) code: String,
    /// Number of lines before `#[cfg(test)] mod tests`, which ends a file.
    pub(super) product_lines: usize,
}

/// A path as the code names it, groups of `use` expanded: `a::b::C`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) line: usize,
    pub(super) path: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let code = blank_out(text);
        let lines: Vec<&str> = code.lines().collect();
        let is_test_module =
            |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ");
        let product_lines = lines.windows(2).position(is_test_module).unwrap_or(lines.len());
        Self { path, text, code, product_lines }
    }

    /// Paths of at least two segments, and whatever `use` names, outside the tests.
    pub(super) fn paths(&self) -> Vec<NamedPath> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let in_use = at > 0 && tokens[at - 1].text == "use";
            if is_identifier(tokens[at].text) && (in_use || text_at(&tokens, at + 1) == "::") {
                at = walk(&tokens, at, "", &mut found);
            } else {
                at += 1;
            }
        }
        found.retain(|named| named.line <= self.product_lines);
        found
    }

    /// Lines, counted from 1, on which the code has this identifier, outside the tests.
    pub(super) fn lines_with(&self, identifier: &str) -> Vec<usize> {
        let mut lines: Vec<usize> =
            tokens(&self.code).iter().filter(|token| token.text == identifier).map(|token| token.line).collect();
        lines.dedup();
        lines.retain(|line| *line <= self.product_lines);
        lines
    }
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Follows one path from the token at `at`; returns the position after it.
fn walk(tokens: &[Token], at: usize, prefix: &str, found: &mut Vec<NamedPath>) -> usize {
    let Token { line, text } = tokens[at];
    let path = if prefix.is_empty() { text.to_owned() } else { format!("{prefix}::{text}") };
    if text_at(tokens, at + 1) != "::" {
        found.push(NamedPath { line, path });
        return at + 1;
    }
    match text_at(tokens, at + 2) {
        "{" => {
            let mut at = at + 3;
            while at < tokens.len() && tokens[at].text != "}" {
                let renamed = tokens[at - 1].text == "as";
                at = if is_name(tokens[at].text) && !renamed && tokens[at].text != "as" {
                    walk(tokens, at, &path, found)
                } else {
                    at + 1
                };
            }
            at + 1
        }
        next if is_name(next) => walk(tokens, at + 2, &path, found),
        _ => {
            found.push(NamedPath { line, path });
            at + 2
        }
    }
}

fn text_at<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn is_name(text: &str) -> bool {
    is_identifier(text) || text == "*"
}

/// Identifiers, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if first.is_alphanumeric() || first == '_' => {
                    rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
                }
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            if !text.trim().is_empty() {
                tokens.push(Token { line: index + 1, text });
            }
            rest = after;
        }
    }
    tokens
}

/// Blanks comments, strings and characters; keeps line breaks.
fn blank_out(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = hidden_length(rest, code.chars().next_back());
        let length = hidden.unwrap_or(first.len_utf8());
        let (piece, after) = rest.split_at(length);
        match hidden {
            Some(_) => code.extend(piece.chars().map(|c| if c == '\n' { c } else { ' ' })),
            None => code.push_str(piece),
        }
        rest = after;
    }
    code
}

/// Length of the comment or literal that `rest` starts with; `None`: it starts with code.
fn hidden_length(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_length(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    if is_character(rest) {
        return Some(quoted_length(rest, '\''));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or(rest.strip_prefix('r')).filter(|_| !in_word)?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    if raw[hashes..].starts_with('"') {
        let end = format!("\"{}", &raw[..hashes]);
        let body = &raw[hashes + 1..];
        let prefix = rest.len() - body.len();
        return Some(body.find(&end).map_or(rest.len(), |at| prefix + at + end.len()));
    }
    None
}

/// `'x'` or `'\n'`, and not the lifetime `'x`.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''))
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(usize, String)> {
        Source::new("a.rs", text).paths().into_iter().map(|named| (named.line, named.path)).collect()
    }

    #[test]
    fn literals_and_comments_are_blank_and_lines_stay_where_they_are() {
        let text = "a(\"x\\\"y\") /* b /* c */ d */ e // f\n'\"' 'g' r#\"h \" i\"# &'j k";
        let code = Source::new("a.rs", text).code;
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a(", ")", "e", "&'j", "k"]);
        assert_eq!(code.lines().count(), 2);
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn groups_of_use_are_spelled_out_and_renames_are_not_paths() {
        let text = "use a::{self, b::{C, D as e}, f::*};\nuse g;\nlet x = h::i::<J>(k);\n";
        let due = [(1, "a::self"), (1, "a::b::C"), (1, "a::b::D"), (1, "a::f::*"), (2, "g"), (3, "h::i")];
        assert_eq!(paths(text), due.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn what_follows_the_tests_is_not_product_code() {
        let source = Source::new("a.rs", "unsafe {}\n#[cfg(test)]\nmod tests {\n    unsafe {}\n}\n");
        assert_eq!(source.lines_with("unsafe"), [1]);
    }
}
