//! cargo-deny and cargo-fuzz: always on CI, elsewhere used only where they are there already.
//!
//! They take minutes to build and guard what rarely changes, so a developer's first test run does
//! not wait for them; it is told that CI will run them.

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::shell::{cargo, is_ci, note, run};

const TOOLS: [(&str, &str); 2] = [("cargo-deny", "0.20.2"), ("cargo-fuzz", "0.13.2")];

/// Installs the missing ones on CI; says what is left to CI elsewhere.
pub(super) fn install(paths: &Paths) -> Result<()> {
    for (tool, version) in TOOLS {
        if paths.program(tool).is_some() {
            note(&format!("{tool}, present"));
        } else if is_ci() {
            note(&format!("building {tool} {version} into target/tools"));
            let mut install = cargo();
            install
                .args([
                    "install",
                    "--quiet",
                    "--locked",
                    tool,
                    "--version",
                    version,
                    "--root",
                ])
                .arg(paths.tools());
            run(&mut install).with_context(|| format!("{tool} could not be built"))?;
        } else {
            note(&format!(
                "{tool} is not installed: its check is left to CI (`cargo install --locked {tool} --version {version}` to have it here)"
            ));
        }
    }
    Ok(())
}
