//! The proof that `common` touches no clock, socket, file, thread or randomness.
//!
//! Three legs: the crate is `no_std` without a way back; no source line names a forbidden thing or
//! escapes to the system; and every crate it is built from is on a list of crates that were looked at,
//! none of them with a feature that opens such a door.

use super::Finding;
use super::deps::Graph;
use super::tree::Tree;

const SOURCES: &str = "common/src/";

/// What the pure core may be built from (normal dependencies, macros apart).
const CLOSURE: &[&str] = &[
    "base64",
    "block-buffer",
    "cfg-if",
    "cobs",
    "common",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "hybrid-array",
    "postcard",
    "serde",
    "serde_core",
    "sha2",
    "signature",
    "subtle",
    // Needs `std` for one thing, to ask which instructions the processor has: docs/adr/0013.
    "tape-sha256",
    "thiserror",
    "typenum",
    "zeroize",
];

/// Features that would bring the system in through an allowed crate.
const SYSTEM_FEATURES: &[&str] = &[
    "std",
    "use-std",
    "getrandom",
    "os_rng",
    "rand",
    "rand_core",
    "std_rng",
    "thread_rng",
    "rng",
];

/// Ways from a `no_std` crate to the system, and the machines that live there.
const FORBIDDEN: &[&str] = &[
    "std::",
    "core::arch",
    "extern \"C\"",
    "asm!",
    "libc",
    "rustix",
    "SystemTime",
    "Instant::now",
    "TcpStream",
    "UdpSocket",
    "getrandom",
    "thread_rng",
    "OsRng",
    "rand::",
    "static mut",
    "unsafe ",
    "include!(",
];

/// Checks the crate's own sources.
pub(super) fn sources(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = "common/src/lib.rs";
    if !tree
        .text(root)
        .is_some_and(|text| text.lines().any(|line| line == "#![no_std]"))
    {
        findings.push(Finding::new(root, "must be `#![no_std]`, on a line of its own"));
    }
    for (path, text) in tree
        .with_ending(".rs")
        .filter(|(path, _)| path.starts_with(SOURCES))
    {
        if is_test_file(path) {
            continue;
        }
        for (index, line) in shipped_lines(text) {
            if line.contains("extern crate std") {
                findings.push(Finding::at(
                    path,
                    index,
                    "`extern crate std` outside of `#[cfg(test)]`",
                ));
            }
            for word in FORBIDDEN.iter().filter(|word| contains_word(line, word)) {
                let rule = format!("`{word}` in the pure core: take it as an argument or return an effect");
                findings.push(Finding::at(path, index, rule));
            }
        }
    }
    findings
}

/// Checks everything `common` is built from.
pub(super) fn closure(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in &graph.pure_core {
        if !CLOSURE.contains(&dependency.name.as_str()) {
            let rule = "is not on the list of what the pure core may be built from: look at it, then list it";
            findings.push(Finding::new(dependency.name.as_str(), rule));
        }
        for feature in dependency
            .features
            .iter()
            .filter(|f| SYSTEM_FEATURES.contains(&f.as_str()))
        {
            let rule = format!("feature `{feature}` brings the system into the pure core");
            findings.push(Finding::new(dependency.name.as_str(), rule));
        }
    }
    if graph.pure_core.is_empty() {
        findings.push(Finding::new("common", "its dependencies could not be listed"));
    }
    findings
}

/// Test files may read golden files and print; they are not shipped.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Lines of code that are compiled into the crate, without comments: neither items under
/// `#[cfg(test)]` nor what follows a test module (test modules come last in a file).
fn shipped_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_tests = false;
    let mut behind_cfg = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let code = line.split("//").next().unwrap_or("").trim();
        if behind_cfg && code.starts_with("mod ") && code.ends_with('{') {
            in_tests = true;
        }
        let hidden = in_tests || behind_cfg;
        // Attributes may stack between the condition and its item.
        behind_cfg = code == "#[cfg(test)]" || (behind_cfg && (code.is_empty() || code.starts_with("#[")));
        (!hidden && !code.is_empty()).then_some((index, code))
    })
}

/// True if `word` stands in `line` and does not continue a longer name (`no_std::` is not `std::`).
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::deps::Dependency;
    use super::*;
    use crate::paths::Paths;

    const ROOT: &str = "//! Core.\n#![no_std]\n";

    fn checkout() -> Paths {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        Paths {
            target: root.join("target"),
            root,
        }
    }

    fn found_in(body: &str) -> usize {
        sources(&Tree::of(&[
            ("common/src/lib.rs", ROOT),
            ("common/src/a.rs", body),
        ]))
        .len()
    }

    #[test]
    fn the_real_core_is_pure_and_stops_being_so_with_one_line() {
        let tree = Tree::of_checkout(&checkout()).unwrap();
        assert_eq!(sources(&tree), []);
        let root = tree.text("common/src/lib.rs").unwrap();
        for line in [
            "fn now() -> u64 { std::time::SystemTime::now(); 0 }",
            "use std::net::TcpStream;",
            "use std::fs::File;",
            "fn go() { std::thread::spawn(|| ()); }",
            "fn dice() -> u8 { getrandom::u64(); 4 }",
        ] {
            // Put in front of any test module, as a careless change would.
            let spoilt = root.replacen("#![no_std]", &format!("#![no_std]\n{line}"), 1);
            assert!(
                !sources(&Tree::of(&[("common/src/lib.rs", &spoilt)])).is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_real_closure_is_allowed_and_stops_being_so_with_one_crate_or_feature() {
        let graph = Graph::of_workspace(&checkout()).unwrap();
        assert_eq!(closure(&graph), []);

        let mut with_crate = graph.clone();
        with_crate.pure_core.push(Dependency {
            name: "getrandom".to_owned(),
            features: Vec::new(),
        });
        assert_eq!(closure(&with_crate).len(), 1);

        let mut with_feature = graph;
        with_feature.pure_core[0].features.push("std".to_owned());
        assert_eq!(closure(&with_feature).len(), 1);
    }

    #[test]
    fn a_core_with_std_is_found() {
        let tree = Tree::of(&[("common/src/lib.rs", "//! Core.\npub mod abi;\n")]);
        assert_eq!(sources(&tree).len(), 1);
        assert_eq!(found_in("extern crate std;\n"), 1);
        assert_eq!(found_in("#[cfg(feature = \"x\")]\nextern crate std;\n"), 1);
        assert_eq!(found_in("#[cfg(test)]\nextern crate std;\n"), 0);
    }

    #[test]
    fn each_forbidden_word_is_found_outside_of_tests_and_comments() {
        for word in FORBIDDEN {
            let line = format!("{word} thing\n");
            assert!(found_in(&line) >= 1, "{word}");
            assert_eq!(found_in(&format!("// {line}")), 0, "{word}");
            assert_eq!(
                found_in(&format!("#[cfg(test)]\nmod tests {{\n{line}}}\n")),
                0,
                "{word}"
            );
            assert!(
                found_in(&format!("#[cfg(test)]\nmod tests;\n{line}")) >= 1,
                "{word}"
            );
        }
        assert_eq!(found_in("let operand::x = no_std::y;\n"), 0);
    }
}
