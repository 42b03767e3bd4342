//! A collector's directory copied and run twice, fed differently, and the real agent shown both: it refuses the second
//! by name, keeps its spool, and keeps what proves the two views to anybody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use common::{checkpoint, note::VerifierKey};
use rustix::process::Signal;

use crate::node::{Ports, World, ended, program, ran, run_collector, until};

const SETTINGS: [&str; 8] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=50",
    "--set",
    "batch.heartbeat_ms=100",
];

/// The command line `hostledger`: exit code and output.
fn hostledger(words: &[&str]) -> (u8, String) {
    let words = ["hostledger"].iter().chain(words).map(std::ffi::OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = cli::run(words, jiff::Timestamp::now(), &mut out, &mut err);
    out.extend(err);
    (code, String::from_utf8(out).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The second collector, in a copy of the first's directory, and another host that only it hears of.
struct Copy {
    dir: PathBuf,
    ports: Ports,
    processes: Vec<Child>,
}

impl Copy {
    /// Copies what the stopped first collector has.
    fn of(world: &World) -> Self {
        let dir = world.path("collector-two");
        ran(Command::new("cp").arg("-a").arg(world.collector_dir()).arg(&dir));
        Self {
            dir,
            ports: Ports::free(),
            processes: Vec::new(),
        }
    }

    /// Runs it, and feeds it until it has more than `leaves`.
    fn feed_beyond(&mut self, world: &World, leaves: u64) {
        self.processes.push(run_collector(&self.dir, &self.ports, &[]));
        let other = world.path("other-agent");
        let agent = program("agent", "hostledger-agent");
        let at = self.ports.ingest();
        ran(Command::new(&agent)
            .args(["init", "--collector", &at, "--dir"])
            .arg(&other));
        ran(Command::new(program("collector", "hostledger-collector"))
            .args(["enrol", "--dir"])
            .arg(&self.dir)
            .arg("--csr")
            .arg(other.join("agent.csr"))
            .arg("--out")
            .arg(&other));
        let feeder = Command::new(agent)
            .args(["run", "--dir"])
            .arg(&other)
            .args(SETTINGS)
            .env("RUST_LOG", "off")
            .spawn();
        self.processes.push(feeder.unwrap());
        until("the second ledger has more leaves", || {
            let note = fs::read(self.dir.join("ledger/log/checkpoint")).ok()?;
            (size(&note, &key(world)) > leaves).then_some(())
        });
    }

    fn url(&self) -> String {
        format!("http://{}", self.ports.http())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn key(world: &World) -> VerifierKey {
    let text = fs::read_to_string(world.agent_dir().join("ledger.vkey")).unwrap();
    VerifierKey::parse(text.trim()).unwrap()
}

fn size(note: &[u8], key: &VerifierKey) -> u64 {
    checkpoint::open(note, key).unwrap().size
}

/// What the stopped agent remembers.
fn remembered(world: &World) -> u64 {
    let note = fs::read(world.agent_dir().join("state/checkpoint")).unwrap();
    size(&note, &key(world))
}

/// Runs the first collector and the agent until the agent has seen more than `leaves`, and stops both.
fn run_beyond(world: &mut World, leaves: u64) {
    world.start_collector();
    world.start_agent();
    until("the agent sees the ledger grow", || {
        (world.status()?.shipping?.checkpoint_size > leaves).then_some(())
    });
    ended(world.end_agent(Signal::TERM));
    ended(world.end_collector(Signal::TERM));
}

/// Points the agent at the second collector; what it says once it has halted.
fn shown_the_second(world: &mut World, second: &Copy) -> String {
    let held = world.spooled();
    world
        .settings
        .extend(["--collector".to_owned(), second.ports.ingest()]);
    world.start_agent();
    let said = until("the agent refuses the second ledger", || {
        let shipping = world.status()?.shipping?;
        shipping.halted.then_some(shipping.last_fault?)
    });
    let sealed = world.status().unwrap().chain.next_sequence;
    until("it goes on sealing", || {
        (world.status()?.chain.next_sequence > sealed + 2).then_some(())
    });
    let kept = world.spooled();
    assert!(
        held.iter()
            .all(|(sequence, hash)| kept.get(sequence) == Some(hash)),
        "the spool was trimmed"
    );
    assert!(!world.status().unwrap().shipping.unwrap().connected);
    said
}

/// The item of evidence that the fault names.
fn evidence(said: &str) -> PathBuf {
    let (_, path) = said
        .split_once("evidence in ")
        .unwrap_or_else(|| panic!("{said}"));
    PathBuf::from(path.trim())
}

/// Compares, and checks the proof with nothing but the key.
fn proven(world: &World, words: &[&str]) {
    let vkey = world.path("alone.vkey");
    fs::copy(world.agent_dir().join("ledger.vkey"), &vkey).unwrap();
    let proof = world.path("split.proof");
    let mut all = vec!["compare"];
    all.extend(words);
    all.extend(["--vkey", text(&vkey), "-f", text(&proof)]);
    let (code, said) = hostledger(&all);
    assert!(code == 4 && said.contains("SPLIT VIEW"), "{code} {said}");
    let (code, said) = hostledger(&["proof", "check", text(&proof), "--vkey", text(&vkey)]);
    assert!(
        code == 0 && said.contains("signed two histories"),
        "{code} {said}"
    );
}

/// It trimmed what the first had proven, so it sees at once that the second never had it.
#[test]
fn an_agent_pointed_at_a_copy_that_lacks_its_batches_refuses_it_and_its_checkpoint_proves_the_split() {
    let mut world = World::new(&SETTINGS);
    run_beyond(&mut world, 3);
    let copied = remembered(&world);
    let mut second = Copy::of(&world);
    run_beyond(&mut world, copied + 3);
    let seen = remembered(&world);
    second.feed_beyond(&world, seen);
    let said = shown_the_second(&mut world, &second);
    assert!(
        said.contains("asks for batch") && said.contains("lost or restored"),
        "{said}"
    );
    let remembered = evidence(&said).with_extension("remembered");
    // Against what the second shows to everybody, tiles included.
    let url = second.url();
    proven(&world, &[text(&remembered), &url]);
    proven(
        &world,
        &[&format!("{url}/checkpoint"), text(&remembered), "--ledger", &url],
    );
    proven(
        &world,
        &[
            text(&remembered),
            &url,
            "--ledger",
            text(&second.dir.join("ledger")),
        ],
    );
    println!(
        "evidence: an agent that saw {seen} leaves, {copied} of them copied, refused the copy and proved it"
    );
}

/// Its batches still wait in the spool, for the witness it demands never signs: so it takes up the second ledger, until
/// that one shows it a checkpoint, which it refuses and keeps.
#[test]
fn an_agent_shown_a_forked_checkpoint_keeps_both_and_the_proof() {
    let mut world = World::new(&SETTINGS);
    run_beyond(&mut world, 3);
    let copied = remembered(&world);
    let mut second = Copy::of(&world);
    let nobody = common::note::WitnessSigner::from_seed("witness.example/nobody", &[9; 32]).unwrap();
    let policy = format!("witness w {}\nquorum w\n", nobody.verifier());
    fs::write(world.agent_dir().join("witnesses.policy"), policy).unwrap();
    world
        .settings
        .extend(["--set".to_owned(), "witness_policy=witnesses.policy".to_owned()]);
    run_beyond(&mut world, copied + 3);
    // From 2^n leaves a consistency proof does not tell which root the other tree had there.
    while remembered(&world).is_power_of_two() {
        let seen = remembered(&world);
        run_beyond(&mut world, seen);
    }
    let seen = remembered(&world);
    second.feed_beyond(&world, seen);
    let said = shown_the_second(&mut world, &second);
    let named = format!("does not extend the one of size {seen} seen before");
    assert!(said.contains(&named), "{said}");
    let item = evidence(&said);
    let vkey = world.agent_dir().join("ledger.vkey");
    let proof = item.with_extension("split-view");
    let (code, told) = hostledger(&["proof", "check", text(&proof), "--vkey", text(&vkey)]);
    assert!(
        code == 0 && told.contains("signed two histories"),
        "{code} {told}"
    );
    let (remembered, offered) = (item.with_extension("remembered"), item.with_extension("offered"));
    proven(
        &world,
        &[
            text(&remembered),
            text(&offered),
            "--ledger",
            text(&second.dir.join("ledger")),
        ],
    );
    // A restart finds it anew and changes nothing in what was kept.
    let before = fs::read(&offered).unwrap();
    ended(world.end_agent(Signal::TERM));
    world.start_agent();
    until("it halts again", || {
        world.status()?.shipping?.halted.then_some(())
    });
    assert_eq!(fs::read(&offered).unwrap(), before);
    println!("evidence: both checkpoints and the proof of the split view lie in the agent's own files");
}
