//! The table against records made by hand.

use super::*;

const PARENT: AbiKey = AbiKey {
    tgid: 10,
    start_boot_ns: 1_000,
};
const CHILD: AbiKey = AbiKey {
    tgid: 11,
    start_boot_ns: 2_000,
};

fn seen(key: AbiKey, parent: AbiKey) -> abi::Process<'static> {
    abi::Process {
        key,
        parent,
        tid: key.tgid,
        old_tid: key.tgid,
        ns_tgid: key.tgid,
        exit: None,
        credentials: abi::process::Credentials::default(),
        login_uid: u32::MAX,
        session_id: u32::MAX,
        namespaces: abi::process::Namespaces::default(),
        cgroup_id: 0,
        exe_inode: 0,
        exe_dev: 0,
        comm: b"x",
        tty: b"",
        exe: b"",
        cwd: b"",
        file: b"",
        interpreter: b"",
        argv: b"",
        argv_bytes_total: 0,
        flags: 0,
    }
}

fn exec(key: AbiKey) -> abi::Process<'static> {
    abi::Process {
        exe: b"/bin/sh",
        cwd: b"/tmp",
        file: b"./run",
        interpreter: b"/bin/sh",
        argv: b"sh\0./run\0",
        argv_bytes_total: 9,
        ..seen(key, PARENT)
    }
}

fn apply(table: &mut Processes, kind: abi::Kind, seen: &abi::Process<'_>) -> Process {
    let (_, record) = table.record(kind, seen);
    table.keep(seen.key, record.clone());
    record
}

#[test]
fn an_exit_carries_what_exec_showed_and_is_forgotten() {
    let mut table = Processes::new(BootId::default());
    apply(&mut table, abi::Kind::ProcessExec, &exec(CHILD));
    let ended = abi::Process {
        exit: Some(abi::process::ExitStatus::from_wait_status(0x0300)),
        flags: flag::NO_MEMORY,
        ..seen(CHILD, PARENT)
    };
    let record = apply(&mut table, abi::Kind::ProcessExit, &ended);
    assert_eq!(
        record.state,
        ProcessState::Exited {
            code: 3,
            signal: 0,
            core_dumped: false
        }
    );
    assert_eq!(record.exe.known().unwrap().text, Text::from("/bin/sh"));
    assert_eq!(record.script, Field::Known("./run".into()));
    assert_eq!(record.argv.known().unwrap().args, ["sh", "./run"].map(Text::from));
    assert_eq!(record.cwd.known().unwrap().text, Text::from("/tmp"));
    assert!(table.is_empty());
}

#[test]
fn a_child_has_its_parents_program_until_it_execs() {
    let mut table = Processes::new(BootId::default());
    apply(&mut table, abi::Kind::ProcessExec, &exec(PARENT));
    let record = apply(&mut table, abi::Kind::ProcessFork, &seen(CHILD, PARENT));
    assert_eq!(record.exe.known().unwrap().text, Text::from("/bin/sh"));
    assert_eq!(record.parent.known().unwrap().tgid, PARENT.tgid);
    assert_eq!(table.len(), 2, "the parent's record is copied, not moved");
}

#[test]
fn what_was_never_seen_says_why() {
    let mut table = Processes::new(BootId::default());
    let ended = abi::Process {
        exit: Some(abi::process::ExitStatus::from_wait_status(9)),
        flags: flag::NO_MEMORY,
        ..seen(CHILD, AbiKey::default())
    };
    let record = apply(&mut table, abi::Kind::ProcessExit, &ended);
    assert_eq!(record.argv, Field::Unknown(Why::Gone));
    assert_eq!(record.parent, Field::Absent);
    let record = apply(&mut table, abi::Kind::ProcessFork, &seen(CHILD, PARENT));
    assert_eq!(record.exe, Field::Unknown(Why::BeforeSensor));
}

#[test]
fn a_full_table_is_counted_and_named_as_the_reason() {
    let mut table = Processes::new(BootId::default());
    table.max = 1;
    // This process is alive, so it is not dropped to make room.
    let me = AbiKey {
        tgid: std::process::id(),
        start_boot_ns: 1,
    };
    apply(&mut table, abi::Kind::ProcessExec, &exec(me));
    apply(&mut table, abi::Kind::ProcessExec, &exec(CHILD));
    assert_eq!((table.len(), table.forgotten()), (1, 1));
    let ended = abi::Process {
        exit: Some(abi::process::ExitStatus::from_wait_status(0)),
        flags: flag::NO_MEMORY,
        ..seen(CHILD, PARENT)
    };
    let record = apply(&mut table, abi::Kind::ProcessExit, &ended);
    assert_eq!(record.argv, Field::Unknown(Why::TableFull));
}

#[test]
fn a_process_known_from_proc_keeps_its_coarse_key() {
    let mut table = Processes::new(BootId::default());
    let coarse = ProcessKey {
        boot: BootId::default(),
        tgid: 11,
        started: BootNanos(5 * TICK_NS),
    };
    let (_, record) = table.record(abi::Kind::ProcessExec, &exec(CHILD));
    table.adopt(coarse, &record);
    let fine = AbiKey {
        tgid: 11,
        start_boot_ns: 5 * TICK_NS + 123,
    };
    let ended = abi::Process {
        exit: Some(abi::process::ExitStatus::from_wait_status(0)),
        ..seen(fine, PARENT)
    };
    let (key, record) = table.record(abi::Kind::ProcessExit, &ended);
    assert_eq!(key, coarse);
    assert!(record.argv.known().is_some());
    table.keep(fine, record);
    assert_eq!(
        table.key(fine).started,
        BootNanos(fine.start_boot_ns),
        "forgotten after its exit"
    );
}
