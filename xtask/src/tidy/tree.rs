//! The files that the checks read: everything git tracks or would track.
//!
//! Owns nothing but their text; binary files appear with empty text.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::shell::output;

/// Paths (relative to the root, `/`-separated) and texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the checkout: tracked files and new ones that are not ignored.
    pub(crate) fn of_checkout(paths: &Paths) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(&paths.root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git).context("tidy reads the files git knows, and could not ask it")?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let file = paths.root.join(path);
            // A tracked file may be deleted and not yet committed.
            if file.is_file() {
                let bytes = fs::read(&file).with_context(|| format!("{path} cannot be read"))?;
                files.insert(path.to_owned(), String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(Self { files })
    }

    /// A fixture for the checks' tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect();
        Self { files }
    }

    /// One file's text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// All files.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files with this ending.
    pub(crate) fn with_ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter(move |(path, _)| path.ends_with(ending))
    }

    /// True for a file, or for a folder that holds one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|p| p.starts_with(&folder))
    }
}
