//! Start: the ledger recovered, every host's chain taken up where its last durable header left it.
//!
//! Owns nothing that live operation does not use as well: what was durable and not published is published by
//! the ledger's own integrate-and-publish before anybody is served, or, where witnesses are to be asked first,
//! by the pipeline's first step.

use std::{sync::Arc, thread, time::Instant};

use common::{
    batch::VerifiedHeader,
    ids::{BootNanos, HostId, LeafIndex, Sequence},
    note::SignerKey,
    statement::{BadStatement, Said, StatementChain, StatementFault, UnverifiedStatement, VerifiedStatement},
    text::Text,
    watchman::Standing,
};
use ledger::{
    AppendError, ChainEndError, Entry, IndexNews, Ledger, Local, OpenError, PublishError, ReadError, Reader,
    Recovered, audit, last_header,
    storage::{OpenLocalError, ProbeError, probe},
};

use super::{RETRY, standing::StandingFile, stating::read_clocks};
use crate::{
    keys::{self, KeyFilesError},
    layout::Layout,
};

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
    /// What all statements come to.
    pub standing: Standing,
    /// Where that is kept.
    pub standing_file: StandingFile,
    /// Durable leaves that no checkpoint covers yet, in order: whose batch, `None` for a statement. Empty
    /// unless witnesses are to be asked first.
    pub unpublished: Vec<(LeafIndex, Option<(HostId, Sequence)>)>,
    /// Monotonic time counts from here.
    pub epoch: Instant,
}

/// Why the collector cannot start from what lies on disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The files of the signing key.
    #[error(transparent)]
    Keys(#[from] KeyFilesError),
    /// The ledger's directory.
    #[error(transparent)]
    Local(#[from] OpenLocalError),
    /// What the ledger is to be stored on.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The ledger.
    #[error("ledger cannot be recovered: {0}")]
    Open(#[from] OpenError),
    /// A change of key could not be stated.
    #[error("the change of the ledger's key cannot be stated: {0}")]
    Append(#[from] AppendError),
    /// What was durable could not be published.
    #[error("ledger cannot be published: {0}")]
    Publish(#[from] PublishError),
    /// A stored statement cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored statement is none.
    #[error("the collector's statements: {0}; run `hostledger verify`")]
    Statement(#[from] BadStatement),
    /// A stored statement does not verify or continue the others: the ledger was altered.
    #[error("the collector's statements: {0}; run `hostledger verify`")]
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
    let storage = Local::open_writer(&layout.ledger())?;
    // Under the ledger's lock: a change of key that was interrupted is finished or undone here.
    let signer = keys::settle(layout)?;
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
    if !found.published && !ask_witnesses {
        found.published = publish(&mut ledger)?;
    }
    let reader = ledger.reader();
    let last_statement = last_statement(&reader)?;
    let last_statement = match state_key_change(&mut ledger, &signer, last_statement.as_ref())? {
        Some(stated) => {
            if !ask_witnesses {
                found.published = publish(&mut ledger)?;
            }
            Some(stated)
        }
        None => last_statement,
    };
    let mut standing_file = StandingFile::new(layout.standing(), reader.clone(), signer.clone());
    let standing = standing_file.take_up(&|| true)?;
    let unpublished = (reader.published().checkpoint.size..reader.leaves())
        .map(|leaf| Ok((LeafIndex(leaf), batch_at(&reader, LeafIndex(leaf))?)))
        .collect::<Result<Vec<_>, ReadError>>()?;
    let mut chains = Vec::new();
    for host in reader.hosts() {
        chains.extend(last_header(&reader, &host)?);
    }
    Ok(Recovery {
        ledger,
        found,
        chains,
        last_statement,
        standing,
        standing_file,
        unpublished,
        signer,
        epoch,
    })
}

/// Publishes what is durable, however long the disk is full.
fn publish(ledger: &mut Ledger) -> Result<bool, RecoverError> {
    loop {
        match ledger.integrate_and_publish() {
            Ok(_) => return Ok(true),
            Err(PublishError::NoSpace(error)) => {
                tracing::error!(%error, "what is durable cannot be published yet: make room");
                thread::sleep(RETRY);
            }
            Err(fatal) => return Err(fatal.into()),
        }
    }
}

fn last_statement(reader: &Reader) -> Result<Option<VerifiedStatement>, RecoverError> {
    let Some(record) = reader.host_head(&HostId::COLLECTOR)? else {
        return Ok(None);
    };
    let parsed = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
    Ok(Some(VerifiedStatement::at_leaf(
        parsed,
        record.leaf,
        reader.keys(),
    )?))
}

/// Says of the last change of key, if that is what the next leaf must say; nothing may stand there before it.
fn state_key_change(
    ledger: &mut Ledger,
    signer: &SignerKey,
    last: Option<&VerifiedStatement>,
) -> Result<Option<VerifiedStatement>, RecoverError> {
    let reader = ledger.reader();
    let Some((change, record)) = reader.keys().change_at(LeafIndex(reader.leaves())) else {
        return Ok(None);
    };
    let record = Text(record.to_vec());
    let chain = last.map(StatementChain::after).transpose()?.unwrap_or_default();
    let now = read_clocks(BootNanos(0));
    let statement = chain.write(Said::KeyChange { record }, now.wall, now.error_ns, signer)?;
    let entry = Entry {
        header: statement.bytes(),
        body: &[],
    };
    ledger.append_group(&[entry])?;
    tracing::info!(%change, "stated");
    Ok(Some(statement))
}

/// Whose batch stands at `leaf`; `None` for a statement.
fn batch_at(reader: &Reader, leaf: LeafIndex) -> Result<Option<(HostId, Sequence)>, ReadError> {
    let facts = audit::describe(&reader.header(leaf)?);
    Ok(facts
        .filter(|facts| facts.host != HostId::COLLECTOR)
        .map(|facts| (facts.host, facts.sequence)))
}
