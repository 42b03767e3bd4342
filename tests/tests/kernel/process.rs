//! Fork, exec and exit against the truth table, under load, and with a ring too small.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use agent::kernel::{Options, Probe, State, Tier};
use common::abi::Kind;
use common::abi::process::{ProcessKey, flag};

use crate::watch::{Told, Watch, program};

/// What a program says about one of its processes.
#[derive(Debug)]
struct Expected {
    pid: u32,
    parent: u32,
    exit: (u8, u8),
    execs: usize,
    argv: Vec<Vec<u8>>,
}

fn expected(output: &str) -> Vec<Expected> {
    output
        .lines()
        .map(|line| {
            let mut words = line.split('\t');
            assert_eq!(words.next(), Some("process"), "{line}");
            let mut number = || words.next().and_then(|w| w.parse::<u32>().ok()).unwrap();
            let (pid, parent, code, signal, execs) = (number(), number(), number(), number(), number());
            Expected {
                pid,
                parent,
                exit: (code.try_into().unwrap(), signal.try_into().unwrap()),
                execs: execs.try_into().unwrap(),
                argv: words.map(|w| w.as_bytes().to_vec()).collect(),
            }
        })
        .collect()
}

/// The records of every descendant of the process `root`, by key; itself excluded.
fn descendants(told: &[Told], root: u32) -> HashMap<ProcessKey, Vec<&Told>> {
    let mut family: HashSet<ProcessKey> = told
        .iter()
        .filter(|t| t.kind == Kind::ProcessExec && t.key.tgid == root)
        .map(|t| t.key)
        .collect();
    assert_eq!(family.len(), 1, "one process {root}");
    let mut found: HashMap<ProcessKey, Vec<&Told>> = HashMap::new();
    // A process is told to start before anything else of it, and after its parent's start.
    for t in told {
        if t.kind == Kind::ProcessFork && family.contains(&t.parent) {
            family.insert(t.key);
            found.entry(t.key).or_default();
        }
        if let Some(records) = found.get_mut(&t.key) {
            records.push(t);
        }
    }
    found
}

/// Every process has exactly one start and one end, with the right parent, arguments, code and signal.
fn check(told: &[Told], root: u32, expected: &[Expected]) {
    let found = descendants(told, root);
    assert_eq!(found.len(), expected.len(), "processes told and made");
    let by_pid: HashMap<u32, &Vec<&Told>> = found.iter().map(|(key, records)| (key.tgid, records)).collect();
    for e in expected {
        let records = by_pid.get(&e.pid).unwrap_or_else(|| panic!("not told: {e:?}"));
        let of = |kind| records.iter().filter(|t| t.kind == kind).collect::<Vec<_>>();
        let (starts, execs, ends) = (
            of(Kind::ProcessFork),
            of(Kind::ProcessExec),
            of(Kind::ProcessExit),
        );
        assert_eq!(
            (starts.len(), execs.len(), ends.len()),
            (1, e.execs, 1),
            "{e:?}: {records:?}"
        );
        assert_eq!(starts[0].parent.tgid, e.parent, "{e:?}");
        assert_eq!(ends[0].exit, Some(e.exit), "{e:?}");
        if let Some(last) = execs.last() {
            assert_eq!(last.argv, e.argv, "{e:?}");
        }
    }
}

#[test]
fn every_tier_b_probe_works_and_every_failure_has_a_reason() {
    let watch = Watch::start(&Options::default());
    for report in &watch.kernel.reports {
        assert!(report.tier == Tier::A || report.works(), "{report:?}");
        assert_eq!(
            report.state == State::Active,
            report.reason().is_empty(),
            "{report:?}"
        );
    }
    let probes: HashSet<Probe> = watch.kernel.reports.iter().map(|r| r.probe).collect();
    assert_eq!(
        probes.len(),
        watch.kernel.reports.len(),
        "one report for each probe"
    );
}

#[test]
fn the_truth_table_is_told_exactly() {
    truth_table(&Options::default());
}

/// Kernels before 6.16 do not tell which thread is the last.
#[test]
fn the_truth_table_is_told_exactly_by_counting_threads() {
    truth_table(&Options {
        count_threads: true,
        ..Options::default()
    });
}

