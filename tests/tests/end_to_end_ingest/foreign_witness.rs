//! A witness that others wrote (the omniwitness of transparency-dev) asked by our collector.
//!
//! `cargo xtask setup` builds it into the directory that `HOSTLEDGER_TOOLS_BIN` names.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::{
    checkpoint,
    ids::Sequence,
    ledger_keys::LedgerTrust,
    note::{SignerKey, VerifierKey, WitnessKey, WitnessSigner},
    session::Message,
    witness::{Policy, PolicyWitness},
};
use rustix::process::Signal;

use crate::{
    key_witnesses::{key, keys, make, said, settle_policy},
    peer::{Host, Session, batch},
    process::{Collector, wait_until},
    split_view::text,
    witnesses::{proven, status, store},
};

const NAME: &str = "witness.example/omni";
const SEED: [u8; 32] = [41; 32];
const ASKING: [&str; 4] = [
    "--witness-policy",
    "witnesses.policy",
    "--witness-quorum-missing",
    "closed",
];

/// A program of the tools.
pub(crate) fn tool(name: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin"));
    env::var_os("HOSTLEDGER_TOOLS_BIN")
        .map_or_else(default, PathBuf::from)
        .join(name)
}

/// The witness, running; it keeps what it saw in a database of its own.
struct Omniwitness {
    address: SocketAddr,
    child: Child,
}

impl Omniwitness {
    fn start(dir: &Path, log: &VerifierKey) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::start_at(address, dir, log)
    }

    /// The same where it was, told of another key of the log. It knows one for each origin, the first it was given:
    /// its operator changes it in the database, beside the checkpoint that it cosigned last.
    fn told_of(self, dir: &Path, log: &VerifierKey) -> Self {
        let address = self.address;
        drop(self);
        let change = "import sqlite3, sys\n\
            with sqlite3.connect(sys.argv[1]) as db: db.execute('UPDATE logs SET vkey = ?', sys.argv[2:])";
        let done = Command::new(tool("../python/bin/python"))
            .args(["-c", change])
            .arg(dir.join("omniwitness.db"))
            .arg(log.to_string())
            .status();
        assert!(done.unwrap().success());
        Self::start_at(address, dir, log)
    }

    fn start_at(address: SocketAddr, dir: &Path, log: &VerifierKey) -> Self {
        let (key, logs) = (dir.join("omniwitness.key"), dir.join("logs.yaml"));
        // It takes the plain form of a key and makes the type of a witness of it.
        fs::write(&key, SignerKey::from_seed(NAME, &SEED).unwrap().encode_secret()).unwrap();
        let entry = format!(
            "Logs:\n  - Origin: {}\n    URL: http://unused.invalid\n    PublicKey: {log}\n",
            log.name()
        );
        fs::write(&logs, entry).unwrap();
        let child = Command::new(tool("omniwitness"))
            .args(["--listen", &address.to_string(), "--metrics_listen", ""])
            .arg("--private_key_path")
            .arg(&key)
            .arg("--additional_logs")
            .arg(&logs)
            .arg("--db_file")
            .arg(dir.join("omniwitness.db"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the foreign witness listens", || {
            TcpStream::connect(address).is_ok()
        });
        Self { address, child }
    }

    fn key() -> WitnessKey {
        WitnessSigner::from_seed(NAME, &SEED).unwrap().verifier().clone()
    }
}

impl Drop for Omniwitness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that asks the omniwitness and publishes nothing without it.
fn asking(dir: &Path) -> (Collector, Host, Omniwitness) {
    let mut collector = Collector::start_in(&dir.join("c"), &["--silence-after", "1h"]);
    let host = Host::enrolled(1, &collector);
    collector.end(Signal::TERM);
    let witness = Omniwitness::start(dir, keys(&collector).in_force());
    let asked = format!(
        "witness w {} http://{}\nquorum w\n",
        Omniwitness::key(),
        witness.address
    );
    fs::write(collector.layout.root().join("witnesses.policy"), asked).unwrap();
    collector.settings.extend(ASKING.map(str::to_owned));
    (collector, host, witness)
}

