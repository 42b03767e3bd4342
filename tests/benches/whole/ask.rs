//! What is asked of the collector over HTTP: proofs, states, histories, tiles.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use common::{
    answer::{HostRow, Moment, Page},
    event::Kind,
    fold::EntityId,
    ids::HostId,
    tile::{self, TILE_WIDTH, TilePath},
};
use tests::chains::wall;

use super::{
    Outcome,
    make::{BATCH_MS, FIRST_EVENTS, program},
};

/// Proofs of single events that are asked for at a time.
const PROOFS: u64 = 1_000;
/// Tiles, and as many bundles, that are fetched at a time.
const TILES: u64 = 500;

/// What a question is about.
struct Subject {
    host: HostId,
    then: Moment,
    before: Moment,
    entity: String,
}

/// The path of a question.
type Question = fn(&Subject) -> String;

/// Asks one collector.
pub(super) struct Client(pub(super) SocketAddr);

impl Client {
    /// The body of what stands at a path, however long it takes: a connection on which nothing comes for long is closed.
    pub(super) fn get(&self, path: &str) -> Outcome<Vec<u8>> {
        loop {
            let mut stream = TcpStream::connect(self.0)?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: collector\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            if answer.is_empty() {
                continue;
            }
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.ok_or("half an answer")?;
            let body = answer.split_off(end + 4);
            if answer.starts_with(b"HTTP/1.1 200 ") {
                return Ok(body);
            }
            if !answer.starts_with(b"HTTP/1.1 429 ") {
                return Err(format!("{path}: {}", String::from_utf8_lossy(&answer)).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asks on, spread over all hosts and the whole length of their chains, in no order a cache would like.
pub(super) struct Asking {
    client: Client,
    hosts: Vec<(HostId, u64)>,
    leaves: u64,
    asked: u64,
}

impl Asking {
    pub(super) fn new(client: Client) -> Outcome<Self> {
        let page: Page<HostRow> = serde_json::from_slice(&client.get("/v1/hosts?limit=10000")?)?;
        let hosts: Vec<_> = page.rows.into_iter().map(|row| (row.host, row.batches)).collect();
        Ok(Self {
            leaves: hosts.iter().map(|(_, batches)| batches).sum(),
            client,
            hosts,
            asked: 0,
        })
    }

    /// The next of so many.
    fn pick(&mut self, of: u64) -> u64 {
        self.asked += 1;
        // The golden ratio's share of a word: neighbours land far from each other.
        ((u128::from(self.asked.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(of)) >> 64) as u64
    }

    /// A host and one of its batches, not the first.
    fn batch(&mut self) -> Outcome<(HostId, u64)> {
        let at = usize::try_from(self.pick(self.hosts.len() as u64))?;
        let (host, batches) = self.hosts[at];
        Ok((host, 1 + self.pick(batches - 1)))
    }

    /// Proofs of single events.
    pub(super) fn proofs(&mut self) -> Outcome {
        for _ in 0..PROOFS {
            let (host, batch) = self.batch()?;
            let event = FIRST_EVENTS + batch - 1;
            self.client.get(&format!("/v1/proof?event={host}:{event}"))?;
        }
        Ok(())
    }

    /// Questions of each kind about one host, told after each kind.
    pub(super) fn questions(&mut self, told: impl Fn(&str) -> Outcome) -> Outcome {
        let kinds: [(&str, u64, Question); 6] = [
            ("states", 4, |of| {
                format!("/v1/processes?host={}&at={}", of.host, of.then)
            }),
            ("entities", 2, |of| {
                format!("/v1/entity?id={}&host={}&at={}", of.entity, of.host, of.then)
            }),
            ("intervals", 2, |of| {
                format!(
                    "/v1/processes?host={}&since={}&until={}",
                    of.host, of.before, of.then
                )
            }),
            ("batches", 4, |of| {
                format!("/v1/batches?host={}&limit=1000", of.host)
            }),
            ("timelines", 1, |of| {
                format!("/v1/timeline?id={}&host={}", of.entity, of.host)
            }),
            ("bundles", 1, |of| {
                format!(
                    "/v1/bundle?host={}&since={}&until={}",
                    of.host, of.before, of.then
                )
            }),
        ];
        for (kind, times, question) in kinds {
            for _ in 0..times {
                let of = self.subject()?;
                let answer = self.client.get(&question(&of))?;
                if kind == "states" && !answer.windows(7).any(|seven| seven == b"\"known\"") {
                    return Err(format!("the state of {} at {} is not known", of.host, of.then).into());
                }
            }
            told(kind)?;
        }
        Ok(())
    }

    /// A page of what runs on all hosts.
    pub(super) fn fleet(&mut self) -> Outcome {
        let then = self.subject()?.then;
        self.client.get(&format!("/v1/processes?limit=10000&at={then}"))?;
        Ok(())
    }

    /// A host, an instant within one of its batches and one a minute before, and a program that ran then.
    fn subject(&mut self) -> Outcome<Subject> {
        let (host, batch) = self.batch()?;
        let at = |batch: u64| Moment(wall(batch * BATCH_MS + BATCH_MS / 2));
        // The program of an even batch began in it.
        Ok(Subject {
            host,
            then: at(batch),
            before: at(batch.saturating_sub(60)),
            entity: EntityId::of(Kind::Process, &program(2.max(batch & !1))).to_string(),
        })
    }

    /// Tiles, bundles, and the checkpoint each time.
    pub(super) fn tiles(&mut self) -> Outcome {
        for _ in 0..TILES {
            let index = self.pick(self.leaves / u64::from(TILE_WIDTH));
            for kind in [tile::Kind::Hashes(0), tile::Kind::Entries] {
                let tile = TilePath {
                    kind,
                    index,
                    width: TILE_WIDTH,
                };
                self.client.get(&format!("/{tile}"))?;
            }
            self.client.get("/checkpoint")?;
        }
        Ok(())
    }
}
