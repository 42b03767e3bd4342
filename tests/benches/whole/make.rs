//! A collector's directory with a long ledger of real, signed batches, made without a collector.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use collector::{keys, layout::Layout, pipeline::describe, projection::Projection};
use common::{
    event::{ProcessKey, baseline::Phase, process::ProcessCause},
    ids::{Hash, HostId, Sequence, StatementNumber},
    note::SignerKey,
    statement::{BatchPoint, Said, StatementChain},
};
use ledger::{Entry, Ledger, storage::Local};
use rayon::prelude::*;
use tests::chains::{
    GOES_ON, Maker, STARTS, baseline, event, exited, process, process_key, run_begins, wall,
};
use tests::{measure::print_memory, program::command, stated::silent};

use super::{HOSTS, Outcome};

/// A batch covers so long, milliseconds.
pub(super) const BATCH_MS: u64 = 1_000;
/// Batches that a program runs for; every other batch one begins, every other one ends.
const RUNS: u64 = 200;
/// Events in a host's first batch; each later one has one.
pub(super) const FIRST_EVENTS: u64 = 12;
/// Batches signed with one key: five and a half hours.
const EPOCH_BATCHES: u64 = 20_000;
/// Batches of each host that are made before any is appended.
const ROUND: usize = 32;
/// Batches in a group: what the collector takes at most by default.
const GROUP: usize = 256;
/// A checkpoint is made after so many batches.
const PUBLISH_BATCHES: usize = 65_536;

/// The program that began in a host's batch `at`.
pub(super) fn program(at: u64) -> ProcessKey {
    process_key(
        u32::try_from(at % 4_000_000).unwrap_or_default() + 2,
        at * BATCH_MS,
    )
}

/// Seals a host's next batch: one event, of a program that begins or of one that ends.
pub(super) fn seal_next(maker: &mut Maker) {
    let at = maker.length();
    let from = at * BATCH_MS;
    if at == 0 {
        let name = format!("node-{}", &maker.host().to_string()[..8]);
        let mut begun = run_begins(maker.host(), &name, 0);
        begun.push(event(5, baseline(0, Phase::Complete { events: 0 })));
        maker.seal_unchecked(STARTS, 0, BATCH_MS, &begun);
        return;
    }
    if at.is_multiple_of(EPOCH_BATCHES) {
        maker.ratchet();
    }
    let ends = at % 2 == 1 && at > RUNS;
    let began = if ends { at - RUNS + 1 } else { at };
    let program = process(
        program(began),
        None,
        &[b"/usr/bin/work", b"--for", b"a while"],
        ProcessCause::Exec,
    );
    let fact = if ends { exited(program, 0, 0) } else { program };
    maker.seal_unchecked(GOES_ON, from, from + BATCH_MS, &[event(from + 1, fact)]);
}

pub(super) fn make(program: &Path, folder: &Path, batches: u64, statements: u64) -> Outcome {
    let begun = Instant::now();
    let layout = Layout::new(folder);
    let root = folder.to_string_lossy();
    command(
        program,
        &["init", "--dir", &root, "--origin", "bench.example/whole"],
    )?;
    let signer = keys::settle(&layout)?;
    let storage = Arc::new(Local::open_writer(&layout.ledger())?);
    let tell = Box::new(|news| eprintln!("{news:?}"));
    let (mut ledger, _) =
        Ledger::open_indexed(storage, signer.clone(), describe, &layout.ledger_index(), tell)?;
    let projection = Projection::new(Arc::new(ledger.reader()), Some(layout.projections()));
    let over = AtomicBool::new(false);
    let snapshots = thread::scope(|scope| {
        let behind = scope.spawn(|| derive(&projection, &over));
        let done = fill(&mut ledger, batches).and_then(|()| say(&mut ledger, &signer, statements));
        over.store(true, Relaxed);
        println!("make_ms {}", begun.elapsed().as_millis());
        let snapshots = behind.join().map_err(|_| "a thread panicked")?;
        done.and(snapshots)
    })?;
    println!("leaves {}", ledger.reader().leaves());
    println!("snapshots {snapshots}");
    println!("derived_ms {}", begun.elapsed().as_millis());
    print_memory()
}

fn fill(ledger: &mut Ledger, batches: u64) -> Outcome {
    let mut makers: Vec<Maker> = (1..=HOSTS).map(Maker::new).collect();
    let mut sealed = round(&mut makers);
    let (mut appended, mut unpublished) = (0_u64, 0);
    while appended < batches {
        // What needs the order of the ledger runs beside what only needs the order of each host.
        let (done, next) = rayon::join(
            || append(ledger, &sealed, &mut unpublished),
            || round(&mut makers),
        );
        done?;
        appended += sealed.len() as u64;
        sealed = next;
    }
    ledger.integrate_and_publish()?;
    Ok(())
}

/// Statements of the collector: hosts in turn are silent, and back.
fn say(ledger: &mut Ledger, signer: &SignerKey, statements: u64) -> Outcome {
    let hosts: Vec<HostId> = (1..=HOSTS).map(|seed| Maker::new(seed).host()).collect();
    let (mut chain, mut stated, mut unpublished) = (StatementChain::default(), Vec::new(), 0);
    for number in 0..statements {
        let host = hosts[usize::try_from(number / 2)? % hosts.len()];
        let said = if number % 2 == 0 {
            silent(host, 1, number)
        } else {
            Said::Back {
                host,
                silence: StatementNumber(number - 1),
                first: BatchPoint {
                    sequence: Sequence(2),
                    header: Hash::default(),
                },
                seen_at: wall(number),
            }
        };
        let statement = chain.write(said, wall(number), 0, signer)?;
        chain.follow(&statement)?;
        stated.push((statement.bytes().to_vec(), Vec::new()));
        if stated.len() == GROUP || number + 1 == statements {
            append(ledger, &stated, &mut unpublished)?;
            stated.clear();
        }
    }
    ledger.integrate_and_publish()?;
    Ok(())
}

/// Index and snapshots, as the collector's thread for them, which rests in between, makes them; how many of these.
fn derive(projection: &Projection, over: &AtomicBool) -> Outcome<u64> {
    let mut taken = 0;
    loop {
        let last = over.load(Relaxed);
        projection.catch_up()?;
        while projection.snapshot_step()? {
            taken += 1;
        }
        if last {
            return Ok(taken);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The next batches of all hosts, those of one position after each other.
fn round(makers: &mut [Maker]) -> Vec<(Vec<u8>, Vec<u8>)> {
    makers.par_iter_mut().for_each(|maker| {
        (0..ROUND).for_each(|_| seal_next(maker));
        maker.sealed.reverse();
    });
    let in_turn = (0..ROUND).flat_map(|_| 0..makers.len()).collect::<Vec<_>>();
    in_turn
        .into_iter()
        .filter_map(|at| makers[at].sealed.pop())
        .collect()
}

fn append(ledger: &mut Ledger, sealed: &[(Vec<u8>, Vec<u8>)], unpublished: &mut usize) -> Outcome {
    for group in sealed.chunks(GROUP) {
        let entries: Vec<Entry<'_>> = group
            .iter()
            .map(|(header, body)| Entry { header, body })
            .collect();
        ledger.append_group(&entries)?;
        *unpublished += group.len();
        if *unpublished >= PUBLISH_BATCHES {
            ledger.integrate_and_publish()?;
            *unpublished = 0;
        }
    }
    Ok(())
}
