//! `run`: puts sensors, journal, spool and shipper together, and takes them apart in order.
//!
//! Three threads: sensors, journal, and this one for sockets and signals. An orderly stop goes along the flow
//! of data: sensors end, the journal seals the rest and marks it as the last, the shipper carries what is
//! left for a bounded time. Whatever does not get through stays in the spool.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    journal::{Journal, JournalConfig, JournalError},
    keyring::EpochPolicy,
    limits::BATCH_EVENTS_MAX,
    spool::SpoolConfig,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::{
    clock::Clock,
    config::{Config, Layout},
    disk, files,
    identity::{Identity, IdentityError},
    journal::{self, Fatal},
    pipeline::{Pipeline, reading},
    sensor::{self, host::BootIdError},
    ship::{ShipStatus, Shipper},
    spool::{OpenError, SpoolDisk},
    status,
};

/// How often an orderly stop looks whether a step is done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why the agent does not run, or stopped running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another agent signs in this directory.
    #[error("another agent runs on {0}: two would sign one sequence twice")]
    Running(PathBuf),
    /// No `/proc`.
    #[error(transparent)]
    Boot(#[from] BootIdError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// The journal cannot be used.
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    /// What was written last has an unknown fate.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The system gives no threads, signals or sockets.
    #[error("{what}: {cause}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// A thread of ours ended by itself. Ours to fix.
    #[error("the {0} thread ended unexpectedly; restart the agent")]
    Thread(&'static str),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |cause| RunError::System { what, cause }
}

/// Runs until SIGTERM or SIGINT, then stops in order.
///
/// # Errors
/// [`RunError`]; after [`RunError::Fatal`] the next start recovers what the disk really holds.
pub fn run(layout: &Layout, config: &Config) -> Result<(), RunError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("runtime"))?
        .block_on(run_here(layout, config))
}

async fn run_here(layout: &Layout, config: &Config) -> Result<(), RunError> {
    // Before anything is made: a directory without an identity stays as it is.
    Identity::inspect(layout)?;
    let state_dir = layout.state();
    std::fs::create_dir_all(&state_dir).map_err(system("state directory"))?;
    let _lock = disk::lock(&state_dir.join("lock"))
        .map_err(system("lock"))?
        .ok_or_else(|| RunError::Running(layout.dir.clone()))?;
    // Behind the lock, for it may finish a replacement of keys that was cut short.
    let identity = Identity::load(layout)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("signals"))?;
    let listener = status::listen(&state_dir).map_err(system("status socket"))?;

    let boot = sensor::host::boot_id()?;
    let host = identity.host();
    let (mut disk, recovered) =
        SpoolDisk::open(&layout.spool(), spool_config(config), identity.keyring.held())?;
    for finding in &recovered.findings {
        tracing::warn!(%finding, "the spool was not left in order");
    }
    for finding in &identity.findings {
        tracing::warn!("{}: {finding}; overwritten", layout.signing_keys().display());
    }
    for finding in files::examine(layout, &host, recovered.spool.mark()) {
        tracing::warn!("{finding}");
    }
    let sensors = sensor::start(config, boot);
    let from = reading(&Clock::sample(), sensors.since);
    let journal = Journal::new(
        journal_config(config),
        recovered.spool.head().clone(),
        identity.keyring,
        boot,
        from,
    )?;
    let pipeline = Arc::new(Pipeline::new(journal, recovered.spool, boot, from));
    tracing::info!(%host, %boot, "watching");

    let stop = Arc::new(AtomicBool::new(false));
    let (sealing_ended, mut sealing) = oneshot::channel();
    let sealer = Arc::clone(&pipeline);
    thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            let outcome = journal::run(&sealer, &mut disk, &identity.store);
            // Nobody listens only where the process ends anyway.
            let _ = sealing_ended.send(outcome);
        })
        .map_err(system("journal thread"))?;
    let watcher = {
        let (pipeline, stop, config, host) = (Arc::clone(&pipeline), Arc::clone(&stop), config.clone(), host);
        thread::Builder::new()
            .name("sensors".into())
            .spawn(move || sensors.run(&pipeline, host, &config, &stop))
            .map_err(system("sensor thread"))?
    };

    let (stop_shipping, stopped) = watch::channel(false);
    let (shown, shipping) = watch::channel(ShipStatus::default());
    let shipper = config.collector.clone().map(|collector| {
        let policy = config.witness_policy.as_ref().map(|file| layout.dir.join(file));
        let (pipeline, layout) = (Arc::clone(&pipeline), layout.clone());
        let shipper = Shipper::new(pipeline, layout, collector, policy, shown, stopped);
        tokio::spawn(shipper.run())
    });
    let about = status::About {
        host,
        name: config.name.clone(),
        shipping: config.collector.is_some().then_some(shipping),
    };
    let server = tokio::spawn(status::serve(listener, about, Arc::clone(&pipeline)));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut sealing => {
            stop.store(true, Ordering::Relaxed);
            return match ended {
                Ok(Err(fatal)) => Err(fatal.into()),
                Ok(Ok(())) | Err(_) => Err(RunError::Thread("journal")),
            };
        }
        () = finished(&watcher) => return Err(RunError::Thread("sensor")),
    }

    tracing::info!("stopping");
    stop.store(true, Ordering::Relaxed);
    let deadline = tokio::time::Instant::now() + config.drain_for.max(Duration::from_secs(1));
    let sealed = tokio::time::timeout_at(deadline, async {
        while !pipeline.lock().journal.stopped() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
    if sealed.is_err() {
        tracing::error!("the last events could not be sealed in time (is the disk full?) and are lost");
    }
    // From here on the shipper finishes what is durable, as far as the time allows.
    let _ = stop_shipping.send(true);
    if let Some(shipper) = shipper {
        let _ = tokio::time::timeout(config.drain_for, shipper).await;
    }
    pipeline.lock().shipping_ended = true;
    pipeline.wake();
    let ended = tokio::time::timeout(Duration::from_secs(2), &mut sealing).await;
    server.abort();
    let _ = std::fs::remove_file(status::socket(&state_dir));
    let (batches, bytes) = {
        let state = pipeline.lock();
        (state.spool.batches(), state.spool.bytes())
    };
    tracing::info!(batches, bytes, "stopped; this much waits in the spool");
    match ended {
        Ok(Ok(Err(fatal))) => Err(fatal.into()),
        _ => Ok(()),
    }
}

/// Returns when the thread has ended, looking now and then: it never should while nobody stops it.
async fn finished(thread: &thread::JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn spool_config(config: &Config) -> SpoolConfig {
    SpoolConfig {
        spool_bytes_max: config.spool_bytes_max,
        ..SpoolConfig::default()
    }
}

fn journal_config(config: &Config) -> JournalConfig {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    JournalConfig {
        seal_interval_ns: nanos(config.seal_after),
        heartbeat_ns: nanos(config.heartbeat_after),
        body_bytes_max: config.seal_bytes,
        events_max: BATCH_EVENTS_MAX,
        buffer_bytes_max: config.queue_bytes_max,
        epoch: EpochPolicy {
            age_ns: nanos(config.epoch_max_age),
            batches: config.epoch_max_batches,
        },
    }
}
