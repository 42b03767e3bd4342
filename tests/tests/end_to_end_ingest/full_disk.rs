//! A disk that fills up, and one that fails: stated, nothing acknowledged is lost, and it goes on when it can.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use common::{
    ids::Sequence,
    session::{Message, RefusalCode},
};
use rustix::process::Signal;

use crate::{
    assert_still_serves,
    peer::{Host, Session, batch},
    process::{Collector, PATIENCE, wait_until},
};

/// A small file system of its own, in memory.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "hostledger-test"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting needs root");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the collector may hold it still.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A body of about 120 KB.
fn large(n: u8) -> Vec<Vec<u8>> {
    (0..4).map(|m| vec![n ^ m; 30_000]).collect()
}

/// What is durable at least, from the messages that came; `None` when a notice says that the disk is full.
async fn next_stored(session: &mut Session) -> Option<Sequence> {
    loop {
        match session.next().await {
            Some(Message::Stored { through }) => return Some(through),
            Some(Message::Receipts(_)) => {}
            Some(Message::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::NoSpace, "{refusal}");
                assert!(!refusal.fatal, "the session goes on");
                return None;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_pauses_and_room_resumes() {
    let disk = SmallDisk::mount(6 << 20);
    let mut collector = Collector::start_in(&disk.path().join("c"), &[]);
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 3 << 20]).unwrap();

    let mut host = Host::enrolled(40, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let mut stored = None;
    for n in 0..60 {
        let (header, body) = host.seal(&large(n));
        session.send(&batch(&header, body)).await;
        match next_stored(&mut session).await {
            Some(through) => stored = Some(through),
            None => break,
        }
    }
    let sent = Sequence(host.head.next_sequence.0 - 1);
    assert!(stored < Some(sent), "the disk filled up");
    assert_eq!(collector.get("/healthz").0, 503);
    assert_eq!(collector.refused("no_space"), 1);

    // Room comes back: what was sent before is stored without being sent again.
    std::fs::remove_file(&filler).unwrap();
    while stored < Some(sent) {
        if let Some(through) = next_stored(&mut session).await {
            stored = Some(through);
        }
    }
    await_health(&collector);
    assert_still_serves(&mut collector).await;
    assert!(collector.end(Signal::TERM).success());
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn a_kill_while_the_disk_is_full_loses_nothing_acknowledged() {
    let disk = SmallDisk::mount(6 << 20);
    let mut collector = Collector::start_in(&disk.path().join("c"), &[]);
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 3 << 20]).unwrap();
    let mut host = Host::enrolled(41, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let mut stored = None;
    for n in 0..60 {
        let (header, body) = host.seal(&large(n));
        session.send(&batch(&header, body)).await;
        match next_stored(&mut session).await {
            Some(through) => stored = Some(through),
            None => break,
        }
    }
    collector.end(Signal::KILL);
    std::fs::remove_file(&filler).unwrap();
    collector.run();
    let (_session, welcome) = Session::open(&host, &collector).await;
    let acknowledged = stored.map_or(0, |stored| stored.0 + 1);
    assert!(
        welcome.next.0 >= acknowledged,
        "{welcome:?}, acknowledged {stored:?}"
    );
    assert!(collector.end(Signal::TERM).success());
    assert_eq!(collector.verify().0, Some(0));
}

fn await_health(collector: &Collector) {
    let begun = Instant::now();
    while collector.get("/healthz").0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "still paused");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A failed flush may have lost anything: going on would acknowledge what is not there.
#[tokio::test]
async fn a_failed_flush_ends_the_process_and_a_restart_recovers() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(42, &collector);
    let (mut session, _) = Session::open(&host, &collector).await;
    let (header, body) = host.seal(&[vec![1]]);
    session.send(&batch(&header, body)).await;
    assert_eq!(next_stored(&mut session).await, Some(Sequence(0)));
    assert!(collector.end(Signal::TERM).success());

    // From the twentieth flush of any thread on: after the start, which tries the store and writes the first
    // checkpoint, in the midst of groups and checkpoints.
    collector.wrapper = ["strace", "-f", "-qq", "-o"].map(String::from).to_vec();
    let trace: PathBuf = collector.layout.root().join("trace");
    collector.wrapper.push(trace.display().to_string());
    collector.wrapper.extend(
        [
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:error=EIO:when=20+",
        ]
        .map(String::from),
    );
    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let mut acknowledged = Sequence(0);
    let refusal = loop {
        let (header, body) = host.seal(&[vec![2]]);
        session.send(&batch(&header, body)).await;
        match session.next().await {
            Some(Message::Stored { through }) => acknowledged = through,
            Some(Message::Receipts(_)) => {}
            Some(Message::Refused(refusal)) => break Some(refusal),
            None => break None,
            other => panic!("{other:?}"),
        }
    };
    if let Some(refusal) = refusal {
        assert_eq!(refusal.code, RefusalCode::Internal, "{refusal}");
    }
    let status = collector.wait();
    assert!(!status.success(), "{status:?}");

    collector.wrapper.clear();
    collector.run();
    let (_session, welcome) = Session::open(&host, &collector).await;
    assert!(welcome.next > acknowledged, "{welcome:?}");
    assert!(collector.end(Signal::TERM).success());
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
}

/// It ended as soon as that checkpoint was stored: what had been shown meanwhile was due on disk later only.
#[tokio::test]
async fn a_stop_while_a_checkpoint_is_being_stored_stores_what_was_shown_meanwhile() {
    let mut collector = Collector::start_with(&["--publish-interval", "1s"]);
    let mut host = Host::enrolled_and_stated(1, &collector);
    let ledger = collector.layout.ledger();
    let size = |note: &str| note.lines().nth(1).unwrap().parse::<u64>().unwrap();
    let stored = || size(&std::fs::read_to_string(ledger.join("log/checkpoint")).unwrap());
    let being_stored = || {
        let staged = std::fs::read_dir(ledger.join("tmp")).unwrap();
        let mut notes = staged.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
        let note = notes.find(|text| text.starts_with("ledger.example/"));
        note.map(|note| size(&note))
    };
    // What the publishing thread flushes takes five seconds from now on; groups are flushed by another.
    let tasks = PathBuf::from(format!("/proc/{}/task", collector.id()));
    let thread = std::fs::read_dir(&tasks).unwrap().find_map(|task| {
        let task = task.unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap();
        (name == "publisher\n").then(|| task.file_name().into_string().unwrap())
    });
    let thread = thread.unwrap();
    let mut tracer = Command::new("strace")
        .args([
            "-qq",
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:delay_enter=5000000",
        ])
        .args(["-p", &thread, "-o"])
        .arg(collector.layout.root().join("trace"))
        .spawn()
        .unwrap();
    wait_until("it is traced", || {
        let state = std::fs::read_to_string(tasks.join(&thread).join("status"));
        !state.unwrap().contains("TracerPid:\t0\n")
    });
    let (mut session, _) = Session::open(&host, &collector).await;
    let (mut shown, mut under_way) = (0, None);
    for n in 0..2 {
        let (header, body) = host.seal(&[vec![n; 40]]);
        session.send(&batch(&header, body)).await;
        shown = loop {
            match session.next().await {
                Some(Message::Stored { .. }) => {}
                Some(Message::Receipts(receipts)) => {
                    break size(std::str::from_utf8(&receipts.checkpoint).unwrap());
                }
                other => panic!("{other:?}"),
            }
        };
        if n == 0 {
            wait_until("the first is being stored", || {
                under_way = being_stored();
                under_way.is_some()
            });
        }
    }
    drop(session);
    assert!(under_way < Some(shown) && being_stored() == under_way);
    assert!(collector.end(Signal::TERM).success());
    assert!(stored() >= shown, "{} leaves stored, {shown} shown", stored());
    tracer.wait().unwrap();
    assert_eq!(collector.verify().0, Some(0));
}
