//! The kernel's sensors at work: baseline, then the live stream until the stop.
//!
//! Owns the translation of kernel records and losses into events. No `/proc` is read here but by baselines.

mod schedule;
mod seam;

use std::time::Duration;

use common::{
    abi::{Body, Kind, Record},
    batch::SensorCounters,
    event::{
        Fact, Loss, LossKey, Process, ProcessKey, SensorId, SensorStatus,
        loss::LossCause,
        sensor::{SensorState, Tier},
    },
    ids::{BootId, BootNanos},
};

use self::schedule::Schedule;
use super::{
    Watch,
    process::Processes,
    socket::Sockets,
    status::{Families, sensor_of},
};
use crate::{
    clock::{Clock, boot_now},
    config::Config,
    kernel::{self, Item, Totals},
    pipeline::Recorder,
};

/// Records taken from the ring before they are offered to the journal.
const DRAIN_RECORDS: usize = 1024;
/// How long records may wait in the ring: the kernel wakes the agent only when much is waiting.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

/// The live sensors.
pub(super) struct Live {
    hooks: Option<kernel::Hooks>,
    reader: kernel::Reader,
    translator: Translator,
    counters: Vec<SensorCounters>,
    reported: Reported,
}

/// Shortcomings already said in a status.
#[derive(Default, PartialEq, Eq, Clone)]
struct Reported {
    left_out: u64,
    owners_forgotten: u64,
    processes_forgotten: u64,
    out_of_order: u64,
}

/// Turns records into facts.
struct Translator {
    boot: BootId,
    families: Families,
    processes: Processes,
    sockets: Sockets,
    out_of_order: u64,
}

/// A fact on its way to the journal, with what must be remembered once it was written.
enum Told {
    Process(common::abi::process::ProcessKey, ProcessKey, Process),
    Other(Fact),
}

impl Translator {
    fn record(&mut self, record: &Record<'_>) -> Option<Told> {
        match &record.body {
            Body::Process(seen) if self.families.processes => {
                let (key, process) = self.processes.record(record.kind, seen);
                Some(Told::Process(seen.key, key, process))
            }
            Body::Tcp(seen) if self.families.sockets => self
                .sockets
                .fact(record.kind, seen, &self.processes)
                .map(Told::Other),
            Body::SocketOwner(seen) => {
                self.sockets.found_owner(seen);
                None
            }
            Body::Process(_) | Body::Tcp(_) => None,
        }
    }

    fn loss(&self, loss: &kernel::Loss) -> (BootNanos, Fact) {
        let fact = Fact::Loss {
            key: LossKey {
                boot: self.boot,
                sensor: sensor_of(loss.kind),
                cpu: loss.cpu,
                first: loss.first,
            },
            record: Loss {
                last: loss.last,
                count: loss.count(),
                cause: match loss.cause {
                    kernel::LossCause::RingFull => LossCause::RingFull,
                    kernel::LossCause::Malformed => LossCause::Malformed,
                },
                not_before: BootNanos(loss.after_boot_ns),
                not_after: BootNanos(loss.before_boot_ns),
            },
        };
        (BootNanos(loss.before_boot_ns), fact)
    }

    /// Hands what an item tells to `write`, which gives facts back, and remembers it.
    fn item(&mut self, item: Item<'_>, write: &mut dyn FnMut(BootNanos, Fact) -> Fact) {
        match item {
            Item::Record(record) => {
                let at = BootNanos(record.time_boot_ns);
                match self.record(&record) {
                    Some(Told::Process(seen, key, record)) => {
                        if let Fact::Process { record, .. } = write(at, Fact::Process { key, record }) {
                            self.processes.keep(seen, record);
                        }
                    }
                    Some(Told::Other(fact)) => {
                        write(at, fact);
                    }
                    None => {}
                }
            }
            Item::Loss(loss) => {
                let (at, fact) = self.loss(&loss);
                tracing::warn!(
                    kind = loss.kind.name(),
                    cpu = loss.cpu,
                    count = loss.count(),
                    "events were lost"
                );
                write(at, fact);
            }
            Item::Malformed(error) => tracing::error!(%error, "a kernel record did not decode"),
            Item::OutOfOrder(error) => {
                self.out_of_order += 1;
                tracing::error!(%error, "the kernel's numbering is broken");
            }
        }
    }
}

impl Live {
    pub(super) fn new(
        boot: BootId,
        families: Families,
        hooks: kernel::Hooks,
        reader: kernel::Reader,
    ) -> Self {
        Self {
            hooks: Some(hooks),
            reader,
            translator: Translator {
                boot,
                families,
                processes: Processes::new(boot),
                sockets: Sockets::new(boot),
                out_of_order: 0,
            },
            counters: Vec::new(),
            reported: Reported::default(),
        }
    }

