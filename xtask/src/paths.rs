//! Where things lie: the checkout, the build output, and the tools that setup installs.
//!
//! Owns the layout under `target/`; refuses to guess: outside a checkout it is an error.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directories every command needs.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The root of the checkout.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Paths {
    /// Finds the checkout above the current directory.
    pub(crate) fn find() -> Result<Self> {
        let here = env::current_dir().context("the current directory cannot be read")?;
        let Some(root) = here
            .ancestors()
            .find(|dir| dir.join("xtask/Cargo.toml").is_file())
        else {
            bail!(
                "no checkout above {}: run `cargo xtask` inside one",
                here.display()
            );
        };
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => here.join(dir),
            None => root.join("target"),
        };
        Ok(Self {
            root: root.to_path_buf(),
            target,
        })
    }

    /// The prefix that setup installs tools under, so that nothing of the user's is touched.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The directory of those tools' programs.
    pub(crate) fn tools_bin(&self) -> PathBuf {
        self.tools().join("bin")
    }

    /// Where the output of test runs is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }

    /// A program by name: our own tools first, then the search path.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        std::iter::once(self.tools_bin())
            .chain(env::split_paths(&path))
            // Administration tools live in sbin, which an ordinary user's path leaves out.
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .map(|dir| dir.join(name))
            .find(|file| is_program(file))
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
