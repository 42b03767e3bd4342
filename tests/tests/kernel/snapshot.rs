//! Snapshots of processes, compared with /proc, and their seam with the live stream.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use agent::kernel::Options;
use common::abi::process::{Namespaces, ProcessKey, flag};
use common::abi::{Body, Kind};

use crate::watch::{Standing, Told, Watch, program};

fn snapshot(watch: &mut Watch) -> Vec<Told> {
    let mut found = Vec::new();
    watch
        .kernel
        .hooks
        .snapshot_processes(&mut |record| match record.body {
            Body::Process(p) => found.push(Told::new(record.kind, &p)),
            other => panic!("{other:?}"),
        })
        .unwrap();
    found
}

#[test]
fn a_standing_process_is_told_as_proc_shows_it() {
    let binary = program("processes");
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c d");
    fs::create_dir_all(&deep).unwrap();
    // Another user in namespaces of its own, so that no two numbers agree by chance.
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--uts",
        "--ipc",
        "setpriv",
        "--reuid=1234",
        "--regid=4321",
        "--clear-groups",
    ]);
    command.args(["--inh-caps=-all,+net_raw", "--"]).arg(&binary);
    command.args(["wait", "for\nme", ""]).current_dir(&deep);
    let (standing, _) = Standing::start(&mut command);
    let pid = standing.child.id();
    let mut watch = Watch::start(&Options::default());
    let found = snapshot(&mut watch);
    let told: Vec<_> = found.iter().filter(|t| t.key.tgid == pid).collect();
    assert_eq!(told.len(), 1, "told once");
    let told = told[0];
    assert_eq!(told.kind, Kind::ProcessSnapshot);
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let link = |name: &str| {
        fs::read_link(proc(name))
            .unwrap()
            .into_os_string()
            .into_encoded_bytes()
    };
    assert_eq!(told.exe, link("exe"));
    assert_eq!(told.cwd, link("cwd"));
    let line: Vec<u8> = told
        .argv
        .iter()
        .flat_map(|a| a.iter().copied().chain([0]))
        .collect();
    assert_eq!(line, fs::read(proc("cmdline")).unwrap());
    assert_eq!(told.parent.tgid, std::process::id());
    assert_eq!(told.ns_tgid, pid);
    assert_eq!(told.exe_inode, fs::metadata(&binary).unwrap().ino());
    let ns = |name: &str| u32::try_from(fs::metadata(proc(&format!("ns/{name}"))).unwrap().ino()).unwrap();
    let expected = Namespaces {
        cgroup: ns("cgroup"),
        ipc: ns("ipc"),
        mnt: ns("mnt"),
        net: ns("net"),
        pid: ns("pid"),
        time: ns("time"),
        user: ns("user"),
        uts: ns("uts"),
    };
    assert_eq!(told.namespaces, expected);
    let status = fs::read_to_string(proc("status")).unwrap();
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    let ids = |name: &str| {
        line(name)
            .split_whitespace()
            .map(|w| w.parse().unwrap())
            .collect::<Vec<u32>>()
    };
    let caps = |name: &str| u64::from_str_radix(line(name).trim(), 16).unwrap();
    let c = told.credentials;
    assert_eq!([c.uid, c.euid, c.suid, c.fsuid], ids("Uid:")[..]);
    assert_eq!([c.gid, c.egid, c.sgid, c.fsgid], ids("Gid:")[..]);
    assert_eq!(
        [
            c.cap_inheritable,
            c.cap_permitted,
            c.cap_effective,
            c.cap_bounding,
            c.cap_ambient
        ],
        ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(caps)
    );
    // /proc rounds the start to the clock's ticks, a hundred each second.
    let stat = fs::read_to_string(proc("stat")).unwrap();
    let start: u64 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split(' ')
        .nth(20)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(told.key.start_boot_ns / 10_000_000, start);
}

