//! Who may depend on whom: data flows one way, and so do dependencies.
//!
//! Owns the table of the architecture's arrows. The graph itself comes from cargo.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use super::tree::Tree;
use crate::paths::Paths;
use crate::shell::{cargo, output};

/// For each crate of ours, the crates of ours it may depend on, tests included.
const ARROWS: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("ledger", &["common"]),
    ("agent", &["common"]),
    ("collector", &["common", "ledger"]),
    ("cli", &["common", "ledger"]),
    ("tests", &["common", "ledger", "agent", "collector", "cli"]),
    ("xtask", &[]),
];

/// The part of cargo's dependency graph that the rules speak of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    /// Our crates with their direct dependencies of every kind, by name.
    pub(crate) members: Vec<(String, Vec<String>)>,
    /// Everything `common` is built from, with the features it is built with.
    pub(crate) pure_core: Vec<Dependency>,
}

/// One crate of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package name.
    pub(crate) name: String,
    /// The features it is built with.
    pub(crate) features: Vec<String>,
}

impl Graph {
    /// Asks cargo about the workspace.
    pub(crate) fn of_workspace(paths: &Paths) -> Result<Self> {
        let mut metadata = cargo();
        metadata
            .current_dir(&paths.root)
            .args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
        let metadata: Value =
            serde_json::from_str(&output(&mut metadata)?).context("cargo metadata's answer")?;
        let members = array(&metadata["packages"])
            .map(|package| {
                let names = array(&package["dependencies"])
                    .map(|d| text(&d["name"]))
                    .collect();
                (text(&package["name"]), names)
            })
            .collect();
        let mut closure = cargo();
        closure
            .current_dir(&paths.root)
            .args(["tree", "--locked", "-p", "common", "--prefix", "none"]);
        closure.args(["-e", "normal,no-proc-macro", "--no-dedupe", "--format", "{p}|{f}"]);
        let pure_core = output(&mut closure)?
            .lines()
            .filter_map(parse_dependency)
            .collect();
        Ok(Self { members, pure_core })
    }
}

/// Reads `name v1.2.3 (..)|feature,feature`.
fn parse_dependency(line: &str) -> Option<Dependency> {
    let (package, features) = line.split_once('|')?;
    let name = package.split_whitespace().next()?.to_owned();
    let features = features
        .split(',')
        .filter(|f| !f.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Dependency { name, features })
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Checks each of our crates' direct dependencies on our crates.
pub(super) fn direction(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (member, dependencies) in &graph.members {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == member) else {
            findings.push(Finding::new(
                member.as_str(),
                "a new crate needs its arrows in tidy",
            ));
            continue;
        };
        let ours = dependencies
            .iter()
            .filter(|name| ARROWS.iter().any(|(ours, _)| ours == name));
        for wrong in ours.filter(|name| !allowed.contains(&name.as_str())) {
            findings.push(Finding::new(
                member.as_str(),
                format!("may not depend on `{wrong}`"),
            ));
        }
    }
    findings
}

/// Each crate takes the workspace's lints.
pub(super) fn lints(tree: &Tree) -> Vec<Finding> {
    tree.with_ending("Cargo.toml")
        // The workspace's own manifest defines them; the two excluded crates are outside of it.
        .filter(|(path, _)| !["Cargo.toml", "agent-ebpf/Cargo.toml", "tests/fuzz/Cargo.toml"].contains(path))
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true") && !text.contains("[lints.rust]"))
        .map(|(path, _)| {
            Finding::new(
                path,
                "must take the workspace's lints (`[lints] workspace = true`)",
            )
        })
        .collect()
}

/// The kernel side sees nothing of ours but `common`. It is outside of the workspace, so its
/// manifest is read as text.
pub(super) fn ebpf(tree: &Tree) -> Vec<Finding> {
    let path = "agent-ebpf/Cargo.toml";
    let Some(manifest) = tree.text(path) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (index, line) in manifest
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("path = \"../"))
    {
        if !line.contains("path = \"../common\"") {
            findings.push(Finding::at(path, index, "may depend on `common` only"));
        } else if !line.contains("default-features = false") {
            findings.push(Finding::at(
                path,
                index,
                "takes `common` without default features: the ABI only",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> (String, Vec<String>) {
        (
            name.to_owned(),
            dependencies.iter().map(|d| (*d).to_owned()).collect(),
        )
    }

    #[test]
    fn each_wrong_arrow_is_found() {
        for (from, to) in [
            ("agent", "collector"),
            ("collector", "agent"),
            ("ledger", "collector"),
            ("common", "ledger"),
        ] {
            let graph = Graph {
                members: vec![member(from, &["serde", to])],
                pure_core: Vec::new(),
            };
            let findings = direction(&graph);
            assert_eq!(findings.len(), 1, "{from} -> {to}");
            assert_eq!(findings[0].rule, format!("may not depend on `{to}`"));
        }
    }

    #[test]
    fn right_arrows_are_fine_and_a_new_crate_must_be_listed() {
        let right = Graph {
            members: vec![
                member("collector", &["common", "ledger", "quinn"]),
                member("agent", &["common"]),
            ],
            pure_core: Vec::new(),
        };
        assert_eq!(direction(&right), []);
        let new = Graph {
            members: vec![member("helpers", &[])],
            pure_core: Vec::new(),
        };
        assert_eq!(direction(&new).len(), 1);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let tree = Tree::of(&[
            ("Cargo.toml", "[workspace]\n"),
            ("a/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\n"),
        ]);
        assert_eq!(lints(&tree).len(), 1);
    }

    #[test]
    fn the_kernel_side_may_not_see_more_than_the_abi() {
        let fine = "common = { path = \"../common\", default-features = false }\n";
        assert_eq!(ebpf(&Tree::of(&[("agent-ebpf/Cargo.toml", fine)])), []);
        for wrong in [
            "common = { path = \"../common\" }\n",
            "ledger = { path = \"../ledger\" }\n",
        ] {
            assert_eq!(
                ebpf(&Tree::of(&[("agent-ebpf/Cargo.toml", wrong)])).len(),
                1,
                "{wrong}"
            );
        }
    }

    #[test]
    fn cargo_tree_lines_are_read() {
        let read = parse_dependency("serde v1.0.229|alloc,derive").unwrap();
        assert_eq!(
            read,
            Dependency {
                name: "serde".into(),
                features: vec!["alloc".into(), "derive".into()]
            }
        );
        assert_eq!(
            parse_dependency("cfg-if v1.0.5|").unwrap().features,
            Vec::<String>::new()
        );
        assert_eq!(parse_dependency(""), None);
    }
}
