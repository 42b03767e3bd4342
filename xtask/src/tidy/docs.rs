//! Documents that must stay true: links that lead somewhere, an index that lists everything.
//!
//! Owns only what can be checked mechanically.

use super::Finding;
use super::tree::Tree;

/// The commands a stranger needs first.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];
const DECISIONS: &str = "docs/adr/";

/// Each relative link in a document leads to a file of the tree and, where it names one, a heading.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending(".md") {
        for (index, target) in targets(text) {
            if let Some(rule) = broken(tree, path, target) {
                findings.push(Finding::at(path, index, rule));
            }
        }
    }
    findings
}

/// Why a link leads nowhere, if it does.
fn broken(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() {
        Some(from.to_owned())
    } else {
        resolve(from, file)
    };
    let Some(file) = file.filter(|file| tree.has(file)) else {
        return Some(format!("the link to `{target}` leads nowhere"));
    };
    let headings = tree.text(&file)?;
    let found = anchor.is_empty()
        || headings
            .lines()
            .filter(|l| l.starts_with('#'))
            .any(|l| slug(l) == anchor);
    (!found).then(|| format!("`{file}` has no heading for `#{anchor}`"))
}

/// Link targets `](..)` outside of fenced code, with their line.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((index, target));
            }
        }
    }
    found
}

/// A target relative to the document that names it; nothing if it leaves the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// A heading's anchor, as the usual renderers make it.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The README tells a stranger the two commands.
pub(super) fn readme(tree: &Tree) -> Vec<Finding> {
    let text = tree.text("README.md").unwrap_or_default();
    COMMANDS
        .iter()
        .filter(|command| !text.contains(*command))
        .map(|command| Finding::new("README.md", format!("does not name `{command}`")))
        .collect()
}

/// Each decision record is in the index and says its status.
pub(super) fn decisions(tree: &Tree) -> Vec<Finding> {
    let index = tree.text("docs/adr/README.md").unwrap_or_default();
    let mut findings = Vec::new();
    for (path, text) in tree
        .with_ending(".md")
        .filter(|(path, _)| path.starts_with(DECISIONS))
    {
        let name = &path[DECISIONS.len()..];
        if ["README.md", "template.md"].contains(&name) {
            continue;
        }
        if !index.contains(&format!("({name})")) {
            findings.push(Finding::new(path, "is not in docs/adr/README.md"));
        }
        if !text.lines().any(|line| line.starts_with("Status: ")) {
            findings.push(Finding::new(path, "has no line `Status: ..`"));
        }
    }
    findings
}

/// Each test that the threat model rests on exists.
pub(super) fn threat_model(tree: &Tree) -> Vec<Finding> {
    let path = "docs/threat-model.md";
    let text = tree.text(path).unwrap_or_default();
    let exists = |name: &str| {
        let definition = format!("fn {name}(");
        tree.with_ending(".rs")
            .any(|(_, source)| source.contains(&definition))
    };
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        // Every second part of a line stands between backticks; names of tests are long.
        let names = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.matches('_').count() > 1);
        for name in names.filter(|name| !exists(name)) {
            findings.push(Finding::at(path, index, format!("there is no test `{name}`")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_link_is_found_with_its_line() {
        let tree = Tree::of(&[
            (
                "README.md",
                "see\n[a](docs/a.md) [b](docs/b.md) [c](https://example.org/x)\n",
            ),
            (
                "docs/a.md",
                "# A title, here\n[up](../README.md) [out](../../x.md) [in](#a-title-here) [no](#nope)\n",
            ),
        ]);
        let findings = links(&tree);
        let places: Vec<&str> = findings.iter().map(|f| f.place.as_str()).collect();
        assert_eq!(
            places,
            ["README.md:2", "docs/a.md:2", "docs/a.md:2"],
            "{findings:?}"
        );
    }

    #[test]
    fn links_in_fenced_code_are_not_links() {
        let tree = Tree::of(&[("a.md", "```\nx[0](nowhere)\n```\n")]);
        assert_eq!(links(&tree), []);
    }

    #[test]
    fn a_readme_without_a_command_is_found() {
        let tree = Tree::of(&[("README.md", "run `cargo xtask demo`\n")]);
        assert_eq!(readme(&tree).len(), 1);
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        let tree = Tree::of(&[
            (
                "docs/threat-model.md",
                "| a | `this_one_is_there`, `this_one_is_not`, `verify` |\n",
            ),
            ("a.rs", "fn this_one_is_there() {}\n"),
        ]);
        let findings = threat_model(&tree);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].rule.contains("this_one_is_not"));
    }

    #[test]
    fn a_decision_outside_of_the_index_or_without_status_is_found() {
        let tree = Tree::of(&[
            ("docs/adr/README.md", "[1](0001-a.md)\n"),
            ("docs/adr/template.md", "# N. Title\n"),
            ("docs/adr/0001-a.md", "# 1. A\nStatus: accepted\n"),
            ("docs/adr/0002-b.md", "# 2. B\n"),
        ]);
        assert_eq!(decisions(&tree).len(), 2);
    }
}
