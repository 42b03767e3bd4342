//! Start: the ledger recovered, every host's chain taken up where its last durable header left it.
//!
//! Owns nothing that live operation does not use as well: what was durable and not published is published by
//! the ledger's own integrate-and-publish before anybody is served, or, where witnesses are to be asked first,
//! by the pipeline's first step.

use std::{path::PathBuf, sync::Arc, thread, time::Instant};

use common::{
    batch::VerifiedHeader,
    ids::{HostId, LeafIndex, Sequence},
    note::{KeyError, SignerKey},
    statement::{BadStatement, StatementFault, UnverifiedStatement, VerifiedStatement},
};
use ledger::{
    ChainEndError, IndexNews, Ledger, Local, OpenError, PublishError, ReadError, Reader, Recovered, audit,
    last_header,
    storage::{OpenLocalError, ProbeError, probe},
};

use super::RETRY;
use crate::{
    files::{self, FileError},
    layout::Layout,
};

/// Longest key file read, bytes.
const KEY_BYTES_MAX: u64 = 4096;

/// A ledger ready to be continued.
pub struct Recovery {
    /// The ledger.
    pub ledger: Ledger,
    /// What opening it found.
    pub found: Recovered,
    /// The last header of every host.
    pub chains: Vec<VerifiedHeader>,
    /// The last statement.
    pub last_statement: Option<VerifiedStatement>,
    /// The ledger's key, which signs statements as well.
    pub signer: SignerKey,
    /// Durable leaves that no checkpoint covers yet, in order: whose batch, `None` for a statement. Empty
    /// unless witnesses are to be asked first.
    pub unpublished: Vec<(LeafIndex, Option<(HostId, Sequence)>)>,
    /// Monotonic time counts from here.
    pub epoch: Instant,
}

/// Why the collector cannot start from what lies on disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The signing key's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The signing key.
    #[error("{}: {cause}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// The ledger's directory.
    #[error(transparent)]
    Local(#[from] OpenLocalError),
    /// What the ledger is to be stored on.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The ledger.
    #[error("ledger cannot be recovered: {0}")]
    Open(#[from] OpenError),
    /// What was durable could not be published.
    #[error("ledger cannot be published: {0}")]
    Publish(#[from] PublishError),
    /// A stored statement cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored statement is none.
    #[error("last statement: {0}")]
    Statement(#[from] BadStatement),
    /// A stored statement does not verify: the ledger was altered.
    #[error("last statement: {0}")]
    Statements(#[from] StatementFault),
    /// A host's chain cannot be taken up.
    #[error("ledger cannot be continued: {0}")]
    Chain(#[from] ChainEndError),
}

/// Says what happens to the ledger's index.
fn report(news: IndexNews) {
    match news {
        IndexNews::Building(why) => tracing::warn!(why, "the ledger's index is built again"),
        IndexNews::Progress { leaves, of } => tracing::info!(leaves, of, "indexing the ledger"),
        IndexNews::Built { leaves } => tracing::info!(leaves, "the ledger's index is whole"),
    }
}

/// Opens the ledger and takes up every chain. Waits while the disk is too full to publish what was durable.
/// With `ask_witnesses`, what no checkpoint covers is left to the pipeline, which asks them first.
pub fn recover(layout: &Layout, ask_witnesses: bool) -> Result<Recovery, RecoverError> {
    let epoch = Instant::now();
    let path = layout.ledger_key();
    let text = files::read_text(&path, KEY_BYTES_MAX)?;
    let signer = SignerKey::parse(text.trim()).map_err(|cause| RecoverError::Key { path, cause })?;
    let storage = Local::open_writer(&layout.ledger())?;
    match probe(&storage) {
        Err(ProbeError::NoSpace(error)) => {
            tracing::warn!(%error, "the disk is full: what it promises was not tried")
        }
        outcome => outcome?,
    }
    let (storage, index) = (Arc::new(storage), layout.ledger_index());
    let open = if ask_witnesses {
        Ledger::open_held
    } else {
        Ledger::open_indexed
    };
    let (mut ledger, mut found) = open(storage, signer.clone(), audit::describe, &index, Box::new(report))?;
    while !found.published && !ask_witnesses {
        match ledger.integrate_and_publish() {
            Ok(_) => found.published = true,
            Err(PublishError::NoSpace(error)) => {
                tracing::error!(%error, "what is durable cannot be published yet: make room");
                thread::sleep(RETRY);
            }
            Err(fatal) => return Err(fatal.into()),
        }
    }
    let reader = ledger.reader();
    let unpublished = (reader.published().checkpoint.size..reader.leaves())
        .map(|leaf| Ok((LeafIndex(leaf), batch_at(&reader, LeafIndex(leaf))?)))
        .collect::<Result<Vec<_>, ReadError>>()?;
    let mut chains = Vec::new();
    for host in reader.hosts() {
        chains.extend(last_header(&reader, &host)?);
    }
    let last_statement = match reader.host_head(&HostId::COLLECTOR)? {
        Some(record) => {
            let parsed = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
            Some(VerifiedStatement::alone(parsed, signer.verifier())?)
        }
        None => None,
    };
    Ok(Recovery {
        ledger,
        found,
        chains,
        last_statement,
        unpublished,
        signer,
        epoch,
    })
}

/// Whose batch stands at `leaf`; `None` for a statement.
fn batch_at(reader: &Reader, leaf: LeafIndex) -> Result<Option<(HostId, Sequence)>, ReadError> {
    let facts = audit::describe(&reader.header(leaf)?);
    Ok(facts
        .filter(|facts| facts.host != HostId::COLLECTOR)
        .map(|facts| (facts.host, facts.sequence)))
}
