//! Retention on the running collector: commands, rules, witnesses.

use std::{
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{answer::Moment, event::process::ProcessCause, ids::LeafIndex, session::Message};
use ledger::{Local, Reader, audit::describe};
use rustix::process::Signal;
use serde_json::Value;
use tests::chains::{GOES_ON, Maker, STARTS, event, process, process_key, run_begins, wall};

use crate::{
    peer::{Host, Session},
    process::{Collector, command, program, wait_until},
    witness_process::mode,
    witnesses::{collector_with, write_policy},
};

/// A host that its own chain was made for.
fn chain(seed: u8, batches: u64) -> Maker {
    let mut maker = Maker::new(seed);
    maker.seal(STARTS, 0, 9, &run_begins(maker.host(), "node", 0));
    for at in 1..batches {
        let fact = process(process_key(100, at), None, &[b"/bin/true"], ProcessCause::Exec);
        maker.seal(GOES_ON, at * 10, at * 10 + 9, &[event(at * 10 + 1, fact)]);
    }
    maker
}

/// Sends batches one by one, each after the last was acknowledged.
pub(crate) async fn store(session: &mut Session, sealed: &[(Vec<u8>, Vec<u8>)]) {
    for (header, body) in sealed {
        let (header, body) = (header.clone(), body.clone());
        session.send(&Message::Batch { header, body }).await;
        loop {
            match session.next().await {
                Some(Message::Stored { .. }) => break,
                Some(Message::Receipts(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A host with so many batches in the collector.
async fn stored(collector: &Collector, seed: u8, batches: u64) -> Maker {
    let maker = chain(seed, batches);
    let host = Host::enrolled(seed, collector);
    assert_eq!(host.id, maker.host());
    let (mut session, _) = Session::open(&host, collector).await;
    store(&mut session, &maker.sealed).await;
    maker
}

fn ask(collector: &Collector, words: &[&str]) -> Output {
    let dir = collector.layout.root().to_str().unwrap();
    let mut all = words.to_vec();
    all.extend(["--dir", dir]);
    command(&all)
}

/// What a command told a program.
fn told(collector: &Collector, words: &[&str]) -> Value {
    let mut all = words.to_vec();
    all.push("--json");
    let done = ask(collector, &all);
    assert!(done.status.success(), "{words:?}: {done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Checks a ledger offline.
pub(crate) fn assert_sound(collector: &Collector) -> Value {
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report:#}");
    report
}

#[tokio::test]
async fn holds_and_prunes_are_taken_whether_it_runs_or_not() {
    let mut collector = Collector::start_with(&["--silence-after", "1h"]);
    let maker = stored(&collector, 1, 40).await;
    let host = maker.host().to_string();
    assert_eq!(mode(&collector.layout.control()), 0o600);
    let none = told(&collector, &["hold", "list"]);
    assert_eq!(none, Value::Array(Vec::new()));
    let (since, until) = (Moment(wall(100)).to_string(), Moment(wall(150)).to_string());
    let mut add = vec!["hold", "add", "--host", &host, "--reason", "case 7"];
    add.extend(["--since", &since, "--until", &until]);
    let held = told(&collector, &add);
    let number = held["statement"].as_u64().unwrap().to_string();
    let listed = told(&collector, &["hold", "list"]);
    assert_eq!(listed[0]["statement"], held["statement"]);
    assert_eq!(listed[0]["hold"]["reason"], "case 7");

    // Its own statements and the last batches may wait for their checkpoint still.
    wait_until("published", || {
        told(&collector, &["prune", "--older-than", "2040-01-01", "--dry-run"])["bodies"] == 33
    });
    let plan = told(&collector, &["prune", "--older-than", "2040-01-01", "--dry-run"]);
    assert_eq!((&plan["bodies"], &plan["held"]), (&33.into(), &6.into()));
    assert_eq!(collector.metric("hostledger_pruned_bodies_total"), 0);
    let done = told(&collector, &["prune", "--older-than", "2040-01-01"]);
    assert_eq!(done["removed_bodies"], 33, "{done:#}");
    assert_eq!(done["certificates"][0]["holds"][0], held["statement"]);
    assert_eq!(collector.metric("hostledger_pruned_bodies_total"), 33);
    assert_eq!(collector.metric("hostledger_legal_holds"), 1);
    let said = ask(&collector, &["status"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("retention: no rules; 1 legal holds; nothing under way") && said.contains("33 bodies"),
        "{said}"
    );

    // Whoever asks for what cannot be is told why.
    for (words, why) in [
        (
            &["hold", "lift", "999", "--reason", "x"][..],
            "no legal hold in force",
        ),
        (&["prune"][..], "name what goes"),
    ] {
        let refused = ask(&collector, words);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(1) && said.contains(why), "{said}");
    }

    // Stopped, the same commands do the same.
    assert!(collector.end(Signal::TERM).success());
    assert!(!collector.layout.control().exists());
    assert_sound(&collector);
    assert_eq!(told(&collector, &["hold", "list"]), listed);
    let second = told(&collector, &["hold", "add", "--reason", "everything"]);
    let second = second["statement"].as_u64().unwrap().to_string();
    told(&collector, &["hold", "lift", &number, "--reason", "closed"]);
    let plan = told(&collector, &["prune", "--keep-batches", "1", "--dry-run"]);
    assert_eq!((&plan["bodies"], &plan["held"]), (&0.into(), &6.into()));
    collector.run();
    told(&collector, &["hold", "lift", &second, "--reason", "closed"]);
    let done = told(&collector, &["prune", "--keep-batches", "1"]);
    assert_eq!(done["removed_bodies"], 6, "{done:#}");
    assert!(collector.end(Signal::TERM).success());
    let report = assert_sound(&collector);
    assert_eq!(report["notes"], Value::Array(Vec::new()), "{report:#}");
}

#[tokio::test]
async fn rules_prune_by_themselves_and_respect_holds() {
    let mut collector = Collector::start_with(&["--silence-after", "1h"]);
    collector.end(Signal::TERM);
    let rules = "keep_batches=5; older_than=36500d";
    let rules = ["--retention", rules, "--retention-interval", "200ms"];
    collector.settings.extend(rules.map(str::to_owned));
    told(
        &collector,
        &[
            "hold",
            "add",
            "--until",
            &Moment(wall(29)).to_string(),
            "--reason",
            "r",
        ],
    );
    collector.run();
    stored(&collector, 1, 40).await;
    // Three are held, five are the newest ones. Bodies are counted as they go, a prune when it has ended: where one prune
    // took all of them the last body was seen before the prune.
    wait_until("pruned", || {
        collector.metric("hostledger_pruned_bodies_total") == 32
            && collector.metric("hostledger_prunes_total") >= 1
    });
    let said = String::from_utf8(ask(&collector, &["status"]).stdout).unwrap();
    assert!(said.contains("keep_batches=5; older_than=3153600000s"), "{said}");
    assert!(collector.end(Signal::TERM).success());
    assert_sound(&collector);
}

#[tokio::test]
async fn with_witnesses_nothing_goes_before_the_certificate_is_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut witnesses) = collector_with(dir.path(), 1, 1, "closed");
    stored(&collector, 1, 40).await;
    let published = |collector: &Collector| collector.metric("hostledger_published_leaves");
    wait_until("published", || published(&collector) >= 41);
    witnesses[0].kill();
    // A hold is durable at once, cosigned or not.
    told(
        &collector,
        &[
            "hold",
            "add",
            "--until",
            &Moment(wall(29)).to_string(),
            "--reason",
            "r",
        ],
    );
    let prune = |collector: &Collector| {
        Command::new(program())
            .args(["prune", "--keep-batches", "5", "--json", "--dir"])
            .arg(collector.layout.root())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let asked = prune(&collector);
    wait_until("waiting", || collector.metric("hostledger_prune_waiting") == 1);
    let size = published(&collector);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        (
            published(&collector),
            collector.metric("hostledger_pruned_bodies_total")
        ),
        (size, 0)
    );
    let said = String::from_utf8(ask(&collector, &["status"]).stdout).unwrap();
    assert!(said.contains("waits for a published checkpoint"), "{said}");
    // Neither a kill nor a restart lets a body go.
    collector.end(Signal::KILL);
    let gone = asked.wait_with_output().unwrap();
    assert!(String::from_utf8(gone.stderr).unwrap().contains("went away"));
    collector.run();
    wait_until("waiting again", || {
        collector.metric("hostledger_prune_waiting") == 1
    });
    assert_eq!(collector.metric("hostledger_pruned_bodies_total"), 0);
    let reader = Reader::open(
        Arc::new(Local::open_reader(&collector.layout.ledger()).unwrap()),
        describe,
    );
    assert!(reader.unwrap().body(LeafIndex(10)).is_ok());
    // Once it is cosigned what was certified goes, and no more. The witness comes back at another port.
    witnesses[0].run();
    write_policy(&collector, &witnesses, 1);
    assert!(collector.end(Signal::TERM).success());
    collector.run();
    wait_until("pruned", || {
        collector.metric("hostledger_pruned_bodies_total") == 32
    });
    // On the stopped collector witnesses are asked as well.
    told(&collector, &["hold", "lift", "1", "--reason", "closed"]);
    assert!(collector.end(Signal::TERM).success());
    let policy = "witness_policy = \"witnesses.policy\"\nwitness_quorum_missing = \"closed\"\n";
    let refused = ask(&collector, &["prune", "--keep-batches", "5"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("asked witnesses when it last ran"), "{said}");
    let file = collector.layout.config();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{policy}{text}")).unwrap();
    let done = told(&collector, &["prune", "--keep-batches", "5"]);
    assert_eq!(done["removed_bodies"], 3, "{done:#}");
    assert_sound(&collector);
}
