//! The real collector over that ledger: what it takes in memory while it is shipped to and asked.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use collector::layout::Layout;
use common::{
    answer::{HostRow, Page, Status},
    batch::{SignedHeader, UnverifiedHeader, VerifiedHeader},
    ids::Sequence,
    proof::EventProof,
    session::Message,
};
use quinn::{ClientConfig, Endpoint};
use tests::{
    chains::Maker,
    measure::{cpu_of, print_memory_of},
    program::{Running, enrol},
    shipping::Session,
};
use tokio::task::JoinSet;

use super::{
    Outcome,
    ask::{Asking, Client},
    make::{FIRST_EVENTS, seal_next},
};

/// Hosts that ship.
const SHIPPING: u8 = 64;
/// Batches that each of them ships, each round.
const BATCHES: usize = 50;
/// Times it is started.
const STARTS: u64 = 5;
/// Everything is done so often: what grows with use and not with the ledger shows between rounds.
const ROUNDS: u64 = 2;

pub(super) async fn run(program: &Path, folder: &Path) -> Outcome {
    let layout = Layout::new(folder);
    let files = folder.join("shipping");
    std::fs::create_dir_all(&files)?;
    let mut shippers = Vec::new();
    for seed in 1..=SHIPPING {
        let config = enrol(program, &layout, &files, &Maker::new(seed).host())?;
        shippers.push((seed, config));
    }

    let begun = Instant::now();
    let running = Running::start(program, &layout)?;
    let pid = running.pid();
    println!("start_ms {}", begun.elapsed().as_millis());
    println!("start_cpu_ms {}", cpu_of(pid)?.as_millis());
    print_memory_of(pid, "started_")?;
    let client = Client(running.http);
    // Answered once the index has come as far as the ledger.
    let status: Status = serde_json::from_slice(&client.get("/v1/status")?)?;
    println!("indexed_ms {}", begun.elapsed().as_millis());
    println!("leaves {}", status.size);
    print_memory_of(pid, "indexed_")?;

    let heads = shippers.iter().map(|(seed, _)| head(&client, *seed));
    let mut makers = heads.collect::<Outcome<Vec<Maker>>>()?;
    let mut asking = Asking::new(client)?;
    for round in 1..=ROUNDS {
        let named = |what: &str| format!("round_{round}_{what}_");
        let begun = Instant::now();
        let receipts = ship(&running, &mut makers, &shippers).await?;
        println!("{}receipts {receipts}", named("shipped"));
        println!("{}ms {}", named("shipped"), begun.elapsed().as_millis());
        print_memory_of(pid, &named("shipped"))?;
        asking.proofs()?;
        print_memory_of(pid, &named("proofs"))?;
        asking.questions(|kind| print_memory_of(pid, &named(kind)))?;
        asking.tiles()?;
        print_memory_of(pid, &named("tiles"))?;
    }
    asking.fleet()?;
    print_memory_of(pid, "fleet_")?;
    running.stop()
}

/// Starts the collector again and again: what each start takes until it listens.
pub(super) fn start(program: &Path, folder: &Path) -> Outcome {
    for start in 1..=STARTS {
        let begun = Instant::now();
        let running = Running::start(program, &Layout::new(folder))?;
        let pid = running.pid();
        println!("start_{start}_ms {}", begun.elapsed().as_millis());
        println!("start_{start}_cpu_ms {}", cpu_of(pid)?.as_millis());
        print_memory_of(pid, &format!("started_{start}_"))?;
        // What a first start indexes behind the ledger is none of the next one's.
        Client(running.http).get("/v1/status")?;
        running.stop()?;
    }
    Ok(())
}

/// Waits until the collector has nothing left to do in the background.
pub(super) fn settle(program: &Path, folder: &Path) -> Outcome {
    let begun = Instant::now();
    let running = Running::start(program, &Layout::new(folder))?;
    let pid = running.pid();
    println!("start_ms {}", begun.elapsed().as_millis());
    Client(running.http).get("/v1/status")?;
    println!("indexed_ms {}", begun.elapsed().as_millis());
    print_memory_of(pid, "indexed_")?;
    loop {
        let before = cpu_of(pid)?;
        // Longer than it waits where there was nothing to take a snapshot of.
        thread::sleep(Duration::from_secs(15));
        if cpu_of(pid)? - before < Duration::from_millis(200) {
            break;
        }
    }
    println!("settled_ms {}", begun.elapsed().as_millis());
    println!("settled_cpu_ms {}", cpu_of(pid)?.as_millis());
    print_memory_of(pid, "settled_")?;
    running.stop()
}

/// Has every shipping host ship its next batches and wait for their receipts; how many came.
async fn ship(running: &Running, makers: &mut [Maker], shippers: &[(u8, ClientConfig)]) -> Outcome<usize> {
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let mut tasks = JoinSet::new();
    for (maker, (_, config)) in makers.iter_mut().zip(shippers) {
        let (host, at) = (maker.host(), (Sequence(maker.length()), maker.head()));
        (0..BATCHES).for_each(|_| seal_next(maker));
        let batches = std::mem::take(&mut maker.sealed);
        let connecting = endpoint.connect_with(config.clone(), running.ingest, "localhost")?;
        tasks.spawn(async move {
            let session = Session::open(connecting.await?, host, at).await?;
            ship_all(session, batches).await
        });
    }
    let mut receipts = 0;
    while let Some(done) = tasks.join_next().await {
        receipts += done??;
    }
    Ok(receipts)
}

/// A host where its chain stands in the ledger.
fn head(client: &Client, seed: u8) -> Outcome<Maker> {
    let host = Maker::new(seed).host();
    let known: Page<HostRow> = serde_json::from_slice(&client.get(&format!("/v1/hosts?host={host}"))?)?;
    let batches = known.rows.first().ok_or("a host has no batches")?.batches;
    let last = FIRST_EVENTS + batches - 2;
    let proof = EventProof::decode(&client.get(&format!("/v1/proof?event={host}:{last}"))?)?;
    let header = SignedHeader::check(UnverifiedHeader::parse(&proof.header)?)?;
    Ok(Maker::behind(
        seed,
        &VerifiedHeader::danger_admitted_before(header),
    ))
}

async fn ship_all(mut session: Session, batches: Vec<(Vec<u8>, Vec<u8>)>) -> Outcome<usize> {
    let all = batches.len();
    let (mut under_way, mut proven) = (0, 0);
    let mut batches = batches.into_iter();
    while proven < all {
        while under_way < session.window {
            let Some((header, body)) = batches.next() else {
                break;
            };
            session
                .send
                .write_all(&Message::Batch { header, body }.encode()?)
                .await?;
            under_way += 1;
        }
        match session.next().await? {
            Message::Receipts(receipts) => {
                under_way -= receipts.proven.len();
                proven += receipts.proven.len();
            }
            Message::Refused(refusal) => return Err(format!("refused: {refusal:?}").into()),
            _ => {}
        }
    }
    session.connection.close(0_u8.into(), b"done");
    Ok(proven)
}
