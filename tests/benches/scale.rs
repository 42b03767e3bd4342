//! What a ledger of many leaves costs: memory, start, and one proof.
//!
//! `cargo bench -p tests --bench scale -- make DIR LEAVES [LEAVES_A_GROUP]` makes one, `-- start DIR` opens it,
//! proves events picked over its whole length, and prints `name value` lines. Two commands, so that the memory
//! of the second is not the first one's; `-- verify DIR` checks it whole. Leaves are opaque to a ledger: those here are a host, a sequence and
//! padding, unsigned. Judges nothing.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use common::ids::{HostId, LeafIndex, Sequence};
use common::note::SignerKey;
use ledger::fsck::{self, Options};
use ledger::{Entry, EntryFacts, Ledger, storage::Local};
use tests::measure::{cpu, print_memory, words};

/// Bytes of one leaf, of which 40 say something.
const HEADER_BYTES: usize = 128;
/// Bytes beside each leaf.
const BODY_BYTES: usize = 64;
/// Hosts that take turns.
const HOSTS: u64 = 100;
/// A checkpoint is made after so many leaves.
const PUBLISH_LEAVES: u64 = 131_072;
/// Proofs made for the average.
const PROOFS: u64 = 2_000;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let words = words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", folder, leaves] => make(Path::new(folder), leaves.parse()?, 16),
        ["make", folder, leaves, group] => make(Path::new(folder), leaves.parse()?, group.parse()?),
        ["start", folder] => start(Path::new(folder)),
        ["verify", folder] => verify(Path::new(folder)),
        _ => {
            println!(
                "usage: cargo bench -p tests --bench scale -- make DIR LEAVES [LEAVES_A_GROUP] | start DIR | verify DIR"
            );
            Ok(())
        }
    }
}

fn host(leaf: u64) -> HostId {
    let mut id = [0x5a; 32];
    id[..8].copy_from_slice(&(leaf % HOSTS).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    HostId(id)
}

fn header(leaf: u64) -> Vec<u8> {
    let mut bytes = host(leaf).0.to_vec();
    bytes.extend_from_slice(&(leaf / HOSTS).to_be_bytes());
    bytes.resize(HEADER_BYTES, 0xa5);
    bytes
}

fn describe(header: &[u8]) -> Option<EntryFacts> {
    let sequence = u64::from_be_bytes(header.get(32..40)?.try_into().ok()?);
    Some(EntryFacts {
        host: HostId(header.get(..32)?.try_into().ok()?),
        sequence: Sequence(sequence),
    })
}

fn open(folder: &Path) -> Result<Ledger, Box<dyn Error + Send + Sync>> {
    let key = SignerKey::from_seed("bench.example/scale", &[7; 32])?;
    let storage = Arc::new(Local::open_writer(&folder.join("ledger"))?);
    let tell = Box::new(|news| eprintln!("{news:?}"));
    Ok(Ledger::open_indexed(storage, key, describe, &folder.join("index"), tell)?.0)
}

fn make(folder: &Path, leaves: u64, group: u64) -> Outcome {
    let begun = Instant::now();
    let mut ledger = open(folder)?;
    let (mut next, mut published) = (0, 0);
    let body = [0x42; BODY_BYTES];
    while next < leaves {
        let headers: Vec<Vec<u8>> = (next..leaves.min(next + group)).map(header).collect();
        let entries: Vec<Entry<'_>> = headers
            .iter()
            .map(|header| Entry { header, body: &body })
            .collect();
        ledger.append_group(&entries)?;
        next += headers.len() as u64;
        if next - published >= PUBLISH_LEAVES || next == leaves {
            ledger.integrate_and_publish()?;
            published = next;
        }
    }
    println!("leaves {leaves}");
    println!("make_ms {}", begun.elapsed().as_millis());
    print_memory()
}

fn start(folder: &Path) -> Outcome {
    let (begun, cpu_before) = (Instant::now(), cpu()?);
    let ledger = open(folder)?;
    let reader = ledger.reader();
    let leaves = reader.leaves();
    println!("leaves {leaves}");
    println!("start_wall_us {}", begun.elapsed().as_micros());
    println!("start_cpu_ms {}", (cpu()?.saturating_sub(cpu_before)).as_millis());
    print_memory()?;
    let (begun, cpu_before) = (Instant::now(), cpu()?);
    for proof in 0..PROOFS {
        // Spread over the whole ledger, in no order a cache would like.
        let leaf = proof.wrapping_mul(0x9e37_79b9_7f4a_7c15) % leaves;
        let (host, sequence) = (host(leaf), Sequence(leaf / HOSTS));
        let found = reader.find(&host, sequence)?.ok_or("a batch is not found")?;
        let header = reader.header(found.leaf)?;
        let body = reader.body(found.leaf)?;
        let receipt = reader.receipt(found.leaf)?;
        if found.leaf != LeafIndex(leaf) || body.len() != BODY_BYTES {
            return Err("another batch was found".into());
        }
        receipt.verify(&header, reader.keys())?;
    }
    println!("proofs {PROOFS}");
    println!(
        "proof_wall_ns {}",
        begun.elapsed().as_nanos() / u128::from(PROOFS)
    );
    println!(
        "proof_cpu_ns {}",
        (cpu()?.saturating_sub(cpu_before)).as_nanos() / u128::from(PROOFS)
    );
    print_memory()
}

fn verify(folder: &Path) -> Outcome {
    let storage = Local::open_reader(&folder.join("ledger"))?;
    let (begun, cpu_before) = (Instant::now(), cpu()?);
    // Opaque leaves: groups, tiles, bundles and checkpoint are checked, signatures of hosts are not.
    let report = fsck::run(&storage, &Options::default(), &|_, _, _| Ok(()));
    if !report.is_sound() {
        return Err(format!("the ledger is not sound: {}", report.faults[0]).into());
    }
    println!("leaves {}", report.counts.leaves);
    println!("ledger_bytes {}", report.counts.bytes);
    println!("verify_wall_ms {}", begun.elapsed().as_millis());
    println!(
        "verify_cpu_ms {}",
        (cpu()?.saturating_sub(cpu_before)).as_millis()
    );
    print_memory()
}
