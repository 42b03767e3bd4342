//! `witness`: a witness of other people's ledgers, made, run and looked at.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Subcommand;
use common::note::{VerifierKey, WitnessSigner};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{Outcome, print};
use crate::{
    files::{self, PUBLIC, SECRET},
    http, pki, stop,
    witness::{self, Place, Settings, Store, template},
};

/// Longest settings file read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `witness`.
#[derive(clap::Args)]
pub(super) struct Witness {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Args)]
struct Dir {
    /// The witness's directory.
    #[arg(long, value_name = "DIR", env = "HOSTLEDGER_WITNESS_DIR")]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a new witness: its key and its settings.
    Init {
        #[command(flatten)]
        dir: Dir,
        /// The witness's name, best a domain you own and a path.
        #[arg(long)]
        name: String,
        /// Verifier key of a ledger to follow; may be repeated. More can be added to witness.toml.
        #[arg(long, value_name = "VKEY")]
        log: Vec<String>,
        /// TCP address to serve.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serve add-checkpoint until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        dir: Dir,
        /// Which diagnostics go to standard error: error, warn, info, debug, trace, or a filter.
        #[arg(
            long,
            value_name = "FILTER",
            default_value = "info",
            env = "HOSTLEDGER_WITNESS_LOG"
        )]
        log: String,
    },
    /// Say what the witness follows and what it cosigned last.
    Status {
        #[command(flatten)]
        dir: Dir,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Witness {
    pub(super) fn run(self) -> Outcome {
        match self.verb {
            Verb::Init {
                dir,
                name,
                log,
                listen,
                json,
            } => init(&Place::new(dir.dir), &name, &log, listen, json),
            Verb::Run { dir, log } => run(Place::new(dir.dir), &log),
            Verb::Status { dir, json } => status(Place::new(dir.dir), json),
        }
    }
}

fn init(place: &Place, name: &str, logs: &[String], listen: Option<SocketAddr>, as_json: bool) -> Outcome {
    let keys = logs
        .iter()
        .map(|text| VerifierKey::parse(text).map_err(|cause| anyhow::anyhow!("--log {text}: {cause}")))
        .collect::<Result<Vec<_>, _>>()?;
    let text = template(listen, &keys);
    // Refuse unusable settings before any key is made.
    Settings::parse(&text)?;
    let signer = WitnessSigner::from_seed(name, &pki::random()?)
        .map_err(|cause| anyhow::anyhow!("{name:?} cannot be a witness's name: {cause}"))?;
    files::create_dir(place.root())?;
    files::create(
        &place.key(),
        format!("{}\n", signer.encode_secret()).as_bytes(),
        SECRET,
    )?;
    files::create(
        &place.verifier(),
        format!("{}\n", signer.verifier()).as_bytes(),
        PUBLIC,
    )?;
    files::create(&place.settings(), text.as_bytes(), PUBLIC)?;
    let value = json!({
        "dir": place.root(),
        "settings": place.settings(),
        "verifier_key": signer.verifier().to_string(),
        "logs": logs.len(),
    });
    print(as_json, &value, || {
        format!(
            "New witness in {dir}\nverifier key  {}\nfollows       {} log(s); more go into {}\n\
             next: hostledger-collector witness run --dir {dir}\n\
             then, at each collector, a line of its witness policy:\n  witness NAME {} http://HOST:PORT",
            signer.verifier(),
            keys.len(),
            place.settings().display(),
            signer.verifier(),
            dir = place.root().display(),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn settings(place: &Place) -> anyhow::Result<Settings> {
    Ok(Settings::parse(&files::read_text(
        &place.settings(),
        FILE_BYTES_MAX,
    )?)?)
}

fn run(place: Place, filter: &str) -> Outcome {
    let settings = settings(&place)?;
    super::run::diagnostics(filter)?;
    let store = Arc::new(Store::open(place.clone(), &settings)?);
    if settings.logs.is_empty() {
        tracing::warn!("no log is followed yet: add one to witness.toml and restart");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|cause| anyhow::anyhow!("cannot listen on TCP {}: {cause}", settings.listen))?;
        let address = listener.local_addr()?;
        let running = json!({ "pid": std::process::id(), "http": address.to_string() });
        files::replace(&place.running(), format!("{running:#}\n").as_bytes(), PUBLIC)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (handle, stopped) = stop::channel();
        super::say(&format!("listening http={address}"))?;
        let serving = witness::serve(listener, store, settings.requests_per_second, stopped);
        let mut serving = tokio::spawn(serving);
        let early = tokio::select! {
            ended = &mut serving => Some(ended),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        handle.request();
        let outcome = match early {
            Some(ended) => ended?,
            // What is under way is answered or, past the limit, cut off: a record without answer binds nobody.
            None => tokio::time::timeout(http::STOP_MAX, serving)
                .await
                .unwrap_or(Ok(Ok(())))?,
        };
        // A stale file misleads nobody who checks the process id.
        let _ = std::fs::remove_file(place.running());
        outcome?;
        Ok(ExitCode::SUCCESS)
    })
}

fn status(place: Place, as_json: bool) -> Outcome {
    let settings = settings(&place)?;
    let running = std::fs::read_to_string(place.running()).ok();
    let running: Option<serde_json::Value> = running.and_then(|text| serde_json::from_str(&text).ok());
    let store = Store::read(place.clone(), &settings)?;
    let contradictions =
        |hash: &str| std::fs::read_dir(place.contradictions(hash)).map_or(0, Iterator::count);
    let logs: Vec<_> = store
        .logs()
        .map(|followed| {
            json!({
                "origin": followed.log.origin,
                "hash": followed.hash,
                "cosigned": followed.last().map(|last| json!({ "size": last.size, "root": last.root })),
                "contradictions": contradictions(&followed.hash),
            })
        })
        .collect();
    let value = json!({
        "verifier_key": store.signer().verifier().to_string(),
        "running": running,
        "logs": logs,
    });
    print(as_json, &value, || {
        let mut lines = vec![
            format!("witness {}", store.signer().verifier()),
            running.as_ref().map_or("not running".to_owned(), |at| {
                format!(
                    "running as process {}, http {}",
                    at["pid"],
                    at["http"].as_str().unwrap_or("?")
                )
            }),
        ];
        lines.extend(store.logs().map(|followed| {
            let last = followed.last().map_or("nothing cosigned yet".to_owned(), |last| {
                format!("cosigned size {} root {}", last.size, last.root)
            });
            let against = match contradictions(&followed.hash) {
                0 => String::new(),
                count => format!("; {count} SIGNED CONTRADICTION(S) kept"),
            };
            format!("  {} {last}{against}", followed.log.origin)
        }));
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
