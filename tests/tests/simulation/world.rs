//! The simulated world: virtual time, network, faults, and the real machines driven through them.

mod agents;
mod collectors;
mod faults;
mod network;
mod rogue;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use common::{
    ids::{BootNanos, Nonce, Sequence},
    sequencer::check_batch,
    session::{AgentEffect, AgentEvent, ConnectionId, EndReason, RefusalCode},
    spool::{DiskFault, Place, SpoolEffect, open_record},
};
use ledger::storage::Fault;

use crate::{
    accused::{Planted, Truth},
    agent::Agent,
    collector::{Collector, Outcome, receipts},
    cosigned::Cosigned,
    intake::IntakeEffect,
    oracle::{Held, Oracle},
    rng::{Rng, Trace},
    rogue::{Deed, Rogue},
    shipper::ShipperEffect,
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// How long faults and events go on.
const CHAOS: u64 = 8 * SECOND;
/// How long everything may take to calm down afterwards.
const DRAIN: u64 = 90 * SECOND;
/// Steps after which a run is stuck in a loop.
const STEPS_MAX: u64 = 400_000;

/// A bug planted into the drivers, to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// The collector's storage says that groups are durable without syncing them.
    AckBeforeFsync,
    /// The agent deletes spooled batches once they are stored, without awaiting receipts.
    TrimBeforeReceipt,
    /// The agent deletes spooled batches before the checkpoint that proves them is durable.
    TrimBeforeRemember,
    /// The checkpoint is published before its tiles.
    CheckpointBeforeTiles,
    /// The agent sends batches that its disk has not synced.
    SendBeforeSync,
    /// The agent trims what a checkpoint proves that too few witnesses cosigned.
    TrimWithoutQuorum,
    /// The collector takes its own downtime for its hosts' silence.
    WatchmanOfHisOwnAbsence,
    /// The collector does not read what it stated before it was started again.
    WatchmanForgets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Side {
    Agent,
    Collector,
}

#[derive(Debug)]
enum Event {
    Produce(usize),
    WakeAgent(usize, u64),
    Disk(usize, u64),
    Loaded(usize, u64, Sequence, Place),
    Remembered(usize, u64, Vec<u8>),
    WakeCollector(u64),
    Step(u64),
    Reach(u64),
    Connected(u64),
    Deliver(u64, Side, Vec<u8>),
    Closed(u64, Side),
    Fault(FaultKind),
    StartAgent(usize, u64),
    StartCollector(u64),
    Rogue(Deed),
}

#[derive(Debug, Clone, Copy)]
enum FaultKind {
    AgentKilled(usize),
    AgentPower(usize),
    AgentStops(usize),
    AgentDiskFull(usize, bool),
    Cut(usize),
    Stall(usize),
    CollectorKilled,
    CollectorPower,
    CollectorMidStep(Fault),
    CollectorNoSpace,
    CollectorStops,
}

/// One connection. Bytes arrive in order; each end learns of a cut on its own, or never.
#[derive(Debug)]
struct Link {
    agent: usize,
    agent_life: u64,
    id: ConnectionId,
    agent_open: bool,
    collector_open: bool,
    arrives: BTreeMap<Side, u64>,
    dead_from: BTreeMap<Side, u64>,
}

pub(crate) struct World {
    rng: Rng,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    agents: Vec<Agent>,
    collector: Collector,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    delay_max: u64,
    oracle: Oracle,
    truth: Truth,
    rogue: Rogue,
    plant: Plant,
    calm: bool,
    ending: bool,
    pub(crate) trace: Trace,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// What a run gives: the trace, what the ledger held, what happened how often.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) trace: (u64, u64),
    pub(crate) held: Held,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// Runs one seed to the end; the error says what is wrong.
pub(crate) fn run(seed: u64, plant: Plant) -> Result<Run, String> {
    let mut world = World::new(seed, plant);
    let held = world.live()?;
    Ok(Run {
        trace: world.trace.digest(),
        held,
        counts: world.counts,
    })
}

impl World {
    fn new(seed: u64, plant: Plant) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_1e55);
        let agents = (0..rng.range(1, 3)).map(|_| Agent::new(&mut rng)).collect();
        let collector = Collector::new(rng.bytes32(), plant == Plant::CheckpointBeforeTiles);
        if plant == Plant::AckBeforeFsync {
            collector.storage.plant_skip_sync();
        }
        let cosigned = collector
            .witnesses
            .as_ref()
            .map(|asked| Cosigned::new(asked.keys(), asked.quorum, asked.closed));
        let delay_max = [2, 20, 200][rng.index(3)] * MILLI;
        let rogue = Rogue::new(&mut rng);
        Self {
            rng,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            agents,
            collector,
            links: BTreeMap::new(),
            next_link: 0,
            delay_max,
            oracle: Oracle::new(cosigned),
            truth: Truth::default(),
            rogue,
            plant,
            calm: false,
            ending: false,
            trace: Trace::default(),
            counts: BTreeMap::new(),
        }
    }

    fn live(&mut self) -> Result<Held, String> {
        self.plan();
        self.run_until(CHAOS)?;
        self.calm = true;
        // Faults that were planned and not met are called off.
        self.collector.storage.restart();
        for agent in 0..self.agents.len() {
            self.agents[agent].disk.full = false;
        }
        let marks = self.drain()?;
        self.stop_all()?;
        let planted = self.finish_rogue()?;
        let held = self.check_end(&marks)?;
        self.check_statements(&planted)?;
        Ok(held)
    }

    /// Draws the run's faults and events.
    fn plan(&mut self) {
        self.after(0, Event::StartCollector(0));
        for agent in 0..self.agents.len() {
            self.after(0, Event::StartAgent(agent, 0));
            let (mut at, gap) = (0, self.rng.range(20, 400) * MILLI);
            while at < CHAOS {
                at += self.rng.range(MILLI, gap * 2);
                self.at(at, Event::Produce(agent));
            }
        }
        self.plan_rogue();
        for _ in 0..self.rng.range(0, 7) {
            let at = self.rng.range(SECOND / 5, CHAOS - SECOND / 5);
            let agent = self.rng.index(self.agents.len());
            let fault = match self.rng.range(0, 13) {
                0 => FaultKind::AgentKilled(agent),
                1 | 2 => FaultKind::AgentPower(agent),
                3 => FaultKind::AgentStops(agent),
                4 => {
                    let until = at + self.rng.range(1, 3 * SECOND);
                    self.at(until, Event::Fault(FaultKind::AgentDiskFull(agent, false)));
                    FaultKind::AgentDiskFull(agent, true)
                }
                5 | 6 => FaultKind::Cut(agent),
                7 => FaultKind::Stall(agent),
                8 => FaultKind::CollectorKilled,
                9 => FaultKind::CollectorPower,
                10 => FaultKind::CollectorNoSpace,
                11 => FaultKind::CollectorStops,
                _ => FaultKind::CollectorMidStep(
                    [Fault::Kill, Fault::KillAfter, Fault::Error, Fault::ErrorButDone][self.rng.index(4)],
                ),
            };
            self.at(at, Event::Fault(fault));
        }
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(Reverse((at, order))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            let event = self.events.remove(&order).ok_or("an event is gone")?;
            self.trace.note(at, &order);
            self.handle(event)?;
            if self.trace.digest().1 > STEPS_MAX {
                return Err("the machines keep each other busy without end".into());
            }
        }
        self.now = end;
        Ok(())
    }

    /// Lets everything calm down: each batch sealed by now must be proven and trimmed.
    fn drain(&mut self) -> Result<Vec<u64>, String> {
        let mut marks: Vec<Option<u64>> = vec![None; self.agents.len()];
        let deadline = self.now + DRAIN;
        while self.now < deadline {
            for (agent, mark) in self.agents.iter().zip(&mut marks) {
                if let (None, Some(shipper)) = (*mark, &agent.shipper) {
                    *mark = Some(shipper.spool().head().next_sequence.0);
                }
            }
            let done = self.agents.iter().zip(&marks).all(|(agent, mark)| {
                let oldest = agent.shipper.as_ref().map(|shipper| shipper.spool().oldest().0);
                mark.is_some_and(|mark| oldest.is_some_and(|oldest| oldest >= mark))
            });
            if done {
                return Ok(marks.into_iter().flatten().collect());
            }
            self.run_until(self.now + SECOND / 4)?;
        }
        Err(format!("the spools did not drain to {marks:?}: {}", self.state()))
    }

    fn stop_all(&mut self) -> Result<(), String> {
        self.ending = true;
        for index in 0..self.agents.len() {
            if let Some(shipper) = &mut self.agents[index].shipper {
                shipper.handle_stop();
            }
            self.pump_agent(index)?;
        }
        let deadline = self.now + DRAIN;
        while self.agents.iter().any(|agent| agent.shipper.is_some()) {
            if self.now >= deadline {
                return Err(format!("an orderly stop did not end: {}", self.state()));
            }
            self.run_until(self.now + SECOND / 4)?;
        }
        // What was stored last is published within the publish interval.
        self.run_until(self.now + SECOND)
    }

    fn check_end(&mut self, marks: &[u64]) -> Result<Held, String> {
        let key = *self.collector.signer.verifier().public();
        let (_, ledger, _) = self
            .collector
            .running
            .as_ref()
            .ok_or("the collector is down at the end")?;
        let reader = ledger.reader();
        let held = self.oracle.check_end(&self.collector.storage, &key, |leaf| {
            reader
                .body(common::ids::LeafIndex(leaf))
                .map_err(|error| error.to_string())
        })?;
        let sealed: u64 = marks.iter().sum();
        if held.leaves < sealed {
            return Err(format!(
                "{sealed} batches were sealed, {} are in the ledger",
                held.leaves
            ));
        }
        Ok(held)
    }

    /// What the collector stated of its hosts is true.
    fn check_statements(&mut self, planted: &Planted) -> Result<(), String> {
        let (_, ledger, _) = self
            .collector
            .running
            .as_ref()
            .ok_or("the collector is down at the end")?;
        let honest: Vec<_> = self.agents.iter().map(|agent| agent.host).collect();
        let stated = self.truth.judge(&ledger.reader(), &honest, planted)?;
        for (what, count) in stated {
            *self.counts.entry(what).or_default() += count;
        }
        Ok(())
    }

    fn state(&self) -> String {
        let agents: Vec<String> = self
            .agents
            .iter()
            .map(|agent| match &agent.shipper {
                None => "down".into(),
                Some(shipper) => format!(
                    "oldest {} next {} shipping {} failed {:?}",
                    shipper.spool().oldest(),
                    shipper.spool().head().next_sequence,
                    shipper.session().shipping(),
                    shipper.spool().failed(),
                ),
            })
            .collect();
        format!(
            "agents {agents:?}, collector up {}",
            self.collector.running.is_some()
        )
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at.max(self.now), self.order)));
        self.events.insert(self.order, event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        self.trace.note(self.now, &what);
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Produce(agent) => {
                let now = self.now;
                self.agents[agent].produce(now);
                self.pump_agent(agent)
            }
            Event::WakeAgent(agent, life) => self.wake_agent(agent, life),
            Event::Disk(agent, life) => self.finish_disk(agent, life),
            Event::Loaded(agent, life, sequence, place) => self.finish_load(agent, life, sequence, place),
            Event::Remembered(agent, life, note) => self.finish_remember(agent, life, note),
            Event::WakeCollector(life) => self.wake_collector(life),
            Event::Step(life) => self.finish_step(life),
            Event::Reach(link) => self.reach(link),
            Event::Connected(link) => self.connected(link),
            Event::Deliver(link, to, bytes) => self.deliver(link, to, &bytes),
            Event::Closed(link, side) => self.closed(link, side),
            Event::Fault(fault) => self.strike(fault),
            Event::StartAgent(agent, life) => self.start_agent(agent, life),
            Event::StartCollector(life) => self.start_collector(life),
            Event::Rogue(deed) => self.misbehave(deed),
        }
    }

    // Agents
}
