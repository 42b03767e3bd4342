//! The faults that strike the simulated world.

use super::*;

impl World {
    pub(super) fn strike(&mut self, fault: FaultKind) -> Result<(), String> {
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
                if let Some((intake, ..)) = &mut self.collector.running {
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
    pub(super) fn crash_collector(&mut self, power: Option<u64>) {
        if let (Some(step), Some((_, ledger, _))) =
            (self.collector.work.pop_front(), &mut self.collector.running)
        {
            let at = self.collector.storage.steps() + self.rng.range(0, 5);
            let fault = if self.rng.chance(50) {
                Fault::Kill
            } else {
                Fault::KillAfter
            };
            self.collector.storage.fail_at(at, fault);
            let _ = Collector::carry_out(ledger, step, self.collector.shows_first);
        }
        self.collector_down(power);
    }

    /// The network drops an agent's connections: bytes under way arrive for a while, then no more.
    pub(super) fn cut(&mut self, agent: usize) {
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
