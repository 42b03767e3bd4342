//! File lengths: a file one can hold in one's head has no more than 500 lines.
//!
//! Owns the list of exceptions, which only shrinks: a listed file may not grow, and when it has
//! become shorter its entry must follow.

use super::Finding;
use super::tree::Tree;

/// The longest a Rust file may be, in lines. Aim for 150 to 300.
const LINES_MAX: usize = 500;

/// Files that were longer when the rule came, with the length they may not exceed.
const EXCEPTIONS: &[(&str, usize)] = &[];

/// Checks every Rust file.
pub(super) fn lengths(tree: &Tree) -> Vec<Finding> {
    with_exceptions(tree, EXCEPTIONS)
}

fn with_exceptions(tree: &Tree, exceptions: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending(".rs") {
        let lines = text.lines().count();
        let excepted = exceptions
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, max)| *max);
        match excepted {
            None if lines > LINES_MAX => {
                findings.push(Finding::new(
                    path,
                    format!("{lines} lines, more than {LINES_MAX}: split it"),
                ));
            }
            Some(max) if lines > max => {
                findings.push(Finding::new(
                    path,
                    format!("grew to {lines} lines from {max}: split it"),
                ));
            }
            Some(max) if lines < max => {
                findings.push(Finding::new(
                    path,
                    format!("is down to {lines} lines: lower its entry"),
                ));
            }
            _ => {}
        }
    }
    for (path, _) in exceptions.iter().filter(|(path, _)| tree.text(path).is_none()) {
        findings.push(Finding::new(*path, "is gone: remove its entry"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_a_short_one_is_not() {
        let long = "x\n".repeat(LINES_MAX + 1);
        let short = "x\n".repeat(LINES_MAX);
        let tree = Tree::of(&[("a/long.rs", &long), ("a/short.rs", &short), ("a/long.md", &long)]);
        let findings = lengths(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "a/long.rs");
    }

    #[test]
    fn exceptions_only_shrink() {
        let text = "x\n".repeat(600);
        let tree = Tree::of(&[("a.rs", &text)]);
        assert!(with_exceptions(&tree, &[("a.rs", 600)]).is_empty());
        assert!(with_exceptions(&tree, &[("a.rs", 599)])[0].rule.contains("grew"));
        assert!(with_exceptions(&tree, &[("a.rs", 601)])[0].rule.contains("lower"));
        assert!(
            with_exceptions(&tree, &[("a.rs", 600), ("b.rs", 700)])[0]
                .rule
                .contains("gone")
        );
    }
}
