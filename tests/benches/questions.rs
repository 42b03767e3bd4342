//! What questions about a long ledger cost: memory, start, and the first answer.
//!
//! `cargo bench -p tests --bench questions -- make DIR BATCHES` makes a ledger of real batches, signed by ten hosts,
//! five events each; `-- start DIR` starts what a collector answers questions with over it, asks for the processes of
//! one host at instants of its whole chain, and prints `name value` lines; `-- settle DIR` does what the collector
//! does in the background until there is nothing left to do. Commands apart, so that the memory of one is not that
//! of another. Judges nothing.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use collector::pipeline::describe;
use collector::projection::Projection;
use collector::query::{Filter, Paging, Query};
use common::answer::Verdict;
use common::event::{Event, Kind, baseline::Phase, process::ProcessCause};
use common::ids::HostId;
use common::note::SignerKey;
use ledger::{Entry, Ledger, storage::Local};
use tests::chains::{
    GOES_ON, LEDGER_KEY_SEED, Maker, STARTS, baseline, event, exited, process, process_key, run_begins, wall,
};
use tests::measure::{cpu, print_memory, words};

const HOSTS: u8 = 10;
/// A batch covers so long, milliseconds.
const BATCH_MS: u64 = 1_000;
/// Programs that run at a time on a host; each batch starts and ends some.
const ALIVE: u64 = 200;
/// A checkpoint is made after so many batches.
const PUBLISH_BATCHES: u64 = 65_536;
/// Batches in a group, of each host.
const GROUP: u64 = 10;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let words = words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", folder, batches] => make(Path::new(folder), batches.parse()?),
        ["start", folder] => start(Path::new(folder)),
        ["settle", folder] => settle(Path::new(folder)),
        _ => {
            println!(
                "usage: cargo bench -p tests --bench questions -- make DIR BATCHES | start DIR | settle DIR"
            );
            Ok(())
        }
    }
}

fn open(folder: &Path) -> Result<Ledger, Box<dyn Error + Send + Sync>> {
    let key = SignerKey::from_seed("bench.example/questions", &LEDGER_KEY_SEED)?;
    let storage = Arc::new(Local::open_writer(&folder.join("ledger"))?);
    let tell = Box::new(|news| eprintln!("{news:?}"));
    Ok(Ledger::open_indexed(storage, key, describe, &folder.join("index"), tell)?.0)
}

fn first_batch(maker: &mut Maker, name: &str) {
    let mut begun = run_begins(maker.host(), name, 0);
    begun.push(event(5, baseline(0, Phase::Complete { events: 0 })));
    maker.seal(STARTS, 0, BATCH_MS, &begun);
}

/// Five events: a program runs a few batches long and ends, two more begin to run for longer.
fn batch(maker: &mut Maker, at: u64) {
    let from = at * BATCH_MS;
    let program = |number: u64, began: u64| {
        let pid = u32::try_from(number % 4_000_000).unwrap_or_default();
        process(
            process_key(pid, began * BATCH_MS),
            None,
            &[b"/usr/bin/work", b"--for", b"a while"],
            ProcessCause::Exec,
        )
    };
    let ended = at.saturating_sub(ALIVE);
    let events: Vec<Event> = [
        program(at * 2, at),
        program(at * 2 + 1, at),
        exited(program(at * 2, at), 0, 0),
        program(ended * 2 + 1, ended),
        exited(program(ended * 2 + 1, ended), 0, 0),
    ]
    .into_iter()
    .zip(1..)
    .map(|(fact, ms)| event(from + ms, fact))
    .collect();
    maker.seal(GOES_ON, from, from + BATCH_MS, &events);
}

fn make(folder: &Path, batches: u64) -> Outcome {
    let begun = Instant::now();
    let mut ledger = open(folder)?;
    let mut makers: Vec<Maker> = (1..=HOSTS).map(Maker::new).collect();
    let (mut appended, mut published, mut at) = (0, 0, 0);
    while appended < batches {
        for (maker, number) in makers.iter_mut().zip(1..) {
            for at in at..at + GROUP {
                match at {
                    0 => first_batch(maker, &format!("node-{number}")),
                    _ => batch(maker, at),
                }
            }
        }
        at += GROUP;
        let sealed: Vec<(Vec<u8>, Vec<u8>)> = makers
            .iter_mut()
            .flat_map(|maker| maker.sealed.drain(..))
            .collect();
        let entries: Vec<Entry<'_>> = sealed
            .iter()
            .map(|(header, body)| Entry { header, body })
            .collect();
        ledger.append_group(&entries)?;
        appended += entries.len() as u64;
        if appended - published >= PUBLISH_BATCHES || appended >= batches {
            ledger.integrate_and_publish()?;
            published = appended;
        }
    }
    println!("batches {appended}");
    println!("make_ms {}", begun.elapsed().as_millis());
    print_memory()
}

fn projection(folder: &Path) -> Result<Arc<Projection>, Box<dyn Error + Send + Sync>> {
    let reader = open(folder)?.reader();
    Ok(Arc::new(Projection::new(
        Arc::new(reader),
        Some(folder.join("projections")),
    )))
}

fn host() -> HostId {
    Maker::new(1).host()
}

fn start(folder: &Path) -> Outcome {
    let (begun, cpu_before) = (Instant::now(), cpu()?);
    let projection = projection(folder)?;
    let query = Query::new(Arc::clone(&projection));
    let batches = query.catch_up()?;
    println!("batches {batches}");
    println!("start_wall_ms {}", begun.elapsed().as_millis());
    println!("start_cpu_ms {}", (cpu()?.saturating_sub(cpu_before)).as_millis());
    print_memory()?;
    let hosts = [host().to_string()];
    let own = batches / u64::from(HOSTS);
    // The same instants again: what the first questions left behind serves the second ones.
    for times in ["first", "again"] {
        for eighth in [4, 1, 7, 8] {
            let at = wall((own * eighth / 8 * BATCH_MS).saturating_sub(BATCH_MS / 2));
            let (begun, folded) = (Instant::now(), projection.folded_so_far().1);
            let answer = query.list(
                Kind::Process,
                Some(at),
                &hosts,
                &Filter::default(),
                &Paging::default(),
            )?;
            let Some(Verdict::Known { value }) = answer.hosts.first().map(|host| &host.verdict) else {
                return Err("the state is not known".into());
            };
            println!("{times}_answer_at_{eighth}_8_ms {}", begun.elapsed().as_millis());
            println!("{times}_answer_at_{eighth}_8_rows {}", value.len());
            let folded = projection.folded_so_far().1.saturating_sub(folded);
            println!("{times}_answer_at_{eighth}_8_events_folded {folded}");
        }
    }
    print_memory()
}

fn settle(folder: &Path) -> Outcome {
    let projection = projection(folder)?;
    projection.catch_up()?;
    let begun = Instant::now();
    let mut taken = 0;
    while projection.snapshot_step()? {
        taken += 1;
    }
    println!("snapshots {taken}");
    println!("snapshots_wall_ms {}", begun.elapsed().as_millis());
    print_memory()
}
