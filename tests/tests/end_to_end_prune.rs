//! Retention over a large ledger on a real disk: what `du` says, what still verifies, what answers say.
#![cfg(test)]

use std::{path::Path, process::Command, sync::Arc};

use collector::{layout::Layout, pki, projection::Projection, query::Query, retention::Retention};
use common::{
    event::{Kind, baseline::Phase, process::ProcessCause},
    ids::{LeafIndex, StatementNumber, WallNanos},
    note::SignerKey,
    receipt::Receipt,
    retention::Policy,
    statement::Hold,
    text::Text,
};
use ledger::{Entry, Ledger, Local, audit, fsck::Options};
use tests::chains::{GOES_ON, Maker, STARTS, baseline, event, process, process_key, run_begins, wall};

/// Batches of each host, and hosts.
const BATCHES: u64 = 2_500;
const HOSTS: u8 = 8;
/// Batches in a group.
const GROUP: usize = 64;

/// One host's chain: 10 ms a batch, one program started in each.
fn chain(seed: u8) -> Maker {
    let mut maker = Maker::new(seed);
    let mut begun = run_begins(maker.host(), &format!("node-{seed}"), 0);
    begun.push(event(5, baseline(0, Phase::Complete { events: 3 })));
    maker.seal(STARTS, 0, 9, &begun);
    let long = vec![b'a'; 1_500];
    for at in 1..BATCHES {
        let key = process_key(u32::try_from(at).unwrap() + 10, at * 10);
        let fact = process(key, None, &[b"/bin/work", &long], ProcessCause::Exec);
        maker.seal(GOES_ON, at * 10, at * 10 + 9, &[event(at * 10 + 1, fact)]);
    }
    maker
}

/// A collector's directory with that ledger; the chains, and receipts of the first groups.
fn collector(dir: &Path) -> (Layout, SignerKey, Vec<(Vec<u8>, Receipt)>) {
    let layout = Layout::new(dir);
    pki::init(
        &layout,
        "ledger.example/prune",
        &[],
        WallNanos(1_800_000_000_000_000_000),
    )
    .unwrap();
    let text = std::fs::read_to_string(layout.ledger_key()).unwrap();
    let signer = SignerKey::parse(text.trim()).unwrap();
    let chains: Vec<Maker> = std::thread::scope(|scope| {
        let made: Vec<_> = (1..=HOSTS).map(|seed| scope.spawn(move || chain(seed))).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    let storage = Local::open_writer(&layout.ledger()).unwrap();
    let describe = collector::pipeline::describe;
    let (mut ledger, _) = Ledger::open(Arc::new(storage), signer.clone(), describe).unwrap();
    let leaves: Vec<&(Vec<u8>, Vec<u8>)> = (0..usize::try_from(BATCHES).unwrap())
        .flat_map(|at| chains.iter().map(move |chain| &chain.sealed[at]))
        .collect();
    let mut receipts = Vec::new();
    for (at, group) in leaves.chunks(GROUP).enumerate() {
        let entries: Vec<Entry<'_>> = group
            .iter()
            .map(|(header, body)| Entry { header, body })
            .collect();
        let first = ledger.append_group(&entries).unwrap();
        if at % 16 == 0 {
            ledger.integrate_and_publish().unwrap();
            // As an agent gets them: under the checkpoint of that moment.
            receipts.push((group[0].0.clone(), ledger.reader().receipt(first).unwrap()));
        }
    }
    ledger.integrate_and_publish().unwrap();
    (layout, signer, receipts)
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
    let (layout, signer, receipts) = collector(dir.path());
    let leaves = BATCHES * u64::from(HOSTS);
    let policy = Policy {
        older_than: Some(wall(BATCHES * 10 * 9 / 10)),
        ..Policy::default()
    };
    let mut retention = Retention::open(&layout).unwrap();
    let plan = retention.plan(&policy).unwrap();
    assert_eq!((plan.bodies(), plan.held), (leaves * 9 / 10, 0));
    let before = du(&layout.ledger());
    let report = retention
        .prune(plan, WallNanos(1_800_000_000_000_000_000))
        .unwrap();
    drop(retention);
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
            key: Some(signer.verifier()),
            ..Options::default()
        },
    );
    assert!(found.report.is_sound(), "{:?}", found.report.faults);
    assert!(found.report.notes.is_empty(), "{:?}", found.report.notes);
    assert_eq!((found.pruned, found.statements), (leaves * 9 / 10, 1));
    assert_eq!(found.hosts.values().map(|host| host.batches).sum::<u64>(), leaves);
    drop(storage);

    // A start as always: nothing is left to do, old receipts and new ones verify.
    let retention = Retention::open(&layout).unwrap();
    let reader = retention.reader();
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
    let text = std::fs::read_to_string(layout.ledger_key()).unwrap();
    let signer = SignerKey::parse(text.trim()).unwrap();
    let mut maker = Maker::new(1);
    maker.seal(STARTS, 0, 9, &run_begins(maker.host(), "node", 0));
    for at in 1..40 {
        let fact = process(process_key(100, at), None, &[b"/bin/true"], ProcessCause::Exec);
        maker.seal(GOES_ON, at * 10, at * 10 + 9, &[event(at * 10 + 1, fact)]);
    }
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
    drop(ledger);

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
    let now = WallNanos(1_800_000_000_000_000_000);
    let mut retention = Retention::open(&layout).unwrap();
    let number = retention.add_hold(hold.clone(), now).unwrap();
    let plan = retention.plan(&policy).unwrap();
    assert_eq!((plan.bodies(), plan.held), (33, 6));
    assert_eq!(plan.certificates[0].holds, [number]);
    retention.prune(plan, now).unwrap();
    drop(retention);

    // It is a statement of the ledger, so another process knows it.
    let mut retention = Retention::open(&layout).unwrap();
    assert_eq!(retention.holds().unwrap().in_force().get(&number), Some(&hold));
    for (leaf, sealed) in (10..16).zip(&maker.sealed[10..]) {
        assert_eq!(retention.reader().body(LeafIndex(leaf)).unwrap(), sealed.1);
    }
    assert!(
        retention
            .lift_hold(StatementNumber(1), Text(Vec::new()), now)
            .is_err()
    );
    retention
        .lift_hold(number, Text(b"closed".to_vec()), now)
        .unwrap();
    let plan = retention.plan(&policy).unwrap();
    assert_eq!((plan.bodies(), plan.held), (6, 0));
    let report = retention.prune(plan, now).unwrap();
    assert_eq!((report.bodies(), report.changes.len()), (6, 1));
    drop(retention);
    let found = audit::run(
        &Local::open_reader(&layout.ledger()).unwrap(),
        &Options::default(),
    );
    assert!(found.report.is_sound(), "{:?}", found.report.faults);
    assert_eq!((found.pruned, found.statements), (39, 4));
}
