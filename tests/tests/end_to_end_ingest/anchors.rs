//! The real collector and those who keep its checkpoints: a file, a time stamping authority made with OpenSSL, an HTTP
//! sink. What they hold exposes an older copy, a cut and another history; whatever they answer, publishing goes on.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    anchor::{Damage, Scan, scan},
    checkpoint,
    note::VerifierKey,
};
use rustix::process::Signal;

use crate::{
    anchor_servers::{Authority, Server, openssl},
    peer::{Host, feed},
    process::{Collector, wait_until},
};

/// Ten batches at least between anchors, and no anchor for time alone.
pub(crate) const BY_LEAVES: [&str; 4] = ["--anchor-leaves", "10", "--anchor-interval", "1d"];

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verifier(collector: &Collector) -> VerifierKey {
    let text = fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    VerifierKey::parse(text.trim()).unwrap()
}

/// A collector in `dir` that anchors as `settings` say; no statement of silence adds leaves while a test waits.
pub(crate) fn collector(dir: &Path, settings: &[&str]) -> Collector {
    let mut all = vec!["--silence-after", "1h", "--anchor-timeout", "2s"];
    all.extend(settings);
    Collector::start_in(&dir.join("c"), &all)
}

pub(crate) fn anchored(collector: &Collector, target: &str) -> u64 {
    collector.metric(&format!("hostledger_anchored_leaves{{target=\"{target}\"}}"))
}

pub(crate) fn read(path: &Path) -> Scan {
    scan(&fs::read(path).unwrap())
}

/// Leaves of each checkpoint in an anchor file, each under the ledger's signature.
fn sizes(path: &Path, key: &VerifierKey) -> Vec<u64> {
    let found = read(path);
    let size = |note: &[u8]| checkpoint::open(note, key).unwrap().size;
    found
        .records
        .iter()
        .map(|found| size(&found.record.note))
        .collect()
}

