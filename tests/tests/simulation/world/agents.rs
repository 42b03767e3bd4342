//! The simulated agents: their starts, effects, disks and ends.

use super::*;

impl World {
    pub(super) fn start_agent(&mut self, index: usize, life: u64) -> Result<(), String> {
        let (now, key) = (self.now, self.collector.signer.verifier().clone());
        let demanded = self
            .collector
            .witnesses
            .as_ref()
            .map(|asked| asked.policy.clone());
        let demanded = demanded.filter(|_| self.plant != Plant::TrimWithoutQuorum);
        let agent = &mut self.agents[index];
        if agent.life != life || agent.shipper.is_some() {
            return Ok(());
        }
        agent
            .start(now, &mut self.rng, &key, demanded)
            .map_err(|error| format!("agent {index}: {error}"))?;
        self.count("agent starts");
        self.pump_agent(index)
    }

    pub(super) fn wake_agent(&mut self, index: usize, life: u64) -> Result<(), String> {
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
    pub(super) fn pump_agent(&mut self, index: usize) -> Result<(), String> {
        loop {
            let now = self.now;
            let agent = &mut self.agents[index];
            let (local, clock) = (agent.local(now), agent.clock(now));
            let Some(shipper) = &mut agent.shipper else {
                return Ok(());
            };
            if shipper.journal().ratchet_due(local) {
                if !agent.ratchet(now, &mut self.rng, self.calm)? {
                    self.count("killed while keys were replaced");
                    let power = self.rng.next().is_multiple_of(2);
                    return self.agent_down(index, power, true);
                }
                continue;
            }
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
    pub(super) fn settle_agent(&mut self, index: usize) -> Result<(), String> {
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

    pub(super) fn agent_effect(&mut self, index: usize, effect: ShipperEffect) -> Result<(), String> {
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

    pub(super) fn agent_event(&mut self, index: usize, event: AgentEvent) -> Result<(), String> {
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
            AgentEvent::Judged { quorum, .. } => self.count(if quorum.satisfied {
                "enough cosignatures seen"
            } else {
                "too few cosignatures seen"
            }),
            AgentEvent::Finished => {}
            other => return Err(format!("agent {index}: {other:?}")),
        }
        Ok(())
    }

    pub(super) fn finish_disk(&mut self, index: usize, life: u64) -> Result<(), String> {
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
        let broken = !self.calm && self.rng.next().is_multiple_of(3000);
        let result = if broken {
            agent.disk.fail(&effect, &mut self.rng);
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

    pub(super) fn finish_load(
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

    pub(super) fn finish_remember(&mut self, index: usize, life: u64, note: Vec<u8>) -> Result<(), String> {
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
    pub(super) fn delete_stored(&mut self, index: usize, through: Sequence) -> Result<(), String> {
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
    pub(super) fn agent_down(&mut self, index: usize, power: bool, restart: bool) -> Result<(), String> {
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
}
