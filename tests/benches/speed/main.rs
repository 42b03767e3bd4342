//! What verifying and taking in cost beside plain SHA-256, over a ledger that lies in a folder.
//!
//! `cargo bench -p tests --bench speed -- DIR` prints `name value` lines for `cargo xtask bench`. All
//! measurements are over the same batches, in the same process, repeated until they took long enough to
//! trust a clock of 10 ms. The parts (hashing, signatures, storing) say where the time of a whole goes, and
//! `-- cores DIR` how verifying and plain SHA-256 go with cores: on threads held to one CPU each, by turns.
//! `-- make DIR EVENTS` makes a ledger to measure. Judges nothing.

mod cores;
mod make;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::batch::{BodyView, SignedHeader, UnverifiedHeader};
use common::entry::UnverifiedEntry;
use common::ids::{Hash, LeafIndex};
use common::merkle::{leaf_hashes, root_of};
use common::note::SignerKey;
use common::sequencer::{SequencerConfig, check_batch};
use common::signature::LastKey;
use ledger::fsck::{self, Options};
use ledger::storage::Local;
use ledger::{Entry, Ledger};
use tests::measure::cpu;

/// Each measurement is repeated for at least this long.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Cargo adds `--bench`; without a folder there is nothing to measure, as under `cargo test --benches`.
    let words = tests::measure::words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", folder, events] => make::ledger(Path::new(folder), events.parse()?),
        ["cores", folder] => cores::measure(Path::new(folder)),
        [folder] => parts(Path::new(folder)),
        _ => {
            println!(
                "usage: cargo bench -p tests --bench speed -- LEDGER_FOLDER | cores LEDGER_FOLDER | make DIR EVENTS"
            );
            Ok(())
        }
    }
}

/// Checks the ledger in `folder` and reads its batches.
fn read(folder: &Path) -> Result<(Local, Vec<Batch>), Box<dyn Error + Send + Sync>> {
    let storage = Local::open_reader(folder)?;
    let batches = Mutex::new(Vec::new());
    let report = fsck::run(&storage, &Options::default(), &|_, header, body| {
        check(header, body)?;
        if is_statement(header) {
            return Ok(());
        }
        if let Ok(mut batches) = batches.lock() {
            batches.push(Batch {
                header: header.to_vec(),
                body: body.to_vec(),
            });
        }
        Ok(())
    });
    if !report.is_sound() {
        return Err(format!("the ledger is not sound: {}", report.faults[0]).into());
    }
    println!("ledger_bytes {}", report.counts.bytes);
    let batches = batches.into_inner()?;
    Ok((storage, batches))
}

fn parts(folder: &Path) -> Outcome {
    let (storage, batches) = read(folder)?;
    let mut events = 0;
    for batch in &batches {
        events += BodyView::parse(&batch.body)?.events().len();
    }
    println!("batches {}", batches.len());
    println!("events {events}");
    println!(
        "event_bytes {}",
        batches.iter().map(|batch| batch.body.len()).sum::<usize>()
    );

    let plain = repeated(LONG_ENOUGH, || {
        for batch in &batches {
            black_box(Hash::of(&batch.body));
        }
        Ok(())
    })?;
    println!("sha256_wall_ns {}", plain.wall.as_nanos());
    println!("sha256_cpu_ns {}", plain.cpu.as_nanos());
    for (name, part) in [
        ("merkle", merkle as fn(&[Batch]) -> Outcome),
        ("signature", signatures),
        ("check", checks),
        ("store", store),
    ] {
        println!(
            "{name}_cpu_ns {}",
            repeated(LONG_ENOUGH, || part(&batches))?.cpu.as_nanos()
        );
    }
    let whole = repeated(LONG_ENOUGH, || {
        black_box(fsck::run(
            &storage,
            &Options::default(),
            &|_: LeafIndex, header, body| check(header, body),
        ));
        Ok(())
    })?;
    println!("verify_wall_ns {}", whole.wall.as_nanos());
    println!("verify_cpu_ns {}", whole.cpu.as_nanos());
    Ok(())
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// One batch as it lies in the ledger.
struct Batch {
    header: Vec<u8>,
    body: Vec<u8>,
}

/// RFC 6962 hashing alone: a leaf for each event, and the root over them.
fn merkle(batches: &[Batch]) -> Outcome {
    for batch in batches {
        let view = BodyView::parse(&batch.body)?;
        black_box(root_of(&leaf_hashes(view.events())));
    }
    Ok(())
}

/// The signatures of the headers alone.
fn signatures(batches: &[Batch]) -> Outcome {
    for batch in batches {
        black_box(verified(&batch.header)?);
    }
    Ok(())
}

/// All that the collector checks of a batch before it has a place in the ledger.
fn checks(batches: &[Batch]) -> Outcome {
    let mut last_key = LastKey::default();
    for batch in batches {
        let host = UnverifiedHeader::parse(&batch.header)?.claimed().host;
        let checked = check_batch(&host, &batch.header, batch.body.clone(), &mut last_key);
        black_box(checked.map_err(|refusal| refusal.text)?);
    }
    Ok(())
}

/// Writing it all into a new ledger beside this one, in groups of the collector's size, and publishing it.
fn store(batches: &[Batch]) -> Outcome {
    let folder = tempfile::tempdir()?;
    let signer = SignerKey::from_seed("bench.invalid/store", &[1; 32])?;
    let storage = Arc::new(Local::open_writer(folder.path())?);
    let (mut ledger, _) = Ledger::open(storage, signer, collector::pipeline::describe)?;
    let group_bytes = SequencerConfig::default().group_bytes;
    let mut group = Vec::new();
    let mut bytes = 0;
    for batch in batches {
        group.push(Entry {
            header: &batch.header,
            body: &batch.body,
        });
        bytes += (batch.header.len() + batch.body.len()) as u64;
        if bytes >= group_bytes {
            ledger.append_group(&group)?;
            group.clear();
            bytes = 0;
        }
    }
    if !group.is_empty() {
        ledger.append_group(&group)?;
    }
    ledger.integrate_and_publish()?;
    Ok(())
}

/// Whether a leaf is the collector's word and no batch: a handful among thousands, left out of what is measured.
fn is_statement(entry: &[u8]) -> bool {
    matches!(UnverifiedEntry::parse(entry), Ok(UnverifiedEntry::Statement(_)))
}

/// What anybody checks who verifies a ledger: signature, root and every event of each batch.
fn check(header: &[u8], body: &[u8]) -> Result<(), String> {
    if is_statement(header) {
        return Ok(());
    }
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

fn repeated(
    long_enough: Duration,
    mut work: impl FnMut() -> Outcome,
) -> Result<Took, Box<dyn Error + Send + Sync>> {
    let (started, cpu_before) = (Instant::now(), cpu()?);
    let mut times = 0;
    while started.elapsed() < long_enough {
        work()?;
        times += 1;
    }
    Ok(Took {
        wall: started.elapsed() / times,
        cpu: (cpu()?.saturating_sub(cpu_before)) / times,
    })
}
