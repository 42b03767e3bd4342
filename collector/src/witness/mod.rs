//! A witness: signs checkpoints of other people's ledgers once it saw that they extend what it signed before.
//!
//! Owns its directory and its HTTP side; what to sign is decided by [`common::witness`]. Shares nothing with
//! a collector but code: it is best run by somebody else, on another machine. Refuses to run twice in one
//! directory, for two processes could sign two views.

mod server;
mod settings;
mod store;

pub use server::{ServeError, serve};
pub use settings::{BadSettings, Settings, template};
pub use store::{Followed, Refused, Store, StoreError};

use std::path::{Path, PathBuf};

/// Where things lie in a witness's directory.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The directory `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Settings and the logs to follow.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("witness.toml")
    }

    /// The key that cosigns, secret.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.root.join("witness.key")
    }

    /// Its public half, to be given to everybody.
    #[must_use]
    pub fn verifier(&self) -> PathBuf {
        self.root.join("witness.vkey")
    }

    /// Held locked by the running witness.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The address of the running witness; absent when none runs.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.root.join("running.json")
    }

    /// The checkpoint cosigned last for an origin, by the hash of the origin in hex.
    #[must_use]
    pub fn record(&self, origin_hash: &str) -> PathBuf {
        self.root.join("cosigned").join(origin_hash)
    }

    /// How far the record went that was written last: told apart from an older one put back.
    #[must_use]
    pub fn mark(&self, origin_hash: &str) -> PathBuf {
        self.root.join("marks").join(origin_hash)
    }

    /// Signed checkpoints of an origin that contradict what was cosigned.
    #[must_use]
    pub fn contradictions(&self, origin_hash: &str) -> PathBuf {
        self.root.join("contradictions").join(origin_hash)
    }
}
