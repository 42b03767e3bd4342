//! The simulated network: what is sent, delivered, cut and closed.

use super::*;

impl World {
    /// A connection attempt arrives at the collector, is refused, or vanishes.
    pub(super) fn reach(&mut self, number: u64) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else {
            return Ok(());
        };
        let delay = self.rng.range(1, self.delay_max);
        let vanishes = !self.calm && self.rng.chance(3);
        match &mut self.collector.running {
            Some((intake, ..)) if !vanishes => {
                link.collector_open = true;
                // Whatever the collector says at once is read behind the end of the handshake, never before.
                let last = link.arrives.entry(Side::Agent).or_default();
                *last = (self.now + delay).max(*last);
                let connected = *last;
                let host = self.agents[link.agent].host;
                intake.handle_connected(BootNanos(self.now), ConnectionId(number), host);
                self.at(connected, Event::Connected(number));
                self.pump_collector()
            }
            Some(_) => Ok(()),
            None => {
                self.after(delay, Event::Closed(number, Side::Agent));
                Ok(())
            }
        }
    }

    pub(super) fn connected(&mut self, number: u64) -> Result<(), String> {
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
    pub(super) fn transmit(&mut self, index: usize, id: ConnectionId, bytes: Vec<u8>) {
        let life = self.agents[index].life;
        let link = self
            .links
            .iter()
            .find(|(_, link)| link.agent == index && link.agent_life == life && link.id == id);
        if let Some((number, _)) = link {
            self.post(*number, Side::Collector, &bytes);
        }
    }

    pub(super) fn flush_collector(&mut self, number: u64) {
        while let Some((intake, ..)) = &mut self.collector.running {
            let Some(bytes) = intake.poll_transmit(ConnectionId(number)) else {
                return;
            };
            self.post(number, Side::Agent, &bytes);
        }
    }

    /// Cuts bytes into chunks that arrive in order, each after its own delay.
    pub(super) fn post(&mut self, number: u64, to: Side, bytes: &[u8]) {
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

    pub(super) fn deliver(&mut self, number: u64, to: Side, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get(&number) else {
            return Ok(());
        };
        if link.dead_from.get(&to).is_some_and(|dead| self.now >= *dead) {
            return Ok(());
        }
        match to {
            Side::Collector if link.collector_open => {
                if let Some((intake, ..)) = &mut self.collector.running {
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
    pub(super) fn leave(&mut self, index: usize, id: ConnectionId) {
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
    pub(super) fn break_link(&mut self, number: u64, from: Side) {
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
                if let Some((intake, ..)) = &mut self.collector.running {
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

    pub(super) fn closed(&mut self, number: u64, side: Side) -> Result<(), String> {
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
                if let Some((intake, ..)) = &mut self.collector.running {
                    intake.handle_disconnected(ConnectionId(number));
                }
                self.pump_collector()
            }
            _ => Ok(()),
        }
    }

    // Faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_from_a_connection_before_it_is_open() {
        for seed in 0..64 {
            let mut world = World::new(seed, Plant::None);
            world.start_collector(0).unwrap();
            world.calm = true;
            world.links.insert(
                1,
                Link {
                    agent: 0,
                    agent_life: 0,
                    id: ConnectionId(1),
                    agent_open: true,
                    collector_open: false,
                    arrives: BTreeMap::new(),
                    dead_from: BTreeMap::new(),
                },
            );
            world.reach(1).unwrap();
            world.post(1, Side::Agent, &[0; 64]);
            let mut open = false;
            while let Some(Reverse((_, order))) = world.queue.pop() {
                match world.events.remove(&order) {
                    Some(Event::Connected(_)) => open = true,
                    Some(Event::Deliver(_, Side::Agent, _)) => assert!(open, "seed {seed}"),
                    _ => {}
                }
            }
            assert!(open);
        }
    }
}
