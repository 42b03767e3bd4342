//! Retention over a large ledger on a real disk: what `du` says, what still verifies, what answers say.
#![cfg(test)]

use std::{path::Path, process::Command, sync::Arc};

use collector::{
    config::{Config, Raw},
    layout::Layout,
    pipeline::Retain,
    pki,
    projection::Projection,
    query::Query,
    retention::Stopped,
};
use common::{
    event::{Kind, SensorId, baseline::Phase, process::ProcessCause},
    ids::{LeafIndex, StatementNumber, WallNanos},
    note::SignerKey,
    retention::Policy,
    statement::{Hold, HoldLifted},
    text::Text,
};
use ledger::{Entry, Ledger, Local, audit, fsck::Options};
use tests::{
    chains::{GOES_ON, Maker, STARTS, baseline, event, loss, process, process_key, run_begins, wall},
    large::Large,
};

/// Batches of each host, and hosts.
const BATCHES: u64 = 2_500;
const HOSTS: u8 = 8;

/// The stopped collector of that directory.
fn open(layout: &Layout) -> Stopped {
    let config = Config::load(&layout.config(), std::iter::empty(), &Raw::new()).unwrap();
    Stopped::open(layout, &config).unwrap()
}

/// What `du` says: bytes on disk, and by length.
fn du(dir: &Path) -> (u64, u64) {
    let count = |how: &[&str]| {
        let out = Command::new("du")
            .args(["-s"])
            .args(how)
            .arg(dir)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    (count(&["-B1"]), count(&["--apparent-size", "-B1"]))
}

#[test]
fn nine_tenths_of_a_large_ledger_go_and_everything_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let Large {
        layout,
        signer,
        receipts,
        ..
    } = Large::make(dir.path(), HOSTS, BATCHES);
    let leaves = BATCHES * u64::from(HOSTS);
    let policy = Policy {
        older_than: Some(wall(BATCHES * 10 * 9 / 10)),
        ..Policy::default()
    };
    let stopped = open(&layout);
    let plan = stopped.pruner().plan(&policy).unwrap();
    assert_eq!((plan.bodies(), plan.held), (leaves * 9 / 10, 0));
    let before = du(&layout.ledger());
    let done = stopped.pruner().prune(&policy, true, &mut |_| ()).unwrap();
    assert_eq!(done.plan, plan);
    let report = done.report;
    stopped.close().unwrap();
    let after = du(&layout.ledger());

    // The report is what du says, to the byte; and the groups account for all of it but certificate and mark.
    assert_eq!((report.before.disk, report.before.apparent), before);
    assert_eq!((report.after.disk, report.after.apparent), after);
    assert_eq!(report.bodies(), leaves * 9 / 10);
    let (lost, freed) = (before.0 - after.0, report.freed());
    let grown = report.stated.disk - report.before.disk;
    assert!(
        freed.disk - lost <= grown + 64 * 1024,
        "{} freed, {lost} lost, {grown} grown",
        freed.disk
    );
    assert!(freed.apparent > report.body_bytes() * 95 / 100);
    println!(
        "{leaves} batches, {} bodies of {} bytes pruned in {} groups: du {} -> {} (lost {lost}), freed at groups {}, \
         grown by certificate and tiles {grown}; by length {} -> {}",
        report.bodies(),
        report.body_bytes(),
        report.changes.len(),
        before.0,
        after.0,
        freed.disk,
        before.1,
        after.1
    );

    let storage = Local::open_reader(&layout.ledger()).unwrap();
    let found = audit::run(
        &storage,
        &Options {
            key: Some(&signer.verifier().clone().into()),
            ..Options::default()
        },
    );
    assert!(found.report.is_sound(), "{:?}", found.report.faults);
    assert!(found.report.notes.is_empty(), "{:?}", found.report.notes);
    assert_eq!((found.pruned, found.statements), (leaves * 9 / 10, 1));
    assert_eq!(found.hosts.values().map(|host| host.batches).sum::<u64>(), leaves);
    drop(storage);

    // A start as always: nothing is left to do, old receipts and new ones verify.
    let stopped = open(&layout);
    let reader = stopped.pruner().reader().clone();
    assert!(receipts.len() > 15);
    for (header, receipt) in &receipts {
        receipt.verify(header, signer.verifier()).unwrap();
        let now = reader.receipt(receipt.leaf).unwrap();
        now.verify(header, signer.verifier()).unwrap();
        assert_eq!(&reader.header(receipt.leaf).unwrap(), header);
    }
    assert!(reader.body(LeafIndex(0)).is_err() && reader.body(LeafIndex(leaves - 1)).is_ok());

    // What is kept is answered as before, from the state kept before pruning; what is gone says why.
    let projection = Projection::new(Arc::new(reader), Some(layout.projections()));
    let query = Query::new(Arc::new(projection));
    query.catch_up().unwrap();
    let ask = |at: u64| {
        let hosts = [chain_host().to_string()];
        let answer = query.list(
            Kind::Process,
            Some(wall(at)),
            &hosts,
            &Default::default(),
            &Default::default(),
        );
        serde_json::to_value(answer.unwrap().hosts.remove(0)).unwrap()
    };
    let kept = ask(BATCHES * 10 - 1);
    assert_eq!(kept["verdict"]["is"], "known", "{kept}");
    assert_eq!(
        kept["verdict"]["value"].as_array().unwrap().len(),
        1_000,
        "a full page of processes"
    );
    let gone = ask(5_000);
    assert_eq!(
        (&gone["verdict"]["is"], &gone["verdict"]["because"]),
        (&"unknown".into(), &"pruned".into()),
        "{gone}"
    );
    assert_eq!(gone["verdict"]["statement"], 0);

    // Without the kept states the newest state is unknown, never less than it was.
    std::fs::remove_dir_all(layout.projections().join("state")).unwrap();
    let bare = ask(BATCHES * 10 - 1);
    assert_eq!(bare["verdict"]["because"], "pruned", "{bare}");
}

