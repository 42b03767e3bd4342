//! The ledger over HTTP while it grows: Tessera's fsck and the crate `tlog_tiles` read it, and limits hold.

use std::{
    fs,
    io::{Read, Seek},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{checkpoint, merkle::leaf_hash, note::VerifierKey, tile::entries};
use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader};

use crate::{
    peer::{Host, Session, batch},
    process::{Collector, PATIENCE},
    witness_process::http,
};

fn tool(name: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin"));
    std::env::var_os("HOSTLEDGER_TOOLS_BIN")
        .map_or_else(default, PathBuf::from)
        .join(name)
}

/// What Tessera's fsck accepts over HTTP: the size it recomputed. Its exit status says nothing.
fn fsck(collector: &Collector) -> Result<u64, String> {
    let mut said = tempfile::tempfile().unwrap();
    let mut child = Command::new(tool("fsck"))
        .arg(format!("--storage_url=http://{}/", collector.http))
        .arg(format!(
            "--public_key={}",
            collector.layout.ledger_verifier().display()
        ))
        .args(["--ui=false", "--N=2"])
        .stdout(Stdio::null())
        .stderr(said.try_clone().unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("fsck hung".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut words = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut words).unwrap();
    let accepted = words.split_once("Successfully fsck'd log with size ");
    let size = accepted.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    size.ok_or(words)
}

/// Tiles as a client of the crate `tlog_tiles` reads them.
struct Remote<'a>(&'a Collector);

impl TileReader for Remote<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &Tile| {
            // C2SP fixes the height and leaves it out of the path; a partial tile may have become a full one.
            let path = tile.path().replacen("tile/8/", "/tile/", 1);
            let full = path.split(".p/").next().unwrap_or_default().to_owned();
            let (status, mut bytes) = self.0.get(&path);
            if status == 404 {
                bytes = self.0.get(&full).1;
            }
            bytes.truncate(usize::try_from(tile.width()).unwrap() * 32);
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// Recomputes the root, and proves leaves, from tiles alone; returns the size.
fn read_by_crate(collector: &Collector, key: &VerifierKey) -> u64 {
    let (_, note) = collector.get("/checkpoint");
    let head = checkpoint::open(&note, key).unwrap();
    let theirs = signed_note::Note::from_bytes(&note).unwrap();
    let theirs = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
    assert_eq!(theirs.size(), head.size);
    let remote = Remote(collector);
    let reader = TileHashReader::new(head.size, *theirs.hash(), &remote);
    assert_eq!(tlog_tiles::tree_hash(head.size, &reader).unwrap(), *theirs.hash());
    for leaf in [0, head.size / 2, head.size - 1] {
        let index = tlog_tiles::stored_hash_index(0, leaf);
        let hash = reader.read_hashes(&[index]).unwrap()[0];
        let proof = tlog_tiles::prove_record(head.size, leaf, &reader).unwrap();
        tlog_tiles::check_record(&proof, head.size, *theirs.hash(), leaf, hash).unwrap();
        // The entry bundle holds what the leaf commits to.
        let (bundle, width) = (leaf / 256, head.size - leaf / 256 * 256);
        let partial = if width < 256 {
            format!(".p/{width}")
        } else {
            String::new()
        };
        let (mut status, mut bytes) = collector.get(&format!("/tile/entries/{bundle:03}{partial}"));
        if status == 404 {
            (status, bytes) = collector.get(&format!("/tile/entries/{bundle:03}"));
        }
        assert_eq!(status, 200);
        let entry = entries(&bytes)
            .nth(usize::try_from(leaf % 256).unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(leaf_hash(entry.1).0, hash.0);
    }
    head.size
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn others_read_the_log_over_http_while_it_grows() {
    let collector = Arc::new(Collector::start());
    let key = fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    let key = VerifierKey::parse(key.trim()).unwrap();
    let mut host = Host::enrolled(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, others) = (Arc::clone(&stop), Arc::clone(&collector));
    let reading = tokio::task::spawn_blocking(move || {
        let (mut accepted, mut by_crate) = (Vec::new(), Vec::new());
        while others.metric("hostledger_published_leaves") == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        while !stopped.load(Ordering::Relaxed) || accepted.len() < 5 {
            accepted.push(fsck(&others).unwrap());
            by_crate.push(read_by_crate(&others, &key));
        }
        (accepted, by_crate)
    });
    for _ in 0..600 {
        let (header, body) = host.seal(&[vec![7; 50]]);
        let sequence = header.claimed().sequence;
        session.send(&batch(&header, body)).await;
        loop {
            match session.next().await {
                Some(common::session::Message::Stored { through }) if through == sequence => break,
                Some(_) => {}
                None => panic!("the session ended"),
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (accepted, by_crate) = reading.await.unwrap();
    assert!(accepted.is_sorted() && by_crate.is_sorted());
    let mut distinct = accepted.clone();
    distinct.dedup();
    assert!(distinct.len() > 2, "it did not grow: {accepted:?}");
    println!(
        "evidence: Tessera's fsck over HTTP accepted {} heads of {} to {} leaves while batches came in, tlog_tiles {}",
        accepted.len(),
        distinct[0],
        distinct[distinct.len() - 1],
        by_crate.len()
    );
}

#[test]
fn immutable_resources_say_so_and_a_hasty_client_is_told_when_to_come_back() {
    let collector = Collector::start_with(&["--http-requests-per-second", "3"]);
    let get = |path: &str| http(collector.http, "GET", path, b"").unwrap();
    let head = get("/checkpoint");
    assert_eq!(
        (head.status, head.header("cache-control")),
        (200, Some("no-cache"))
    );
    assert_eq!(get("/tile/0/000.p/1").status, 404);
    let answers: Vec<_> = (0..12).map(|_| get("/checkpoint")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(refused.header("cache-control"), Some("no-store"));
}
