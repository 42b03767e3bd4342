//! Batches that break a chain: refused by name, counted, kept as evidence, the chain as it was.

use std::path::PathBuf;

use collector::evidence::Item;
use common::{
    batch::{HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader, sign_header},
    ids::{EventIndex, Hash, HostId, PublicKey, Sequence},
    limits::{BATCH_BODY_BYTES_MAX, HEADER_BYTES_MAX},
    session::{Message, RefusalCode},
};
use ed25519_dalek::SigningKey;

use crate::{
    assert_still_serves,
    peer::{Host, Session, batch},
    process::Collector,
};

/// A host with one stored batch, and its session.
async fn begun(seed: u8, collector: &Collector) -> (Host, Session, UnverifiedHeader) {
    let mut host = Host::enrolled(seed, collector);
    let (mut session, _) = Session::open(&host, collector).await;
    let (header, body) = host.seal(&[vec![1]]);
    session.send(&batch(&header, body)).await;
    loop {
        match session.next().await {
            Some(Message::Stored { .. }) => return (host, session, header),
            Some(Message::Receipts(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// An item of evidence with its byte files by role.
type Kept = (Item, Vec<(String, Vec<u8>)>);

/// The evidence kept against `host`.
fn evidence(collector: &Collector, host: &HostId) -> Vec<Kept> {
    let dir = collector.layout.evidence().join(host.to_string());
    let Ok(found) = std::fs::read_dir(&dir) else {
        return Vec::new();
    };
    let json: Vec<PathBuf> = found
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    json.into_iter()
        .map(|path| {
            let item: Item = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let files = item
                .files
                .iter()
                .map(|file| {
                    let bytes = std::fs::read(dir.join(&file.name)).unwrap();
                    assert_eq!(Hash::of(&bytes), file.sha256);
                    (file.role.clone(), bytes)
                })
                .collect();
            (item, files)
        })
        .collect()
}

/// Waits for one item of evidence: it is written beside the session.
fn await_evidence(collector: &Collector, host: &HostId) -> Kept {
    let begun = std::time::Instant::now();
    loop {
        if let Some(item) = evidence(collector, host).pop() {
            return item;
        }
        assert!(begun.elapsed() < crate::process::PATIENCE, "no evidence was kept");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Sends what `spoil` makes of the next batch and expects this refusal.
async fn check(seed: u8, code: RefusalCode, word: &str, spoil: impl FnOnce(&Host) -> (Vec<u8>, Vec<u8>)) {
    let mut collector = Collector::start();
    let (mut host, mut session, _) = begun(seed, &collector).await;
    let (header, body) = spoil(&host);
    session
        .send(&Message::Batch {
            header: header.clone(),
            body,
        })
        .await;
    let refusal = session.refusal().await;
    assert_eq!(refusal.code, code, "{refusal}");
    collector.await_refused(word);
    assert_eq!(collector.refused(word), 1);
    let (item, files) = await_evidence(&collector, &host.id);
    assert_eq!((item.reason.as_str(), item.host), (word, host.id));
    assert_eq!(files[0], ("offered.header".to_owned(), header));

    // The chain stands where it stood, and the right batch continues it.
    let (mut session, welcome) = Session::open(&host, &collector).await;
    assert_eq!(welcome.next, Sequence(1));
    let (header, body) = host.seal(&[vec![2]]);
    session.send(&batch(&header, body)).await;
    loop {
        match session.next().await {
            Some(Message::Stored { through: Sequence(1) }) => break,
            Some(Message::Stored { .. } | Message::Receipts(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn a_bad_signature_is_refused() {
    check(20, RefusalCode::Signature, "signature", |host| {
        let (header, body) = host.peek(&[vec![2]]);
        let mut bytes = header.bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        (bytes, body)
    })
    .await;
}

#[tokio::test]
async fn another_key_is_refused() {
    check(21, RefusalCode::Signature, "signature", |host| {
        let (mut fields, body) = host.next_fields(&[vec![2]]);
        let other = SigningKey::from_bytes(&[200; 32]);
        fields.public_key = PublicKey(other.verifying_key().to_bytes());
        (sign_header(&fields, &other).unwrap().bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn a_wrong_previous_hash_is_refused() {
    check(22, RefusalCode::Fork, "fork", |host| {
        let (mut fields, body) = host.next_fields(&[vec![2]]);
        fields.previous = Hash::of(b"another history");
        (sign_header(&fields, &host.key).unwrap().bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn a_skipped_sequence_is_refused() {
    check(23, RefusalCode::Gap, "gap", |host| {
        let (mut fields, body) = host.next_fields(&[vec![2]]);
        fields.sequence = Sequence(2);
        (sign_header(&fields, &host.key).unwrap().bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn a_skipped_event_is_refused() {
    check(24, RefusalCode::Fork, "fork", |host| {
        let (mut fields, body) = host.next_fields(&[vec![2]]);
        fields.first_event = EventIndex(7);
        (sign_header(&fields, &host.key).unwrap().bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn a_body_that_its_header_does_not_sign_is_refused() {
    check(25, RefusalCode::Body, "body", |host| {
        let (header, mut body) = host.peek(&[vec![2]]);
        *body.last_mut().unwrap() ^= 1;
        (header.bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_header_are_refused() {
    check(26, RefusalCode::Malformed, "malformed", |_| {
        (vec![7; 400], Vec::new())
    })
    .await;
}

#[tokio::test]
async fn a_batch_of_another_host_is_refused() {
    check(27, RefusalCode::Host, "host", |_| {
        let (header, body) = Host::new(201).peek(&[vec![2]]);
        (header.bytes().to_vec(), body)
    })
    .await;
}

#[tokio::test]
async fn two_batches_under_one_sequence_are_kept_as_proof() {
    let mut collector = Collector::start();
    let (host, mut session, stored) = begun(28, &collector).await;
    let mut forked = Host::new(28);
    let (other, body) = forked.seal(&[vec![66]]);
    session.send(&batch(&other, body)).await;
    let refusal = session.refusal().await;
    assert_eq!(
        (refusal.code, refusal.sequence),
        (RefusalCode::Equivocation, Some(Sequence(0)))
    );
    collector.await_refused("equivocation");
    let (item, files) = await_evidence(&collector, &host.id);
    assert_eq!(item.reason, "equivocation");
    assert_eq!(files[0], ("offered.header".to_owned(), other.bytes().to_vec()));
    assert_eq!(files[1], ("stored.header".to_owned(), stored.bytes().to_vec()));
    // Whoever is shown the two needs nothing else: both are good, of one key, host and sequence.
    let verified: Vec<VerifiedHeader> = files
        .iter()
        .map(|(_, bytes)| SignedHeader::check(UnverifiedHeader::parse(bytes).unwrap()).unwrap())
        .map(|header| HostKeys::new(host.id).check(header).unwrap())
        .collect();
    assert_eq!(verified[0].fields().host, verified[1].fields().host);
    assert_eq!(verified[0].fields().sequence, verified[1].fields().sequence);
    assert_ne!(verified[0].hash(), verified[1].hash());
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn an_oversized_batch_is_refused_before_it_is_taken_in() {
    let mut collector = Collector::start();
    let (_, mut session, _) = begun(29, &collector).await;
    let length = u32::try_from(1 + 2 + HEADER_BYTES_MAX + BATCH_BODY_BYTES_MAX + 4096).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(2);
    session.send_bytes(&frame).await;
    let refusal = session.refusal().await;
    assert_eq!(refusal.code, RefusalCode::Protocol, "{refusal}");
    collector.await_refused("garbage");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn more_than_the_window_allows_is_refused() {
    let mut collector = Collector::start_with(&["--commit-delay", "5s", "--commit-batches-max", "4096"]);
    let mut host = Host::enrolled(30, &collector);
    let (mut session, welcome) = Session::open(&host, &collector).await;
    for _ in 0..=welcome.window.batches {
        let (header, body) = host.seal(&[vec![1]]);
        session.send(&batch(&header, body)).await;
    }
    assert_eq!(session.refusal().await.code, RefusalCode::Window);
    collector.await_refused("window");
    assert!(collector.alive());
}
