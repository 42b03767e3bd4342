//! The running collector's end of the socket.

use std::{fs, io, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{Semaphore, mpsc},
    task,
    time::timeout,
};

use super::{Answer, QUESTION_BYTES_MAX, Question};
use crate::{
    layout::Layout,
    pipeline::Retain,
    retention::{self, Keeper, Order, Told},
    stop::Stop,
};

/// Connections served at a time; a further one waits.
const CONNECTIONS_MAX: usize = 8;
/// How long whoever connected may take to ask, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last answers may take when the collector stops.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// Answers that may wait to be taken; a prune has few.
const ANSWERS_MAX: usize = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}; prune and hold work on the stopped collector all the same")]
pub struct ControlError {
    /// The socket.
    path: String,
    /// What the system said.
    cause: io::Error,
}

/// Opens the socket and answers until asked to stop. To be called with the ledger's lock held: whatever socket is there
/// is a dead process's.
///
/// # Errors
/// [`ControlError`], for a path that is too long (107 bytes) or a file system without sockets.
pub fn serve(layout: &Layout, keeper: Arc<Keeper>, stop: Stop) -> Result<task::JoinHandle<()>, ControlError> {
    let path = layout.control();
    let listener = open(&path).map_err(|cause| ControlError {
        path: path.display().to_string(),
        cause,
    })?;
    Ok(tokio::spawn(async move {
        let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = async {
            loop {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    return;
                };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let keeper = Arc::clone(&keeper);
                        tokio::spawn(async move {
                            if let Err(error) = answer(stream, keeper).await {
                                tracing::debug!(%error, "control connection ended early");
                            }
                            drop(turn);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "control socket");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop.requested() => {}
        }
        // Only so that nobody waits at it; a stale one is replaced by the next start.
        let _ = fs::remove_file(&path);
        // Whoever was promised an answer takes it now or not at all.
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = timeout(LAST_WORDS_MAX, turns.acquire_many(all)).await;
    }))
}

fn open(path: &std::path::Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Until here whoever connects is turned away by his user id all the same.
    fs::set_permissions(path, fs::Permissions::from_mode(crate::files::SECRET))?;
    Ok(listener)
}

/// Whether the peer may tell this collector what to do.
fn is_operator(peer: &UCred) -> bool {
    let own = rustix::process::geteuid().as_raw();
    peer.uid() == own || peer.uid() == 0
}

async fn answer(mut stream: UnixStream, keeper: Arc<Keeper>) -> io::Result<()> {
    let allowed = is_operator(&stream.peer_cred()?);
    let (read, mut write) = stream.split();
    let mut line = Vec::new();
    let mut bounded = BufReader::new(read.take(QUESTION_BYTES_MAX));
    timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    match Question::read(&line) {
        _ if !allowed => refuse(
            &answers,
            "only the collector's own user and root may tell it what to do",
        ),
        Ok(question) => {
            // Asking the pipeline and reading the ledger block.
            task::spawn_blocking(move || ask(&keeper, question, &answers));
        }
        Err(error) => refuse(&answers, &format!("no question of this version: {error}")),
    }
    while let Some(answer) = answered.recv().await {
        let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        line.push(b'\n');
        timeout(PATIENCE, write.write_all(&line)).await??;
    }
    Ok(())
}

/// A channel that is full or closed belongs to somebody who does not listen.
fn say(answers: &mpsc::Sender<Answer>, answer: Answer) {
    let _ = answers.try_send(answer);
}

fn refuse(answers: &mpsc::Sender<Answer>, words: &str) {
    let words = words.to_owned();
    say(answers, Answer::Refused { words });
}

fn ask(keeper: &Keeper, question: Question, answers: &mpsc::Sender<Answer>) {
    let told = |outcome: Result<Told, String>| match outcome {
        Ok(told) => say(answers, Answer::Told(told)),
        Err(words) => refuse(answers, &words),
    };
    match question {
        Question::Prune { policy, .. } if !policy.is_some() => refuse(answers, "the policy names nothing"),
        Question::Prune {
            policy,
            dry_run: true,
        } => {
            let plan = keeper.plan(&policy).map_err(|error| error.to_string());
            told(plan.map(|plan| retention::planned(&policy, &plan)));
        }
        Question::Prune {
            policy,
            dry_run: false,
        } => {
            let (waiting, done, by) = (answers.clone(), answers.clone(), policy.clone());
            let order = Order {
                policy,
                waiting: Box::new(move |words| say(&waiting, Answer::Waiting { words })),
                done: Box::new(move |outcome| match outcome {
                    Ok(pruned) => say(&done, Answer::Told(retention::pruned(&by, &pruned))),
                    Err(error) => refuse(&done, &error.to_string()),
                }),
            };
            if let Err(busy) = keeper.order(order) {
                refuse(answers, &busy.to_string());
            }
        }
        Question::AddHold { hold } => told(
            keeper
                .pruner()
                .retain(Retain::Hold(hold.clone()))
                .map(|retained| retention::hold_added(retained.number, &hold))
                .map_err(|error| error.to_string()),
        ),
        Question::LiftHold { lifted } => {
            let hold = lifted.hold;
            told(
                keeper
                    .pruner()
                    .retain(Retain::Lift(lifted))
                    .map(|retained| retention::hold_lifted(retained.number, hold))
                    .map_err(|error| format!("hold not lifted: {error}")),
            );
        }
        Question::ListHolds => told(
            keeper
                .pruner()
                .retain(Retain::Holds)
                .map(|retained| retention::holds_listed(&retained.holds))
                .map_err(|error| error.to_string()),
        ),
        Question::Progress => match keeper.pruner().retain(Retain::Holds) {
            Ok(retained) => say(
                answers,
                Answer::Progress {
                    progress: keeper.progress(),
                    holds: retained.holds.in_force().keys().copied().collect(),
                },
            ),
            Err(error) => refuse(answers, &error.to_string()),
        },
    }
}
