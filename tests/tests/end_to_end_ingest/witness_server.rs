//! The witness before good and bad ledgers: every status of C2SP tlog-witness, and never two views.

use common::{
    checkpoint::Checkpoint,
    ids::Hash,
    merkle::{consistency_proof, leaf_hash, root_of},
    note::{SignerKey, UnverifiedNote},
    witness::{AddCheckpoint, REQUEST_BYTES_MAX, cosignatures, with_line},
};

use crate::witness_process::{Answer, Witness, http, mode};

const ORIGIN: &str = "ledger.example/one";
const QUICK: &str = "requests_per_second = 10000";

fn key(seed: u8) -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

fn vkey() -> String {
    key(7).verifier().to_string()
}

/// Leaves of one history; histories with another `salt` differ from leaf `fork` on.
fn leaves(size: usize, fork: usize, salt: u64) -> Vec<Hash> {
    (0..size)
        .map(|i| {
            leaf_hash(
                &[i as u64, if i < fork { 0 } else { salt }]
                    .map(u64::to_be_bytes)
                    .concat(),
            )
        })
        .collect()
}

fn head(leaves: &[Hash]) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size: leaves.len() as u64,
        root: root_of(leaves),
        extensions: Vec::new(),
    }
}

fn request(old: usize, leaves: &[Hash], signer: &SignerKey) -> Vec<u8> {
    let request = AddCheckpoint {
        old: old as u64,
        proof: consistency_proof(leaves, old, leaves.len()).unwrap_or_default(),
        note: head(leaves).sign(signer).unwrap().into_bytes(),
    };
    request.encode()
}

/// Whether the answer cosigns exactly this head.
fn cosigned(witness: &Witness, answer: &Answer, head: &Checkpoint) -> bool {
    let Ok(line) = std::str::from_utf8(&answer.body) else {
        return false;
    };
    let note = with_line(&head.sign(&key(7)).unwrap(), line);
    let Ok(parsed) = UnverifiedNote::parse(note.as_bytes()) else {
        return false;
    };
    answer.status == 200 && cosignatures(&parsed, &[&witness.key]).is_ok_and(|found| found.len() == 1)
}

#[test]
fn every_answer_has_the_status_and_the_form_of_the_specification() {
    let witness = Witness::start("witness.example/w1", &[vkey()], QUICK);
    let all = leaves(9, usize::MAX, 0);
    let ask = |body: &[u8]| witness.ask(body);
    let say = |old, size: usize| request(old, &all[..size], &key(7));
    let hash = |text: &str| {
        use sha2::{Digest, Sha256};
        common::ids::hex(&<[u8; 32]>::from(Sha256::digest(text)))
    };
    let monitor = format!("/{}/checkpoint", hash(ORIGIN));
    assert_eq!(http(witness.address, "GET", &monitor, b"").unwrap().status, 404);

    let first = ask(&say(0, 3));
    assert!(cosigned(&witness, &first, &head(&all[..3])), "{first:?}");
    assert!(cosigned(&witness, &ask(&say(3, 7)), &head(&all[..7])));
    assert!(
        cosigned(&witness, &ask(&say(7, 7)), &head(&all[..7])),
        "the same again"
    );

    // 409: replayed, from the future, unknown to the client; the body is the size and nothing else.
    for body in [say(3, 7), say(0, 3), say(0, 9), say(8, 9)] {
        let answer = ask(&body);
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"7\n"[..]));
        assert_eq!(answer.header("content-type"), Some("text/x.tlog.size"));
    }
    // 400: no request, an old size beyond the checkpoint, nothing at all.
    for body in [Vec::new(), b"old 7\n".to_vec(), say(9, 7), vec![0xff; 100]] {
        assert_eq!(ask(&body).status, 400);
    }
    // 403: another key of that name; a signature that does not fit.
    assert_eq!(ask(&request(7, &all, &key(8))).status, 403);
    let altered = String::from_utf8(say(7, 9))
        .unwrap()
        .replacen("\n9\n", "\n8\n", 1);
    assert_eq!(ask(altered.as_bytes()).status, 403);
    // 404: another origin.
    let stranger = SignerKey::from_seed("ledger.example/two", &[7; 32]).unwrap();
    let mut other = head(&all);
    other.origin = "ledger.example/two".into();
    let note = other.sign(&stranger).unwrap().into_bytes();
    let foreign = AddCheckpoint {
        old: 0,
        proof: Vec::new(),
        note,
    };
    assert_eq!(ask(&foreign.encode()).status, 404);
    // 422: forks below and at the recorded size, a proof that is too long.
    assert_eq!(ask(&request(7, &leaves(9, 2, 1), &key(7))).status, 422);
    assert_eq!(ask(&request(7, &leaves(7, 6, 1), &key(7))).status, 422);
    let mut padded = AddCheckpoint::decode(&say(7, 9)).unwrap();
    padded.proof.push(Hash::default());
    assert_eq!(ask(&padded.encode()).status, 422);
    // 413: more than any request has. 405: not a POST.
    assert_eq!(ask(&vec![b'x'; REQUEST_BYTES_MAX + 1]).status, 413);
    assert_eq!(
        http(witness.address, "GET", "/add-checkpoint", b"")
            .unwrap()
            .status,
        405
    );

    // After all that it stands where it stood, and shows it to monitors.
    let shown = http(witness.address, "GET", &monitor, b"").unwrap();
    let parsed = UnverifiedNote::parse(&shown.body).unwrap();
    assert!(
        parsed
            .verify(&[key(7).verifier()])
            .unwrap()
            .starts_with("ledger.example/one\n7\n")
    );
    assert_eq!(cosignatures(&parsed, &[&witness.key]).unwrap().len(), 1);
    assert!(cosigned(&witness, &ask(&say(7, 9)), &head(&all)));
    // The forks are kept: they prove that the log shows two views.
    let kept = std::fs::read_dir(witness.dir.join("contradictions").join(hash(ORIGIN))).unwrap();
    assert_eq!(kept.count(), 3);
}

