//! The ledger's key changed where witnesses are asked: nothing goes past them, those who were told cosign from the
//! first checkpoint on, the others once they are told, and what was cosigned before and after holds with one policy.

use std::{fs, path::Path, process::Output};

use common::{
    checkpoint::{self, Checkpoint},
    ids::{Hash, hex},
    ledger_keys::{LedgerKeys, LedgerTrust},
    merkle,
    note::{SignerKey, VerifierKey},
    session::Message,
    witness::AddCheckpoint,
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session},
    process::{Collector, command, wait_until},
    split_view::{hostledger, text},
    witnesses::{collector_with, policy, proven, status, store},
};

/// `key` with these words on a stopped collector.
pub(crate) fn key(collector: &Collector, words: &[&str]) -> Output {
    let dir = text(collector.layout.root()).to_owned();
    command(&[&["key", words[0], "--dir", &dir], &words[1..]].concat())
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The policy in the settings: what changes a key on a stopped collector sees no flags.
pub(crate) fn settle_policy(collector: &Collector, missing: &str) {
    let file = collector.layout.config();
    let settings = fs::read_to_string(&file).unwrap();
    let policy = format!("witness_policy = \"witnesses.policy\"\nwitness_quorum_missing = \"{missing}\"\n");
    fs::write(file, format!("{settings}\n{policy}")).unwrap();
}

pub(crate) fn signer(path: &Path) -> SignerKey {
    SignerKey::parse(fs::read_to_string(path).unwrap().trim()).unwrap()
}

/// All that the collector's directory says of its keys.
pub(crate) fn keys(collector: &Collector) -> LedgerKeys {
    LedgerKeys::given(&fs::read(collector.layout.ledger_keys()).unwrap()).unwrap()
}

/// A key made beforehand, in `out`.
pub(crate) fn make(collector: &Collector, out: &Path) -> VerifierKey {
    let made = key(collector, &["make", "--out", text(out)]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(said(&made).contains(&signer(out).verifier().to_string()));
    signer(out).verifier().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_changes_under_witnesses_who_were_told_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut witnesses) = collector_with(dir.path(), 2, 2, "closed");
    let policy = policy(&witnesses, 2);
    let mut host = Host::enrolled(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 3).await;
    let before = proven(&mut session, seen, 2, Some(&policy)).await;
    drop(session);
    // Made while the collector runs, and told to the first witness alone.
    let next_file = dir.path().join("next.key");
    let next = make(&collector, &next_file);
    let old = keys(&collector).in_force().clone();
    witnesses[0].follow(&[&old, &next]);
    collector.end(Signal::TERM);

    let offline = collector.layout.offline_key();
    let rotate = |new: &Path| {
        let words = ["rotate", "--offline-key", text(&offline), "--new-key", text(new)];
        key(&collector, &words)
    };
    let past = rotate(&next_file);
    assert!(
        !past.status.success() && said(&past).contains("nothing may be published past"),
        "{}",
        said(&past)
    );
    settle_policy(&collector, "closed");
    let other = SignerKey::from_seed("ledger.example/other", &[6; 32]).unwrap();
    let other_file = dir.path().join("other.key");
    fs::write(&other_file, other.encode_secret()).unwrap();
    let refused = rotate(&other_file);
    assert!(
        said(&refused).contains("it is a key of \"ledger.example/other\""),
        "{}",
        said(&refused)
    );
    let used = rotate(&collector.layout.ledger_key());
    assert!(!used.status.success(), "a key follows itself: {}", said(&used));
    let done = rotate(&next_file);
    assert!(done.status.success(), "{}", said(&done));
    assert!(
        said(&done).contains(&format!("which must know {next}")),
        "{}",
        said(&done)
    );
    assert_eq!(keys(&collector).in_force(), &next);
    let after = keys(&collector).changes()[0].after;
    let on_disk = || {
        let note = fs::read(collector.layout.checkpoint()).unwrap();
        keys(&collector).open_checkpoint(&note).unwrap().size
    };
    assert_eq!(on_disk(), after, "nothing was published past the witnesses");

    // The second was not told: batches are acknowledged, nothing is proven, and who is to do what is said.
    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let mut seen = store(&mut session, &mut host, 4).await;
    let beyond = |message: &Message| match message {
        Message::Receipts(receipts) => checkpoint::open(&receipts.checkpoint, &old).is_err(),
        _ => false,
    };
    assert!(!seen.iter().any(beyond), "a receipt past the witnesses");
    wait_until("the second witness is missing, and why", || {
        let shown = status(&collector);
        shown.contains("witness.example/w2 MISSING since")
            && shown.contains("does not trust the key that signs this ledger")
            && shown.contains("`key list`")
    });
    let missing = |name: &str| {
        collector.metric(&format!(
            "hostledger_witness_missing{{witness=\"witness.example/{name}\"}}"
        ))
    };
    assert_eq!((missing("w1"), missing("w2")), (0, 1), "the first was told");
    assert_eq!(collector.metric("hostledger_checkpoint_withheld"), 1);
    let (_, shown) = collector.get("/checkpoint");
    assert_eq!(shown, fs::read(collector.layout.checkpoint()).unwrap());
    assert!(checkpoint::open(&shown, &old).unwrap().size <= after);
    // It learns the new key instead of the old one; its record of what the old one signed goes on.
    witnesses[1].follow(&[&next]);
    seen.extend(store(&mut session, &mut host, 1).await);
    let now = proven(&mut session, seen, 7, Some(&policy)).await;
    assert!(checkpoint::open(&now, &next).unwrap().size > after);
    assert!(checkpoint::open(&before, &next).is_err() && checkpoint::open(&now, &old).is_err());
    wait_until("nobody is missing any more", || {
        collector.metric("hostledger_checkpoint_withheld") == 0 && missing("w2") == 0
    });
    for witness in &witnesses {
        assert!(!witness.dir.join("contradictions").exists(), "{}", witness.key);
    }

    // One policy, which names the ledger by its first key, for what was cosigned before and after.
    let ledger = collector.layout.ledger();
    let policy_file = collector.layout.root().join("witnesses.policy");
    let (vkey, history) = (collector.layout.ledger_verifier(), collector.layout.ledger_keys());
    let demanded = ["--vkey", text(&vkey), "--witness-policy", text(&policy_file)];
    let known = ["--keys", text(&history)];
    let (old_file, new_file) = (dir.path().join("before"), dir.path().join("now"));
    fs::write(&old_file, &before).unwrap();
    fs::write(&new_file, &now).unwrap();
    let compare = [
        "compare",
        text(&old_file),
        text(&new_file),
        "--vkey",
        text(&history),
    ];
    let (code, shown) = hostledger(&[&compare[..], &["--ledger", text(&ledger)]].concat());
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = hostledger(&[&["verify", "--ledger", text(&ledger)], &demanded[..]].concat());
    assert_eq!(code, 0, "{shown}");
    let bundle = dir.path().join("across.bundle");
    let export = ["audit", "export", "--ledger", text(&ledger), "-f", text(&bundle)];
    let asked: Vec<String> = (0..8).map(|event| format!("{}:{event}", host.id)).collect();
    let events: Vec<&str> = asked.iter().flat_map(|event| ["--event", event]).collect();
    let (code, shown) = hostledger(&[&export[..], &events].concat());
    assert_eq!(code, 0, "{shown}");
    for more in [&[][..], &known] {
        let words = [
            &["audit", "verify", text(&bundle), "-o", "json"],
            &demanded[..],
            more,
        ]
        .concat();
        let (code, shown) = hostledger(&words);
        assert_eq!(code, 0, "{shown}");
        judged_alike(&shown, &vkey, &witnesses, &bundle);
    }
    collector.end(Signal::TERM);
    assert_eq!(collector.verify().0, Some(0));
    println!("evidence: one key replaced after {after} leaves, both cosigned by two witnesses");
}

/// Holds our report on a bundle against the one of the verifier in Python, where that was installed.
#[cfg(feature = "oracles")]
fn judged_alike(ours: &str, vkey: &Path, witnesses: &[crate::witness_process::Witness], bundle: &Path) {
    let keys: Vec<String> = witnesses.iter().map(|one| one.key.to_string()).collect();
    let done = std::process::Command::new(crate::foreign_witness::tool("../python/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/verifier/verify_bundle.py"))
        .arg("--vkey")
        .arg(vkey)
        .args(keys.iter().flat_map(|key| ["--witness", key]))
        .arg(bundle)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let [ours, theirs] = [ours.as_bytes(), &done.stdout]
        .map(|report| serde_json::from_slice::<serde_json::Value>(report).unwrap());
    assert_eq!(ours, theirs);
    assert_eq!(theirs["witnesses"].as_array().unwrap().len(), witnesses.len());
}

#[cfg(not(feature = "oracles"))]
fn judged_alike(ours: &str, _: &Path, witnesses: &[crate::witness_process::Witness], _: &Path) {
    let ours: serde_json::Value = serde_json::from_str(ours).unwrap();
    assert_eq!(ours["witnesses"].as_array().unwrap().len(), witnesses.len());
}

/// A key could not be revoked while witnesses withheld their cosignatures, which a thief can bring about: with the
/// stolen key he has one of them cosign more leaves than there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_is_revoked_although_witnesses_do_not_sign_and_leaves_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut witnesses) = collector_with(dir.path(), 2, 1, "closed");
    settle_policy(&collector, "closed");
    let policy = policy(&witnesses, 1);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 2).await;
    proven(&mut session, seen, 1, Some(&policy)).await;
    wait_until("both have cosigned", || {
        let (_, note) = collector.get("/checkpoint");
        policy.judge(&note).unwrap().missing.is_empty()
    });
    // The thief extends what was cosigned by a leaf of his own and has the first witness sign it; the other is down.
    let stolen = signer(&collector.layout.ledger_key());
    let (_, note) = collector.get("/checkpoint");
    let honest = keys(&collector).open_checkpoint(&note).unwrap();
    let (forged, proof) = extended(&collector, &honest, &stolen);
    let ask = |note: &str, old: u64, proof: &[Hash]| AddCheckpoint {
        old,
        proof: proof.to_vec(),
        note: note.as_bytes().to_vec(),
    };
    let answer = witnesses[0].ask(&ask(&forged, honest.size, &proof).encode());
    assert_eq!(answer.status, 200, "{answer:?}");
    witnesses[1].kill();
    store(&mut session, &mut host, 3).await;
    wait_until("checkpoints are withheld", || {
        collector.metric("hostledger_checkpoint_withheld") == 1
    });
    collector.end(Signal::TERM);

    let offline = collector.layout.offline_key();
    let id = hex(&stolen.verifier().id());
    let words = [
        "revoke",
        "--offline-key",
        text(&offline),
        "--key",
        &id,
        "--reason",
        "stolen",
    ];
    let done = key(&collector, &words);
    assert!(done.status.success(), "{}", said(&done));
    let known = keys(&collector);
    let after = known.changes()[0].after;
    assert_eq!(
        after,
        honest.size + 3,
        "every durable leaf, under a checkpoint or not"
    );
    // The witness that was down is told of the new key alone, and the revoked one is worth nothing there.
    witnesses[1].follow(&[known.in_force()]);
    let refused = witnesses[1].ask(&ask(&forged, honest.size, &proof).encode());
    assert_eq!(refused.status, 403, "{refused:?}");
    collector.run();
    let (mut session, welcome) = Session::open(&host, &collector).await;
    assert_eq!(welcome.next.0, 5, "nothing acknowledged was lost");
    let seen = store(&mut session, &mut host, 1).await;
    let note = proven(&mut session, seen, 5, Some(&policy)).await;
    assert!(known.open_checkpoint(&note).unwrap().size > after);
    let judged = policy.judge(&note).unwrap();
    assert_eq!(judged.missing, ["witness.example/w1"], "whom the thief had sign");
    collector.end(Signal::TERM);
    assert_eq!(collector.verify().0, Some(0));
}

/// A checkpoint of one leaf more than `honest`, signed by `key`, and the proof that it extends it.
fn extended(collector: &Collector, honest: &Checkpoint, key: &SignerKey) -> (String, Vec<Hash>) {
    let (status, tile) = collector.get(&format!("/tile/0/000.p/{}", honest.size));
    assert_eq!(status, 200);
    let leaves = tile.chunks_exact(32).map(|hash| Hash(hash.try_into().unwrap()));
    let leaves: Vec<Hash> = leaves.chain([Hash([7; 32])]).collect();
    let forged = Checkpoint {
        size: honest.size + 1,
        root: merkle::root_of(&leaves),
        ..honest.clone()
    };
    let old = leaves.len() - 1;
    let proof = merkle::consistency_proof(&leaves, old, old + 1).unwrap();
    (forged.sign(key).unwrap(), proof)
}
