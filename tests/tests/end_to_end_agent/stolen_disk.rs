//! A thief has every file, and later the memory, of an agent: what was signed before the present key epoch is
//! out of reach, and the search that shows it finds the keys that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use common::{
    batch::{ChainFault, ChainHead, HostKeys, SignedHeader, UnverifiedHeader, sign_header},
    ids::{KeyEpoch, PublicKey},
    keyring::{KEY_SLOT_STRIDE, OtherSlot, read_key_file},
};
use ed25519_dalek::SigningKey;
use rustix::process::Signal;

use crate::node::{Churn, World, check_chain, until};

/// An epoch of a few batches, sealed often.
const SETTINGS: [&str; 10] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=20",
    "--set",
    "batch.heartbeat_ms=100",
    "--set",
    "keys.epoch_max_batches=5",
];

/// Most bytes tried as private keys: each window is a key derivation.
const BYTES_MAX: usize = 2 << 20;

/// Every byte of every file below `dir`, file by file.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// The public key whose private half these 32 bytes are.
fn public_of(seed: &[u8; 32]) -> PublicKey {
    PublicKey(SigningKey::from_bytes(seed).verifying_key().to_bytes())
}

/// Tries every window of 32 bytes, and every run of 64 hex digits, as a private key of `wanted`. Windows that
/// hold many equal bytes are no keys.
fn private_keys(bytes: &[u8], wanted: &BTreeSet<PublicKey>) -> BTreeMap<PublicKey, [u8; 32]> {
    let mut tried: BTreeSet<[u8; 32]> = BTreeSet::new();
    let mut found = BTreeMap::new();
    let mut attempt = |seed: [u8; 32]| {
        let distinct: BTreeSet<u8> = seed.iter().copied().collect();
        if distinct.len() > 16 && tried.insert(seed) {
            let public = public_of(&seed);
            if wanted.contains(&public) {
                found.insert(public, seed);
            }
        }
    };
    for window in bytes.windows(32) {
        attempt(window.try_into().unwrap());
    }
    for window in bytes.windows(64) {
        if window.iter().all(u8::is_ascii_hexdigit) {
            let mut seed = [0; 32];
            for (byte, pair) in seed.iter_mut().zip(window.as_chunks::<2>().0) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            }
            attempt(seed);
        }
    }
    found
}

/// The private keys in a key file, in force and next; `None` while it is being written.
fn whole_keys(file: &Path) -> Option<([u8; 32], [u8; 32])> {
    let bytes = fs::read(file).unwrap();
    let (record, other) = read_key_file(&bytes).ok()?;
    let at = record.slot() * KEY_SLOT_STRIDE;
    let seed = |from: usize| bytes[at + from..at + from + 32].try_into().unwrap();
    assert_eq!(public_of(&seed(56)), record.held().key);
    (other == OtherSlot::Erased).then(|| (seed(56), seed(88)))
}

