//! The collector as its witnesses' client: cosignatures for a checkpoint before it is published.
//!
//! Owns one thread that asks, and one for each witness, so that a slow one delays nobody but itself. What an
//! answer means is decided by [`common::witness::Exchange`], who is enough by the operator's
//! [`Policy`]. The pipeline goes on committing meanwhile. Refuses to publish anything itself: it hands back
//! lines and a verdict.

mod asker;
mod board;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    ledger_keys::LedgerKeys,
    witness::{POLICY_BYTES_MAX, Policy, PolicyError, WitnessFault, with_line},
};
use ledger::{Published, Reader};

use self::asker::{Answer, Asker, Question};
pub use self::board::{Board, WitnessRow, WitnessesFile};
use crate::{
    config::{Config, QuorumMissing},
    files::{self, FileError},
    https::{Https, HttpsError},
    layout::Layout,
};

/// Once enough witnesses signed, the others are given this long.
const STRAGGLERS_MAX: Duration = Duration::from_millis(100);

/// Why the collector does not start with these witnesses. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum WitnessesError {
    /// The policy file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its contents.
    #[error("{}: {cause}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: PolicyError,
    },
    /// It is another ledger's.
    #[error("{}: its log lines do not name this ledger's key, {key}", path.display())]
    OtherLedger {
        /// The file.
        path: PathBuf,
        /// Our key.
        key: String,
    },
    /// A witness that cannot be asked.
    #[error("{}: witness {witness} has no URL that begins with http:// or https://, so it cannot be asked", path.display())]
    NoUrl {
        /// The file.
        path: PathBuf,
        /// Which.
        witness: String,
    },
    /// The authorities for HTTPS.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// A thread could not be started.
    #[error("cannot start the witnesses' threads: {0}")]
    Start(std::io::Error),
}

/// Whom to ask and what to do without them.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// Who there is and who is enough.
    pub policy: Policy,
    /// What to do when too few sign.
    pub missing: QuorumMissing,
    /// How long to wait for them.
    pub timeout: Duration,
    /// Whose certificates count where they are asked over HTTPS.
    pub https: Https,
}

impl Witnesses {
    /// Reads what the configuration names; `None` when it names no policy.
    pub fn load(layout: &Layout, config: &Config, keys: &LedgerKeys) -> Result<Option<Self>, WitnessesError> {
        let Some((file, missing)) = &config.witnesses else {
            return Ok(None);
        };
        let path = layout.root().join(file);
        let text = files::read_text(&path, POLICY_BYTES_MAX as u64)?;
        let policy = match Policy::parse(text.as_bytes()) {
            Ok(policy) => policy,
            Err(cause) => return Err(WitnessesError::Policy { path, cause }),
        };
        if !policy.covers(keys) {
            let key = keys.in_force().to_string();
            return Err(WitnessesError::OtherLedger { path, key });
        }
        for witness in policy.witnesses() {
            let url = witness.url.as_deref().unwrap_or_default();
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                let witness = witness.key.name().to_owned();
                return Err(WitnessesError::NoUrl { path, witness });
            }
        }
        Ok(Some(Self {
            policy,
            missing: *missing,
            timeout: config.witness_timeout,
            https: Https::load(layout, config)?,
        }))
    }
}

/// What came of asking about one checkpoint.
#[derive(Debug)]
pub struct Verdict {
    /// Verified signature lines of witnesses, to be put behind the ledger's.
    pub lines: String,
    /// Whether the checkpoint may be published.
    pub publish: bool,
}

/// The running threads.
#[derive(Debug)]
pub struct Cosigner {
    questions: SyncSender<Published>,
    verdicts: Receiver<Verdict>,
    patience: Duration,
}

