//! The collector and its witnesses: cosigned before it is shown, closed and open without a quorum, restarts.

use std::{net::TcpListener, path::Path};

use common::{
    checkpoint,
    ids::Sequence,
    note::VerifierKey,
    session::Message,
    witness::{Policy, PolicyWitness},
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session, batch},
    process::{Collector, command, wait_until},
    witness_process::Witness,
};

const QUICK: &str = "requests_per_second = 10000";

fn vkey(collector: &Collector) -> String {
    let text = std::fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    text.trim().to_owned()
}

/// A collector that asks `quorum` of new witnesses, which follow it; `missing` is closed or open.
pub(crate) fn collector_with(
    dir: &Path,
    count: usize,
    quorum: usize,
    missing: &str,
) -> (Collector, Vec<Witness>) {
    // Its key is made by the first start, which asks nobody.
    let mut collector = Collector::start_in(&dir.join("c"), &[]);
    collector.end(Signal::TERM);
    let witnesses: Vec<Witness> = (1..=count)
        .map(|n| Witness::start(&format!("witness.example/w{n}"), &[vkey(&collector)], QUICK))
        .collect();
    write_policy(&collector, &witnesses, quorum);
    collector.settings = ["--witness-policy", "witnesses.policy", "--witness-timeout", "2s"]
        .iter()
        .chain(&["--witness-quorum-missing", missing])
        // No statement of silence adds leaves while a test waits.
        .chain(&["--silence-after", "1h"])
        .map(|&word| word.to_owned())
        .collect();
    collector.run();
    (collector, witnesses)
}

pub(crate) fn write_policy(collector: &Collector, witnesses: &[Witness], quorum: usize) {
    let mut text = format!("log {}\n", vkey(collector));
    let mut names = String::new();
    for (n, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!(
            "witness w{n} {} http://{}\n",
            witness.key, witness.address
        ));
        names.push_str(&format!(" w{n}"));
    }
    text.push_str(&format!(
        "group all-of-them {quorum}{names}\nquorum all-of-them\n"
    ));
    std::fs::write(collector.layout.root().join("witnesses.policy"), text).unwrap();
}

pub(crate) fn policy(witnesses: &[Witness], quorum: usize) -> Policy {
    let listed = |witness: &Witness| PolicyWitness {
        key: witness.key.clone(),
        url: None,
    };
    Policy::of(witnesses.iter().map(listed).collect(), quorum).unwrap()
}

/// Sends batches one by one, each after the last was acknowledged; returns what else came.
pub(crate) async fn store(session: &mut Session, host: &mut Host, count: u64) -> Vec<Message> {
    let mut others = Vec::new();
    for _ in 0..count {
        let (header, body) = host.seal(&[vec![7; 50]]);
        let sequence = header.claimed().sequence;
        session.send(&batch(&header, body)).await;
        loop {
            match session.next().await {
                Some(Message::Stored { through }) if through == sequence => break,
                Some(other) => others.push(other),
                None => panic!("the session ended"),
            }
        }
    }
    others
}

/// The first receipts that cover everything up to `last`; each checkpoint seen must satisfy `policy`.
pub(crate) async fn proven(
    session: &mut Session,
    seen: Vec<Message>,
    last: u64,
    policy: Option<&Policy>,
) -> Vec<u8> {
    let mut waiting = seen.into_iter();
    loop {
        let message = match waiting.next() {
            Some(message) => message,
            None => session.next().await.unwrap(),
        };
        if let Message::Receipts(receipts) = message {
            if let Some(policy) = policy {
                let judged = policy.judge(&receipts.checkpoint).unwrap();
                assert!(judged.satisfied, "published without its quorum: {judged:?}");
            }
            if receipts.proven.last().unwrap().sequence == Sequence(last) {
                return receipts.checkpoint;
            }
        }
    }
}

