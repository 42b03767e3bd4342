//! How many leaves a second become durable and stand under a checkpoint, and how long one waits for that.
//!
//! `cargo bench -p tests --bench durable -- ours COLLECTOR DIR` starts that program in DIR and ships batches of
//! many hosts to it over QUIC; `-- nats ADDRESS` publishes the same bytes to a JetStream server and waits for its
//! acknowledgements; `-- payload` prints them in hex, for whoever else is to store them. Prints `name value`
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
/// Batches of each host.
const BATCHES: usize = 400;
/// Batches that a host has under way before they are durable.
const WINDOW: usize = 8;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match words.as_slice() {
        ["ours", program, folder] => runtime.block_on(ours::measure(Path::new(program), Path::new(folder))),
        ["nats", address] => runtime.block_on(nats::measure(address)),
        ["payload"] => {
            let bytes = hosts::payloads(1, 1)?.remove(0);
            println!("{}", common::ids::hex(&bytes));
            Ok(())
        }
        _ => {
            println!(
                "usage: cargo bench -p tests --bench durable -- ours COLLECTOR DIR | nats ADDRESS | payload"
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

/// When each batch was sent.
#[derive(Default)]
struct Sent(Vec<Instant>);

impl Sent {
    fn wait_of(&self, batch: usize) -> Outcome<Duration> {
        Ok(self
            .0
            .get(batch)
            .ok_or("an answer for what was not sent")?
            .elapsed())
    }
}