#[test]
fn with_all_files_of_an_agent_no_earlier_epoch_can_be_signed() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    world.start_agent();
    let churn = Churn::start();
    until("eight epochs are over", || {
        (world.status()?.chain.epoch.number >= 8).then_some(())
    });
    world.drain();
    drop(churn);
    // The thief takes everything at one moment.
    assert!(!world.end_agent(Signal::KILL).success());
    let mut stolen = Vec::new();
    files(&world.agent_dir(), &mut stolen);
    world.start_agent();
    world.drain();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    let entries = world.ledger();
    check_chain(world.host, &entries);

    let mut keys: BTreeMap<KeyEpoch, PublicKey> = BTreeMap::new();
    for (header, _) in &entries {
        let claim = header.claimed().keys();
        keys.insert(claim.epoch, claim.key);
        keys.insert(KeyEpoch(claim.epoch.0 + 1), claim.next.unwrap());
    }
    let wanted: BTreeSet<PublicKey> = keys.values().copied().collect();
    let mut found = BTreeMap::new();
    let mut tried = 0;
    for (name, bytes) in &stolen {
        // Events hold no keys, and each byte costs a key derivation: of the spool a part is enough.
        let most = if name.ends_with(".seg") {
            64 << 10
        } else {
            BYTES_MAX
        };
        let bytes = &bytes[..bytes.len().min(most)];
        tried += bytes.len();
        assert!(tried <= BYTES_MAX, "{name} makes it too much to try");
        found.extend(private_keys(bytes, &wanted));
    }
    let epoch_of = |key: &PublicKey| *keys.iter().find(|(_, held)| *held == key).unwrap().0;
    let mut epochs: Vec<KeyEpoch> = found.keys().map(epoch_of).collect();
    epochs.sort_unstable();
    let [present, next] = epochs[..] else {
        panic!("private keys of epochs {epochs:?} were found, not of two");
    };
    assert_eq!(next, KeyEpoch(present.0 + 1));
    assert!(present >= KeyEpoch(8), "{present:?}");

    // With those keys, and with one of his own, he signs anew what was sealed in every earlier epoch.
    let mut history = HostKeys::new(world.host);
    let mut head = ChainHead::genesis(world.host);
    let own = [66_u8; 32];
    let (mut refused, mut signed) = (0, 0);
    for (header, _) in &entries {
        for seed in found.values().chain([&own]) {
            let key = SigningKey::from_bytes(seed);
            let mut fields = header.claimed().clone();
            fields.until_wall.0 += 1;
            // Under the epoch's own public key the signature does not fit; under his, the key does not.
            let alien = sign_header(&fields, &key).unwrap();
            fields.public_key = public_of(seed);
            let honest = sign_header(&fields, &key).unwrap();
            for forged in [alien, honest] {
                let believed = |header: UnverifiedHeader| {
                    head.clone().accept(header.clone())?;
                    history.check(SignedHeader::check(header)?)
                };
                match believed(forged) {
                    Ok(_) if fields.key_epoch >= present => signed += 1,
                    Ok(_) => panic!(
                        "batch {} of epoch {} was forged",
                        fields.sequence, fields.key_epoch
                    ),
                    Err(ChainFault::Signature { .. } | ChainFault::Keys { .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        let verified = head.accept(header.clone()).unwrap();
        history.learn(verified.signed()).unwrap();
    }
    assert!(signed > 0, "the keys that were stolen sign in their own epochs");
    println!(
        "evidence: {tried} stolen bytes tried as private keys; epochs {} and {} found, 0 to {} not; \
         {refused} forged headers refused, {signed} in the epochs stolen signed",
        present.0,
        next.0,
        present.0 - 1
    );
}

/// Writable memory of a process, stretch by stretch.
fn memory_of(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut stretches = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, until) = range.split_once('-').unwrap();
        let [from, until] = [from, until].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        // Page by page: some of what is mapped cannot be read, and reserved stretches are large and empty.
        let mut stretch = Vec::new();
        for at in (from..until).step_by(4096) {
            let mut page = [0; 4096];
            if memory.read_exact_at(&mut page, at).is_ok() {
                stretch.extend_from_slice(&page);
            }
        }
        stretches.push(stretch);
    }
    stretches
}

#[test]
fn the_memory_of_a_running_agent_holds_no_key_that_is_over() {
    let mut world = World::new(&SETTINGS);
    let file = world.agent_dir().join("signing.keys");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    world.start_agent();
    // Copies of the key file give the private keys of epochs as they pass. The agent is frozen, so that no
    // epoch passes while it is looked at, between two replacements: a batch was sealed under the new key.
    let mut passed: BTreeSet<[u8; 32]> = BTreeSet::new();
    let (report, present, pid) = until("six keys were seen to pass", || {
        let report = world.status()?;
        let (present, _) = whole_keys(&file)?;
        passed.insert(present);
        if passed.len() <= 6 || report.chain.epoch.batches == 0 {
            return None;
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(report.pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        let in_force = public_of(&present) == report.chain.epoch.key;
        if in_force && whole_keys(&file).is_some_and(|keys| keys.0 == present) {
            return Some((report, present, pid));
        }
        rustix::process::kill_process(pid, Signal::CONT).unwrap();
        None
    });
    passed.remove(&present);
    let memory = memory_of(report.pid);
    let holds = |seed: &[u8; 32]| {
        memory
            .iter()
            .any(|stretch| stretch.windows(32).any(|window| window == seed))
    };
    let bytes: usize = memory.iter().map(Vec::len).sum();
    let left: Vec<String> = passed
        .iter()
        .filter(|seed| holds(seed))
        .map(|seed| public_of(seed).to_string())
        .collect();
    let found = holds(&present);
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    assert!(left.is_empty(), "private keys of {left:?} are still in memory");
    assert!(found, "the key in force is there: the search can find");
    println!(
        "evidence: {} keys that are over sought in {bytes} bytes of memory, the one in force found",
        passed.len()
    );
}

#[test]
fn killed_while_keys_pass_it_goes_on_without_a_hole() {
    let mut settings = SETTINGS;
    settings[9] = "keys.epoch_max_batches=1";
    let mut world = World::new(&settings);
    world.start_collector();
    world.start_agent();
    for round in 0..12 {
        std::thread::sleep(std::time::Duration::from_millis(37 * (round % 5) + 20));
        world.end_agent(Signal::KILL);
        world.start_agent();
    }
    until("a dozen epochs passed", || {
        (world.status()?.chain.epoch.number >= 12).then_some(())
    });
    world.drain();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    let entries = world.ledger();
    check_chain(world.host, &entries);
    let last = entries.last().unwrap().0.claimed();
    assert!(last.key_epoch.0 >= 12, "epoch {}", last.key_epoch);
    println!("evidence: {} key epochs over 12 kills", last.key_epoch);
}

#[test]
fn keys_put_back_from_a_copy_and_lost_ones_are_told_and_nothing_is_signed() {
    let mut world = World::new(&SETTINGS);
    let file = world.agent_dir().join("signing.keys");
    let old = fs::read(&file).unwrap();
    world.start_agent();
    until("three epochs are over", || {
        (world.status()?.chain.epoch.number >= 3).then_some(())
    });
    assert!(world.end_agent(Signal::TERM).success());
    let (newest, sealed) = (fs::read(&file).unwrap(), world.spooled());
    fs::write(&file, &old).unwrap();
    let said = world.refuses_to_start();
    assert!(said.contains("older copy of the key file was put back"), "{said}");
    fs::remove_file(&file).unwrap();
    let said = world.refuses_to_start();
    assert!(
        said.contains("holds a chain that continues only under the keys"),
        "{said}"
    );
    fs::write(&file, &newest).unwrap();
    let said = world.refuses_to_start();
    assert!(said.contains("chmod 600"), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.spooled(), sealed, "nothing was signed meanwhile");
    // The spool put away instead.
    let spool = world.agent_dir().join("spool");
    fs::rename(&spool, world.agent_dir().join("away")).unwrap();
    let said = world.refuses_to_start();
    assert!(said.contains("the spool was lost"), "{said}");
    fs::remove_dir_all(&spool).unwrap();
    fs::rename(world.agent_dir().join("away"), &spool).unwrap();
    world.start_agent();
}
