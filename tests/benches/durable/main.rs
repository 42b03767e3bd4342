//! How many leaves a second become durable and stand under a checkpoint, and how long one waits for that.
//!
//! `cargo bench -p tests --bench durable -- ours COLLECTOR DIR UNDER_WAY SECONDS` starts that program in DIR and ships
//! batches of many hosts to it over QUIC; `-- nats ADDRESS UNDER_WAY SECONDS` publishes the same bytes to a JetStream
//! server and waits for its acknowledgements; `-- payload` prints them in hex, for whoever else is to store them.
//! UNDER_WAY batches wait for their last answer at any time: the receipt, or the acknowledgement. Prints `name value`
//! lines for `cargo xtask bench`. Batches are sealed beforehand; receipts are taken and not verified, which agents
//! do on machines of their own. Judges nothing.

mod hosts;
mod nats;
mod ours;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

/// Hosts, or connections of publishers.
const HOSTS: u8 = 64;
/// Batches that all hosts together may have sealed beforehand for a second: more than this machine takes.
const BATCHES_A_SECOND: usize = 16_000;

/// How the load comes.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Batches that each host has under way.
    window: usize,
    /// How long they are sent.
    length: Duration,
}

impl Load {
    fn parse(under_way: &str, seconds: &str) -> Outcome<Self> {
        let under_way: usize = under_way.parse()?;
        if under_way == 0 || !under_way.is_multiple_of(usize::from(HOSTS)) {
            return Err(format!("{under_way} batches cannot be shared among {HOSTS} hosts").into());
        }
        Ok(Self {
            window: under_way / usize::from(HOSTS),
            length: Duration::from_secs(seconds.parse()?),
        })
    }

    /// What a host seals beforehand.
    fn batches(&self) -> usize {
        let seconds = usize::try_from(self.length.as_secs()).unwrap_or(usize::MAX);
        BATCHES_A_SECOND * seconds / usize::from(HOSTS)
    }
}

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let words = tests::measure::words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match words.as_slice() {
        ["ours", program, folder, under_way, seconds] => {
            let load = Load::parse(under_way, seconds)?;
            runtime.block_on(ours::measure(Path::new(program), Path::new(folder), load))
        }
        ["nats", address, under_way, seconds] => {
            runtime.block_on(nats::measure(address, Load::parse(under_way, seconds)?))
        }
        ["payload"] => {
            let bytes = hosts::payloads(1, 1)?.remove(0);
            println!("{}", common::ids::hex(&bytes));
            Ok(())
        }
        _ => {
            println!(
                "usage: cargo bench -p tests --bench durable -- ours COLLECTOR DIR UNDER_WAY SECONDS | nats ADDRESS \
                 UNDER_WAY SECONDS | payload"
            );
            Ok(())
        }
    }
}

/// Prints what one run came to. `waits` are those of single batches.
fn print(name: &str, taken: Duration, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default();
    println!("{name}_count {}", waits.len());
    println!(
        "{name}_each_second {:.0}",
        waits.len() as f64 / taken.as_secs_f64()
    );
    println!("{name}_p50_us {}", at(50).as_micros());
    println!("{name}_p99_us {}", at(99).as_micros());
}

/// When each batch of a host was sent, and whether another may be.
struct Sent {
    at: Vec<Instant>,
    batches: usize,
    until: Instant,
}

impl Sent {
    fn new(batches: usize, load: Load) -> Self {
        Self {
            at: Vec::with_capacity(batches),
            batches,
            until: Instant::now() + load.length,
        }
    }

    /// Whether no more are sent: there are none, or it is late.
    fn is_over(&self) -> bool {
        self.at.len() >= self.batches || Instant::now() >= self.until
    }

    fn wait_of(&self, batch: usize) -> Outcome<Duration> {
        Ok(self
            .at
            .get(batch)
            .ok_or("an answer for what was not sent")?
            .elapsed())
    }
}