/// Makes what was sealed the ledger's first group, under a checkpoint.
fn store(layout: &Layout, maker: &Maker) {
    let text = std::fs::read_to_string(layout.ledger_key()).unwrap();
    let signer = SignerKey::parse(text.trim()).unwrap();
    let storage = Local::open_writer(&layout.ledger()).unwrap();
    let describe = collector::pipeline::describe;
    let (mut ledger, _) = Ledger::open(Arc::new(storage), signer, describe).unwrap();
    let entries: Vec<Entry<'_>> = maker
        .sealed
        .iter()
        .map(|(header, body)| Entry { header, body })
        .collect();
    ledger.append_group(&entries).unwrap();
    ledger.integrate_and_publish().unwrap();
}

fn chain_host() -> common::ids::HostId {
    Maker::new(1).host()
}

#[test]
fn a_legal_hold_wins_until_it_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    pki::init(
        &layout,
        "ledger.example/hold",
        &[],
        WallNanos(1_800_000_000_000_000_000),
    )
    .unwrap();
    let mut maker = Maker::new(1);
    maker.seal(STARTS, 0, 9, &run_begins(maker.host(), "node", 0));
    for at in 1..40 {
        let fact = process(process_key(100, at), None, &[b"/bin/true"], ProcessCause::Exec);
        maker.seal(GOES_ON, at * 10, at * 10 + 9, &[event(at * 10 + 1, fact)]);
    }
    store(&layout, &maker);

    let policy = Policy {
        older_than: Some(wall(1_000_000)),
        ..Policy::default()
    };
    let hold = Hold {
        host: Some(maker.host()),
        from: wall(100),
        until: wall(150),
        reason: Text(b"case 7".to_vec()),
    };
    let stopped = open(&layout);
    let number = stopped.pruner().retain(Retain::Hold(hold.clone())).unwrap();
    let number = number.number.unwrap();
    let done = stopped.pruner().prune(&policy, false, &mut |_| ()).unwrap();
    assert_eq!((done.plan.bodies(), done.plan.held), (33, 6));
    assert_eq!(done.plan.certificates[0].holds, [number]);
    assert_eq!(done.report.bodies(), 33);
    stopped.close().unwrap();

    // It is a statement of the ledger, so another process knows it.
    let stopped = open(&layout);
    let pruner = stopped.pruner();
    let holds = pruner.retain(Retain::Holds).unwrap().holds;
    assert_eq!(holds.in_force().get(&number), Some(&hold));
    for (leaf, sealed) in (10..16).zip(&maker.sealed[10..]) {
        assert_eq!(pruner.reader().body(LeafIndex(leaf)).unwrap(), sealed.1);
    }
    let lift = |hold| {
        let reason = Text(b"closed".to_vec());
        pruner.retain(Retain::Lift(HoldLifted { hold, reason }))
    };
    assert!(lift(StatementNumber(1)).is_err());
    lift(number).unwrap();
    let done = pruner.prune(&policy, false, &mut |_| ()).unwrap();
    assert_eq!((done.plan.bodies(), done.plan.held), (6, 0));
    assert_eq!((done.report.bodies(), done.report.changes.len()), (6, 1));
    stopped.close().unwrap();
    let found = audit::run(
        &Local::open_reader(&layout.ledger()).unwrap(),
        &Options::default(),
    );
    assert!(found.report.is_sound(), "{:?}", found.report.faults);
    assert_eq!((found.pruned, found.statements), (39, 4));
}

