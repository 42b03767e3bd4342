//! The command line against a real API over a hand-made ledger: what people see, byte for byte.
#![cfg(test)]

use std::{net::SocketAddr, sync::Arc};

use collector::{api, projection::Projection, query::Query};
use common::{ids::HostId, statement::Said};
use ledger::{Local, Memory, Reader};
use tests::{
    chains::{Maker, STARTS, ledger_of, run_begins, story, wall},
    stated::{silent, stated},
};

/// An API on a port of its own, for as long as this lives.
struct Api {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    fn over(makers: &[&Maker]) -> Self {
        Self::of(ledger_of(Arc::new(Memory::new()), makers).reader())
    }

    fn of(reader: Reader) -> Self {
        let routes = api::router(Query::new(Arc::new(Projection::new(Arc::new(reader), None)))).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self {
            address,
            _runtime: runtime,
        }
    }

    fn of_story() -> Self {
        let (one, two) = story();
        Self::over(&[&one, &two])
    }

    /// Exit code, output and remarks of a command.
    fn run(&self, line: &[&str]) -> (u8, String, String) {
        let url = format!("http://{}", self.address);
        let args = ["hostledger", "--collector", &url]
            .into_iter()
            .chain(line.iter().copied());
        run(args)
    }

    /// All of it as one text, for snapshots.
    fn shown(&self, line: &[&str]) -> String {
        let (code, out, err) = self.run(line);
        format!("{out}{err}exit {code}\n").replace(&self.address.to_string(), "ADDRESS")
    }
}

fn run<'a>(args: impl Iterator<Item = &'a str>) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = "2026-01-02T03:05:00Z".parse().unwrap();
    let code = cli::run(args.map(Into::into), now, &mut out, &mut err);
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

const T2: &str = "2026-01-02T03:04:02Z";

#[test]
fn golden_answers() {
    let api = Api::of_story();
    let lines: &[(&str, &[&str])] = &[
        ("status", &["status"]),
        ("ps", &["ps", "--at", T2]),
        ("ps_tree", &["ps", "--at", T2, "--tree", "--host", "node-1"]),
        (
            "ps_hostile",
            &[
                "ps",
                "--at",
                "2026-01-02T03:04:06Z",
                "--pid",
                "400",
                "--host",
                "node-1",
            ],
        ),
        (
            "ps_gap",
            &["ps", "--at", "2026-01-02T03:04:08Z", "--host", "node-1"],
        ),
        ("ps_before", &["ps", "--at", "2026-01-01", "--host", "node-1"]),
        ("ps_now", &["ps", "--at", "now", "--host", "node-1"]),
        (
            "ps_loss",
            &["ps", "--at", "2026-01-02T03:04:11Z", "--host", "node-1"],
        ),
        ("ps_latest", &["ps", "--host", "node-2"]),
        ("flows_open", &["flows", "--at", T2, "--host", "node-1"]),
        (
            "flows_during",
            &["flows", "--since", "1m ago", "--host", "node-1", "-o", "wide"],
        ),
        ("listeners", &["listeners", "--at", T2, "--host", "node-1"]),
        ("get", &["get", "process:200", "--at", T2, "--host", "node-1"]),
        (
            "get_ended",
            &[
                "get",
                "process:200",
                "--at",
                "2026-01-02T03:04:05Z",
                "--host",
                "node-1",
            ],
        ),
        (
            "timeline",
            &[
                "timeline",
                "connection:07070707070707070707070707070707/7",
                "--host",
                "node-1",
            ],
        ),
        (
            "jsonl",
            &[
                "ps", "--at", T2, "--pid", "200", "--host", "node-1", "-o", "jsonl",
            ],
        ),
        ("doctor", &["doctor"]),
        ("no_such_host", &["ps", "--host", "elsewhere"]),
        ("no_such_time", &["ps", "--at", "yesterday"]),
    ];
    for (name, line) in lines {
        insta::assert_snapshot!(*name, api.shown(line));
    }
}

