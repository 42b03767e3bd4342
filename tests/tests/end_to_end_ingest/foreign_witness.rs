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
    note::{SignerKey, VerifierKey, WitnessKey, WitnessSigner},
    session::Message,
    witness::{Policy, PolicyWitness},
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session, batch},
    process::Collector,
    split_view::text,
    witnesses::{proven, status, store, wait_until},
};

const NAME: &str = "witness.example/omni";
const SEED: [u8; 32] = [41; 32];

fn program() -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin"));
    env::var_os("HOSTLEDGER_TOOLS_BIN")
        .map_or_else(default, PathBuf::from)
        .join("omniwitness")
}

/// The witness, running; it keeps what it saw in memory.
struct Omniwitness {
    address: SocketAddr,
    child: Child,
}

impl Omniwitness {
    fn start(dir: &Path, log: &VerifierKey) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (key, logs) = (dir.join("omniwitness.key"), dir.join("logs.yaml"));
        // It takes the plain form of a key and makes the type of a witness of it.
        fs::write(&key, SignerKey::from_seed(NAME, &SEED).unwrap().encode_secret()).unwrap();
        let entry = format!(
            "Logs:\n  - Origin: {}\n    URL: http://unused.invalid\n    PublicKey: {log}\n",
            log.name()
        );
        fs::write(&logs, entry).unwrap();
        let child = Command::new(program())
            .args(["--listen", &address.to_string(), "--metrics_listen", ""])
            .arg("--private_key_path")
            .arg(&key)
            .arg("--additional_logs")
            .arg(&logs)
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

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_others_wrote_cosigns_is_found_again_after_a_restart_and_refuses_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = Collector::start_in(&dir.path().join("c"), &["--silence-after", "1h"]);
    let mut host = Host::enrolled(1, &collector);
    collector.end(Signal::TERM);
    let vkey = fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    let log = VerifierKey::parse(vkey.trim()).unwrap();
    let witness = Omniwitness::start(dir.path(), &log);
    let asked = format!(
        "witness w {} http://{}\nquorum w\n",
        Omniwitness::key(),
        witness.address
    );
    fs::write(collector.layout.root().join("witnesses.policy"), asked).unwrap();
    let asking = [
        "--witness-policy",
        "witnesses.policy",
        "--witness-quorum-missing",
        "closed",
    ];
    collector.settings.extend(asking.map(str::to_owned));
    let copied = Command::new("cp")
        .args([
            "-a",
            text(collector.layout.root()),
            text(&dir.path().join("copy")),
        ])
        .status();
    assert!(copied.unwrap().success());
    let listed = PolicyWitness {
        key: Omniwitness::key(),
        url: None,
    };
    let policy = Policy::of(vec![listed], 1).unwrap();

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

    let copy = Collector::in_copy(&dir.path().join("copy"), &asking);
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