fn policy() -> Policy {
    let listed = PolicyWitness {
        key: Omniwitness::key(),
        url: None,
    };
    Policy::of(vec![listed], 1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_others_wrote_goes_on_once_it_is_told_of_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut host, witness) = asking(dir.path());
    settle_policy(&collector, "closed");
    let policy = policy();
    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 3).await;
    proven(&mut session, seen, 2, Some(&policy)).await;
    drop(session);
    let next_file = dir.path().join("next.key");
    let next = make(&collector, &next_file);
    collector.end(Signal::TERM);
    let offline = collector.layout.offline_key();
    let words = [
        "rotate",
        "--offline-key",
        text(&offline),
        "--new-key",
        text(&next_file),
    ];
    let done = key(&collector, &words);
    assert!(done.status.success(), "{}", said(&done));
    let after = keys(&collector).changes()[0].after;

    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let mut seen = store(&mut session, &mut host, 3).await;
    // Where the specification says 403 this one says 500: what counts is that it does not sign.
    wait_until("it is missing", || status(&collector).contains("MISSING since"));
    assert!(status(&collector).contains("TOO FEW since"));
    let (_, shown) = collector.get("/checkpoint");
    assert!(keys(&collector).open_checkpoint(&shown).unwrap().size <= after);
    let witness = witness.told_of(dir.path(), &next);
    seen.extend(store(&mut session, &mut host, 1).await);
    let note = proven(&mut session, seen, 6, Some(&policy)).await;
    let size = checkpoint::open(&note, &next).unwrap().size;
    assert!(size > after);
    assert_eq!(collector.verify().0, Some(0));
    drop(witness);
    println!("evidence: the omniwitness cosigned {size} leaves under the second key of our ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_others_wrote_cosigns_is_found_again_after_a_restart_and_refuses_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let (mut collector, mut host, _witness) = asking(dir.path());
    let log = keys(&collector).in_force().clone();
    let copied = Command::new("cp")
        .args([
            "-a",
            text(collector.layout.root()),
            text(&dir.path().join("copy")),
        ])
        .status();
    assert!(copied.unwrap().success());
    let policy = policy();

    // Each start begins from nothing: the second must learn the witness's size from its 409.
    let mut sizes = Vec::new();
    for round in 0..2 {
        collector.run();
        let (mut session, _) = Session::open(&host, &collector).await;
        let seen = store(&mut session, &mut host, 5).await;
        let note = proven(&mut session, seen, 5 * round + 4, Some(&policy)).await;
        sizes.push(checkpoint::open(&note, &log).unwrap().size);
        drop(session);
        collector.end(Signal::TERM);
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    assert_eq!(collector.verify().0, Some(0));

    let copy = Collector::in_copy(&dir.path().join("copy"), &ASKING);
    let mut other = Host::enrolled(1, &copy);
    let (mut session, _) = Session::open(&other, &copy).await;
    for _ in 0..12 {
        let (header, body) = other.seal(&[vec![9; 40]]);
        session.send(&batch(&header, body)).await;
    }
    loop {
        match session.next().await {
            Some(Message::Stored {
                through: Sequence(11),
            }) => break,
            Some(Message::Refused(refusal)) => panic!("{refusal}"),
            Some(_) => {}
            None => panic!("the session ended"),
        }
    }
    wait_until("the foreign witness's refusal is shown", || {
        status(&copy).contains("another history of this ledger")
    });
    let (_, shown) = copy.get("/checkpoint");
    let shown = checkpoint::open(&shown, &log).unwrap().size;
    assert!(shown < sizes[0], "{shown} leaves of the fork were shown");
    println!("evidence: the omniwitness cosigned {sizes:?} leaves of our ledger and refused its fork");
}
