//! What the real collector states of hosts: leaves of its ledger, each proven offline, across restarts and kills.

use std::time::Instant;

use common::{
    batch::{UnverifiedHeader, sign_header},
    ids::{Hash, HostId, StatementNumber, WallNanos},
    note::VerifierKey,
    session::{Message, RefusalCode},
    statement::{self, ClockFault, Said},
};
use rustix::process::Signal;

use crate::{
    peer::{Host, Session, batch},
    process::{Collector, PATIENCE, command},
};

const QUICK: &[&str] = &["--silence-after", "400ms"];
/// Long enough that nobody is silent in tests of other things.
const PATIENT: &[&str] = &["--silence-after", "1h"];

/// A statement as the API lists it.
#[derive(Debug, Clone)]
struct Stated {
    number: u64,
    kind: String,
    said: Said,
}

fn list(collector: &Collector, host: &HostId) -> Vec<Stated> {
    let (status, body) = collector.get(&format!("/v1/statements?host={host}"));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let rows = page["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| Stated {
            number: row["number"].as_u64().unwrap(),
            kind: row["kind"].as_str().unwrap().to_owned(),
            said: serde_json::from_value(row["said"].clone()).unwrap(),
        })
        .collect()
}

fn kinds(collector: &Collector, host: &HostId) -> Vec<String> {
    list(collector, host)
        .into_iter()
        .map(|stated| stated.kind)
        .collect()
}

