//! The simulated world: virtual time, network, faults, and the real machines driven through them.

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
    agent::Agent,
    collector::{Collector, Outcome, receipts},
    intake::IntakeEffect,
    oracle::{Held, Oracle},
    rng::{Rng, Trace},
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
        let delay_max = [2, 20, 200][rng.index(3)] * MILLI;
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
            oracle: Oracle::default(),
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
        self.check_end(&marks)
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
        let (_, ledger) = self
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
        }
    }

    // Agents

    fn start_agent(&mut self, index: usize, life: u64) -> Result<(), String> {
        let (now, key) = (self.now, self.collector.signer.verifier().clone());
        let agent = &mut self.agents[index];
        if agent.life != life || agent.shipper.is_some() {
            return Ok(());
        }
        agent
            .start(now, &mut self.rng, &key)
            .map_err(|error| format!("agent {index}: {error}"))?;
        self.count("agent starts");
        self.pump_agent(index)
    }

    fn wake_agent(&mut self, index: usize, life: u64) -> Result<(), String> {
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        agent.wake_at = None;
        let local = agent.local(self.now);
        if let Some(shipper) = &mut agent.shipper {
            shipper.handle_timeout(local);
        }
        self.pump_agent(index)
    }

    /// Carries out whatever an agent's machines ask for now.
    fn pump_agent(&mut self, index: usize) -> Result<(), String> {
        loop {
            let now = self.now;
            let agent = &mut self.agents[index];
            let (local, clock) = (agent.local(now), agent.clock(now));
            let Some(shipper) = &mut agent.shipper else {
                return Ok(());
            };
            if shipper.seal_due(local) {
                shipper.seal(clock, &[])?;
            }
            if let Some(effect) = shipper.poll_effect(local) {
                self.agent_effect(index, effect)?;
                continue;
            }
            if let Some((id, bytes)) = shipper.poll_transmit() {
                self.transmit(index, id, bytes);
                continue;
            }
            if let Some(event) = shipper.poll_event() {
                self.agent_event(index, event)?;
                continue;
            }
            break;
        }
        self.settle_agent(index)
    }

    /// After the machines had nothing more to say: ends, failures, the next wake-up.
    fn settle_agent(&mut self, index: usize) -> Result<(), String> {
        let agent = &mut self.agents[index];
        let Some(shipper) = &agent.shipper else {
            return Ok(());
        };
        self.oracle.trimmed(agent.host.0, shipper.spool().oldest().0);
        if shipper.finished() {
            self.count("agent stops");
            return self.agent_down(index, false, !self.ending);
        }
        if shipper.spool().failed().is_some() {
            self.count("agent ends after disk fault");
            return self.agent_down(index, false, true);
        }
        if let Some(due) = shipper.poll_timeout() {
            let at = agent.global(due).max(self.now + 1);
            if agent.wake_at.is_none_or(|planned| at < planned) {
                agent.wake_at = Some(at);
                let life = agent.life;
                self.at(at, Event::WakeAgent(index, life));
            }
        }
        Ok(())
    }

    fn agent_effect(&mut self, index: usize, effect: ShipperEffect) -> Result<(), String> {
        let life = self.agents[index].life;
        match effect {
            ShipperEffect::Disk(effect) => {
                self.trace.note(self.now, &effect.name());
                self.agents[index].disk_work = Some(effect);
                let delay = self.rng.range(MILLI / 20, 15 * MILLI);
                self.after(delay, Event::Disk(index, life));
            }
            ShipperEffect::Session(AgentEffect::Connect(id)) => {
                self.next_link += 1;
                self.links.insert(
                    self.next_link,
                    Link {
                        agent: index,
                        agent_life: life,
                        id,
                        agent_open: true,
                        collector_open: false,
                        arrives: BTreeMap::new(),
                        dead_from: BTreeMap::new(),
                    },
                );
                let delay = self.rng.range(1, self.delay_max);
                self.after(delay, Event::Reach(self.next_link));
            }
            ShipperEffect::Session(AgentEffect::Disconnect(id)) => {
                while let Some((id, bytes)) = self.agents[index]
                    .shipper
                    .as_mut()
                    .and_then(|s| s.poll_transmit())
                {
                    self.transmit(index, id, bytes);
                }
                self.leave(index, id);
            }
            ShipperEffect::Session(AgentEffect::Load { sequence, place }) => {
                let delay = self.rng.range(1, 2 * MILLI);
                self.after(delay, Event::Loaded(index, life, sequence, place));
            }
            ShipperEffect::Session(AgentEffect::Remember { checkpoint }) => {
                self.oracle.checkpoint(&checkpoint)?;
                if self.plant == Plant::TrimBeforeRemember {
                    // Answered at once, made durable later.
                    let local = self.agents[index].local(self.now);
                    if let Some(shipper) = &mut self.agents[index].shipper {
                        shipper.handle_remembered(local, true);
                    }
                }
                let delay = self.rng.range(MILLI / 20, 15 * MILLI);
                self.after(delay, Event::Remembered(index, life, checkpoint));
            }
            ShipperEffect::Session(AgentEffect::Evidence { fault, .. }) => {
                return Err(format!("agent {index} distrusts an honest collector: {fault}"));
            }
            ShipperEffect::Session(effect) => return Err(format!("{effect:?} left the machine")),
        }
        Ok(())
    }

    fn agent_event(&mut self, index: usize, event: AgentEvent) -> Result<(), String> {
        let host = self.agents[index].host.0;
        match event {
            AgentEvent::Stored { through } => {
                self.count("stored");
                self.oracle.stored(host, through.0);
                if self.plant == Plant::TrimBeforeReceipt {
                    self.delete_stored(index, through)?;
                }
            }
            AgentEvent::Proven { .. } => self.count("proven"),
            AgentEvent::Opened { .. } => self.count("opened"),
            AgentEvent::Ended { reason, .. } => match reason {
                EndReason::ConnectTimeout | EndReason::Lost | EndReason::Idle => self.count("ended"),
                EndReason::Refused(_) => self.count("ended by refusal"),
                other => return Err(format!("agent {index}: {other}")),
            },
            AgentEvent::Refused(refusal) => match refusal.code {
                RefusalCode::Replaced | RefusalCode::Stopping | RefusalCode::Busy | RefusalCode::NoSpace => {
                    self.count(refusal.code.name());
                }
                _ => return Err(format!("agent {index}, an honest one: {refusal}")),
            },
            AgentEvent::Finished => {}
            other => return Err(format!("agent {index}: {other:?}")),
        }
        Ok(())
    }

    fn finish_disk(&mut self, index: usize, life: u64) -> Result<(), String> {
        let local = self.agents[index].local(self.now);
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        let Some(effect) = agent.disk_work.take() else {
            return Ok(());
        };
        if let SpoolEffect::Delete { segment } = &effect {
            for sequence in agent.batches_in(*segment) {
                self.oracle
                    .deleted(agent.host.0, sequence.0, agent.disk.checkpoint())?;
            }
        }
        let skipped = self.plant == Plant::SendBeforeSync && matches!(effect, SpoolEffect::Sync { .. });
        let broken = !self.calm && self.rng.next() % 3000 == 0;
        let result = if broken {
            agent.disk.apply_part(&effect, &mut self.rng);
            Err(DiskFault::Failed("injected I/O error".into()))
        } else if skipped {
            Ok(())
        } else {
            agent.disk.execute(&effect, &mut self.rng)
        };
        if result == Err(DiskFault::NoSpace) {
            self.count("agent without space");
        }
        if let Some(shipper) = &mut self.agents[index].shipper {
            shipper.handle_disk(local, result);
        }
        self.pump_agent(index)
    }

    fn finish_load(
        &mut self,
        index: usize,
        life: u64,
        sequence: Sequence,
        place: Place,
    ) -> Result<(), String> {
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        let local = agent.local(self.now);
        let record = agent.disk.read(place.segment, place.offset, place.length);
        if let Some(Ok(record)) = record.map(open_record) {
            self.oracle
                .sent(agent.host.0, record.header)
                .map_err(|error| format!("agent {index}: {error}"))?;
        }
        if let Some(shipper) = &mut agent.shipper {
            shipper.handle_read(local, sequence, record);
        }
        self.pump_agent(index)
    }

    fn finish_remember(&mut self, index: usize, life: u64, note: Vec<u8>) -> Result<(), String> {
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        let local = agent.local(self.now);
        let done = !agent.disk.full;
        if done {
            agent.disk.remember(note);
        }
        if let Some(shipper) = &mut agent.shipper
            && self.plant != Plant::TrimBeforeRemember
        {
            shipper.handle_remembered(local, done);
        }
        if !done {
            self.count("checkpoints without space");
        }
        self.pump_agent(index)
    }

    /// The planted bug: whole segments go as soon as the collector says that it stored them.
    fn delete_stored(&mut self, index: usize, through: Sequence) -> Result<(), String> {
        let agent = &mut self.agents[index];
        let segments: Vec<_> = agent.disk.segments().map(|(id, _)| id).collect();
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            if next.0 > through.0 + 1 {
                break;
            }
            for sequence in agent.batches_in(*segment) {
                self.oracle
                    .deleted(agent.host.0, sequence.0, agent.disk.checkpoint())?;
            }
            let effect = SpoolEffect::Delete { segment: *segment };
            let _ = agent.disk.execute(&effect, &mut self.rng);
        }
        Ok(())
    }

    /// The agent's process ends; its connections break, and perhaps it is started again.
    fn agent_down(&mut self, index: usize, power: bool, restart: bool) -> Result<(), String> {
        let agent = &mut self.agents[index];
        agent.die(power, &mut self.rng);
        if power {
            agent.reboot(self.now, &mut self.rng);
        }
        let life = agent.life;
        let mine: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.agent == index)
            .map(|(id, _)| *id)
            .collect();
        for link in mine {
            self.break_link(link, Side::Agent);
        }
        if restart {
            let delay = self.rng.range(MILLI, SECOND);
            self.after(delay, Event::StartAgent(index, life));
        }
        Ok(())
    }

    // The collector

    fn start_collector(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life || self.collector.running.is_some() {
            return Ok(());
        }
        let key = *self.collector.signer.verifier().public();
        self.oracle.check_image(&self.collector.storage, &key)?;
        if let Err(error) = self.collector.start(self.now) {
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
        self.pump_collector()
    }

    fn wake_collector(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life {
            return Ok(());
        }
        self.collector.wake_at = None;
        if let Some((intake, _)) = &mut self.collector.running {
            intake.handle_timeout(BootNanos(self.now));
        }
        self.pump_collector()
    }

    fn pump_collector(&mut self) -> Result<(), String> {
        let now = BootNanos(self.now);
        loop {
            let Some((intake, ledger)) = &mut self.collector.running else {
                return Ok(());
            };
            let Some(effect) = intake.poll_effect(now) else {
                break;
            };
            match effect {
                IntakeEffect::Check {
                    connection,
                    host,
                    header,
                    body,
                } => intake.handle_checked(now, connection, check_batch(&host, &header, body)),
                IntakeEffect::Lookup { connection, batch } => {
                    let fields = batch.header().fields();
                    let stored = ledger
                        .reader()
                        .find(&fields.host, fields.sequence)
                        .ok_or("a durable batch is not found")?;
                    let header = ledger.reader().header(stored.leaf).map_err(|e| e.to_string())?;
                    intake.handle_found(connection, &batch, &header);
                    self.count("sent again");
                }
                IntakeEffect::Ledger(step) => {
                    self.collector.work = Some(step);
                    let life = self.collector.life;
                    let delay = self.rng.range(MILLI / 10, 20 * MILLI);
                    self.after(delay, Event::Step(life));
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
                IntakeEffect::DrawNonce { connection } => {
                    let nonce = Nonce(self.rng.bytes32());
                    intake.handle_nonce(now, connection, nonce);
                }
                IntakeEffect::Evidence { rejected } => {
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
        let Some((intake, _)) = &self.collector.running else {
            return Ok(());
        };
        if intake.sequencer().failed().is_some() {
            self.count("collector ends after ledger fault");
            self.collector_down(None);
            return Ok(());
        }
        if let Some(due) = intake.poll_timeout() {
            let at = due.0.max(self.now + 1);
            if self.collector.wake_at.is_none_or(|planned| at < planned) {
                self.collector.wake_at = Some(at);
                let life = self.collector.life;
                self.at(at, Event::WakeCollector(life));
            }
        }
        Ok(())
    }

    fn finish_step(&mut self, life: u64) -> Result<(), String> {
        if self.collector.life != life {
            return Ok(());
        }
        let now = BootNanos(self.now);
        let Some(step) = self.collector.work.take() else {
            return Ok(());
        };
        let Some((intake, ledger)) = &mut self.collector.running else {
            return Ok(());
        };
        match Collector::carry_out(ledger, step) {
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
                self.count(what);
            }
        }
        self.pump_collector()
    }

    fn collector_down(&mut self, power: Option<u64>) {
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

    /// A connection attempt arrives at the collector, is refused, or vanishes.
    fn reach(&mut self, number: u64) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else {
            return Ok(());
        };
        let delay = self.rng.range(1, self.delay_max);
        let vanishes = !self.calm && self.rng.chance(3);
        match &mut self.collector.running {
            Some((intake, _)) if !vanishes => {
                link.collector_open = true;
                let host = self.agents[link.agent].host;
                intake.handle_connected(BootNanos(self.now), ConnectionId(number), host);
                self.after(delay, Event::Connected(number));
                self.pump_collector()
            }
            Some(_) => Ok(()),
            None => {
                self.after(delay, Event::Closed(number, Side::Agent));
                Ok(())
            }
        }
    }

    fn connected(&mut self, number: u64) -> Result<(), String> {
        let Some(link) = self.links.get(&number).filter(|link| link.agent_open) else {
            return Ok(());
        };
        let (index, id) = (link.agent, link.id);
        if self.agents[index].life != link.agent_life {
            return Ok(());
        }
        let local = self.agents[index].local(self.now);
        if let Some(shipper) = &mut self.agents[index].shipper {
            shipper.handle_connected(local, id);
        }
        self.pump_agent(index)
    }

    /// Puts an agent's bytes on the wire.
    fn transmit(&mut self, index: usize, id: ConnectionId, bytes: Vec<u8>) {
        let life = self.agents[index].life;
        let link = self
            .links
            .iter()
            .find(|(_, link)| link.agent == index && link.agent_life == life && link.id == id);
        if let Some((number, _)) = link {
            self.post(*number, Side::Collector, &bytes);
        }
    }

    fn flush_collector(&mut self, number: u64) {
        while let Some((intake, _)) = &mut self.collector.running {
            let Some(bytes) = intake.poll_transmit(ConnectionId(number)) else {
                return;
            };
            self.post(number, Side::Agent, &bytes);
        }
    }

    /// Cuts bytes into chunks that arrive in order, each after its own delay.
    fn post(&mut self, number: u64, to: Side, bytes: &[u8]) {
        self.trace.note(self.now, &bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = if self.rng.chance(70) {
                rest.len()
            } else {
                self.rng.index(rest.len()) + 1
            };
            let (chunk, tail) = rest.split_at(cut);
            rest = tail;
            let arrives = self.now + self.rng.range(1, self.delay_max);
            let Some(link) = self.links.get_mut(&number) else {
                return;
            };
            let last = link.arrives.entry(to).or_default();
            *last = arrives.max(*last);
            let (at, dead) = (*last, link.dead_from.get(&to).copied());
            if dead.is_none_or(|dead| at < dead) {
                self.at(at, Event::Deliver(number, to, chunk.to_vec()));
            }
        }
    }

    fn deliver(&mut self, number: u64, to: Side, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get(&number) else {
            return Ok(());
        };
        if link.dead_from.get(&to).is_some_and(|dead| self.now >= *dead) {
            return Ok(());
        }
        match to {
            Side::Collector if link.collector_open => {
                if let Some((intake, _)) = &mut self.collector.running {
                    intake.handle_bytes(BootNanos(self.now), ConnectionId(number), bytes);
                }
                self.pump_collector()
            }
            Side::Agent if link.agent_open => {
                let (index, id, life) = (link.agent, link.id, link.agent_life);
                if self.agents[index].life != life {
                    return Ok(());
                }
                let local = self.agents[index].local(self.now);
                if let Some(shipper) = &mut self.agents[index].shipper {
                    shipper.handle_bytes(local, id, bytes);
                }
                self.pump_agent(index)
            }
            _ => Ok(()),
        }
    }

    /// An agent closes a connection in order: what it sent still arrives.
    fn leave(&mut self, index: usize, id: ConnectionId) {
        let life = self.agents[index].life;
        let link = self
            .links
            .iter()
            .find(|(_, link)| link.agent == index && link.agent_life == life && link.id == id);
        if let Some((number, _)) = link {
            self.break_link(*number, Side::Agent);
        }
    }

    /// One end is gone. What it sent before still arrives, late; then the other end learns of it, or not.
    fn break_link(&mut self, number: u64, from: Side) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let other = match from {
            Side::Agent => {
                link.agent_open = false;
                Side::Collector
            }
            Side::Collector => {
                link.collector_open = false;
                if let Some((intake, _)) = &mut self.collector.running {
                    intake.handle_disconnected(ConnectionId(number));
                }
                Side::Agent
            }
        };
        let last = link
            .arrives
            .get(&other)
            .copied()
            .unwrap_or_default()
            .max(self.now);
        if self.calm || self.rng.chance(80) {
            let delay = self.rng.range(1, self.delay_max);
            self.at(last + delay, Event::Closed(number, other));
        }
    }

    fn closed(&mut self, number: u64, side: Side) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else {
            return Ok(());
        };
        match side {
            Side::Agent if link.agent_open => {
                link.agent_open = false;
                let (index, id, life) = (link.agent, link.id, link.agent_life);
                if self.agents[index].life != life {
                    return Ok(());
                }
                let local = self.agents[index].local(self.now);
                if let Some(shipper) = &mut self.agents[index].shipper {
                    shipper.handle_disconnected(local, id);
                }
                self.pump_agent(index)
            }
            Side::Collector if link.collector_open => {
                link.collector_open = false;
                if let Some((intake, _)) = &mut self.collector.running {
                    intake.handle_disconnected(ConnectionId(number));
                }
                self.pump_collector()
            }
            _ => Ok(()),
        }
    }

    // Faults

    fn strike(&mut self, fault: FaultKind) -> Result<(), String> {
        match fault {
            FaultKind::AgentKilled(agent) | FaultKind::AgentPower(agent)
                if self.agents[agent].shipper.is_some() =>
            {
                let power = matches!(fault, FaultKind::AgentPower(_));
                self.count(if power { "agent power cuts" } else { "agent kills" });
                self.agent_down(agent, power, true)
            }
            FaultKind::AgentStops(agent) => {
                self.count("agent asked to stop");
                if let Some(shipper) = &mut self.agents[agent].shipper {
                    shipper.handle_stop();
                }
                self.pump_agent(agent)
            }
            FaultKind::AgentDiskFull(agent, full) => {
                self.agents[agent].disk.full = full;
                Ok(())
            }
            FaultKind::Cut(agent) => {
                self.count("cuts");
                self.cut(agent);
                Ok(())
            }
            FaultKind::Stall(agent) => {
                self.count("stalls");
                let until = self.now + self.rng.range(SECOND / 2, 6 * SECOND);
                for link in self.links.values_mut().filter(|link| link.agent == agent) {
                    for side in [Side::Agent, Side::Collector] {
                        let last = link.arrives.entry(side).or_default();
                        *last = until.max(*last);
                    }
                }
                Ok(())
            }
            FaultKind::CollectorKilled | FaultKind::CollectorPower if self.collector.running.is_some() => {
                let power = matches!(fault, FaultKind::CollectorPower).then(|| self.rng.next());
                self.count(if power.is_some() {
                    "collector power cuts"
                } else {
                    "collector kills"
                });
                self.crash_collector(power);
                Ok(())
            }
            FaultKind::CollectorMidStep(fault) => {
                self.count("storage faults");
                let step = self.collector.storage.steps() + self.rng.range(0, 12);
                self.collector.storage.fail_at(step, fault);
                Ok(())
            }
            FaultKind::CollectorNoSpace => {
                self.count("storage without space");
                let from = self.collector.storage.steps() + self.rng.range(0, 4);
                for step in from..from + self.rng.range(1, 6) {
                    self.collector.storage.fail_at(step, Fault::NoSpace);
                }
                Ok(())
            }
            FaultKind::CollectorStops => {
                self.count("collector stops");
                if let Some((intake, _)) = &mut self.collector.running {
                    intake.handle_stop();
                }
                self.pump_collector()?;
                if self.collector.running.is_some() {
                    self.collector_down(None);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The collector dies, perhaps in the middle of a step.
    fn crash_collector(&mut self, power: Option<u64>) {
        if let (Some(step), Some((_, ledger))) = (self.collector.work.take(), &mut self.collector.running) {
            let at = self.collector.storage.steps() + self.rng.range(0, 5);
            let fault = if self.rng.chance(50) {
                Fault::Kill
            } else {
                Fault::KillAfter
            };
            self.collector.storage.fail_at(at, fault);
            let _ = Collector::carry_out(ledger, step);
        }
        self.collector_down(power);
    }

    /// The network drops an agent's connections: bytes under way arrive for a while, then no more.
    fn cut(&mut self, agent: usize) {
        let mine: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.agent == agent)
            .map(|(id, _)| *id)
            .collect();
        for number in mine {
            for side in [Side::Agent, Side::Collector] {
                let dead = self.now + self.rng.range(0, 2 * self.delay_max);
                if let Some(link) = self.links.get_mut(&number) {
                    let before = link.dead_from.entry(side).or_insert(dead);
                    *before = dead.min(*before);
                }
                if self.rng.chance(60) {
                    let at = dead + self.rng.range(0, 3 * SECOND);
                    self.at(at, Event::Closed(number, side));
                }
            }
        }
    }
}