/// What is said of processes at an instant, from a ledger as it lies.
fn asked(layout: &Layout, host: &str, at: u64) -> serde_json::Value {
    let stopped = open(layout);
    let reader = stopped.pruner().reader().clone();
    let query = Query::new(Arc::new(Projection::new(
        Arc::new(reader),
        Some(layout.projections()),
    )));
    query.catch_up().unwrap();
    let hosts = [host.to_owned()];
    let (filter, paging) = Default::default();
    let answer = query.list(Kind::Process, Some(wall(at)), &hosts, &filter, &paging);
    serde_json::to_value(answer.unwrap().hosts.remove(0)).unwrap()
}

#[test]
fn losses_that_pruned_batches_reported_still_caveat_what_stays() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let now = WallNanos(1_800_000_000_000_000_000);
    pki::init(&layout, "ledger.example/losses", &[], now).unwrap();
    let mut maker = Maker::new(1);
    let mut begun = run_begins(maker.host(), "node", 0);
    begun.push(event(5, baseline(0, Phase::Complete { events: 3 })));
    maker.seal(STARTS, 0, 9, &begun);
    for at in 1..40 {
        let fact = process(process_key(100, at), None, &[b"/bin/true"], ProcessCause::Exec);
        let mut events = vec![event(at * 10 + 1, fact)];
        if at == 20 {
            // What was missed at 122 to 128 ms is known only here.
            events.push(event(at * 10 + 2, loss(SensorId::EXEC, 7, 122, 128)));
        }
        maker.seal(GOES_ON, at * 10, at * 10 + 9, &events);
    }
    store(&layout, &maker);

    let host = maker.host().to_string();
    let before = asked(&layout, &host, 125);
    let caveats = before["completeness"]["caveats"].to_string();
    assert!(
        caveats.contains("\"count\":7") && caveats.contains("\"around\":7"),
        "{before:#}"
    );
    let stopped = open(&layout);
    let hold = Hold {
        host: None,
        from: wall(100),
        until: wall(150),
        reason: Text(b"case 7".to_vec()),
    };
    stopped.pruner().retain(Retain::Hold(hold)).unwrap();
    let policy = Policy {
        keep_batches: Some(5),
        ..Policy::default()
    };
    let done = stopped.pruner().prune(&policy, false, &mut |_| ()).unwrap();
    assert_eq!((done.report.bodies(), done.plan.held), (29, 6));
    stopped.close().unwrap();
    // The host's name was last given in a body that is gone.
    let mut expected = before;
    expected["hostname"] = serde_json::Value::Null;
    let mut after = asked(&layout, &host, 125);
    after["hostname"] = serde_json::Value::Null;
    assert_eq!(after, expected);
    // It is the kept losses that say so.
    let file = layout.projections().join("state").join(&host).join("losses");
    std::fs::remove_file(file).unwrap();
    let bare = asked(&layout, &host, 125);
    assert_eq!(bare["verdict"], expected["verdict"]);
    assert_ne!(bare["completeness"], expected["completeness"], "{bare:#}");
}
