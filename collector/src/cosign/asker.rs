//! One witness, asked over HTTP on a thread of its own.

use std::{
    io,
    sync::mpsc::{self, Sender, SyncSender},
    thread,
    time::Duration,
};

use common::{
    limits::NOTE_BYTES_MAX,
    note::WitnessKey,
    witness::{AddCheckpoint, Exchange, Next, PolicyWitness, WitnessFault},
};
use ledger::{Published, Reader};

use crate::https;

/// What a witness is asked.
pub(super) struct Question {
    /// Which round of questions.
    pub(super) round: u64,
    /// The checkpoint, its tiles durable.
    pub(super) head: Published,
}

/// What came of it: the verified line and its time.
pub(super) struct Answer {
    pub(super) round: u64,
    /// Place in the policy's list.
    pub(super) witness: usize,
    pub(super) outcome: Result<(String, u64), WitnessFault>,
}

/// The way to one witness's thread.
#[derive(Debug)]
pub(super) struct Asker(SyncSender<Question>);

impl Asker {
    pub(super) fn start(
        place: usize,
        witness: &PolicyWitness,
        reader: Reader,
        agent: ureq::Agent,
        answers: Sender<Answer>,
    ) -> io::Result<Self> {
        // No room: a witness that is busy misses the question instead of answering it late.
        let (questions, asked) = mpsc::sync_channel::<Question>(0);
        let url = witness.url.as_deref().unwrap_or_default().trim_end_matches('/');
        let mut asking = Asking {
            agent,
            url: format!("{url}/add-checkpoint"),
            key: witness.key.clone(),
            reader,
            recorded: 0,
        };
        thread::Builder::new().name("witness".to_owned()).spawn(move || {
            while let Ok(question) = asked.recv() {
                let answer = Answer {
                    round: question.round,
                    witness: place,
                    outcome: asking.ask(&question.head),
                };
                if answers.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(questions))
    }

    /// Hands a question over; `false` while the witness is busy with an earlier one.
    pub(super) fn ask(&self, question: Question) -> bool {
        // A thread that has just sent its answer may still be on its way back to its queue.
        let mut question = question;
        for _ in 0..20 {
            match self.0.try_send(question) {
                Ok(()) => return true,
                Err(mpsc::TrySendError::Full(back)) => question = back,
                Err(mpsc::TrySendError::Disconnected(_)) => return false,
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

struct Asking {
    agent: ureq::Agent,
    url: String,
    key: WitnessKey,
    reader: Reader,
    /// Size the witness is known to have cosigned last; 0 until it says so.
    recorded: u64,
}

impl Asking {
    fn ask(&mut self, head: &Published) -> Result<(String, u64), WitnessFault> {
        let unreachable = |error: &dyn std::fmt::Display| WitnessFault::Unreachable(https::in_words(error));
        let unanswered = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => WitnessFault::Late(error.to_string()),
            _ => unreachable(&error),
        };
        let note = String::from_utf8_lossy(&head.note).into_owned();
        let size = head.checkpoint.size;
        let mut exchange = Exchange::new(&self.key, &note, size, self.recorded);
        loop {
            let request = AddCheckpoint {
                old: exchange.old(),
                proof: self
                    .reader
                    .consistency_to(&head.checkpoint, exchange.old())
                    .map_err(|error| unreachable(&format!("no proof could be made for it: {error}")))?,
                note: head.note.to_vec(),
            };
            let mut answer = self
                .agent
                .post(&self.url)
                .content_type("application/octet-stream")
                .send(&request.encode()[..])
                .map_err(unanswered)?;
            let body = answer
                .body_mut()
                .with_config()
                .limit(NOTE_BYTES_MAX as u64)
                .read_to_vec()
                .map_err(unanswered)?;
            match exchange.handle(answer.status().as_u16(), &body)? {
                Next::Ask => self.recorded = exchange.old(),
                Next::Cosigned { line, posix_seconds } => {
                    self.recorded = size;
                    return Ok((line, posix_seconds));
                }
            }
        }
    }
}
