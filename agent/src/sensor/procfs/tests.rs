//! The scanner against this machine's own `/proc`.

use std::process::{Command, Stdio};

use super::*;

fn scan(scanner: &mut Scanner) -> Vec<Fact> {
    let mut facts = Vec::new();
    let everything = Families {
        processes: true,
        sockets: true,
    };
    scanner.scan(crate::clock::boot_now(), everything, &mut |_, fact| {
        facts.push(fact)
    });
    facts
}

fn process_of(facts: &[Fact], pid: u32) -> Vec<&Process> {
    facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Process { key, record } if key.tgid == pid => Some(record),
            _ => None,
        })
        .collect()
}

#[test]
fn a_child_is_seen_to_begin_and_to_end_once_each() {
    let mut scanner = Scanner::new(BootId::default(), 4096);
    let baseline = scan(&mut scanner);
    assert_eq!(
        process_of(&baseline, std::process::id())[0].cause,
        ProcessCause::Baseline
    );

    let mut child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // `spawn` returns once the program was replaced.
    let begun = scan(&mut scanner);
    let records = process_of(&begun, child.id());
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].cause, ProcessCause::Fork);
    assert_eq!(records[0].state, ProcessState::Running);
    assert_eq!(
        records[0].argv.known().unwrap().args,
        ["sleep", "1000"].map(common::text::Text::from)
    );
    assert_eq!(
        records[0].parent.known().map(|parent| parent.tgid),
        Some(std::process::id())
    );
    assert!(
        process_of(&scan(&mut scanner), child.id()).is_empty(),
        "nothing changed"
    );

    child.kill().unwrap();
    child.wait().unwrap();
    let ended = scan(&mut scanner);
    let records = process_of(&ended, child.id());
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].cause, ProcessCause::Exit);
    assert_eq!(records[0].state, ProcessState::Gone(Why::NotObserved));
    assert!(records[0].argv.known().is_some(), "the whole record, not a delta");
}

#[test]
fn a_connection_over_loopback_has_two_ends_and_both_close() {
    let mut scanner = Scanner::new(BootId::default(), 4096);
    scan(&mut scanner);
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let server = listener.accept().unwrap().0;
    let ends = |facts: &[Fact], wanted: ConnectionState| {
        facts
            .iter()
            .filter(|fact| {
                matches!(fact, Fact::Connection { record, .. }
                    if record.state == wanted
                        && (record.local == address || record.remote == address)
                        && record.owner.known().map(|owner| owner.tgid) == Some(std::process::id()))
            })
            .count()
    };
    let opened = scan(&mut scanner);
    assert_eq!(ends(&opened, ConnectionState::Established), 2);
    assert!(
        opened
            .iter()
            .any(|fact| matches!(fact, Fact::Listener { record, .. }
        if record.local == address && record.listening && record.cause == ListenerCause::Listen))
    );
    drop((client, server, listener));
    let closed = scan(&mut scanner);
    assert_eq!(ends(&closed, ConnectionState::Closed(Outcome::Unknown)), 2);
    assert!(
        closed
            .iter()
            .any(|fact| matches!(fact, Fact::Listener { record, .. }
        if record.local == address && !record.listening))
    );
}
