//! Each event kind is complete: a file, a row in the format's document, a golden sample.
//!
//! Reads the kinds from the enumeration that names them; a kind added there and nowhere else fails.

use super::Finding;
use super::tree::Tree;

const KINDS: &str = "common/src/event/mod.rs";
const DOCUMENT: &str = "docs/format/event.md";
const GOLDEN: &str = "common/src/event/snapshots/";

/// Checks every kind.
pub(super) fn complete(tree: &Tree) -> Vec<Finding> {
    let kinds = kinds(tree.text(KINDS).unwrap_or_default());
    if kinds.is_empty() {
        return vec![Finding::new(
            KINDS,
            "has no `pub enum Kind` with numbered kinds to read",
        )];
    }
    let document = tree.text(DOCUMENT).unwrap_or_default();
    let golden: String = tree
        .with_ending(".snap")
        .filter(|(path, _)| path.starts_with(GOLDEN))
        .map(|(_, text)| text)
        .collect();
    let mut findings = Vec::new();
    for (name, number) in kinds {
        let mut missing = |what: String| findings.push(Finding::new(KINDS, format!("kind `{name}` {what}")));
        let file = format!("common/src/event/{name}.rs");
        if tree.text(&file).is_none() {
            missing(format!("has no file {file}"));
        }
        if !document
            .lines()
            .any(|line| line.starts_with(&format!("| {number} | {name} |")))
        {
            missing(format!("has no row `| {number} | {name} |` in {DOCUMENT}"));
        }
        if !golden.lines().any(|line| line.starts_with(&format!("{name}: "))) {
            missing(format!("has no golden sample `{name}: ..` under {GOLDEN}"));
        }
    }
    findings
}

/// `Process = 3,` inside `pub enum Kind` becomes `("process", 3)`.
fn kinds(text: &str) -> Vec<(String, u16)> {
    let after = text
        .split_once("pub enum Kind {")
        .map(|(_, after)| after)
        .unwrap_or_default();
    let body = after.split_once('}').map(|(body, _)| body).unwrap_or_default();
    body.lines()
        .filter_map(|line| {
            let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
            Some((snake(name), number.parse().ok()?))
        })
        .collect()
}

/// `SensorStatus` becomes `sensor_status`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENUM: &str = "pub enum Kind {\n    /// A.\n    Host = 1,\n    /// B.\n    UserSession = 9,\n}\n";
    const ROWS: &str = "| 1 | host | k | r |\n| 9 | user_session | k | r |\n";

    fn found(rows: &str, golden: &str, file: &str) -> Vec<Finding> {
        complete(&Tree::of(&[
            (KINDS, ENUM),
            (DOCUMENT, rows),
            ("common/src/event/snapshots/a.snap", golden),
            ("common/src/event/host.rs", ""),
            (file, ""),
        ]))
    }

    #[test]
    fn a_complete_set_is_fine_and_each_missing_part_is_found() {
        let (golden, file) = ("host: 00\nuser_session: 01\n", "common/src/event/user_session.rs");
        assert_eq!(found(ROWS, golden, file), []);
        assert_eq!(found("| 1 | host | k |\n", golden, file).len(), 1);
        assert_eq!(found(ROWS, "host: 00\n", file).len(), 1);
        assert_eq!(found(ROWS, golden, "common/src/event/other.rs").len(), 1);
    }

    #[test]
    fn a_tree_without_kinds_is_found() {
        assert_eq!(complete(&Tree::of(&[])).len(), 1);
    }
}