#[test]
fn golden_statements() {
    let (one, two) = story();
    let enrolled = |host, name: &str| Said::HostEnrolled {
        host,
        name: name.into(),
        enrolled_at: wall(0),
    };
    let said = [
        enrolled(one.host(), "node-1"),
        enrolled(HostId([9; 32]), "never\u{1b}[31mseen"),
        silent(one.host(), 5, 6_000),
        silent(two.host(), 1, 4_000),
    ];
    let api = Api::of(stated(&[&one, &two], &said).reader());
    let lines: &[(&str, &[&str])] = &[
        ("statements", &["statements"]),
        ("statements_wide", &["statements", "-o", "wide"]),
        (
            "statements_jsonl",
            &[
                "statements",
                "--kind",
                "silent",
                "--host",
                "node-2",
                "-o",
                "jsonl",
            ],
        ),
    ];
    for (name, line) in lines {
        insta::assert_snapshot!(*name, api.shown(line));
    }
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let api = Api::of_story();
    for output in ["table", "wide", "json", "jsonl"] {
        let (code, out, _) = api.run(&[
            "ps",
            "--at",
            "2026-01-02T03:04:06Z",
            "--host",
            "node-1",
            "-o",
            output,
        ]);
        assert_eq!(code, 0);
        assert!(out.contains("\\x1b"), "{output}: {out}");
        assert!(
            out.chars().all(|c| c == '\n' || !c.is_control()),
            "{output}: {out:?}"
        );
        assert!(!out.contains('\u{202e}'), "{output}: {out:?}");
    }
}

#[test]
fn pages_are_joined() {
    let mut maker = Maker::new(1);
    let mut events = run_begins(maker.host(), "node-1", 0);
    let complete = common::event::baseline::Phase::Complete { events: 0 };
    events.push(tests::chains::event(1, tests::chains::baseline(0, complete)));
    events.extend((2..2_502).map(|pid| {
        let key = tests::chains::process_key(pid, 1);
        let cause = common::event::process::ProcessCause::Fork;
        tests::chains::event(2, tests::chains::process(key, None, &[b"/bin/x"], cause))
    }));
    maker.seal(STARTS, 0, 10, &events);
    let (code, out, _) = Api::over(&[&maker]).run(&["ps"]);
    assert_eq!(
        (code, out.lines().filter(|line| line.ends_with("/bin/x")).count()),
        (0, 2_500)
    );
}

#[test]
fn an_ambiguous_host_is_refused_with_candidates() {
    let (one, mut twin) = (story().0, Maker::new(9));
    let begins = run_begins(twin.host(), "node-1", 0);
    twin.seal(STARTS, 0, 1_000, &begins);
    let (code, _, err) = Api::over(&[&one, &twin]).run(&["ps", "--host", "node-1"]);
    assert_eq!(code, 2);
    assert!(
        err.contains(&one.host().short()) && err.contains(&twin.host().short()),
        "{err}"
    );
}

#[test]
fn bad_configuration_and_absent_collectors_say_what_to_do() {
    let (code, _, err) = run(["hostledger", "--collector", "ftp://x", "status"].into_iter());
    assert_eq!((code, err.contains("http://HOST:PORT")), (78, true), "{err}");
    let (code, _, err) = run(["hostledger", "--collector", "http://127.0.0.1:1", "status"].into_iter());
    assert_eq!(
        (code, err.contains("hostledger-collector run")),
        (1, true),
        "{err}"
    );
    let (code, out, _) = run(["hostledger", "--collector", "http://127.0.0.1:1", "doctor"].into_iter());
    assert_eq!((code, out.contains("FAILED")), (1, true), "{out}");
}

#[test]
fn a_proof_is_written_checked_offline_and_refused_once_altered() {
    let api = Api::of_story();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (file, vkey) = (path("event.proof"), path("ledger.vkey"));
    assert_eq!(api.run(&["proof", "node-1:14", "--file", &file]).0, 0);
    let key =
        common::note::SignerKey::from_seed("ledger.example/test", &tests::chains::LEDGER_KEY_SEED).unwrap();
    std::fs::write(&vkey, format!("{}\n", key.verifier())).unwrap();
    drop(api);
    let check = || run(["hostledger", "proof", "check", &file, "--vkey", &vkey].into_iter());
    let (code, out, _) = check();
    assert_eq!(code, 0, "{out}");
    insta::assert_snapshot!("proof_check", out);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, out, _) = check();
    assert_eq!((code, out.starts_with("NOT PROVEN")), (4, true), "{out}");
    let (code, _, err) = run(["hostledger", "proof", "check", &file, "--vkey", &file].into_iter());
    assert_eq!(
        (
            code,
            err.contains("holds neither a verifier key nor a key history")
        ),
        (78, true),
        "{err}"
    );
}

