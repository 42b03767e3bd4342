//! `cargo xtask tidy`: the rules of the house as ordinary checks that only get stricter.
//!
//! Each check is a function from the tree (or the dependency graph) to findings, so that a test can
//! hand it a small fixture and show that it fails when it should. Owns the list of checks; refuses
//! exceptions that are not written down in [`lengths`].

mod deps;
mod docs;
mod events;
mod lengths;
mod purity;
mod text;
mod tree;

use anyhow::{Result, bail};

use crate::paths::Paths;
use deps::Graph;
use tree::Tree;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path and, where it has one, line.
    pub(crate) place: String,
    /// The rule and the remedy.
    pub(crate) rule: String,
}

impl Finding {
    fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            rule: rule.into(),
        }
    }

    fn at(path: &str, line_index: usize, rule: impl Into<String>) -> Self {
        Self::new(format!("{path}:{}", line_index + 1), rule)
    }
}

type TreeCheck = (&'static str, fn(&Tree) -> Vec<Finding>);
type GraphCheck = (&'static str, fn(&Graph) -> Vec<Finding>);

const TREE_CHECKS: &[TreeCheck] = &[
    ("each Rust file opens with its purpose", text::headers),
    ("file lengths", lengths::lengths),
    ("no unfinished work, no silenced lints", text::forbidden),
    ("no paths of one machine", text::machine_paths),
    ("no test asserts wall time", text::wall_time),
    ("top-level folders", text::top_level),
    (
        "`common` is free of clock, socket, file, thread and randomness",
        purity::sources,
    ),
    ("workspace lints apply to each crate", deps::lints),
    ("agent-ebpf sees only `common`", deps::ebpf),
    ("documentation links resolve", docs::links),
    ("README names both commands", docs::readme),
    ("decisions are indexed", docs::decisions),
    ("the threat model's tests exist", docs::threat_model),
    ("event kinds are complete", events::complete),
];

const GRAPH_CHECKS: &[GraphCheck] = &[
    ("dependency direction", deps::direction),
    ("what `common` is built from", purity::closure),
];

/// The command: run every check and list what they found.
pub(crate) fn command(paths: &Paths) -> Result<()> {
    let tree = Tree::of_checkout(paths)?;
    let graph = Graph::of_workspace(paths)?;
    let outcomes = TREE_CHECKS
        .iter()
        .map(|(name, check)| (*name, check(&tree)))
        .chain(GRAPH_CHECKS.iter().map(|(name, check)| (*name, check(&graph))));
    let mut total = 0;
    for (name, findings) in outcomes {
        if findings.is_empty() {
            println!("    ok      {name}");
        } else {
            println!("    BROKEN  {name}");
        }
        for finding in &findings {
            println!("            {}: {}", finding.place, finding.rule);
        }
        total += findings.len();
    }
    if total > 0 {
        bail!("tidy found {total} broken rules (listed above)");
    }
    Ok(())
}