fn truth_table(options: &Options) {
    let binary = program("processes");
    let mut watch = Watch::start(options);
    let (root, output) = watch.run(Command::new(&binary).arg("truth-table"));
    let totals = watch.settle();
    let expected = expected(&output);
    assert!(expected.len() > 256 + 20, "{} processes", expected.len());
    check(&watch.processes, root, &expected);
    assert_eq!(watch.losses, []);
    assert!(totals.balanced(), "{totals:?}");
    // The thread that replaced the program did so under another id, which is kept.
    let by_thread: Vec<_> = watch
        .processes
        .iter()
        .filter(|t| t.flags & flag::EXEC_BY_THREAD != 0)
        .collect();
    let own: Vec<_> = by_thread
        .iter()
        .filter(|t| t.exe == binary.as_os_str().as_bytes())
        .collect();
    assert_eq!(own.len(), 1, "{by_thread:?}");
    assert!(
        own[0].old_tid != own[0].tid && own[0].tid == own[0].key.tgid,
        "{own:?}"
    );
}

#[test]
fn ten_thousand_short_processes_are_told_exactly() {
    let binary = program("processes");
    let mut watch = Watch::start(&Options::default());
    let (root, output) = watch.run(Command::new(&binary).args(["many", "10000"]));
    let totals = watch.settle();
    check(&watch.processes, root, &expected(&output));
    assert_eq!(watch.losses, []);
    assert!(totals.balanced(), "{totals:?}");
}

#[test]
fn with_a_ring_too_small_seen_and_lost_still_add_up() {
    let binary = program("processes");
    let options = Options {
        ring_bytes: 16 << 10,
        wake_bytes: 8 << 10,
        ..Options::default()
    };
    let mut watch = Watch::start(&options);
    // Nobody reads while it runs.
    let status = Command::new(&binary)
        .args(["many", "1000"])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let totals = watch.settle();
    let (seen, lost): (u64, u64) = totals
        .kinds
        .iter()
        .fold((0, 0), |(seen, lost), t| (seen + t.seen, lost + t.lost));
    assert!(lost > 0, "the ring held everything: {totals:?}");
    assert!(seen > 0, "{totals:?}");
    let named: u64 = watch.losses.iter().map(agent::kernel::Loss::count).sum();
    assert_eq!(named, lost, "every loss is named by a range: {:?}", watch.losses);
    for loss in &watch.losses {
        assert!(
            loss.after_boot_ns <= loss.before_boot_ns && loss.first <= loss.last,
            "{loss:?}"
        );
    }
    // And the stream goes on after the overload; so small a ring may lose of it again.
    let told = watch.processes.len();
    watch.run(Command::new(&binary).args(["many", "4"]));
    watch.settle();
    assert!(watch.processes.len() > told);
}

#[test]
fn a_script_is_told_apart_from_its_interpreter() {
    let mut watch = Watch::start(&Options::default());
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("a script");
    std::fs::write(&script, "#!/bin/sh -e\nexit 4\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut child = Command::new(&script)
        .arg("one")
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    watch.settle();
    let pid = child.id();
    let exec = watch
        .processes
        .iter()
        .find(|t| t.kind == Kind::ProcessExec && t.key.tgid == pid)
        .unwrap();
    assert_eq!(exec.file, script.as_os_str().as_bytes());
    assert_eq!(exec.interpreter, b"/bin/sh");
    assert_eq!(
        exec.exe,
        std::fs::canonicalize("/bin/sh").unwrap().as_os_str().as_bytes()
    );
    assert_eq!(
        exec.cwd,
        dir.path().canonicalize().unwrap().as_os_str().as_bytes()
    );
    assert_eq!(
        exec.argv,
        [b"/bin/sh", &b"-e"[..], script.as_os_str().as_bytes(), b"one"]
    );
}

#[test]
fn hostile_arguments_are_kept_byte_for_byte_and_long_ones_marked() {
    use std::ffi::OsStr;
    let mut watch = Watch::start(&Options::default());
    let hostile: [&[u8]; 4] = [b"new\nline", b"\x1b[31mred", b"\xff\xfe not utf-8", b""];
    let mut child = Command::new("/bin/true")
        .args(hostile.map(OsStr::from_bytes))
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let long = "x".repeat(10_000);
    let mut other = Command::new("/bin/true").arg(&long).spawn().unwrap();
    other.wait().unwrap();
    watch.settle();
    let exec = |pid| {
        watch
            .processes
            .iter()
            .find(|t| t.kind == Kind::ProcessExec && t.key.tgid == pid)
            .unwrap()
    };
    let (exact, cut) = (exec(child.id()), exec(other.id()));
    assert_eq!(exact.argv[1..], hostile);
    assert_eq!(exact.flags & (flag::ARGV_CUT | flag::ARGV_FAULT), 0);
    assert_eq!(cut.flags & flag::ARGV_CUT, flag::ARGV_CUT);
    assert_eq!(cut.argv_bytes_total, 10_000 + 1 + 10);
    assert_eq!(cut.argv[1].len(), 4096 - 10, "what fits is kept");
}