#[test]
fn verify_accepts_a_sound_ledger_and_names_what_is_wrong_in_another() {
    let (one, two) = story();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("ledger");
    drop(ledger_of(
        Arc::new(Local::open_writer(&root).unwrap()),
        &[&one, &two],
    ));
    let verify = |output: &str| {
        run([
            "hostledger",
            "verify",
            "--ledger",
            root.to_str().unwrap(),
            "-o",
            output,
        ]
        .into_iter())
    };
    let (code, out, err) = verify("table");
    assert_eq!(code, 0, "{out}{err}");
    insta::assert_snapshot!("verify_sound", out);

    let mut groups = Vec::new();
    let mut pending = vec![root.join("groups")];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path)
            } else {
                groups.push(path)
            }
        }
    }
    groups.sort();
    let mut bytes = std::fs::read(&groups[0]).unwrap();
    // The last byte of the first group is the last byte of its batch's last event.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&groups[0], &bytes).unwrap();
    let (code, out, _) = verify("json");
    assert_eq!(code, 4, "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sound"], false);
    let faults = report["faults"].to_string();
    assert!(
        faults.contains("batch 0") && faults.contains("event 14"),
        "{faults}"
    );
    let (code, _, err) = run(["hostledger", "verify", "--ledger", "/nonexistent"].into_iter());
    assert_eq!((code, err.contains("is no ledger")), (2, true), "{err}");
}

#[test]
fn verify_names_a_batch_that_is_missing_from_its_chain() {
    let (mut one, two) = story();
    one.sealed.remove(2);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("ledger");
    drop(ledger_of(
        Arc::new(Local::open_writer(&root).unwrap()),
        &[&one, &two],
    ));
    let (code, out, _) = run(["hostledger", "verify", "--ledger", root.to_str().unwrap()].into_iter());
    assert_eq!(code, 4, "{out}");
    assert!(
        out.contains("batch 3 of host") && out.contains("where batch 2"),
        "{out}"
    );
    // Damage elsewhere is no excuse: this once silenced every break of a chain.
    let group = root.join("groups/001");
    let mut bytes = std::fs::read(&group).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&group, bytes).unwrap();
    let (code, out, _) = run(["hostledger", "verify", "--ledger", root.to_str().unwrap()].into_iter());
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("groups/001 at offset"), "{out}");
    assert!(
        out.contains("batch 3 of host") && out.contains("where batch 2"),
        "{out}"
    );
}

#[test]
fn verify_tells_an_older_copy_by_what_was_seen_elsewhere() {
    let (one, _) = story();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (now, older, seen) = (path("now"), path("older"), path("seen"));
    let mut begun = Maker::new(1);
    begun.sealed = one.sealed[..2].to_vec();
    drop(ledger_of(
        Arc::new(Local::open_writer(older.as_ref()).unwrap()),
        &[&begun],
    ));
    let ledger = ledger_of(Arc::new(Local::open_writer(now.as_ref()).unwrap()), &[&one]);
    let receipt = ledger.reader().receipt(common::ids::LeafIndex(1)).unwrap();
    std::fs::write(&seen, receipt.encode()).unwrap();
    let verify = |ledger: &str, seen: &[&str]| {
        let args = ["hostledger", "verify", "--ledger", ledger];
        run(args.into_iter().chain(seen.iter().copied()))
    };
    // The older copy is whole in itself: by itself nobody can tell.
    assert_eq!(verify(&older, &[]).0, 0);
    assert_eq!(verify(&now, &["--seen", &seen]).0, 0);
    let (code, out, err) = verify(&older, &["--seen", &seen]);
    assert_eq!(code, 4, "{out}{err}");
    let named = format!(
        "FAULT log/checkpoint: is for 2 leaves, {seen} saw one for {}",
        one.sealed.len()
    );
    assert!(out.contains(&named), "{out}");
    // What another ledger's key signed says nothing of this one.
    let foreign = path("foreign");
    let stranger = common::note::SignerKey::from_seed("ledger.example/test", &[99; 32]).unwrap();
    let head = ledger.reader().published().checkpoint.sign(&stranger).unwrap();
    std::fs::write(&foreign, head).unwrap();
    let (code, _, err) = verify(&now, &["--seen", &foreign]);
    assert!(
        code != 0 && err.contains("holds no checkpoint of this ledger"),
        "{code} {err}"
    );
}

