//! The simulated collector: its starts, effects, ledger steps and ends.

use common::{sequencer::StepError, signature::LastKey};
use ledger::PublishError;

use super::*;
use crate::{collector::Work, watch::Deceived};

impl World {
    pub(super) fn start_collector(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life || self.collector.running.is_some() {
            return Ok(());
        }
        let key = *self.collector.signer.verifier().public();
        self.oracle.check_image(&self.collector.storage, &key)?;
        let mut registered: Vec<_> = self.agents.iter().map(|agent| agent.host).collect();
        registered.push(self.rogue.host);
        let deceived = match self.plant {
            Plant::WatchmanOfHisOwnAbsence => Deceived::OfHisOwnAbsence,
            Plant::WatchmanForgets => Deceived::OfWhatWasSaid,
            _ => Deceived::Not,
        };
        if let Err(error) = self.collector.start(self.now, &registered, deceived) {
            // A planned storage fault may strike recovery itself: the process ends and starts again.
            if ["injected", "dead", "space"]
                .iter()
                .any(|known| error.contains(known))
            {
                self.count("collector starts in vain");
                self.collector_down(None);
                return Ok(());
            }
            return Err(format!("collector: {error}"));
        }
        self.oracle.check_image(&self.collector.storage, &key)?;
        self.count("collector starts");
        self.truth.started(self.now);
        self.pump_collector()
    }

    pub(super) fn wake_collector(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life {
            return Ok(());
        }
        self.collector.wake_at = None;
        if let Some((intake, ..)) = &mut self.collector.running {
            intake.handle_timeout(BootNanos(self.now));
        }
        self.pump_collector()
    }

    pub(super) fn pump_collector(&mut self) -> Result<(), String> {
        let now = BootNanos(self.now);
        loop {
            let Some((intake, ledger, watch)) = &mut self.collector.running else {
                return Ok(());
            };
            let Some(effect) = intake.poll_effect(now) else {
                if watch.say(now.0, intake.sequencer_mut())? {
                    continue;
                }
                break;
            };
            match effect {
                IntakeEffect::Check {
                    connection,
                    host,
                    header,
                    body,
                } => intake.handle_checked(
                    now,
                    connection,
                    check_batch(&host, &header, body, &mut LastKey::default()),
                ),
                IntakeEffect::Lookup { connection, batch } => {
                    let fields = batch.header().fields();
                    let stored = ledger
                        .reader()
                        .find(&fields.host, fields.sequence)
                        .map_err(|e| e.to_string())?
                        .ok_or("a durable batch is not found")?;
                    let header = ledger.reader().header(stored.leaf).map_err(|e| e.to_string())?;
                    intake.handle_found(connection, &batch, &header);
                    self.count("sent again");
                }
                IntakeEffect::Ledger(step) => {
                    self.begin(Work::Step(step));
                }
                IntakeEffect::Prove {
                    connection,
                    host,
                    from,
                    through,
                    since_size,
                } => {
                    let made = receipts(ledger, &host, from, through, since_size);
                    if made.is_none() {
                        return Err(format!(
                            "receipts for {from} to {through} since {since_size} cannot be made"
                        ));
                    }
                    intake.handle_receipts(connection, made);
                }
                IntakeEffect::Opened { host, agent } => {
                    watch.opened(host, agent, intake.sequencer(), &ledger.reader());
                }
                IntakeEffect::Admitted { header, hash } => {
                    watch.admitted(now.0, &header, hash);
                    self.truth.admitted(now.0, header.host);
                }
                IntakeEffect::Deaf => watch.deaf(now.0),
                IntakeEffect::DrawNonce { connection, host } => {
                    let nonce = Nonce(self.rng.bytes32());
                    watch.nonce(now.0, host, nonce);
                    intake.handle_nonce(now, connection, nonce);
                }
                IntakeEffect::Evidence { host, rejected } if host == self.rogue.host => {
                    rogue::contradicted(watch, host, &rejected);
                }
                IntakeEffect::Evidence { rejected, .. } => {
                    return Err(format!("an honest host is accused: {}", rejected.refusal));
                }
                IntakeEffect::Close { connection } => {
                    if self.links.get(&connection.0).is_some_and(|link| !link.agent_open) {
                        self.count("stale connections closed");
                    }
                    self.flush_collector(connection.0);
                    self.break_link(connection.0, Side::Collector);
                }
            }
        }
        let open: Vec<u64> = self.links.keys().copied().collect();
        for link in open {
            self.flush_collector(link);
        }
        let Some((intake, _, watch)) = &self.collector.running else {
            return Ok(());
        };
        if intake.sequencer().failed().is_some() {
            self.count("collector ends after ledger fault");
            self.collector_down(None);
            return Ok(());
        }
        let due = watch.poll_timeout();
        let due = intake.poll_timeout().map_or(due, |other| other.min(due));
        let at = due.0.max(self.now + 1);
        if self.collector.wake_at.is_none_or(|planned| at < planned) {
            self.collector.wake_at = Some(at);
            let life = self.collector.life;
            self.at(at, Event::WakeCollector(life));
        }
        Ok(())
    }

