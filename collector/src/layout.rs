//! Where everything lies under the collector's directory.
//!
//! Owns the names; says nothing about contents. The ledger crate lays out what is below `ledger/`.

use std::path::{Path, PathBuf};

use common::ids::HostId;

/// The collector's directory (`--dir`).
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
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

    /// Settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("collector.toml")
    }

    /// The certificate authority's certificate, public.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.root.join("pki/ca.crt")
    }

    /// The certificate authority's key, secret; only `init` and `enrol` read it.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.root.join("pki/ca.key")
    }

    /// The server's certificate, public.
    #[must_use]
    pub fn server_certificate(&self) -> PathBuf {
        self.root.join("pki/server.crt")
    }

    /// The server's key, secret.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.root.join("pki/server.key")
    }

    /// The key that signs checkpoints (note signer form), secret.
    #[must_use]
    pub fn ledger_key(&self) -> PathBuf {
        self.root.join("pki/ledger.key")
    }

    /// The key that is to replace it, while it does; secret.
    #[must_use]
    pub fn ledger_key_next(&self) -> PathBuf {
        self.root.join("pki/ledger.key.next")
    }

    /// Where `init` puts the offline key; meant to be moved away.
    #[must_use]
    pub fn offline_key(&self) -> PathBuf {
        self.root.join("pki/offline.key")
    }

    /// What queries derive from the ledger; may be thrown away while the collector is stopped.
    #[must_use]
    pub fn projections(&self) -> PathBuf {
        self.root.join("projections")
    }

    /// The ledger's index, likewise.
    #[must_use]
    pub fn ledger_index(&self) -> PathBuf {
        self.projections().join("index")
    }

    /// What the collector's statements come to, likewise.
    #[must_use]
    pub fn standing(&self) -> PathBuf {
        self.projections().join("standing")
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The ledger's verifier key (note verifier form), public.
    #[must_use]
    pub fn ledger_verifier(&self) -> PathBuf {
        self.ledger().join("ledger.vkey")
    }

    /// The history of the ledger's keys, public; none in a ledger that was begun without.
    #[must_use]
    pub fn ledger_keys(&self) -> PathBuf {
        self.ledger().join("ledger.keys")
    }

    /// The ledger's latest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.ledger().join("log/checkpoint")
    }

    /// Registered hosts.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// One host's registration.
    #[must_use]
    pub fn host(&self, host: &HostId) -> PathBuf {
        self.hosts().join(format!("{host}.toml"))
    }

    /// Kept evidence against hosts and peers.
    #[must_use]
    pub fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// What the running collector last knew of its witnesses; absent where it has none.
    #[must_use]
    pub fn witnesses(&self) -> PathBuf {
        self.root.join("witnesses.json")
    }

    /// The socket at which the running collector takes an operator's commands.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Where the running collector's anchors stand; absent where it has none.
    #[must_use]
    pub fn anchors(&self) -> PathBuf {
        self.root.join("anchors.json")
    }

    /// Addresses and process id of the running collector; absent when none runs.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.root.join("running.json")
    }
}
