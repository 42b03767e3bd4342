//! What a good agent gets: acknowledgements, receipts that verify, and all of it again after a restart.

use common::{
    checkpoint,
    ids::Sequence,
    merkle::verify_consistency,
    note::VerifierKey,
    receipt::Receipt,
    session::{Message, Receipts},
    tile::entries,
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session, batch},
    process::Collector,
};

fn verifier(collector: &Collector) -> VerifierKey {
    let text = std::fs::read_to_string(collector.layout.ledger_verifier()).unwrap();
    VerifierKey::parse(text.trim()).unwrap()
}

/// Reads until receipts for every batch up to `last` have come; returns them with the last acknowledgement.
async fn receipts_through(session: &mut Session, last: Sequence) -> (Vec<Receipts>, Option<Sequence>) {
    let (mut all, mut stored) = (Vec::new(), None);
    loop {
        match session.next().await {
            Some(Message::Stored { through }) => stored = Some(through),
            Some(Message::Receipts(receipts)) => {
                let end = receipts.proven.last().unwrap().sequence;
                all.push(receipts);
                if end == last {
                    return (all, stored);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Receipts come before their checkpoint is on disk; whoever copies the directory after a stop finds it there.
#[tokio::test]
async fn a_stop_stores_every_checkpoint_that_a_receipt_showed() {
    let mut collector = Collector::start_with(&["--publish-interval", "60s"]);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let key = verifier(&collector);
    for _ in 0..4 {
        let (mut session, _) = Session::open(&host, &collector).await;
        let mut shown = 0;
        // The first is stored at once, the others are due in a minute.
        for n in 0..3 {
            let (header, body) = host.seal(&[vec![n; 40]]);
            session.send(&batch(&header, body)).await;
            let (receipts, _) = receipts_through(&mut session, header.claimed().sequence).await;
            let last = receipts.last().unwrap();
            shown = checkpoint::open(&last.checkpoint, &key).unwrap().size;
        }
        // Whoever is connected is waited for.
        drop(session);
        assert!(collector.end(Signal::TERM).success());
        let note = std::fs::read(collector.layout.ledger().join("log/checkpoint")).unwrap();
        let stored = checkpoint::open(&note, &key).unwrap().size;
        assert!(stored >= shown, "{stored} leaves stored, {shown} shown");
        collector.run();
    }
}

#[tokio::test]
async fn batches_are_stored_and_proven() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, welcome) = Session::open(&host, &collector).await;
    assert_eq!(welcome.next, Sequence(0));
    let mut headers = Vec::new();
    for n in 0..5_u8 {
        let (header, body) = host.seal(&[vec![n; 100], vec![n; 7]]);
        session.send(&batch(&header, body)).await;
        headers.push(header);
    }
    let (receipts, stored) = receipts_through(&mut session, Sequence(4)).await;
    assert_eq!(stored, Some(Sequence(4)), "acknowledged before proven");

    let key = verifier(&collector);
    let (mut size, mut root) = (0, common::merkle::empty_root());
    for message in &receipts {
        let head = checkpoint::open(&message.checkpoint, &key).unwrap();
        verify_consistency(size, &root, head.size, &head.root, &message.consistency).unwrap();
        for proven in &message.proven {
            let receipt = Receipt {
                leaf: proven.leaf,
                proof: proven.proof.clone(),
                checkpoint: message.checkpoint.clone(),
            };
            let header = &headers[usize::try_from(proven.sequence.0).unwrap()];
            assert_eq!(receipt.verify(header.bytes(), &key).unwrap(), head);
        }
        (size, root) = (head.size, head.root);
    }

    // The same entries lie in the tiles for tools nobody here wrote.
    let (status, bundle) = collector.get("/tile/entries/000.p/6");
    assert_eq!(status, 200);
    let read: Vec<_> = entries(&bundle).map(|entry| entry.unwrap().1.to_vec()).collect();
    let sent: Vec<_> = headers.iter().map(|header| header.bytes().to_vec()).collect();
    assert!(read[0].starts_with(b"HLST"), "the enrolment came first");
    assert_eq!(read[1..], sent);
    assert_eq!(collector.metric("hostledger_events_stored_total"), 10);
    assert_eq!(collector.metric("hostledger_published_leaves"), 6);
    assert!(collector.end(Signal::TERM).success());

    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["hosts"][0]["batches"], 5);
    assert_eq!(report["hosts"][0]["events"], 10);
    flip_last_byte(&collector.layout.ledger().join("groups"));
    let (code, report) = collector.verify();
    assert_eq!(code, Some(4), "{report}");
    let what = report["faults"][0]["what"].as_str().unwrap();
    assert!(what.contains("event 9 of the host"), "{what}");
}

/// Flips a bit of the last byte of the last file: the end of the last event.
fn flip_last_byte(groups: &std::path::Path) {
    let mut paths = vec![groups.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let mut below: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            below.sort();
            paths.push(below.pop().unwrap());
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restart_in_order_or_by_force_takes_the_chain_up_again() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(2, &collector);
    let mut stored = Sequence(0);
    for (round, signal) in [Signal::TERM, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let (mut session, welcome) = Session::open(&host, &collector).await;
        let round = u8::try_from(round).unwrap();
        if round > 0 {
            assert_eq!(welcome.next.0, stored.0 + 1, "what was acknowledged is there");
            assert_eq!(welcome.head, host.head.hash);
        }
        for n in 0..10 {
            let (header, body) = host.seal(&[vec![n, round]]);
            session.send(&batch(&header, body)).await;
        }
        let last = host.head.next_sequence.0 - 1;
        while stored.0 < last {
            if let Some(Message::Stored { through }) = session.next().await {
                stored = through;
            }
        }
        let status = collector.end(signal);
        assert_eq!(status.success(), signal == Signal::TERM, "{status:?}");
        let (code, report) = collector.verify();
        assert_eq!(code, Some(0), "{report}");
        collector.run();
    }
    let (mut session, _) = Session::open(&host, &collector).await;
    let (receipts, _) = receipts_through(&mut session, stored).await;
    assert_eq!(
        receipts[0].proven[0].sequence,
        Sequence(0),
        "receipts never fetched are made again"
    );
}

#[tokio::test]
async fn a_repeated_batch_is_acknowledged_again_and_stored_once() {
    let collector = Collector::start();
    let mut host = Host::enrolled(3, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let (header, body) = host.seal(&[vec![1, 2, 3]]);
    for _ in 0..3 {
        session.send(&batch(&header, body.clone())).await;
        loop {
            match session.next().await {
                Some(Message::Stored { through }) => {
                    assert_eq!(through, Sequence(0));
                    break;
                }
                Some(Message::Receipts(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(collector.metric("hostledger_batches_stored_total"), 1);
    assert_eq!(collector.metric("hostledger_batches_repeated_total"), 2);
    let (_, report) = collector.verify();
    assert_eq!(report["hosts"][0]["batches"], 1, "{report}");
}

#[tokio::test]
async fn a_newer_connection_of_a_host_takes_over() {
    let mut collector = Collector::start();
    let host = Host::enrolled(4, &collector);
    let (mut first, _) = Session::open(&host, &collector).await;
    let (_second, _) = Session::open(&host, &collector).await;
    assert_eq!(first.refusal().await.code, common::session::RefusalCode::Replaced);
    assert_eq!(collector.refused("replaced"), 1);
    crate::assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn nonces_are_fresh_for_each_session_and_rotate() {
    let collector = Collector::start_with(&["--nonce-interval", "100ms"]);
    let host = Host::enrolled(5, &collector);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let (mut session, welcome) = Session::open(&host, &collector).await;
        assert!(seen.insert(welcome.nonce));
        for _ in 0..2 {
            assert!(seen.insert(session.next_nonce().await));
        }
    }
}
