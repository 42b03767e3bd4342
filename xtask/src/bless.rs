//! `cargo xtask bless`: accepts the present bytes as golden ones, and says which changed.
//!
//! Owns no judgement: a changed golden file is a changed format, and its author must bring the document and
//! the version along (CONTRIBUTING.md).

use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::shell::{cargo, output, quiet, step};

/// The command.
pub(crate) fn command(paths: &Paths) -> Result<()> {
    step("bless: golden tests rewrite their files", || {
        let mut tests = cargo();
        tests.current_dir(&paths.root).env("INSTA_UPDATE", "always");
        quiet(tests.args(["test", "--quiet", "--locked", "--workspace", "golden"]))
    })?;
    let mut git = Command::new("git");
    git.current_dir(&paths.root)
        .args(["status", "--short", "--", "*.snap"]);
    match output(&mut git)?.as_str() {
        "" => println!("no golden file changed"),
        changed => print!("changed golden files; each needs its document and perhaps a version:\n{changed}"),
    }
    Ok(())
}