#[test]
fn a_bundle_is_the_same_from_api_and_directory_and_is_checked_offline() {
    let (one, two) = story();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (from_api, from_disk, ledger) = (path("api.bundle"), path("disk.bundle"), path("ledger"));
    let storage = Arc::new(Local::open_writer(directory.path().join("ledger").as_path()).unwrap());
    drop(ledger_of(storage, &[&one, &two]));
    let vkey = path("ledger/ledger.vkey");
    let api = Api::of_story();
    let host = one.host().to_string();
    let asked = ["--since", T2, "--until", "2026-01-02T03:04:04Z", "--host", &host];
    let export = |how: &[&str]| {
        let (code, out, err) = api.run(&[&["audit", "export"], how].concat());
        assert_eq!(code, 0, "{out}{err}");
    };
    let process = tests::chains::process_key(200, 1_200);
    let entity = common::fold::EntityId::of(common::event::Kind::Process, &process).to_string();
    for (name, narrower) in [("audit_whole", &[][..]), ("audit_entity", &["--entity", &entity])] {
        let question = [asked.as_slice(), narrower].concat();
        export(&[question.as_slice(), &["-f", &from_api]].concat());
        export(&[question.as_slice(), &["-f", &from_disk, "--ledger", &ledger]].concat());
        assert_eq!(
            std::fs::read(&from_api).unwrap(),
            std::fs::read(&from_disk).unwrap()
        );
        let (code, out, err) = run([
            "hostledger",
            "-o",
            "wide",
            "audit",
            "verify",
            &from_disk,
            "--vkey",
            &vkey,
        ]
        .into_iter());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        insta::assert_snapshot!(name, out);
    }
    let (_, shown, _) = run(["hostledger", "audit", "show", &from_disk].into_iter());
    insta::assert_snapshot!("audit_show", shown);

    let event = format!("{host}:14");
    export(&["--event", "node-1:14", "-f", &from_api]);
    export(&["--event", &event, "-f", &from_disk, "--ledger", &ledger]);
    assert_eq!(
        std::fs::read(&from_api).unwrap(),
        std::fs::read(&from_disk).unwrap()
    );

    // A question that the bundle answers in part only, an altered bundle, and questions that are none.
    export(&["--since", "2026-01-01", "--until", "2026-01-03", "-f", &from_api]);
    let verify = || run(["hostledger", "audit", "verify", &from_api, "--vkey", &vkey].into_iter());
    let (code, out, _) = verify();
    assert_eq!((code, out.contains("INCOMPLETE")), (3, true), "{out}");
    let mut bytes = std::fs::read(&from_api).unwrap();
    bytes[99] ^= 1;
    std::fs::write(&from_api, bytes).unwrap();
    let (code, out, _) = verify();
    assert_eq!((code, out.starts_with("REFUSED (digest)")), (4, true), "{out}");
    for wrong in [
        &["audit", "export", "--event", "node-1:99999", "-f", "-"][..],
        &[
            "audit",
            "export",
            "--since",
            "2026-01-03",
            "--until",
            "2026-01-02",
            "-f",
            "-",
        ],
        &["audit", "export", "-f", "-"],
    ] {
        let (code, out, err) = api.run(wrong);
        assert!(
            code != 0 && out.is_empty() && !err.is_empty(),
            "{wrong:?}: {out}{err}"
        );
    }
}