    pub(super) fn run(mut self, watch: &mut Watch<'_, '_>, since: BootNanos, config: &Config) {
        self.take_baseline(watch, since, config);
        let mut schedule = Schedule::new(since, config.baseline_every);
        let mut due = watch.recorder.flush(boot_now(), Some(self.counters.clone()));
        let mut scan_at = boot_now();
        while !watch.stopping() {
            if let Err(error) = self.reader.wait(DRAIN_EVERY) {
                tracing::error!(%error, "the ring cannot be waited for");
                std::thread::sleep(DRAIN_EVERY);
            }
            if watch.scanner.is_some() && boot_now() >= scan_at {
                watch.scan();
                scan_at = BootNanos(boot_now().0.saturating_add(super::nanos(watch.scan_every)));
            }
            // Whatever happened before this instant is in the ring now, or counted as lost.
            let now = boot_now();
            if schedule.is_due(now) {
                self.take_baseline(watch, now, config);
            }
            due = if due.is_none_or(|due| now >= due) {
                self.balance(watch);
                let lost = self.counters.iter().map(|counter| counter.lost).sum::<u64>();
                schedule.lost(now, lost.saturating_add(self.reported.left_out));
                watch.recorder.flush(now, Some(self.counters.clone()))
            } else {
                self.drain(&mut watch.recorder);
                watch.recorder.flush(now, None)
            };
        }
        // Detach first: then the ring holds all there will ever be.
        self.hooks = None;
        let now = boot_now();
        self.balance(watch);
        watch.recorder.flush(now, Some(self.counters));
    }

    fn drain(&mut self, recorder: &mut Recorder<'_>) {
        loop {
            let drained = self.reader.drain(DRAIN_RECORDS, &mut |item| {
                self.translator
                    .item(item, &mut |at, fact| recorder.record(at, fact));
            });
            if !drained.more {
                return;
            }
            recorder.flush(BootNanos(0), None);
        }
    }

    /// Drains, names the losses that no later record reveals, and takes the kernel's counters.
    fn balance(&mut self, watch: &mut Watch<'_, '_>) {
        watch.recorder.clock = Clock::sample();
        self.drain(&mut watch.recorder);
        let recorder = &mut watch.recorder;
        let totals = self.reader.reconcile(&mut |item| {
            self.translator
                .item(item, &mut |at, fact| recorder.record(at, fact));
        });
        match totals {
            Ok(totals) => self.take_totals(&totals, recorder),
            Err(error) => tracing::error!(%error, "the kernel's counters cannot be read"),
        }
    }

    fn take_totals(&mut self, totals: &Totals, recorder: &mut Recorder<'_>) {
        let mut counters: Vec<SensorCounters> = Vec::new();
        for total in &totals.kinds {
            let sensor = sensor_of(total.kind);
            // What is still on its way is told with the next batch, so that seen and lost always add up.
            let (happened, lost) = (total.seen + total.lost, total.lost);
            match counters.iter_mut().find(|held| held.sensor == sensor) {
                Some(held) => {
                    held.happened += happened;
                    held.lost += lost;
                }
                None => counters.push(SensorCounters {
                    sensor,
                    happened,
                    lost,
                }),
            }
        }
        counters.sort_by_key(|held| held.sensor);
        self.counters = counters;
        let reported = Reported {
            left_out: totals.left_out.iter().map(|(_, count)| count).sum(),
            owners_forgotten: totals.owners_forgotten,
            processes_forgotten: self.translator.processes.forgotten(),
            out_of_order: self.translator.out_of_order,
        };
        if reported != self.reported {
            recorder.set_sensor(SensorId::QUEUE, shortcomings(&reported));
            self.reported = reported;
        }
    }
}

fn shortcomings(reported: &Reported) -> SensorStatus {
    let said: Vec<String> = [
        (
            reported.left_out,
            "hook runs were left out by the kernel (a hook was interrupted by itself)",
        ),
        (
            reported.owners_forgotten,
            "socket owners could not be remembered (no kernel memory)",
        ),
        (
            reported.processes_forgotten,
            "processes could not be remembered (table full)",
        ),
        (reported.out_of_order, "records came with a number already taken"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    SensorStatus {
        tier: Tier::B,
        state: if said.is_empty() {
            SensorState::Active
        } else {
            SensorState::Degraded
        },
        probe: "ring buffer".into(),
        reason: said.join("; ").as_str().into(),
    }
}

/// Sequences exist for live kinds only; a snapshot must never be counted as one.
const _: () = assert!(Kind::LIVE.len() == 8);