/// Waits until these kinds of statements, and no others, have been made of a host.
fn await_kinds(collector: &Collector, host: &HostId, expected: &[&str]) -> Vec<Stated> {
    let begun = Instant::now();
    loop {
        let found = list(collector, host);
        if found
            .iter()
            .map(|stated| stated.kind.as_str())
            .eq(expected.iter().copied())
        {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{expected:?} awaited, {found:?} found"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Fetches the proof of a statement and checks it with the ledger's key alone.
fn prove(collector: &Collector, stated: &Stated) -> Said {
    let (status, file) = collector.get(&format!("/v1/proof?statement={}", stated.number));
    assert_eq!(status, 200);
    let text = std::fs::read_to_string(collector.layout.ledger().join("ledger.vkey")).unwrap();
    let key = VerifierKey::parse(text.trim()).unwrap();
    let proven = statement::check(&file, &key).unwrap();
    assert_eq!(proven.statement.fields().number, StatementNumber(stated.number));
    let mut altered = file;
    altered[60] ^= 1;
    assert!(statement::check(&altered, &key).is_err());
    proven.statement.fields().said.clone()
}

/// The ledger holds only sound chains and gapless statements.
fn assert_sound(collector: &mut Collector, statements: u64) {
    collector.end(Signal::TERM);
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["statements"].as_u64(), Some(statements), "{report}");
}

async fn stored(session: &mut Session) {
    loop {
        match session.next().await {
            Some(Message::Stored { .. }) => return,
            Some(Message::Receipts(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(session: &mut Session, host: &mut Host) -> UnverifiedHeader {
    let (header, body) = host.seal(&[vec![1]]);
    session.send(&batch(&header, body)).await;
    stored(session).await;
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_return_are_leaves_and_a_restart_repeats_neither() {
    let mut collector = Collector::start_with(QUICK);
    let mut host = Host::enrolled_and_stated(1, &collector);
    await_kinds(&collector, &host.id, &["host_enrolled", "silent"]);
    let (mut session, _) = Session::open(&host, &collector).await;
    let first = send(&mut session, &mut host).await;
    let story = ["host_enrolled", "silent", "back", "silent"];
    let found = await_kinds(&collector, &host.id, &story);
    for stated in &found {
        assert_eq!(prove(&collector, stated), stated.said);
    }
    assert!(matches!(found[1].said, Said::Silent { last: None, .. }));
    assert!(matches!(found[2].said, Said::Back { silence, first: point, .. }
            if silence.0 == found[1].number && point.header == first.hash()));
    assert!(matches!(found[3].said, Said::Silent { last: Some(point), .. } if point.header == first.hash()));
    // Answers after that carry it as the reason.
    let (_, body) = collector.get("/v1/processes?at=2100-01-01T00:00:00Z");
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let verdict = &answer["hosts"][0]["verdict"];
    assert_eq!(verdict["because"], "after_last", "{answer}");
    assert_eq!(verdict["silence"]["statement"].as_u64(), Some(found[3].number));
    assert_eq!(collector.metric("hostledger_hosts_silent"), 1);
    assert_eq!(
        collector.metric("hostledger_statements_total{kind=\"silent\"}"),
        2
    );

    collector.end(Signal::KILL);
    collector.run();
    // Longer than the threshold: it would be said again by now, were it not known from the ledger.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    assert_eq!(kinds(&collector, &host.id), story);
    let (mut session, _) = Session::open(&host, &collector).await;
    send(&mut session, &mut host).await;
    await_kinds(
        &collector,
        &host.id,
        &["host_enrolled", "silent", "back", "silent", "back", "silent"],
    );
    assert_sound(&mut collector, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equivocation_is_a_leaf_once_and_needs_nobodys_word() {
    let mut collector = Collector::start_with(PATIENT);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let (twin, twin_body) = host.peek(&[vec![2]]);
    let held = send(&mut session, &mut host).await;
    let offer = async |collector: &Collector| {
        let (mut session, _) = Session::open(&host, collector).await;
        session.send(&batch(&twin, twin_body.clone())).await;
        assert_eq!(session.refusal().await.code, RefusalCode::Equivocation);
    };
    offer(&collector).await;
    // Killed at once: whether the statement is durable yet or not, it must stand in the ledger once.
    collector.end(Signal::KILL);
    collector.run();
    offer(&collector).await;
    offer(&collector).await;
    let found = await_kinds(&collector, &host.id, &["host_enrolled", "equivocation"]);
    let Said::Equivocation(evidence) = prove(&collector, &found[1]) else {
        panic!("{found:?}");
    };
    assert_eq!(
        (evidence.held.as_slice(), evidence.offered.as_slice()),
        (held.bytes(), twin.bytes())
    );
    assert_eq!(evidence.check(), Ok(()), "both headers are the host's own");
    assert_sound(&mut collector, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_restored_from_a_copy_is_stated_as_rolled_back() {
    let mut collector = Collector::start_with(PATIENT);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    send(&mut session, &mut host).await;
    let copy = host.head.clone();
    send(&mut session, &mut host).await;
    let present = std::mem::replace(&mut host.head, copy);
    // What a restored agent says of itself, twice: it is stated once.
    for _ in 0..2 {
        let _ = Session::open(&host, &collector).await;
    }
    let found = await_kinds(&collector, &host.id, &["host_enrolled", "rollback"]);
    let Said::Rollback(divergence) = prove(&collector, &found[1]) else {
        panic!("{found:?}");
    };
    assert!(!divergence.differs);
    assert_eq!((divergence.agent_next.0, divergence.held_next.0), (1, 2));
    assert_eq!(divergence.held_head, present.hash);
    // The agent that was there all along goes on; then one comes whose last header is not the ledger's.
    host.head = present;
    let (mut session, _) = Session::open(&host, &collector).await;
    send(&mut session, &mut host).await;
    host.head.hash = Hash([9; 32]);
    let _ = Session::open(&host, &collector).await;
    let found = await_kinds(&collector, &host.id, &["host_enrolled", "rollback", "rollback"]);
    assert!(matches!(&found[2].said, Said::Rollback(divergence) if divergence.differs));
    assert_sound(&mut collector, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_cannot_be_right_are_stated() {
    let mut collector = Collector::start_with(PATIENT);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, welcome) = Session::open(&host, &collector).await;
    // Far behind: it echoes a nonce that is younger than the end of what it watched.
    let (mut fields, body) = host.next_fields(&[vec![1]]);
    fields.nonce = welcome.nonce;
    let header = sign_header(&fields, &host.key).unwrap();
    host.head.accept(header.clone()).unwrap();
    session.send(&batch(&header, body)).await;
    stored(&mut session).await;
    let year_2100 = WallNanos(4_102_444_800_000_000_000);
    for expected in [ClockFault::Behind, ClockFault::Ahead, ClockFault::SetBack] {
        if expected != ClockFault::Behind {
            let (mut fields, body) = host.next_fields(&[vec![1]]);
            if expected == ClockFault::Ahead {
                (fields.from_wall, fields.until_wall) = (year_2100, year_2100);
            }
            let header = sign_header(&fields, &host.key).unwrap();
            host.head.accept(header.clone()).unwrap();
            session.send(&batch(&header, body)).await;
            stored(&mut session).await;
        }
    }
    let expected = ["host_enrolled", "clock_anomaly", "clock_anomaly", "clock_anomaly"];
    let faults: Vec<ClockFault> = await_kinds(&collector, &host.id, &expected)
        .iter()
        .filter_map(|stated| match prove(&collector, stated) {
            Said::ClockAnomaly(anomaly) => Some(anomaly.fault),
            _ => None,
        })
        .collect();
    assert_eq!(
        faults,
        [ClockFault::Behind, ClockFault::Ahead, ClockFault::SetBack]
    );
    assert_sound(&mut collector, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_end_is_stated_and_nothing_is_taken_after_it() {
    let mut collector = Collector::start_with(PATIENT);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let last = send(&mut session, &mut host).await;
    let root = collector.layout.root().to_str().unwrap().to_owned();
    let id = host.id.to_string();
    let end = || command(&["host", "end", "--dir", &root, &id, "--reason", "scrapped"]);
    assert!(end().status.success());
    assert!(!end().status.success(), "an end is declared once");
    // The open session is told, a new one is turned away.
    assert_eq!(session.refusal().await.code, RefusalCode::Ended);
    let refused = Session::connect(&host, collector.ingest, &collector.layout.ca_certificate()).await;
    if let Ok(session) = refused {
        let closed = format!("{:?}", session.transport_refusal().await);
        assert!(closed.contains("declared to have ended"), "{closed}");
    }
    collector.await_refused("ended_host");
    let found = await_kinds(&collector, &host.id, &["host_enrolled", "host_ended"]);
    assert!(matches!(
        prove(&collector, &found[1]),
        Said::HostEnded { reason, last: Some(point), .. }
            if reason.0 == b"scrapped" && point.header == last.hash()
    ));
    // Answers after its last batch name it; those before do not, and a restart, which takes the index up from what was
    // saved of it, changes nothing.
    for restarted in [false, true] {
        if restarted {
            assert!(collector.end(Signal::TERM).success());
            collector.run();
        }
        let verdict = |at: &str| {
            let (_, body) = collector.get(&format!("/v1/processes?at={at}"));
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            answer["hosts"][0]["verdict"].clone()
        };
        let after = verdict("2100-01-01T00:00:00Z");
        assert_eq!(after["because"], "after_last", "{after}");
        assert_eq!(
            after["end"]["statement"].as_u64(),
            Some(found[1].number),
            "{after}"
        );
        assert_eq!(after["end"]["reason"], "scrapped", "{after}");
        let before = verdict("1970-01-01T00:00:00Z");
        assert_ne!(before["because"], "after_last", "{before}");
        assert!(before["end"].is_null(), "{before}");
    }
    assert_sound(&mut collector, 2);
}