impl Cosigner {
    /// Starts asking on behalf of the ledger behind `reader`. `wake` is called whenever a verdict is there.
    pub fn start(
        witnesses: Witnesses,
        reader: &Reader,
        board: Arc<Board>,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, WitnessesError> {
        let patience = witnesses.timeout + Duration::from_secs(1);
        let (answer, answers) = mpsc::channel();
        let mut askers = Vec::new();
        for (at, witness) in witnesses.policy.witnesses().iter().enumerate() {
            let agent = witnesses.https.client(witnesses.timeout);
            let asker = Asker::start(at, witness, reader.clone(), agent, answer.clone());
            askers.push(asker.map_err(WitnessesError::Start)?);
        }
        let (questions, asked) = mpsc::sync_channel::<Published>(1);
        let (verdict, verdicts) = mpsc::channel();
        let mut round = Round {
            witnesses,
            askers,
            answers,
            board,
            number: 0,
        };
        thread::Builder::new()
            .name("witnesses".to_owned())
            .spawn(move || {
                while let Ok(head) = asked.recv() {
                    if verdict.send(round.ask(&head)).is_err() {
                        return;
                    }
                    wake();
                }
            })
            .map_err(WitnessesError::Start)?;
        Ok(Self {
            questions,
            verdicts,
            patience,
        })
    }

    /// Asks about `head`; `false` if the threads are gone. One head at a time.
    #[must_use]
    pub fn ask(&self, head: &Published) -> bool {
        self.questions.try_send(head.clone()).is_ok()
    }

    /// The verdict, if it is there.
    #[must_use]
    pub fn poll(&self) -> Option<Verdict> {
        self.verdicts.try_recv().ok()
    }

    /// Waits for the verdict, no longer than asking may take.
    #[must_use]
    pub fn wait(&self) -> Option<Verdict> {
        self.verdicts.recv_timeout(self.patience).ok()
    }
}

struct Round {
    witnesses: Witnesses,
    askers: Vec<Asker>,
    answers: Receiver<Answer>,
    board: Arc<Board>,
    /// Tells answers to this question from late ones to an earlier.
    number: u64,
}

impl Round {
    fn ask(&mut self, head: &Published) -> Verdict {
        self.number += 1;
        let begun = Instant::now();
        let mut deadline = begun + self.witnesses.timeout;
        let mut outcomes: Vec<Option<Result<u64, WitnessFault>>> = vec![None; self.askers.len()];
        for (asker, outcome) in self.askers.iter().zip(&mut outcomes) {
            let question = Question {
                round: self.number,
                head: head.clone(),
            };
            if !asker.ask(question) {
                let text = "it is still busy with an earlier checkpoint".to_owned();
                *outcome = Some(Err(WitnessFault::Late(text)));
            }
        }
        let own = String::from_utf8_lossy(&head.note).into_owned();
        let (mut lines, mut satisfied) = (String::new(), self.satisfied(&own));
        while outcomes.iter().any(Option::is_none) {
            if satisfied {
                deadline = deadline.min(Instant::now() + STRAGGLERS_MAX);
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            let answer = match self.answers.recv_timeout(wait) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            };
            let Some(outcome) = outcomes
                .get_mut(answer.witness)
                .filter(|_| answer.round == self.number)
            else {
                continue;
            };
            *outcome = Some(answer.outcome.map(|(line, posix_seconds)| {
                lines.push_str(&line);
                posix_seconds
            }));
            if !satisfied {
                satisfied = self.satisfied(&with_line(&own, &lines));
            }
        }
        let late = || WitnessFault::Late(format!("no answer within {:?}", begun.elapsed()));
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(late())));
        let publish = satisfied || self.witnesses.missing == QuorumMissing::Open;
        self.board
            .record(head.checkpoint.size, outcomes.collect(), satisfied, publish);
        Verdict { lines, publish }
    }

    /// Every line was verified by its asker, so a note that does not parse is the ledger's own fault and is
    /// found when it is published.
    fn satisfied(&self, note: &str) -> bool {
        self.witnesses
            .policy
            .judge(note.as_bytes())
            .is_ok_and(|quorum| quorum.satisfied)
    }
}