    fn begin(&mut self, work: Work) {
        self.collector.work.push_back(work);
        let life = self.collector.life;
        let delay = self.rng.range(MILLI / 10, 20 * MILLI);
        self.after(delay, Event::Step(life));
    }

    pub(super) fn finish_step(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life {
            return Ok(());
        }
        let now = BootNanos(self.now);
        let Some(step) = self.collector.work.pop_front() else {
            return Ok(());
        };
        let Some((intake, ledger, _)) = &mut self.collector.running else {
            return Ok(());
        };
        match Collector::carry_out(ledger, step, self.collector.shows_first) {
            Outcome::Integrated(candidate) => match &mut self.collector.witnesses {
                None => self.begin(Work::Reveal(candidate, String::new())),
                Some(witnesses) => {
                    let log = self.collector.signer.verifier();
                    let rng = (!self.calm).then_some(&mut self.rng);
                    let (head, reader) = (candidate.head(), ledger.reader());
                    let verdict = witnesses.ask(head, &reader, log, now.0, rng)?;
                    if verdict.satisfied || !witnesses.closed {
                        self.count(if verdict.satisfied {
                            "cosigned by enough"
                        } else {
                            "published though too few cosigned"
                        });
                        self.begin(Work::Reveal(candidate, verdict.lines));
                    } else {
                        intake.handle_publish(now, Err(StepError::Withheld));
                        self.count("withheld");
                    }
                }
            },
            Outcome::Commit(result) => {
                let what = if result.is_ok() {
                    "commit"
                } else {
                    "commit refused"
                };
                intake.handle_commit(now, result);
                self.count(what);
            }
            Outcome::Publish(result) => {
                let what = if result.is_ok() {
                    "publish"
                } else {
                    "publish refused"
                };
                if result.is_ok() {
                    self.oracle.checkpoint(&ledger.reader().published().note)?;
                }
                intake.handle_publish(now, result);
                let store = self.collector.shows_first && !self.collector.storing && ledger.waiting() > 0;
                self.count(what);
                if store {
                    self.collector.storing = true;
                    self.begin(Work::Store);
                }
            }
            Outcome::Stored(Ok(Some(candidate))) => self.begin(Work::Note(candidate)),
            Outcome::Stored(Ok(None)) => self.collector.storing = false,
            Outcome::Noted(Ok(shown)) => {
                self.collector.storing = false;
                self.oracle.checkpoint(&shown.note)?;
                self.count("stored after it was shown");
            }
            // The next publication tries again.
            Outcome::Stored(Err(PublishError::NoSpace(_)))
            | Outcome::Noted(Err(PublishError::NoSpace(_))) => {
                self.collector.storing = false;
            }
            Outcome::Stored(Err(PublishError::Fatal(_))) | Outcome::Noted(Err(PublishError::Fatal(_))) => {
                self.count("collector ends after ledger fault");
                self.collector_down(None);
                return Ok(());
            }
        }
        self.pump_collector()
    }

    pub(super) fn collector_down(&mut self, power: Option<u64>) {
        self.collector.die(power);
        let all: Vec<u64> = self.links.keys().copied().collect();
        for link in all {
            self.break_link(link, Side::Collector);
        }
        let life = self.collector.life;
        let delay = self.rng.range(MILLI, 2 * SECOND);
        self.after(delay, Event::StartCollector(life));
    }

    // The network
}
