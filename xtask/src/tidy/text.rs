//! Rules that one can see in a file's text alone.
//!
//! The forbidden words below are written in halves, so that this file does not find itself.

use super::Finding;
use super::tree::Tree;

/// The folders of the architecture. Adding one takes a decision record and an entry here.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    "agent",
    "agent-ebpf",
    "cli",
    "collector",
    "common",
    "deploy",
    "docs",
    "ledger",
    "tests",
    "ui",
    "xtask",
];

/// Each Rust file says first what it is for.
pub(super) fn headers(tree: &Tree) -> Vec<Finding> {
    tree.with_ending(".rs")
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| {
            Finding::new(
                path,
                "must open with `//!`: purpose, what it owns, what it refuses",
            )
        })
        .collect()
}

/// Words that mean unfinished work, and lints silenced without a reason.
pub(super) fn forbidden(tree: &Tree) -> Vec<Finding> {
    let words = [
        (concat!("TO", "DO"), "finish it or open an issue"),
        (concat!("FIX", "ME"), "fix it or open an issue"),
        (concat!("todo", "!("), "write it"),
        (concat!("unimplemented", "!("), "write it"),
        (concat!("#[", "allow("), "use #[expect(lint, reason = \"..\")]"),
        (concat!("#![", "allow("), "use #![expect(lint, reason = \"..\")]"),
    ];
    let sources = tree.iter().filter(|(path, _)| is_own_text(path));
    lines(sources)
        .flat_map(|(path, index, line)| {
            words
                .iter()
                .filter(move |(word, _)| line.contains(word))
                .map(move |(word, remedy)| Finding::at(path, index, format!("`{word}`: {remedy}")))
        })
        .collect()
}

/// A path that exists on one machine only makes a stranger's run differ from ours.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let prefixes = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
    ];
    lines(tree.iter().filter(|(path, _)| is_own_text(path)))
        .filter_map(|(path, index, line)| {
            let prefix = prefixes.iter().find(|prefix| line.contains(**prefix))?;
            Some(Finding::at(
                path,
                index,
                format!("`{prefix}` is a path of one machine"),
            ))
        })
        .collect()
}

/// A test that asserts how long something took fails on a busy machine: measure in a bench.
pub(super) fn wall_time(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending(".rs") {
        let all: Vec<&str> = text.lines().collect();
        for (index, line) in all.iter().enumerate() {
            if !line.trim_start().starts_with("assert") {
                continue;
            }
            // The whole statement, which may be broken over a few lines.
            let end = all[index..]
                .iter()
                .position(|l| l.trim_end().ends_with(';'))
                .unwrap_or(0);
            let statement = all[index..=index + end.min(8)].join(" ");
            // A loop that waits for something gives up at some point: that limit has this name.
            if statement.contains("PATIENCE") {
                continue;
            }
            if statement.contains(concat!("elapsed", "()"))
                || statement.contains(concat!("Instant::", "now()"))
            {
                findings.push(Finding::at(
                    path,
                    index,
                    "a test asserts wall time: measure it in a bench instead",
                ));
            }
        }
    }
    findings
}

/// No folder at the top that the architecture does not name.
pub(super) fn top_level(tree: &Tree) -> Vec<Finding> {
    let mut found: Vec<&str> = tree
        .iter()
        .filter_map(|(path, _)| path.split_once('/').map(|(folder, _)| folder))
        .filter(|folder| !TOP_LEVEL.contains(folder))
        .collect();
    found.dedup();
    found
        .into_iter()
        .map(|folder| {
            Finding::new(
                folder,
                "a new top-level folder needs a decision record and an entry in tidy",
            )
        })
        .collect()
}

/// Files that people here wrote, as opposed to lock files, test data and captured output.
fn is_own_text(path: &str) -> bool {
    [".rs", ".md", ".toml", ".go", ".sh", ".ci/run"]
        .iter()
        .any(|ending| path.ends_with(ending))
}

fn lines<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
    files.flat_map(|(path, text)| {
        text.lines()
            .enumerate()
            .map(move |(index, line)| (path, index, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.place.as_str()).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let tree = Tree::of(&[("a.rs", "//! Purpose.\n"), ("b.rs", "fn b() {}\n"), ("c.rs", "")]);
        assert_eq!(places(&headers(&tree)), ["b.rs", "c.rs"]);
    }

    #[test]
    fn unfinished_work_and_silenced_lints_are_found_with_their_line() {
        let lines = [
            concat!("// TO", "DO later"),
            concat!("// FIX", "ME"),
            concat!("todo", "!()"),
            concat!("unimplemented", "!()"),
            concat!("#[", "allow(dead_code)]"),
            concat!("#![", "allow(dead_code)]"),
        ];
        for line in lines {
            let text = format!("//! A.\n{line}\n");
            assert_eq!(
                places(&forbidden(&Tree::of(&[("a.rs", &text)]))),
                ["a.rs:2"],
                "{line}"
            );
        }
        let fine = "//! A.\n#[expect(dead_code, reason = \"shown\")]\n";
        assert!(forbidden(&Tree::of(&[("a.rs", fine)])).is_empty());
    }

    #[test]
    fn a_machine_path_is_found_in_sources_and_documents_but_not_in_test_data() {
        let text = format!("//! see {}someone/notes\n", concat!("/ho", "me/"));
        let tree = Tree::of(&[("a.rs", &text), ("b.md", &text), ("tests/data/c.json", &text)]);
        assert_eq!(places(&machine_paths(&tree)), ["a.rs:1", "b.md:1"]);
    }

    #[test]
    fn an_assertion_on_elapsed_time_is_found_even_over_several_lines() {
        let one = concat!("assert", "!(start.elapsed", "() < LIMIT);\n");
        let many = concat!("assert", "!(\n    start.elapsed", "()\n    < LIMIT\n);\n");
        let fine = concat!("assert", "!(seen == 3);\nprint(start.elapsed", "());\n");
        assert_eq!(places(&wall_time(&Tree::of(&[("a.rs", one)]))), ["a.rs:1"]);
        assert_eq!(places(&wall_time(&Tree::of(&[("a.rs", many)]))), ["a.rs:1"]);
        let waiting = concat!("assert", "!(start.elapsed", "() < PATIENCE, \"no answer\");\n");
        assert!(wall_time(&Tree::of(&[("a.rs", fine)])).is_empty());
        assert!(wall_time(&Tree::of(&[("a.rs", waiting)])).is_empty());
    }

    #[test]
    fn a_new_top_level_folder_is_found_once() {
        let tree = Tree::of(&[
            ("utils/a.rs", ""),
            ("utils/b.rs", ""),
            ("agent/a.rs", ""),
            ("README.md", ""),
        ]);
        assert_eq!(places(&top_level(&tree)), ["utils"]);
    }
}