#[test]
fn a_deleted_executable_and_directory_are_marked() {
    let dir = tempfile::tempdir().unwrap();
    let (binary, cwd) = (dir.path().join("gone"), dir.path().join("cwd"));
    fs::copy(program("processes"), &binary).unwrap();
    fs::create_dir(&cwd).unwrap();
    let (standing, _) = Standing::start(Command::new(&binary).arg("wait").current_dir(&cwd));
    fs::remove_file(&binary).unwrap();
    fs::remove_dir(&cwd).unwrap();
    let mut watch = Watch::start(&Options::default());
    let found = snapshot(&mut watch);
    let told = found.iter().find(|t| t.key.tgid == standing.child.id()).unwrap();
    let marks = flag::EXE_DELETED | flag::CWD_DELETED;
    assert_eq!(told.flags & marks, marks, "{told:?}");
    assert_eq!(told.exe, binary.into_os_string().into_encoded_bytes());
}

/// /proc shows no executable and no arguments of such a process; its living threads still tell them.
#[test]
fn a_process_without_its_leading_thread_is_told_once_and_whole() {
    let binary = program("processes");
    let (standing, _) = Standing::start(Command::new(&binary).arg("leaderless"));
    let pid = standing.child.id();
    let zombie = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .unwrap()
            .contains(") Z ")
    };
    while !zombie() {
        std::thread::yield_now();
    }
    let mut watch = Watch::start(&Options::default());
    let found = snapshot(&mut watch);
    let told: Vec<_> = found.iter().filter(|t| t.key.tgid == pid).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].flags & flag::LEADER_ENDED, flag::LEADER_ENDED);
    assert_eq!(told[0].exe, binary.into_os_string().into_encoded_bytes());
    assert_eq!(told[0].argv[1..], [b"leaderless"]);
}

#[test]
fn no_process_is_missed_or_doubled_at_the_seam() {
    let binary = program("processes");
    let mut load = Command::new(&binary)
        .args(["many", "1500"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut watch = Watch::start(&Options::default());
    let found = snapshot(&mut watch);
    watch.until(|_| load.try_wait().unwrap().is_some());
    watch.settle();
    let pid = load.id();
    let in_snapshot: Vec<ProcessKey> = found.iter().map(|t| t.key).collect();
    let unique: HashSet<_> = in_snapshot.iter().collect();
    assert_eq!(unique.len(), in_snapshot.len(), "a process twice in one snapshot");
    // Every child of the load that ended while we watched was either found or seen to start: nothing is missed.
    let started: HashSet<ProcessKey> = watch
        .processes
        .iter()
        .filter(|t| t.kind == Kind::ProcessFork)
        .map(|t| t.key)
        .collect();
    let mut ends: HashMap<ProcessKey, usize> = HashMap::new();
    for t in watch
        .processes
        .iter()
        .filter(|t| t.kind == Kind::ProcessExit && t.parent.tgid == pid)
    {
        *ends.entry(t.key).or_default() += 1;
    }
    assert!(
        ends.len() > 100,
        "only {} children ended while we watched",
        ends.len()
    );
    for (key, count) in ends {
        assert_eq!(count, 1, "{key:?} ended {count} times");
        // Those alive when the hooks were attached may have ended before the snapshot began.
        let early = watch
            .processes
            .iter()
            .find(|t| t.kind == Kind::ProcessFork)
            .map_or(0, |t| t.key.start_boot_ns);
        assert!(
            started.contains(&key) || unique.contains(&key) || key.start_boot_ns < early,
            "{key:?} neither found nor seen to start"
        );
    }
    // And whoever was found alive and is a child of the load was told to end.
    for t in found.iter().filter(|t| t.parent.tgid == pid) {
        let ended = watch
            .processes
            .iter()
            .any(|o| o.kind == Kind::ProcessExit && o.key == t.key);
        assert!(ended, "{t:?} was found and never ended");
    }
}
