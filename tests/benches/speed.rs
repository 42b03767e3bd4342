//! What verification costs beside plain SHA-256, over a ledger that lies in a folder.
//!
//! `cargo bench -p tests --bench speed -- DIR` prints `name value` lines for `cargo xtask bench`. Both
//! measurements are over the same events, in the same process, repeated until they took long enough to
//! trust a clock of 10 ms. Judges nothing.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::batch::{SignedHeader, UnverifiedHeader};
use common::ids::{Hash, LeafIndex};
use ledger::fsck::{self, Options};
use ledger::storage::Local;

/// Each measurement is repeated for at least this long.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`; without a folder there is nothing to measure, as under `cargo test --benches`.
    let Some(folder) = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
    else {
        println!("usage: cargo bench -p tests --bench speed -- LEDGER_FOLDER");
        return Ok(());
    };
    let storage = Local::open_reader(Path::new(&folder))?;
    let bodies = Mutex::new(Vec::new());
    let events = Mutex::new(0_u64);
    let report = fsck::run(&storage, &Options::default(), &|_, header, body| {
        let header = verified(header)?;
        let count = header
            .check_body(body)
            .map_err(|fault| fault.to_string())?
            .events()
            .count();
        if let (Ok(mut bodies), Ok(mut events)) = (bodies.lock(), events.lock()) {
            bodies.push(body.to_vec());
            *events += count as u64;
        }
        Ok(())
    });
    if !report.is_sound() {
        return Err(format!("the ledger is not sound: {}", report.faults[0]).into());
    }
    let bodies = bodies.into_inner()?;
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("batches {}", report.counts.leaves);
    println!("events {}", events.into_inner()?);
    println!("event_bytes {bytes}");
    println!("ledger_bytes {}", report.counts.bytes);

    let plain = repeated(|| {
        for body in &bodies {
            black_box(Hash::of(body));
        }
    })?;
    println!("sha256_wall_ns {}", plain.wall.as_nanos());
    println!("sha256_cpu_ns {}", plain.cpu.as_nanos());
    let whole = repeated(|| {
        black_box(fsck::run(&storage, &Options::default(), &check));
    })?;
    println!("verify_wall_ns {}", whole.wall.as_nanos());
    println!("verify_cpu_ns {}", whole.cpu.as_nanos());
    Ok(())
}

/// What anybody checks who verifies a ledger: signature, root and every event of each batch.
fn check(_: LeafIndex, header: &[u8], body: &[u8]) -> Result<(), String> {
    verified(header)?
        .check_body(body)
        .map(drop)
        .map_err(|fault| fault.to_string())
}

fn verified(header: &[u8]) -> Result<SignedHeader, String> {
    let header = UnverifiedHeader::parse(header).map_err(|fault| fault.to_string())?;
    SignedHeader::check(header).map_err(|fault| fault.to_string())
}

/// Time of one repetition.
struct Took {
    wall: Duration,
    cpu: Duration,
}

fn repeated(mut work: impl FnMut()) -> Result<Took, Box<dyn Error>> {
    let (started, cpu_before) = (Instant::now(), cpu()?);
    let mut times = 0;
    while started.elapsed() < LONG_ENOUGH {
        work();
        times += 1;
    }
    Ok(Took {
        wall: started.elapsed() / times,
        cpu: (cpu()?.saturating_sub(cpu_before)) / times,
    })
}

/// CPU time of all our threads, to 10 ms.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').ok_or("stat")?.1;
    let ticks: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .flat_map(str::parse)
        .collect();
    Ok(Duration::from_millis(10) * ticks.iter().sum())
}
