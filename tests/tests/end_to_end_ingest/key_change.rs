//! The ledger's key replaced and revoked under the real collector: what was signed before stays provable, what a
//! thief signs afterwards is refused by name, and whoever has no say changes nothing.

use std::{fs, path::Path, process::Output};

use common::{
    checkpoint::{Checkpoint, CheckpointError},
    ids::{LeafIndex, hex},
    ledger_keys::{LedgerKeys, LedgerTrust, Standing},
    note::{SignerKey, VerifierKey},
    proof::EventProof,
};
use rustix::process::Signal;

use crate::{
    peer::{Host, feed},
    process::{Collector, command},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn key(collector: &Collector, words: &[&str]) -> Output {
    let dir = text(collector.layout.root()).to_owned();
    let words: Vec<&str> = ["key", words[0], "--dir", &dir]
        .into_iter()
        .chain(words[1..].iter().copied())
        .collect();
    command(&words)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn rotate(collector: &Collector) -> Output {
    let offline = collector.layout.offline_key();
    key(collector, &["rotate", "--offline-key", text(&offline)])
}

fn first_key(collector: &Collector) -> VerifierKey {
    let text = fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    VerifierKey::parse(text.trim()).unwrap()
}

fn signer(collector: &Collector) -> SignerKey {
    let text = fs::read_to_string(collector.layout.ledger_key()).unwrap();
    SignerKey::parse(text.trim()).unwrap()
}

/// What a reader with the first key knows once he has seen the history.
fn learnt(collector: &Collector) -> LedgerKeys {
    let bare = LedgerKeys::from(first_key(collector));
    let history = fs::read(collector.layout.ledger_keys()).unwrap();
    bare.learn(&history).unwrap().unwrap()
}

fn event_proof(collector: &Collector, host: &Host, event: u64) -> Vec<u8> {
    let (status, bytes) = collector.get(&format!("/v1/proof?event={}:{event}", host.id));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    bytes
}

/// The command line `hostledger`: exit code and output.
fn hostledger(words: &[&str]) -> (u8, String) {
    let mut out = Vec::new();
    let words = ["hostledger"].iter().chain(words).map(std::ffi::OsString::from);
    let mut err = Vec::new();
    let code = cli::run(words, jiff::Timestamp::now(), &mut out, &mut err);
    out.extend(err);
    (code, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_key_is_replaced_and_whatever_was_signed_before_still_verifies() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(1, &collector);
    let before = feed(&collector, &mut host, 3, 7).await;
    let proof_before = event_proof(&collector, &host, 1);
    let refused = rotate(&collector);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("keys are changed on a stopped collector"),
        "{}",
        said(&refused)
    );
    collector.end(Signal::TERM);
    let old = signer(&collector);
    let done = rotate(&collector);
    assert!(done.status.success(), "{}", said(&done));
    let new = signer(&collector);
    assert_ne!(old.verifier(), new.verifier());
    collector.run();
    let after = feed(&collector, &mut host, 3, 7).await;
    let proof_after = event_proof(&collector, &host, 4);

    let (keys, bare) = (learnt(&collector), first_key(&collector));
    assert_eq!((keys.first(), keys.in_force()), (&bare, new.verifier()));
    let ended = keys.changes()[0].after;
    assert!(keys.open_checkpoint(&before.checkpoint).unwrap().size <= ended);
    assert!(keys.open_checkpoint(&after.checkpoint).unwrap().size > ended);
    assert!(bare.open_checkpoint(&before.checkpoint).is_ok());
    assert!(bare.open_checkpoint(&after.checkpoint).is_err());
    for proof in [&proof_before, &proof_after] {
        let proven = EventProof::decode(proof).unwrap().check(&keys).unwrap();
        assert_eq!(proven.host, host.id);
    }

    // The change is the leaf that the history names, and the ledger is sound by the first key alone.
    let dir = tempfile::tempdir().unwrap();
    let (vkey, history) = (collector.layout.ledger_verifier(), collector.layout.ledger_keys());
    let ledger = collector.layout.ledger();
    let (old_file, new_file) = (dir.path().join("old.proof"), dir.path().join("new.proof"));
    fs::write(&old_file, &proof_before).unwrap();
    fs::write(&new_file, &proof_after).unwrap();
    let (code, shown) = hostledger(&["verify", "--ledger", text(&ledger), "--vkey", text(&vkey)]);
    assert_eq!(code, 0, "{shown}");
    let check = |file: &Path, more: &[&str]| {
        let words = [&["proof", "check", text(file)], more].concat();
        hostledger(&words)
    };
    let (vkey, history) = (text(&vkey), text(&history));
    for more in [&["--vkey", vkey, "--keys", history][..], &["--vkey", history]] {
        for file in [&old_file, &new_file] {
            let (code, shown) = check(file, more);
            assert_eq!(code, 0, "{shown}");
        }
    }
    assert_eq!(check(&old_file, &["--vkey", vkey]).0, 0);
    assert_eq!(check(&new_file, &["--vkey", vkey]).0, 4);
    let (_, statements) = collector.get("/v1/statements");
    let statements = String::from_utf8(statements).unwrap();
    assert!(statements.contains("key_change"), "{statements}");
    let (_, status) = collector.get("/v1/status");
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["verifier_key"], bare.to_string());
    assert_eq!(status["key_in_force"], new.verifier().to_string());
    let (code, served) = collector.get("/ledger.keys");
    assert_eq!((code, served), (200, fs::read(history).unwrap()));
    let bundle = dir.path().join("one.bundle");
    let (code, shown) = hostledger(&[
        "audit",
        "export",
        "--ledger",
        text(&ledger),
        "--event",
        &format!("{}:4", host.id),
        "-f",
        text(&bundle),
    ]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = hostledger(&["audit", "verify", text(&bundle), "--vkey", vkey]);
    assert_eq!(code, 0, "{shown}");
    println!("evidence: one key replaced after {ended} leaves");
}

#[tokio::test]
async fn a_stolen_key_that_was_revoked_is_refused_by_name() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(1, &collector);
    feed(&collector, &mut host, 3, 7).await;
    let proof = event_proof(&collector, &host, 1);
    collector.end(Signal::TERM);
    let stolen = signer(&collector);
    let id = hex(&stolen.verifier().id());
    let offline = collector.layout.offline_key();
    let revoke = |id: &str, offline: &Path| {
        let words = ["revoke", "--offline-key", text(offline), "--key", id];
        key(
            &collector,
            &[&words[..], &["--reason", "the disk was stolen"]].concat(),
        )
    };
    let other = revoke("00000000", &offline);
    assert!(said(&other).contains("is not in force"), "{}", said(&other));
    // The thief has every file of the collector, but not the key that was carried away.
    let own = collector.layout.root().join("thief.key");
    let forged = SignerKey::from_seed("ledger.example/test/offline", &[6; 32]).unwrap();
    fs::write(&own, forged.encode_secret()).unwrap();
    let refused = revoke(&id, &own);
    assert!(
        !refused.status.success() && said(&refused).contains("the offline key"),
        "{}",
        said(&refused)
    );
    let done = revoke(&id, &offline);
    assert!(done.status.success(), "{}", said(&done));
    let listed = key(&collector, &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["keys"][0]["ended"], "revoked");
    assert_eq!(listed["keys"][0]["id"], id.as_str());
    collector.run();
    feed(&collector, &mut host, 3, 7).await;

    let keys = learnt(&collector);
    let ended = keys.changes()[0].after;
    let claimed = Checkpoint {
        origin: "ledger.example/test".into(),
        size: ended + 5,
        root: common::ids::Hash([3; 32]),
        extensions: Vec::new(),
    };
    let forged = claimed.sign(&stolen).unwrap();
    match keys.open_checkpoint(forged.as_bytes()) {
        Err(CheckpointError::OutOfForce(found)) => {
            assert_eq!((found.standing, found.from), (Standing::Revoked, ended + 1));
        }
        other => panic!("{other:?}"),
    }
    let mut proof = EventProof::decode(&proof).unwrap();
    proof.receipt.checkpoint = forged.into_bytes();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forged.proof");
    fs::write(&file, proof.encode()).unwrap();
    let (vkey, history) = (collector.layout.ledger_verifier(), collector.layout.ledger_keys());
    let (code, shown) = hostledger(&[
        "proof",
        "check",
        text(&file),
        "--vkey",
        text(&vkey),
        "--keys",
        text(&history),
    ]);
    let named = format!("key {id} that was revoked from {} leaves on", ended + 1);
    assert!(code == 4 && shown.contains(&named), "{code} {shown}");
    assert_eq!(collector.verify().0, Some(0));
    assert!(keys.change_at(LeafIndex(ended)).is_some());
}

#[tokio::test]
async fn a_ledger_without_history_goes_on_and_can_be_given_one() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(1, &collector);
    collector.end(Signal::TERM);
    fs::remove_file(collector.layout.ledger_keys()).unwrap();
    fs::remove_file(collector.layout.offline_key()).unwrap();
    collector.run();
    feed(&collector, &mut host, 2, 7).await;
    assert_eq!(collector.get("/ledger.keys").0, 404);
    collector.end(Signal::TERM);
    let offline = collector.layout.root().join("elsewhere.key");
    let rotate = |collector: &Collector| key(collector, &["rotate", "--offline-key", text(&offline)]);
    let refused = rotate(&collector);
    assert!(said(&refused).contains("key init-history"), "{}", said(&refused));
    let begun = key(&collector, &["init-history", "--offline-key", text(&offline)]);
    assert!(begun.status.success(), "{}", said(&begun));
    let again = key(&collector, &["init-history", "--offline-key", text(&offline)]);
    assert!(!again.status.success());
    let done = rotate(&collector);
    assert!(done.status.success(), "{}", said(&done));
    let twice = rotate(&collector);
    assert!(twice.status.success(), "{}", said(&twice));
    collector.run();
    feed(&collector, &mut host, 2, 7).await;
    assert_eq!(learnt(&collector).changes().len(), 2);
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn a_history_that_was_altered_is_named_by_verify() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(1, &collector);
    feed(&collector, &mut host, 2, 7).await;
    collector.end(Signal::TERM);
    assert!(rotate(&collector).status.success());
    let path = collector.layout.ledger_keys();
    let whole = fs::read(&path).unwrap();
    let check = |bytes: Option<&[u8]>, cause: &str| {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (code, report) = collector.verify();
        assert_eq!(code, Some(4), "{report}");
        report["faults"]
            .as_array()
            .unwrap()
            .iter()
            .find(|fault| fault["cause"] == cause)
            .unwrap_or_else(|| panic!("{report}"))["what"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut rotten = whole.clone();
    rotten[30] ^= 0x80;
    check(Some(&rotten), "rot");
    // The last record cut off: what the new key signed is then nobody's.
    let text = String::from_utf8(whole.clone()).unwrap();
    let cut = text.rfind("hostledger/ledger-keys/v1").unwrap();
    check(Some(&whole[..cut]), "forgery");
    check(None, "forgery");
    let old = SignerKey::from_seed("ledger.example/test", &[1; 32]).unwrap();
    let offline = SignerKey::from_seed("ledger.example/test/offline", &[2; 32]).unwrap();
    let other = LedgerKeys::genesis(&old, &offline).unwrap().encode();
    let what = check(Some(&other), "forgery");
    assert!(what.contains("begins with key"), "{what}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(collector.verify().0, Some(0));
}
