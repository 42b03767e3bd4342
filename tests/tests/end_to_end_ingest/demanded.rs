//! Whoever demands cosignatures on the command line, of a proof, a bundle or a whole ledger.

use std::fs;

use common::note::WitnessSigner;

use crate::{
    peer::{Host, Session},
    process::wait_until,
    split_view::{hostledger, text},
    witnesses::{collector_with, policy, proven, store},
};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_demands_cosignatures_is_told_who_gave_them_and_who_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let (collector, witnesses) = collector_with(dir.path(), 2, 2, "closed");
    let mut host = Host::enrolled(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 2).await;
    proven(&mut session, seen, 1, Some(&policy(&witnesses, 2))).await;

    let (proof, bundle) = (dir.path().join("a.proof"), dir.path().join("a.bundle"));
    let url = format!("http://{}", collector.http);
    wait_until("the first statement is proven", || {
        let words = ["--collector", &url, "proof", "statement:0", "-f", text(&proof)];
        hostledger(&words).0 == 0
    });
    let ledger = collector.layout.ledger();
    let since = ["--since", "2000-01-01", "-f", text(&bundle)];
    let (code, said) = hostledger(&[&["audit", "export", "--ledger", text(&ledger)], &since[..]].concat());
    assert_eq!(code, 0, "{said}");

    let vkey = collector.layout.ledger_verifier();
    let stranger = WitnessSigner::from_seed("witness.example/w9", &[9; 32]).unwrap();
    let keys = [&witnesses[0].key, &witnesses[1].key, stranger.verifier()].map(ToString::to_string);
    let own = ["--witness", &keys[0], "--witness", &keys[1]];
    let three = [&own[..], &["--witness", &keys[2]]].concat();
    let two_of_three = [&three[..], &["--quorum", "2"]].concat();
    let too_many = [&three[..], &["--quorum", "4"]].concat();
    let file = dir.path().join("c/witnesses.policy");
    let from_file = ["--witness-policy", text(&file)];
    let both = [&from_file[..], &own[..2]].concat();
    let trusted = ["--vkey", text(&vkey)];
    let commands: [(&str, Vec<&str>, &[u8]); 3] = [
        ("proof", vec!["proof", "check", text(&proof)], &[0]),
        ("ledger", vec!["verify", "--ledger", text(&ledger)], &[0]),
        // What its host sent is not complete for all that time.
        ("bundle", vec!["audit", "verify", text(&bundle)], &[0, 3]),
    ];
    for (what, words, good) in &commands {
        let run = |more: &[&str]| hostledger(&[&words[..], &trusted, more].concat());
        for enough in [&own[..], &two_of_three, &from_file] {
            let (code, said) = run(enough);
            assert!(good.contains(&code), "{what} {enough:?}: {code} {said}");
            for name in ["witness.example/w1", "witness.example/w2"] {
                assert!(said.contains(name) && said.contains(" at 20"), "{what}: {said}");
            }
        }
        let (code, said) = run(&three);
        assert_eq!(code, 5, "{what}: {said}");
        assert!(said.contains("witness.example/w9"), "{what}: {said}");
        for misused in [&too_many[..], &both, &["--quorum", "1"]] {
            let (code, said) = run(misused);
            assert_eq!(code, 2, "{what} {misused:?}: {said}");
        }
        let (code, said) = run(&[]);
        assert!(
            good.contains(&code) && !said.contains("cosigned at"),
            "{what}: {said}"
        );
    }

    // In JSON, and where a cosignature is false.
    let check = |more: &[&str]| hostledger(&[&["proof", "check", text(&proof)], &trusted[..], more].concat());
    let (_, said) = check(&[&own[..], &["-o", "json"]].concat());
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["witnesses"][0]["name"], "witness.example/w1", "{said}");
    assert!(said["witnesses"][0]["posix_seconds"].as_u64().unwrap() > 1_700_000_000);
    let good = fs::read_to_string(&proof).unwrap();
    let line = good
        .lines()
        .find(|line| line.contains("witness.example/w2"))
        .unwrap();
    let (begin, end) = line.split_at(line.len() - 20);
    let other = if end.starts_with('A') { "B" } else { "A" };
    fs::write(
        &proof,
        good.replace(line, &format!("{begin}{other}{}", &end[1..])),
    )
    .unwrap();
    let (code, said) = check(&own);
    assert!(code == 4 && said.contains("witness.example/w2"), "{code} {said}");
    let (code, said) = check(&own[..2]);
    assert_eq!(code, 0, "whose word is not demanded may say anything: {said}");
}
