//! Retention on a stopped collector: the same pipeline and the same prune, without sockets.
//!
//! Takes the ledger's lock for as long as it lives, so a running collector and this never meet. Listens to nobody, and
//! so says of no host that it is silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Pruner, RetentionError};
use crate::{
    config::Config,
    cosign::{Board, Witnesses, WitnessesError},
    evidence::EvidenceStore,
    files::FileError,
    keys::{self, KeyFilesError},
    layout::Layout,
    metrics::Metrics,
    pipeline::{self, Input, PipelineError, RecoverError, Running},
    projection::Projection,
};

/// Why a stopped collector's ledger was not opened.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// It runs, or its ledger is damaged.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The witness policy.
    #[error("witnesses cannot be asked: {0}")]
    Witnesses(#[from] WitnessesError),
    /// The ledger's keys.
    #[error(transparent)]
    Keys(#[from] KeyFilesError),
    /// A file of our own.
    #[error(transparent)]
    File(#[from] FileError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// When it last ran it asked witnesses, and now it is not told of any. The operator.
    #[error(
        "this collector asked witnesses when it last ran, and no witness_policy is set here: nothing may be published past \
         them. Ask while it runs, or set witness_policy in collector.toml; where witnesses are given up for good, remove \
         witnesses.json"
    )]
    PastWitnesses,
    /// An earlier prune cannot be finished.
    #[error(transparent)]
    Unfinished(#[from] RetentionError),
}

/// A stopped collector's ledger, locked, with its pipeline at work.
pub struct Stopped {
    pruner: Pruner,
    stop: Arc<AtomicBool>,
    running: Option<Running>,
}

impl Stopped {
    /// Opens the ledger.
    ///
    /// # Errors
    /// [`StoppedError`].
    pub fn open(layout: &Layout, config: &Config) -> Result<Self, StoppedError> {
        if config.witnesses.is_none() && layout.witnesses().exists() {
            return Err(StoppedError::PastWitnesses);
        }
        let metrics = Arc::new(Metrics::default());
        let evidence = EvidenceStore::open(layout.clone(), config.evidence_bytes_max, Arc::clone(&metrics))?;
        let keys = keys::known(layout)?;
        let witnesses = Witnesses::load(layout, config, &keys)?.map(|witnesses| {
            let board = Board::new(layout.witnesses(), &witnesses.policy, witnesses.missing);
            (witnesses, Arc::new(board))
        });
        let recovery = pipeline::recover(layout, witnesses.is_some())?;
        let reader = recovery.ledger.reader();
        let config = Config {
            silence_after: Duration::MAX,
            ..config.clone()
        };
        let running = pipeline::start(
            recovery,
            &config,
            Arc::clone(&metrics),
            evidence,
            witnesses,
            Box::new(|| ()),
        )?;
        let projection = Projection::new(Arc::new(reader.clone()), Some(layout.projections()));
        let stop = Arc::new(AtomicBool::new(false));
        let handle = running.handle.clone();
        Ok(Self {
            pruner: Pruner::new(reader, Arc::new(projection), handle, metrics, Arc::clone(&stop)),
            stop,
            running: Some(running),
        })
    }

    /// What prunes, and states holds.
    #[must_use]
    pub fn pruner(&self) -> &Pruner {
        &self.pruner
    }

    /// Publishes what was stated, as far as witnesses sign, and lets go of the ledger.
    ///
    /// # Errors
    /// The pipeline failed.
    pub fn close(mut self) -> Result<(), StoppedError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), StoppedError> {
        self.stop.store(true, Relaxed);
        let Some(Running { handle, ended }) = self.running.take() else {
            return Ok(());
        };
        // Where it has ended already, it says why.
        let _ = handle.send_blocking(Input::Stop);
        Ok(ended.blocking_recv().unwrap_or(Ok(()))?)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the ledger was not closed in order");
        }
    }
}
