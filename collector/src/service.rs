//! The running collector: everything built, started, and stopped in order.
//!
//! Owns the order. Start: recover the ledger, start the pipeline, open the sockets, say where they are. Stop:
//! no new connections, agents told, what arrived committed and published, then HTTP. A pipeline that fails
//! takes the program down with it, for only recovery knows what the ledger holds then.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ledger::Reader;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use crate::{
    anchor::{self, AnchorsError},
    api,
    config::Config,
    control,
    cosign::{Board, Witnesses, WitnessesError},
    evidence::EvidenceStore,
    files::{self, FileError, PUBLIC},
    findings, http,
    ingest::{self, BindError, Context, Server},
    keys::{self, KeyFilesError},
    layout::Layout,
    metrics::Metrics,
    pipeline::{self, Input, PipelineError, PipelineHandle, RecoverError},
    projection::{self, Projection},
    query::Query,
    register, retention, stop,
};

/// How long agents are given to hear why the pipeline failed.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// What `running.json` says while the collector runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningFile {
    /// Its process id.
    pub pid: u32,
    /// The UDP address of ingest.
    pub ingest: SocketAddr,
    /// The TCP address of tiles, API and metrics.
    pub http: SocketAddr,
}

/// Why the collector did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The ledger.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The witness policy.
    #[error("witnesses cannot be asked: {0}")]
    Witnesses(#[from] WitnessesError),
    /// The ledger's keys.
    #[error(transparent)]
    Keys(#[from] KeyFilesError),
    /// The places where checkpoints are anchored.
    #[error("checkpoints cannot be anchored: {0}")]
    Anchors(#[from] AnchorsError),
    /// The ingest socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP socket.
    #[error("cannot listen on TCP {address}: {cause}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file of our own.
    #[error(transparent)]
    File(#[from] FileError),
    /// The runtime, signals.
    #[error("cannot set up the runtime: {0}")]
    Runtime(std::io::Error),
    /// The pipeline failed: restart, recovery reads what the ledger holds.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The pipeline's thread ended without a word: a fault of ours.
    #[error("the pipeline's thread ended without a word; restart the collector and report this")]
    Vanished,
}

/// Runs until SIGTERM or SIGINT, or until something fails. `listening` is told the addresses.
pub fn run(
    layout: &Layout,
    config: Config,
    listening: impl FnOnce(&RunningFile),
) -> Result<(), ServiceError> {
    let metrics = Arc::new(Metrics::default());
    for finding in findings::examine(layout) {
        warn!("{finding}");
    }
    let evidence = EvidenceStore::open(layout.clone(), config.evidence_bytes_max, Arc::clone(&metrics))?;
    let witnesses = Witnesses::load(layout, &config, &keys::known(layout)?)?.map(|witnesses| {
        let board = Board::new(layout.witnesses(), &witnesses.policy, witnesses.missing);
        (witnesses, Arc::new(board))
    });
    let board = witnesses.as_ref().map(|(_, board)| Arc::clone(board));
    let anchors = anchor::load(layout, &config)?.map(|targets| {
        let board = Arc::new(anchor::board(layout, &targets));
        (targets, board)
    });
    let anchored = anchors.as_ref().map(|(_, board)| Arc::clone(board));
    let recovery = pipeline::recover(layout, witnesses.is_some())?;
    info!(
        leaves = recovery.found.leaves,
        published = recovery.found.found_size,
        replayed_groups = recovery.found.replayed_groups,
        hosts = recovery.chains.len(),
        "ledger recovered"
    );
    let (reader, epoch) = (recovery.ledger.reader(), recovery.epoch);
    let runtime = tokio::runtime::Runtime::new().map_err(ServiceError::Runtime)?;
    runtime.block_on(async {
        let config = Arc::new(config);
        let address = config.http_listen;
        let web = TcpListener::bind(address)
            .await
            .map_err(|cause| ServiceError::Http { address, cause })?;
        let projection = Arc::new(Projection::new(
            Arc::new(reader.clone()),
            Some(layout.projections()),
        ));
        let follower = projection::follow(Arc::clone(&projection)).map_err(ServiceError::Runtime)?;
        let bell = anchors
            .map(|(targets, board)| anchor::start(targets, reader.clone(), board))
            .transpose()?;
        let running = pipeline::start(
            recovery,
            &config,
            Arc::clone(&metrics),
            evidence.clone(),
            witnesses,
            Box::new(move || {
                follower.wake();
                if let Some(bell) = &bell {
                    bell.ring();
                }
            }),
        )?;
        let keeper = Arc::new(keep(&config, &reader, &projection, &running.handle, &metrics)?);
        register::follow(layout.clone(), running.handle.clone()).map_err(ServiceError::Runtime)?;
        let server = Server::bind(Context {
            config: Arc::clone(&config),
            layout: layout.clone(),
            metrics: Arc::clone(&metrics),
            evidence,
            pipeline: running.handle.clone(),
            reader: reader.clone(),
            shares: ingest::pool(config.inflight_bytes_max),
            epoch,
        })?;
        let at = RunningFile {
            pid: std::process::id(),
            ingest: server.local_addr().map_err(ServiceError::Runtime)?,
            http: web.local_addr().map_err(ServiceError::Runtime)?,
        };
        let routes = http::router(http::Site {
            reader,
            metrics: Arc::clone(&metrics),
            witnesses: board,
            anchors: anchored,
        })
        .merge(api::router(Query::new(projection)).map_err(ServiceError::Runtime)?);
        let announcement = Announcement::write(layout, &at)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServiceError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServiceError::Runtime)?;
        let (ingest_stop, ingest_stopped) = stop::channel();
        let (web_stop, web_stopped) = stop::channel();
        let control = control::serve(layout, Arc::clone(&keeper), web_stopped.clone())
            .inspect_err(|error| warn!(%error, "no commands are taken while this runs"))
            .ok();
        let ingest = tokio::spawn(server.run(ingest_stopped));
        let rate = config.http_requests_per_second;
        let web = tokio::spawn(http::serve(web, routes, Arc::clone(&metrics), rate, web_stopped));
        listening(&at);

        let mut ended = running.ended;
        let early = tokio::select! {
            outcome = &mut ended => Some(outcome),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        if early.is_some() {
            // The pipeline has told every agent why; that must not be overtaken by a plain "stopping".
            let told = async {
                while metrics.connections.get() > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS_MAX, told).await;
        }
        info!("stopping");
        keeper.stop();
        ingest_stop.request();
        // A task that panicked has nothing left to stop.
        let _ = ingest.await;
        let outcome = match early {
            Some(outcome) => outcome,
            None => {
                running.handle.send(Input::Stop).await;
                ended.await
            }
        };
        // A prune under way stops between two groups, and whoever waits for it is told; it panicked at worst.
        let _ = tokio::task::spawn_blocking(move || keeper.end()).await;
        web_stop.request();
        if let Some(control) = control {
            let _ = control.await;
        }
        if tokio::time::timeout(http::STOP_MAX, web).await.is_err() {
            warn!("HTTP requests were cut off");
        }
        drop(announcement);
        outcome.map_err(|_| ServiceError::Vanished)??;
        info!("stopped in order");
        Ok(())
    })
}

/// The thread that prunes.
fn keep(
    config: &Config,
    reader: &Reader,
    projection: &Arc<Projection>,
    pipeline: &PipelineHandle,
    metrics: &Arc<Metrics>,
) -> Result<retention::Keeper, ServiceError> {
    let stop = Arc::new(AtomicBool::new(false));
    let pruner = retention::Pruner::new(
        reader.clone(),
        Arc::clone(projection),
        pipeline.clone(),
        Arc::clone(metrics),
        Arc::clone(&stop),
    );
    let (rules, interval) = (config.retention.clone(), config.retention_interval);
    retention::start(pruner, rules, interval, Arc::clone(metrics), stop).map_err(ServiceError::Runtime)
}

/// `running.json` for as long as the sockets are open.
struct Announcement(std::path::PathBuf);

impl Announcement {
    fn write(layout: &Layout, at: &RunningFile) -> Result<Self, FileError> {
        let path = layout.running();
        let json = serde_json::to_vec_pretty(at)
            .map_err(|error| FileError::on("describe", &path)(std::io::Error::other(error)))?;
        files::replace(&path, &json, PUBLIC)?;
        Ok(Self(path))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // A stale file misleads nobody who checks the process id.
        let _ = std::fs::remove_file(&self.0);
    }
}
