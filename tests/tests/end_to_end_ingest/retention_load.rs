//! Retention on the running collector while batches come in: what `du` and every answer say, and kills anywhere.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    answer::Moment,
    ids::{LeafIndex, Sequence},
    note::VerifierKey,
};
use ledger::{Local, ReadError, Reader, audit::describe};
use rustix::process::Signal;
use serde_json::Value;
use tests::{
    chains::{Maker, STARTS, run_begins, wall},
    large::{Large, seal_next},
};

use crate::{
    peer::{Host, Session},
    process::{Collector, PATIENCE, program, wait_until},
    retention::{assert_sound, store},
};

/// Bytes on disk of each object below `groups/`, by path without `.kept`.
fn group_sizes(dir: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let mut pending = vec![dir.join("groups")];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let name = name.strip_suffix(".kept").unwrap_or(&name).to_owned();
            *sizes.entry(name).or_default() += std::fs::metadata(&path).unwrap().blocks() * 512;
        }
    }
    sizes
}

fn du(dir: &Path) -> u64 {
    let out = Command::new("du").args(["-s", "-B1"]).arg(dir).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// What is said of one host's processes at an instant, but for what names the ledger's present size.
fn processes(collector: &Collector, maker: &Maker, at: u64) -> Value {
    let at = Moment(wall(at)).to_string();
    let path = format!("/v1/processes?host={}&at={at}&limit=50", maker.host());
    let (status, body) = collector.get(&path);
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{answer:#}");
    answer["hosts"][0].take()
}

const HOSTS: u8 = 8;
const BATCHES: u64 = 2_500;

#[tokio::test(flavor = "multi_thread")]
async fn nine_tenths_go_from_the_running_collector_while_batches_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("c");
    let large = Large::make(&root, HOSTS, BATCHES);
    let mut collector = Collector::in_copy(&root, &["--silence-after", "1h"]);
    let end = BATCHES * 10;
    let (kept, gone) = ([end - 1, end - 500, end - 1_500], [end / 2, end / 10]);
    let ask_kept = |collector: &Collector| -> Vec<Value> {
        large.chains[..2]
            .iter()
            .flat_map(|maker| kept.map(|at| processes(collector, maker, at)))
            .collect()
    };
    let expected = ask_kept(&collector);
    assert!(
        expected.iter().all(|answer| answer["verdict"]["is"] == "known"),
        "{expected:#?}"
    );
    let before_gone = gone.map(|at| processes(&collector, &large.chains[0], at));

    // Load: another host goes on sealing and is acknowledged, batch by batch, until told to stop.
    let stop = Arc::new(AtomicBool::new(false));
    let host = Host::enrolled(77, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let told_to_stop = Arc::clone(&stop);
    let load = tokio::spawn(async move {
        let mut maker = Maker::new(77);
        maker.seal(STARTS, 0, 9, &run_begins(maker.host(), "busy", 0));
        store(&mut session, &maker.sealed).await;
        let mut at = 1;
        while !told_to_stop.load(Relaxed) {
            seal_next(&mut maker, at);
            store(
                &mut session,
                maker.sealed.last().map(std::slice::from_ref).unwrap(),
            )
            .await;
            at += 1;
        }
        maker
    });
    let ledger = collector.layout.ledger();
    let (sizes, whole) = (group_sizes(&ledger), du(&ledger));
    let leaves = BATCHES * u64::from(HOSTS);
    let stored_before = collector.metric("hostledger_batches_stored_total");
    let older = Moment(wall(end * 9 / 10)).to_string();
    let child = Command::new(program())
        .args(["prune", "--json", "--older-than", &older, "--dir"])
        .arg(collector.layout.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = thread::spawn(move || child.wait_with_output().unwrap());

    // While it runs: answers about kept instants are as before; of what goes, as before or gone by a statement.
    let (mut rounds, mut under_way) = (0, 0);
    while !waiting.is_finished() {
        assert_eq!(ask_kept(&collector), expected);
        for (at, before) in gone.iter().zip(&before_gone) {
            let now = processes(&collector, &large.chains[0], *at);
            let pruned = now["verdict"]["because"] == "pruned" && now["verdict"]["statement"].is_u64();
            assert!(pruned || now == *before, "{now:#}");
        }
        rounds += 1;
        under_way += u64::from(collector.metric("hostledger_pruned_bodies_total") > 0);
    }
    let done = waiting.join().unwrap();
    assert!(done.status.success(), "{done:?}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let stored_meanwhile = collector.metric("hostledger_batches_stored_total") - stored_before;
    assert!(stored_meanwhile > 0, "there was no load");
    stop.store(true, Relaxed);
    let loaded = load.await.unwrap();
    assert_eq!(ask_kept(&collector), expected);
    for at in gone {
        let now = processes(&collector, &large.chains[0], at);
        assert_eq!(now["verdict"]["because"], "pruned", "{now:#}");
    }

    // The report is what the groups lost, to the byte.
    assert_eq!(report["removed_bodies"], leaves * 9 / 10);
    let after = group_sizes(&ledger);
    let lost: u64 = sizes.iter().map(|(path, size)| size - after[path]).sum();
    assert_eq!(report["freed"]["disk"], lost);
    println!(
        "{leaves} batches, {} bodies pruned beside {stored_meanwhile} batches stored meanwhile, {rounds} rounds of questions ({under_way} \
         while bodies went): groups lost {lost}, the report says {}; du {whole} -> {}",
        report["removed_bodies"],
        report["freed"]["disk"],
        du(&ledger)
    );
    assert!(du(&ledger) < whole - lost / 2);

    // A restart answers the same; every old receipt and every new proof verifies, every acknowledged batch is there.
    assert!(collector.end(Signal::TERM).success());
    collector.run();
    assert_eq!(ask_kept(&collector), expected);
    // And one whose index is gone: but for the host's name, which it last gave in a body that is gone.
    assert!(collector.end(Signal::TERM).success());
    fs::remove_dir_all(collector.layout.projections().join("chains")).unwrap();
    collector.run();
    let mut nameless = expected.clone();
    nameless
        .iter_mut()
        .for_each(|answer| answer["hostname"] = Value::Null);
    assert_eq!(ask_kept(&collector), nameless);
    assert!(collector.end(Signal::TERM).success());
    let report = assert_sound(&collector);
    assert_eq!(report["notes"], Value::Array(Vec::new()), "{report:#}");
    let key: &VerifierKey = large.signer.verifier();
    let reader = Reader::open(Arc::new(Local::open_reader(&ledger).unwrap()), describe).unwrap();
    for (header, receipt) in &large.receipts {
        receipt.verify(header, key).unwrap();
    }
    let mut there = 0;
    for leaf in (0..leaves).map(LeafIndex) {
        let header = reader.header(leaf).unwrap();
        reader.receipt(leaf).unwrap().verify(&header, key).unwrap();
        match reader.body(leaf) {
            Ok(_) => there += 1,
            Err(ReadError::Pruned { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(there, leaves / 10);
    assert_acknowledged(&reader, &loaded);
}

/// Every batch of the chain is in the ledger, its body with it.
fn assert_acknowledged(reader: &Reader, maker: &Maker) {
    for (sequence, (header, body)) in (0..).map(Sequence).zip(&maker.sealed) {
        let record = reader.find(&maker.host(), sequence).unwrap().unwrap();
        assert_eq!(&reader.header(record.leaf).unwrap(), header);
        assert_eq!(&reader.body(record.leaf).unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_in_a_prune_it_goes_on_after_the_start_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("c");
    let large = Large::make(&root, 4, 500);
    let mut collector = Collector::in_copy(&root, &["--silence-after", "1h"]);
    let host = Host::enrolled(77, &collector);
    let mut loaded = Maker::new(77);
    loaded.seal(STARTS, 0, 9, &run_begins(loaded.host(), "busy", 0));
    let (mut killed, mut stopped) = (0, 0);
    for round in 0..6_u64 {
        let (mut session, welcome) = Session::open(&host, &collector).await;
        let acknowledged = usize::try_from(welcome.next.0).unwrap();
        store(&mut session, &loaded.sealed[acknowledged..]).await;
        for _ in 0..5 {
            let at = loaded.sealed.len() as u64;
            seal_next(&mut loaded, at);
            store(
                &mut session,
                loaded.sealed.last().map(std::slice::from_ref).unwrap(),
            )
            .await;
        }
        let keep = (450 - round * 70).to_string();
        let mut child = Command::new(program())
            .args(["prune", "--keep-batches", &keep, "--dir"])
            .arg(collector.layout.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed once it is marked, a little further on each time.
        let mark = collector.layout.ledger().join("pruning");
        let begun = Instant::now();
        while !mark.exists() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE);
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_millis(round * 15));
        // Every third time it is stopped in order instead, which ends a prune between two groups.
        if round % 3 == 2 {
            assert!(collector.end(Signal::TERM).success());
            stopped += u32::from(mark.exists());
        } else {
            collector.end(Signal::KILL);
            killed += u32::from(mark.exists());
        }
        child.wait().unwrap();
        let (code, report) = collector.verify();
        assert_eq!(code, Some(0), "round {round}: {report:#}");
        collector.run();
        wait_until("the mark goes", || !mark.exists());
        assert_sound(&collector);
    }
    println!("4 kills, {killed} of them within a prune; 2 stops in order, {stopped} of them within a prune");
    assert!(killed + stopped > 0);
    assert!(collector.end(Signal::TERM).success());
    let report = assert_sound(&collector);
    assert_eq!(report["notes"], Value::Array(Vec::new()), "{report:#}");
    let storage = Local::open_reader(&collector.layout.ledger()).unwrap();
    let reader = Reader::open(Arc::new(storage), describe).unwrap();
    assert_acknowledged(&reader, &loaded);
    for (header, receipt) in &large.receipts {
        receipt.verify(header, large.signer.verifier()).unwrap();
        assert_eq!(&reader.header(receipt.leaf).unwrap(), header);
    }
}