pub(crate) fn status(collector: &Collector) -> String {
    let dir = collector.layout.root().to_str().unwrap().to_owned();
    String::from_utf8(command(&["status", "--dir", &dir]).stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checkpoint_shown_has_its_quorum_and_two_of_three_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut witnesses) = collector_with(dir.path(), 3, 2, "closed");
    let policy = policy(&witnesses, 2);
    let mut host = Host::enrolled(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 20).await;
    let note = proven(&mut session, seen, 19, Some(&policy)).await;
    assert_eq!(policy.judge(&note).unwrap().signed.len(), 3, "all three are up");
    witnesses[1].kill();
    let seen = store(&mut session, &mut host, 5).await;
    let note = proven(&mut session, seen, 24, Some(&policy)).await;
    assert_eq!(policy.judge(&note).unwrap().missing, ["witness.example/w2"]);
    wait_until("the missing witness is shown", || {
        status(&collector).contains("witness.example/w2 MISSING since")
    });
    assert!(status(&collector).contains("(closed): enough of them cosigned"));
    let missing = "hostledger_witness_missing{witness=\"witness.example/w2\"}";
    assert_eq!(collector.metric(missing), 1);
    let (code, body) = collector.get("/witnesses");
    assert!(code == 200 && String::from_utf8(body).unwrap().contains("missing_since"));
    // After a kill of the collector the witnesses know more than it remembers of them; their 409 tells it.
    collector.end(Signal::KILL);
    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 3).await;
    proven(&mut session, seen, 27, Some(&policy)).await;
    assert_eq!(collector.verify().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_holds_checkpoints_back_while_batches_are_acknowledged_and_a_restart_does_not_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut witnesses) = collector_with(dir.path(), 2, 2, "closed");
    let policy = policy(&witnesses, 2);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 2).await;
    proven(&mut session, seen, 1, Some(&policy)).await;
    witnesses[0].kill();
    // Acknowledged all the same, without a receipt.
    let seen = store(&mut session, &mut host, 30).await;
    assert!(!seen.iter().any(|message| matches!(message, Message::Receipts(_))));
    wait_until("it says that checkpoints are withheld", || {
        collector.metric("hostledger_checkpoint_withheld") == 1
    });
    assert!(status(&collector).contains("TOO FEW since"));
    let size = || {
        let (_, note) = collector.get("/checkpoint");
        let key = VerifierKey::parse(&vkey(&collector)).unwrap();
        checkpoint::open(&note, &key).unwrap().size
    };
    assert_eq!(size(), 3, "the enrolment and two batches");
    // Recovery runs the same code: what no witness saw is not published by a restart, orderly or not.
    for signal in [Signal::TERM, Signal::KILL] {
        collector.end(signal);
        collector.run();
        let (_, note) = collector.get("/checkpoint");
        let key = VerifierKey::parse(&vkey(&collector)).unwrap();
        assert_eq!(checkpoint::open(&note, &key).unwrap().size, 3, "after {signal:?}");
    }
    let (mut session, welcome) = Session::open(&host, &collector).await;
    assert_eq!(welcome.next, Sequence(32), "nothing acknowledged was lost");
    let seen = store(&mut session, &mut host, 1).await;
    // The witness comes back at another port: the policy says where.
    witnesses[0].run();
    write_policy(&collector, &witnesses, 2);
    drop((session, seen));
    collector.end(Signal::TERM);
    collector.run();
    let mut tries = 0;
    wait_until("the quorum is back", || {
        tries += 1;
        let (_, note) = collector.get("/checkpoint");
        policy.judge(&note).unwrap().satisfied && {
            let key = VerifierKey::parse(&vkey(&collector)).unwrap();
            checkpoint::open(&note, &key).unwrap().size == 34
        }
    });
    assert_eq!(collector.verify().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_publishes_with_what_there_is_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (collector, mut witnesses) = collector_with(dir.path(), 2, 2, "open");
    let policy = policy(&witnesses, 2);
    witnesses[1].kill();
    // In its place something that takes connections and never answers.
    let silent = TcpListener::bind(witnesses[1].address).unwrap();
    let mut host = Host::enrolled(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 3).await;
    let note = proven(&mut session, seen, 2, None).await;
    let judged = policy.judge(&note).unwrap();
    assert!(!judged.satisfied);
    assert_eq!(judged.signed.len(), 1);
    wait_until("it says that too few sign", || {
        status(&collector).contains("published all the same")
    });
    drop(silent);
}

#[test]
fn a_policy_without_a_choice_or_for_another_ledger_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, witnesses) = collector_with(dir.path(), 1, 1, "open");
    collector.end(Signal::TERM);
    let root = collector.layout.root().to_str().unwrap();
    let run = |words: &[&str]| {
        let mut all = vec![
            "run",
            "--dir",
            root,
            "--http-listen",
            "127.0.0.1:0",
            "--ingest-listen",
            "127.0.0.1:0",
        ];
        all.extend(words);
        let done = command(&all);
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = run(&["--witness-policy", "witnesses.policy"]);
    assert!(code == Some(78) && said.contains("there is no default"), "{said}");
    let (code, said) = run(&["--witness-quorum-missing", "open"]);
    assert!(
        code == Some(78) && said.contains("witness_policy is not"),
        "{said}"
    );
    let policy = collector.layout.root().join("witnesses.policy");
    let good = std::fs::read_to_string(&policy).unwrap();
    let both = [
        "--witness-policy",
        "witnesses.policy",
        "--witness-quorum-missing",
        "open",
    ];
    let other = common::note::SignerKey::from_seed("ledger.example/other", &[1; 32]).unwrap();
    std::fs::write(
        &policy,
        good.replace(&vkey(&collector), &other.verifier().to_string()),
    )
    .unwrap();
    let (code, said) = run(&both);
    assert!(
        code == Some(1) && said.contains("do not name this ledger"),
        "{said}"
    );
    std::fs::write(
        &policy,
        good.replace(&format!(" http://{}", witnesses[0].address), ""),
    )
    .unwrap();
    let (code, said) = run(&both);
    assert!(code == Some(1) && said.contains("no URL"), "{said}");
    std::fs::write(&policy, "witness\n").unwrap();
    let (code, said) = run(&both);
    assert!(code == Some(1) && said.contains("line 1"), "{said}");
}
