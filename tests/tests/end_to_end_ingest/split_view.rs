//! A collector run twice from a copied directory, fed differently: agents refuse it, a witness refuses it, and
//! anybody proves it to anybody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    checkpoint,
    ids::Sequence,
    merkle::verify_consistency,
    note::VerifierKey,
    session::{Message, Receipts},
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session, batch, feed},
    process::{Collector, PATIENCE, command},
    witness_process::Witness,
};

pub(crate) fn verifier(collector: &Collector) -> VerifierKey {
    let text = fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    VerifierKey::parse(text.trim()).unwrap()
}

/// The command line `hostledger`: exit code and output.
pub(crate) fn hostledger(words: &[&str]) -> (u8, String) {
    let mut out = Vec::new();
    let words = ["hostledger"].iter().chain(words).map(std::ffi::OsString::from);
    let mut err = Vec::new();
    let code = cli::run(words, jiff::Timestamp::now(), &mut out, &mut err);
    out.extend(err);
    (code, String::from_utf8(out).unwrap())
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two collectors over copies of one directory, both grown beyond the copy with other batches of one host.
struct Twins {
    dir: tempfile::TempDir,
    first: Collector,
    second: Collector,
    witness: Witness,
    /// What an agent remembers of the first.
    remembered: Receipts,
}

async fn twins() -> Twins {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Collector::start_in(&dir.path().join("one"), &[]);
    let mut host = Host::enrolled(1, &first);
    feed(&first, &mut host, 4, 1).await;
    first.end(Signal::TERM);
    let witness = Witness::start("witness.example/w1", &[verifier(&first).to_string()], "");
    let policy = format!("witness w {} http://{}\nquorum w\n", witness.key, witness.address);
    fs::write(first.layout.root().join("witnesses.policy"), policy).unwrap();
    let copied = Command::new("cp")
        .args(["-a", text(first.layout.root()), text(&dir.path().join("two"))])
        .status()
        .unwrap();
    assert!(copied.success());
    let asking = [
        "--witness-policy",
        "witnesses.policy",
        "--witness-quorum-missing",
        "closed",
    ];
    first.settings = asking.iter().map(|&word| word.to_owned()).collect();
    first.run();
    // The same host at the same point of its chain, twice: only an operator who lies to both can do this.
    let mut other = Host::enrolled(1, &first);
    for _ in 0..4 {
        other.seal(&[vec![1; 40]]);
    }
    assert_eq!(other.head.hash, host.head.hash);
    let remembered = feed(&first, &mut host, 3, 2).await;
    let mut second = Collector::in_copy(&dir.path().join("two"), &asking);
    // Registered after the copy was made, so its registration is copied as well.
    let registered = first.layout.host(&host.id);
    fs::copy(registered, second.layout.host(&host.id)).unwrap();
    let (mut session, _) = Session::open(&other, &second).await;
    for _ in 0..5 {
        let (header, body) = other.seal(&[vec![3; 40]]);
        session.send(&batch(&header, body)).await;
    }
    loop {
        if let Some(Message::Stored { through: Sequence(8) }) = session.next().await {
            break;
        }
    }
    // Its witness holds another history: nothing is published, and it says why. Asked while only the first of those
    // batches was there, the witness has merely more leaves, and is asked again.
    let begun = std::time::Instant::now();
    loop {
        let withheld = second.metric("hostledger_checkpoint_withheld") == 1;
        let status = command(&["status", "--dir", text(second.layout.root())]);
        let status = String::from_utf8(status.stdout).unwrap();
        if withheld && status.contains("another history of this ledger") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the witness let it pass: {status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The operator turns the witness off to show the second view all the same.
    second.end(Signal::TERM);
    second.settings.clear();
    second.run();
    Twins {
        dir,
        first,
        second,
        witness,
        remembered,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_shown_in_two_versions_is_exposed_and_proven_offline() {
    let Twins {
        dir,
        first,
        second,
        witness,
        remembered,
    } = twins().await;
    let key = verifier(&first);
    let mine = checkpoint::open(&remembered.checkpoint, &key).unwrap();

    // An agent that saw the first is not convinced by the second.
    let (_, theirs) = second.get("/checkpoint");
    let theirs_head = checkpoint::open(&theirs, &key).unwrap();
    // Statements of the collectors are leaves as well, so that only the order of the sizes is certain.
    assert!(mine.size < theirs_head.size, "{} {}", mine.size, theirs_head.size);
    let mut agent = Host::enrolled(1, &second);
    for _ in 0..4 {
        agent.seal(&[vec![1; 40]]);
    }
    let mut session = Session::connect(&agent, second.ingest, &second.layout.ca_certificate())
        .await
        .unwrap();
    let mut hello = agent.hello();
    (hello.seen_size, hello.seen_root) = (mine.size, mine.root);
    session.send(&Message::Hello(hello)).await;
    let convinced = loop {
        match session.next().await {
            Some(Message::Receipts(receipts)) => {
                let head = checkpoint::open(&receipts.checkpoint, &key).unwrap();
                let proof = &receipts.consistency;
                break verify_consistency(mine.size, &mine.root, head.size, &head.root, proof).is_ok();
            }
            Some(Message::Refused(_)) | None => break false,
            Some(_) => {}
        }
    };
    assert!(!convinced, "an agent took a fork for its ledger");

    // Anybody who has both proves it: the agent's receipt, or the witness's record, and the second's ledger.
    let at = |name: &str| dir.path().join(name);
    fs::write(at("agent.checkpoint"), &remembered.checkpoint).unwrap();
    fs::write(at("second.checkpoint"), &theirs).unwrap();
    let record = fs::read_dir(witness.dir.join("cosigned"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let vkey = first.layout.ledger_verifier();
    let contradiction = |kind: &str| -> PathBuf {
        let origin = fs::read_dir(witness.dir.join(kind))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::read_dir(origin).unwrap().next().unwrap().unwrap().path()
    };
    let others = [at("agent.checkpoint"), record.clone()];
    for (n, other) in others.iter().enumerate() {
        let proof = at(&format!("split-{n}.proof"));
        let (code, said) = hostledger(&[
            "compare",
            text(other),
            text(&at("second.checkpoint")),
            "--vkey",
            text(&vkey),
            "--ledger",
            text(&second.layout.ledger()),
            "-f",
            text(&proof),
        ]);
        assert!(code == 4 && said.contains("SPLIT VIEW"), "{code} {said}");
        // Offline, with the key alone.
        let alone = at(&format!("ledger-{n}.vkey"));
        fs::copy(&vkey, &alone).unwrap();
        let (code, said) = hostledger(&["proof", "check", text(&proof), "--vkey", text(&alone)]);
        assert!(
            code == 0 && said.contains("signed two histories"),
            "{code} {said}"
        );
        let mut bytes = fs::read(&proof).unwrap();
        // In the root: cosignatures of signers that nobody trusts may be anything.
        let line = b"\nroot ";
        let root_at = bytes
            .windows(line.len())
            .position(|window| window == line)
            .unwrap()
            + line.len();
        bytes[root_at + 5] ^= 1;
        fs::write(at("altered.proof"), bytes).unwrap();
        let (code, said) = hostledger(&[
            "proof",
            "check",
            text(&at("altered.proof")),
            "--vkey",
            text(&alone),
        ]);
        assert!(code == 4 && said.contains("NOT PROVEN"), "{code} {said}");
    }
    // What the witness kept of the second proves it too, against the first's ledger or the second's.
    let kept = contradiction("contradictions");
    assert!(fs::read(&kept).unwrap().starts_with(b"old "));
    // And whoever is honest is not accused.
    let (code, said) = hostledger(&[
        "compare",
        text(&at("agent.checkpoint")),
        text(&record),
        "--vkey",
        text(&vkey),
        "--ledger",
        text(&first.layout.ledger()),
    ]);
    assert!(code == 0 && said.contains("consistent"), "{code} {said}");
    println!(
        "evidence: a split view of {} and {} leaves, seen by an agent and a witness, proven offline",
        7, 9
    );
}