#[test]
fn two_views_are_never_cosigned_whatever_is_raced_or_killed() {
    let mut witness = Witness::start("witness.example/w1", &[vkey()], QUICK);
    let mut history = leaves(1, usize::MAX, 0);
    assert_eq!(witness.ask(&request(0, &history, &key(7))).status, 200);
    let (mut won, mut lost) = (0, 0);
    for round in 0..12_u64 {
        let old = history.len();
        let forks: Vec<Vec<Hash>> = (1..=4)
            .map(|salt| {
                let mut fork = history.clone();
                fork.push(leaf_hash(&[round, salt].map(u64::to_be_bytes).concat()));
                fork
            })
            .collect();
        let address = witness.address;
        let racing: Vec<_> = forks
            .iter()
            .map(|fork| {
                let body = request(old, fork, &key(7));
                std::thread::spawn(move || http(address, "POST", "/add-checkpoint", &body))
            })
            .collect();
        if round % 3 == 1 {
            witness.kill();
        }
        let answers: Vec<_> = racing.into_iter().map(|thread| thread.join().unwrap()).collect();
        if round % 3 == 1 {
            witness.run();
        }
        let winners: Vec<&Vec<Hash>> = forks
            .iter()
            .zip(&answers)
            .filter(|(fork, answer)| {
                answer
                    .as_ref()
                    .is_some_and(|answer| cosigned(&witness, answer, &head(fork)))
            })
            .map(|(fork, _)| fork)
            .collect();
        assert!(
            winners.len() <= 1,
            "round {round}: {} views of one size",
            winners.len()
        );
        // What was recorded, released or not, is what stands; every other view is refused from now on.
        let mut standing = Vec::new();
        for fork in &forks {
            let again = witness.ask(&request(old + 1, fork, &key(7)));
            if again.status == 200 {
                standing.push(fork.clone());
            }
        }
        if let (Some(winner), Some(stands)) = (winners.first(), standing.first()) {
            assert_eq!(*winner, stands, "a released cosignature was forgotten");
        }
        assert!(standing.len() <= 1);
        assert!(
            winners.is_empty() || !standing.is_empty(),
            "a released cosignature was forgotten"
        );
        won += winners.len();
        lost += usize::from(winners.is_empty());
        if let Some(stands) = standing.pop() {
            history = stands;
        }
    }
    assert!(won > 0);
    println!("evidence: 12 races of 4 views, 4 of them under kill -9: {won} cosigned, {lost} without answer");
}

#[test]
fn a_witness_keeps_its_key_to_itself_and_never_runs_twice_or_from_a_forged_record() {
    let mut witness = Witness::start("witness.example/w1", &[vkey()], QUICK);
    assert_eq!(mode(&witness.dir.join("witness.key")), 0o600);
    assert_eq!(witness.ask(&request(0, &leaves(5, 9, 0), &key(7))).status, 200);
    assert!(
        !witness.spawn().wait().unwrap().success(),
        "a second one in the same directory"
    );
    let path = witness.dir.to_str().unwrap().to_owned();
    let status = crate::process::command(&["witness", "status", "--dir", &path]);
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(
        said.contains("cosigned size 5") && said.contains("running as process"),
        "{said}"
    );
    witness.kill();
    let record = std::fs::read_dir(witness.dir.join("cosigned"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, good.replacen("\n5\n", "\n4\n", 1)).unwrap();
    assert!(!witness.spawn().wait().unwrap().success(), "an altered record");
    std::fs::write(&record, good).unwrap();
    witness.run();
    assert_eq!(witness.ask(&request(0, &leaves(3, 9, 0), &key(7))).body, b"5\n");
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let witness = Witness::start("witness.example/w1", &[vkey()], "requests_per_second = 1");
    let answers: Vec<Answer> = (0..6).map(|_| witness.ask(b"")).collect();
    let last = answers.last().unwrap();
    assert_eq!(answers[0].status, 400);
    assert_eq!(last.status, 429);
    assert!(last.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
}