/// `hostledger anchor verify` as a program would call it: exit code and report.
pub(crate) fn verify(
    ledger: &Path,
    vkey: &Path,
    anchors: &[&Path],
    more: &[&str],
) -> (u8, serde_json::Value) {
    let mut words = vec![
        "hostledger",
        "-o",
        "json",
        "anchor",
        "verify",
        "--ledger",
        text(ledger),
    ];
    words.extend(["--vkey", text(vkey)]);
    for path in anchors {
        words.extend(["--anchors", text(path)]);
    }
    words.extend(more);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = words.iter().map(std::ffi::OsString::from);
    let code = cli::run(words, jiff::Timestamp::now(), &mut out, &mut err);
    let said = String::from_utf8_lossy(&err).into_owned();
    (
        code,
        serde_json::from_slice(&out).unwrap_or_else(|_| panic!("it said {said}")),
    )
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-a", text(from), text(to)])
        .status()
        .unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_a_real_authority_and_a_sink_hold_checkpoints_that_verify() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::start(dir.path());
    let sink = Server::sink();
    let file = dir.path().join("anchors");
    let (tsa, http) = (
        format!("http://{}/tsa", authority.server.address),
        format!("http://{}/in", sink.address),
    );
    let ca = authority.dir.join("ca.crt");
    let mut settings = vec![
        "--anchor-file",
        text(&file),
        "--anchor-tsa",
        &tsa,
        "--anchor-tsa-ca",
        text(&ca),
    ];
    settings.extend(["--anchor-http", &http]);
    settings.extend(BY_LEAVES);
    let mut collector = collector(dir.path(), &settings);
    let mut host = Host::enrolled(1, &collector);
    let targets = ["file", "tsa", "http"];
    for _ in 0..3 {
        let before = targets.map(|target| anchored(&collector, target));
        feed(&collector, &mut host, 12, 1).await;
        wait_until("all three have a newer one", || {
            targets
                .iter()
                .zip(before)
                .all(|(target, before)| anchored(&collector, target) > before)
        });
    }
    let url = format!("http://{}", collector.http);
    let vkey = collector.layout.ledger_verifier();
    let (code, report) = verify(Path::new(&url), &vkey, &[&file], &[]);
    assert_eq!(code, 0, "by URL: {report:#}");
    collector.end(Signal::TERM);
    let (key, vkey) = (verifier(&collector), collector.layout.ledger_verifier());
    let found = read(&file);
    assert_eq!(found.damage, []);
    let stamped = found
        .records
        .iter()
        .filter(|found| found.record.response.is_some())
        .count();
    assert!(
        stamped >= 3 && found.records.len() - stamped >= 3,
        "{} of {}",
        stamped,
        found.records.len()
    );

    // What the sink got is the signed checkpoint, byte for byte.
    let taken = sink.taken.lock().unwrap().clone();
    assert!(taken.len() >= 3);
    for (head, body) in &taken {
        assert!(head.starts_with("POST /in HTTP/1.1\r\n"), "{head}");
        assert!(
            head.to_lowercase()
                .contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"),
            "{head}"
        );
        checkpoint::open(body, &key).unwrap();
    }
    let sunk = dir.path().join("sunk");
    fs::write(&sunk, &taken.last().unwrap().1).unwrap();

    let parts = dir.path().join("parts");
    fs::create_dir(&parts).unwrap();
    let ledger = collector.layout.ledger();
    let more = ["--tsa-ca", text(&ca), "--extract", text(&parts)];
    let (code, report) = verify(&ledger, &vkey, &[&file, &sunk], &more);
    assert_eq!((code, &report["sound"]), (0, &true.into()), "{report:#}");
    let anchors = report["anchors"].as_array().unwrap();
    assert_eq!(anchors.len(), found.records.len() + 1);
    let mut judged = 0;
    for (number, anchor) in anchors.iter().enumerate() {
        assert_eq!(anchor["standing"], "prefix");
        let response = parts.join(format!("{number}.tsr"));
        if anchor["stamp"]["verdict"] == "verified" {
            // The judge that nobody here wrote agrees.
            let words = format!(
                "ts -verify -in {0}.tsr -data {0}.checkpoint -CAfile {1}",
                number,
                text(&ca)
            );
            let (fine, said) = openssl(&parts, &words);
            assert!(fine, "{said}");
            judged += 1;
        } else {
            assert!(!response.exists());
        }
    }
    assert_eq!(judged, stamped);
    println!("evidence: {judged} time stamps verified here and by OpenSSL");

    // Without an authority to trust no time is shown; with another one the stamps are refused.
    let (code, report) = verify(&ledger, &vkey, &[&file], &[]);
    assert_eq!(code, 0);
    assert!(report.to_string().contains("not_judged") && !report.to_string().contains("existed_before"));
    let other = authority.dir.join("other-ca.crt");
    let (code, report) = verify(&ledger, &vkey, &[&file], &["--tsa-ca", text(&other)]);
    assert_eq!(code, 4);
    assert!(
        report
            .to_string()
            .contains("does not lead to a trusted authority"),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_and_time_each_make_a_checkpoint_due_and_a_restart_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("anchors");
    let by_leaves = [
        "--anchor-file",
        text(&file),
        "--anchor-leaves",
        "10",
        "--anchor-interval",
        "1d",
    ];
    let mut collector = collector(dir.path(), &by_leaves);
    let mut host = Host::enrolled(1, &collector);
    for _ in 0..8 {
        feed(&collector, &mut host, 4, 1).await;
    }
    wait_until("the last one due is there", || anchored(&collector, "file") > 20);
    collector.end(Signal::TERM);
    let key = verifier(&collector);
    let before = sizes(&file, &key);
    assert!(
        before.windows(2).all(|pair| pair[1] - pair[0] >= 10),
        "{before:?}"
    );

    // A restart that has nothing new to say says nothing.
    collector.run();
    feed(&collector, &mut host, 1, 1).await;
    collector.end(Signal::TERM);
    let again = sizes(&file, &key);
    assert!(
        again.len() <= before.len() + 1 && again.windows(2).all(|pair| pair[1] - pair[0] >= 10),
        "{again:?}"
    );

    // Time alone: one second after the last, a single leaf is enough.
    let by_time = [
        "--anchor-file",
        text(&file),
        "--anchor-leaves",
        "1000000",
        "--anchor-interval",
        "1s",
    ];
    collector.settings = by_time.iter().map(|&word| word.to_owned()).collect();
    collector.run();
    for _ in 0..2 {
        let before = anchored(&collector, "file");
        feed(&collector, &mut host, 1, 1).await;
        wait_until("its time came", || anchored(&collector, "file") > before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_while_it_anchors_leaves_a_file_that_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("anchors");
    let settings = [
        "--anchor-file",
        text(&file),
        "--anchor-leaves",
        "1",
        "--anchor-interval",
        "1s",
    ];
    let mut collector = collector(dir.path(), &settings);
    let mut host = Host::enrolled(1, &collector);
    for _ in 0..6 {
        feed(&collector, &mut host, 5, 1).await;
        collector.end(Signal::KILL);
        // What a kill in the middle of a write leaves, whether or not this one did.
        let mut torn = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .unwrap();
        torn.write_all(b"HLAN\0\x01\0").unwrap();
        collector.run();
        // A record between any two torn ones, or they would be found as one.
        let leaves = collector.metric("hostledger_ledger_leaves");
        wait_until("what was killed is made good", || {
            anchored(&collector, "file") >= leaves
        });
    }
    let before = anchored(&collector, "file");
    feed(&collector, &mut host, 5, 1).await;
    wait_until("it goes on", || anchored(&collector, "file") > before);
    let found = read(&file);
    assert!(
        found.damage.len() >= 6
            && found
                .damage
                .iter()
                .all(|damage| matches!(damage, Damage::Torn { .. }))
    );
    collector.end(Signal::TERM);
    let (ledger, vkey) = (collector.layout.ledger(), collector.layout.ledger_verifier());
    let (code, report) = verify(&ledger, &vkey, &[&file], &[]);
    assert_eq!(code, 0, "a torn write is no tampering: {report:#}");
}

/// Copies of the ledger as they were at three times, with the anchors of the last.
struct Copies {
    dir: tempfile::TempDir,
    collector: Collector,
    file: PathBuf,
    host: Host,
}

impl Copies {
    async fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("anchors");
        let settings = [
            "--anchor-file",
            text(&file),
            "--anchor-leaves",
            "1",
            "--anchor-interval",
            "1s",
        ];
        let mut collector = collector(dir.path(), &settings);
        let mut host = Host::enrolled(1, &collector);
        feed(&collector, &mut host, 20, 1).await;
        wait_until("anchored", || anchored(&collector, "file") >= 20);
        collector.end(Signal::TERM);
        copy(collector.layout.root(), &dir.path().join("older"));
        collector.run();
        feed(&collector, &mut host, 20, 1).await;
        wait_until("anchored", || anchored(&collector, "file") >= 40);
        collector.end(Signal::TERM);
        Self {
            dir,
            collector,
            file,
            host,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_expose_an_older_copy_a_cut_and_another_history() {
    let Copies {
        dir,
        collector,
        file,
        host,
    } = Copies::make().await;
    let (ledger, vkey) = (collector.layout.ledger(), collector.layout.ledger_verifier());
    let key = dir.path().join("trusted.vkey");
    fs::copy(&vkey, &key).unwrap();
    let (code, report) = verify(&ledger, &key, &[&file], &[]);
    assert_eq!(code, 0, "{report:#}");

    // An older copy in the ledger's place: sound by itself, and yet found.
    let older = dir.path().join("older/ledger");
    let (_, sound) = collector.verify();
    assert_eq!(sound["sound"], true);
    let (code, report) = verify(&older, &key, &[&file], &[]);
    assert_eq!(code, 4);
    let standings: Vec<&str> = report["anchors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|anchor| anchor["standing"].as_str().unwrap())
        .collect();
    assert!(
        standings.contains(&"prefix") && standings.ends_with(&["gone"]),
        "{standings:?}"
    );
    assert!(
        report.to_string().contains("an older copy was put in its place"),
        "{report:#}"
    );

    // Another history grown from the older copy, by whoever has the key.
    let mut second = Collector::in_copy(&dir.path().join("older"), &["--silence-after", "1h"]);
    let mut other = Host::enrolled(1, &collector);
    fs::copy(collector.layout.host(&host.id), second.layout.host(&host.id)).unwrap();
    for _ in 0..20 {
        other.seal(&[vec![1; 40]]);
    }
    feed(&second, &mut other, 40, 9).await;
    second.end(Signal::TERM);
    let proof = dir.path().join("proof");
    let (code, report) = verify(&older, &key, &[&file], &["-f", text(&proof)]);
    assert_eq!(
        (code, &report["split_view_proof"]),
        (4, &text(&proof).into()),
        "{report:#}"
    );
    let words = ["hostledger", "proof", "check", text(&proof), "--vkey", text(&key)];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = words.iter().map(std::ffi::OsString::from);
    let code = cli::run(words, jiff::Timestamp::now(), &mut out, &mut err);
    let said = String::from_utf8(out).unwrap();
    assert!(
        code == 0 && said.contains("signed two histories"),
        "{code}: {said}"
    );

    // A ledger without its end: the checkpoint stands, its tiles do not.
    let tile = fs::read_dir(ledger.join("log/tile/0/000.p")).unwrap();
    for tile in tile {
        fs::remove_file(tile.unwrap().path()).unwrap();
    }
    let (code, report) = verify(&ledger, &key, &[&file], &[]);
    assert_eq!(code, 4);
    assert!(
        report["ledger_fault"].as_str().unwrap().contains("truncated"),
        "{report:#}"
    );

    // An anchor that was altered is named by file and offset.
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let bad = dir.path().join("altered");
    fs::write(&bad, &bytes).unwrap();
    let (code, report) = verify(&older, &key, &[&bad], &["-f", text(&proof)]);
    assert_eq!(code, 4);
    assert!(
        report["damage"][0]["what"]
            .as_str()
            .unwrap()
            .contains("they were altered"),
        "{report:#}"
    );
}
