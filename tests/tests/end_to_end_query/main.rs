//! Questions about hand-made ledgers: every way an answer can be known, absent or unknown.
#![cfg(test)]

mod epochs;
mod folding;
mod index;
mod list_chain;
mod snapshots;
mod statements;

use std::sync::Arc;

use collector::{
    projection::Projection,
    query::{Filter, Paging, Query},
};
use common::{
    answer::{Absence, Answer, Between, Caveat, Moment, Row, RunEnd, Unknown, Verdict},
    event::{Event, Fact, Kind, process::ProcessCause},
    fold::EntityId,
    ids::EventIndex,
    note::SignerKey,
};
use ledger::Memory;
use tests::chains::{
    GOES_ON, LEDGER_KEY_SEED, Maker, STARTS, event, ledger_of, process, process_key, run_begins, story, wall,
};

fn query_of(makers: &[&Maker]) -> Query {
    let reader = ledger_of(Arc::new(Memory::new()), makers).reader();
    let query = Query::new(Arc::new(Projection::new(Arc::new(reader), None)));
    query.catch_up().unwrap();
    query
}

fn story_query() -> Query {
    let (one, two) = story();
    query_of(&[&one, &two])
}

fn list(query: &Query, kind: Kind, host: &str, ms: Option<u64>) -> Answer<Vec<Row>> {
    let hosts = [host.to_owned()];
    query
        .list(kind, ms.map(wall), &hosts, &Filter::default(), &Paging::default())
        .unwrap()
}

fn pids(answer: &Answer<Vec<Row>>) -> Vec<u32> {
    let Verdict::Known { value } = &answer.hosts[0].verdict else {
        panic!("{:?}", answer.hosts[0].verdict);
    };
    value
        .iter()
        .filter_map(|row| match &row.fact {
            Fact::Process { key, .. } => Some(key.tgid),
            _ => None,
        })
        .collect()
}

fn unknown(answer: &Answer<Vec<Row>>) -> Unknown {
    match &answer.hosts[0].verdict {
        Verdict::Unknown { why } => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_state_at_each_instant_is_that_of_the_story() {
    let query = story_query();
    let at = |ms| pids(&list(&query, Kind::Process, "node-1", Some(ms)));
    assert_eq!(at(500), [1, 100]);
    assert_eq!(at(1_199), [1, 100]);
    assert_eq!(at(1_200), [1, 100, 200]);
    assert_eq!(at(2_500), [1, 100, 200], "within a heartbeat");
    assert_eq!(at(3_499), [1, 100, 200]);
    assert_eq!(at(3_500), [1, 100]);
    assert_eq!(
        at(3_900),
        [1, 100, 300],
        "sealed a batch late, known at its own time"
    );
    assert_eq!(at(6_000), [1, 100, 300, 400]);
    assert_eq!(at(10_600), [1, 100], "300 and 400 ended in the gap");
    assert_eq!(pids(&list(&query, Kind::Process, "node-1", None)), [1, 100]);
}

#[test]
fn what_nothing_watched_is_unknown_with_both_bounds() {
    let query = story_query();
    let why = |host, ms| unknown(&list(&query, Kind::Process, host, Some(ms)));
    let moment = |ms| Moment(wall(ms));
    assert_eq!(
        why("node-2", 1_000),
        Unknown::BeforeFirst { first: moment(2_000) }
    );
    assert_eq!(
        why("node-1", 8_000),
        Unknown::Gap {
            from: moment(6_000),
            until: moment(10_000),
            ended: RunEnd::Broken,
            rebooted: false,
            silence: None,
        }
    );
    assert_eq!(
        why("node-1", 14_000),
        Unknown::AfterLast {
            until: moment(13_000),
            stopped: true,
            silence: None,
            end: None,
        }
    );
    assert_eq!(
        why("node-2", 5_000),
        Unknown::AfterLast {
            until: moment(4_000),
            stopped: false,
            silence: None,
            end: None,
        }
    );
    assert_eq!(
        why("node-1", 10_300),
        Unknown::NoBaseline {
            since: moment(10_000),
            complete: Some(moment(10_600))
        }
    );
}

#[test]
fn a_stop_in_order_is_told_from_a_crash() {
    let mut maker = Maker::new(3);
    let begins = run_begins(maker.host(), "node-3", 0);
    maker.seal(STARTS, 0, 1_000, &begins);
    maker.seal(tests::chains::STOPS, 1_000, 2_000, &[]);
    maker.boot = common::ids::BootId([8; 16]);
    maker.seal(STARTS, 5_000, 6_000, &[]);
    let why = unknown(&list(&query_of(&[&maker]), Kind::Process, "node-3", Some(3_000)));
    assert!(
        matches!(
            why,
            Unknown::Gap {
                ended: RunEnd::Stopped,
                rebooted: true,
                ..
            }
        ),
        "{why:?}"
    );
}

#[test]
fn losses_make_an_answer_incomplete_even_if_reported_later() {
    let query = story_query();
    let caveats = |ms| {
        list(&query, Kind::Process, "node-1", Some(ms)).hosts[0]
            .completeness
            .clone()
    };
    assert!(caveats(2_500).complete, "{:?}", caveats(2_500));
    let around = caveats(11_000);
    assert!(
        matches!(&around.caveats[..], [Caveat::Lost { sensor, count: 3, around: 3, .. }] if sensor == "exec"),
        "{around:?}"
    );
    let after = caveats(12_500);
    assert!(
        matches!(
            &after.caveats[..],
            [Caveat::Lost {
                count: 3,
                around: 0,
                ..
            }]
        ),
        "{after:?}"
    );
    let listeners = list(&query, Kind::Listener, "node-1", Some(11_000));
    assert!(
        listeners.hosts[0].completeness.complete,
        "a lost exec hides no listener"
    );
}

fn entity(query: &Query, id: &str, ms: u64) -> Verdict<Row> {
    let answer = query.entity(id, Some(wall(ms)), &["node-1".into()]).unwrap();
    answer.hosts.into_iter().next().unwrap().verdict
}

#[test]
fn an_entity_is_known_absent_or_unknown() {
    let query = story_query();
    let curl = EntityId::of(Kind::Process, &process_key(200, 1_200)).to_string();
    assert!(matches!(entity(&query, &curl, 2_000), Verdict::Known { value } if value.entity == curl));
    assert!(matches!(
        entity(&query, &curl, 1_000),
        Verdict::Absent {
            why: Absence::NeverSeen,
            last: None
        }
    ));
    assert!(matches!(
        entity(&query, &curl, 5_000),
        Verdict::Absent { why: Absence::Ended { at }, last: Some(_) } if at == Moment(wall(3_500))
    ));
    let vanished = EntityId::of(Kind::Process, &process_key(400, 5_500)).to_string();
    assert!(matches!(
        entity(&query, &vanished, 10_700),
        Verdict::Absent { why: Absence::Vanished { not_before, not_after }, last: Some(_) }
            if not_before == Moment(wall(6_000)) && not_after == Moment(wall(10_100))
    ));
    let never = EntityId::of(Kind::Process, &process_key(999, 1)).to_string();
    assert!(matches!(
        entity(&query, &never, 11_000),
        Verdict::Unknown {
            why: Unknown::MayBeMissed { .. }
        }
    ));
    assert!(matches!(entity(&query, "process:200", 2_000), Verdict::Known { value } if value.entity == curl));
    assert!(query.entity("process:x/y", None, &[]).is_err());
}

#[test]
fn an_interval_holds_what_lived_in_it_and_names_what_nothing_watched() {
    let query = story_query();
    let during = |since, until| {
        query
            .during(
                Kind::Connection,
                wall(since),
                wall(until),
                &["node-1".into()],
                &Filter::default(),
                &Paging::default(),
            )
            .unwrap()
    };
    let rows = |answer: &Answer<Vec<Row>>| match &answer.hosts[0].verdict {
        Verdict::Known { value } => value.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rows(&during(0, 1_499)), 0);
    assert_eq!(rows(&during(2_100, 2_200)), 1, "open throughout");
    assert_eq!(rows(&during(3_200, 5_000)), 0, "closed at its beginning");
    let wide = during(0, 20_000);
    assert_eq!(rows(&wide), 1);
    let gaps: Vec<&Caveat> = wide.hosts[0].completeness.caveats.iter().collect();
    let gap = |from, until| Caveat::NotWatched {
        from: Moment(wall(from)),
        until: Moment(wall(until)),
    };
    assert!(gaps.contains(&&gap(6_000, 10_000)), "{gaps:?}");
    assert!(gaps.contains(&&gap(13_000, 20_000)), "{gaps:?}");
}

#[test]
fn what_vanished_in_a_gap_is_not_shown_as_if_it_went_on() {
    let query = story_query();
    let hosts = ["node-1".to_owned()];
    let (since, until) = (wall(5_000), wall(13_000));
    let answer = query
        .during(
            Kind::Process,
            since,
            until,
            &hosts,
            &Filter::default(),
            &Paging::default(),
        )
        .unwrap();
    let Verdict::Known { value } = &answer.hosts[0].verdict else {
        panic!("{:?}", answer.hosts[0].verdict);
    };
    let vanished: Vec<(u32, Option<Between>)> = value
        .iter()
        .filter_map(|row| match &row.fact {
            Fact::Process { key, .. } => Some((key.tgid, row.vanished)),
            _ => None,
        })
        .collect();
    let gap = Some(Between {
        not_before: Moment(wall(6_000)),
        not_after: Moment(wall(10_100)),
    });
    assert_eq!(vanished, [(1, None), (100, None), (300, gap), (400, gap)]);
}

#[test]
fn hosts_are_named_by_id_or_name_and_ambiguity_names_candidates() {
    let (one, mut twin) = (story().0, Maker::new(9));
    let begins = run_begins(twin.host(), "node-1", 0);
    twin.seal(STARTS, 0, 1_000, &begins);
    let query = query_of(&[&one, &twin]);
    assert_eq!(query.host(&one.host().to_string()).unwrap(), one.host());
    assert_eq!(query.host(&one.host().short()).unwrap(), one.host());
    let text = query.host("node-1").unwrap_err().to_string();
    assert!(
        text.contains(&one.host().short()) && text.contains(&twin.host().short()),
        "{text}"
    );
    assert!(
        query
            .host("elsewhere")
            .unwrap_err()
            .to_string()
            .contains("elsewhere")
    );
    assert!(query.host("").is_err());
}

#[test]
fn pages_follow_each_other_without_loss_or_repetition() {
    let (one, two) = story();
    let query = query_of(&[&one, &two]);
    for limit in 1..6 {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let paging = Paging {
                limit: Some(limit),
                cursor,
            };
            let at = Some(wall(3_950));
            let answer = query
                .list(Kind::Process, at, &[], &Filter::default(), &paging)
                .unwrap();
            for host in &answer.hosts {
                if let Verdict::Known { value } = &host.verdict {
                    assert!(value.len() <= limit);
                    found.extend(value.iter().map(|row| (host.host, row.entity.clone())));
                }
            }
            cursor = answer.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut sorted = found.clone();
        sorted.dedup();
        assert_eq!((found.len(), sorted.len()), (4, 4), "limit {limit}: {found:?}");
    }
}

#[test]
fn filters_of_one_field_are_alternatives() {
    let query = story_query();
    let count = |filter: Filter| {
        let hosts = ["node-1".to_owned()];
        let answer = query
            .list(
                Kind::Process,
                Some(wall(2_000)),
                &hosts,
                &filter,
                &Paging::default(),
            )
            .unwrap();
        pids(&answer)
    };
    let filter = |pid: &[u32], exe: &[&str]| Filter {
        pid: pid.to_vec(),
        exe: exe.iter().map(|exe| (*exe).to_owned()).collect(),
        port: Vec::new(),
    };
    assert_eq!(count(filter(&[1, 200], &[])), [1, 200]);
    assert_eq!(count(filter(&[], &["curl", "/sbin/init"])), [1, 200]);
    assert_eq!(count(filter(&[1], &["curl"])), Vec::<u32>::new());
}

#[test]
fn every_event_has_a_proof_that_holds() {
    let (one, two) = story();
    let query = query_of(&[&one, &two]);
    let key = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let host = one.host();
    for index in 0.. {
        let Ok(proof) = query.proof(&format!("{host}:{index}")) else {
            assert!(index > 20, "only {index} events");
            break;
        };
        let proven = common::proof::check(&proof.encode(), key.verifier()).unwrap();
        assert_eq!((proven.host, proven.index), (host, EventIndex(index)));
        assert!(Event::decode(&proven.event).is_ok());
    }
    assert!(query.proof("node-1").is_err());
    assert!(
        query
            .proof("node-1:999")
            .unwrap_err()
            .to_string()
            .contains("no event 999")
    );
}

#[test]
fn a_timeline_holds_every_event_about_an_entity() {
    let query = story_query();
    let curl = EntityId::of(Kind::Process, &process_key(200, 1_200)).to_string();
    let all = query.timeline(&curl, "node-1", &Paging::default()).unwrap();
    assert_eq!(all.rows.len(), 3);
    let mut paged = Vec::new();
    let mut cursor = None;
    loop {
        let page = query
            .timeline(
                &curl,
                "node-1",
                &Paging {
                    limit: Some(1),
                    cursor,
                },
            )
            .unwrap();
        paged.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.rows);
}

#[test]
fn an_instant_that_happened_twice_is_answered_by_the_later_one() {
    let mut maker = Maker::new(4);
    let mut begins = run_begins(maker.host(), "node-4", 5_000);
    begins.push(event(
        5_100,
        tests::chains::baseline(5_000, common::event::baseline::Phase::Complete { events: 0 }),
    ));
    maker.seal(STARTS, 5_000, 6_000, &begins);
    let started = process(process_key(9, 5_900), None, &[b"/bin/a"], ProcessCause::Fork);
    maker.seal(GOES_ON, 6_000, 7_000, &[event(6_500, started)]);
    maker.seal(GOES_ON, 6_200, 6_400, &[]);
    let query = query_of(&[&maker]);
    let answer = list(&query, Kind::Process, "node-4", Some(6_300));
    assert_eq!(pids(&answer), [9], "it happened before the clock was set back");
    let caveats = &answer.hosts[0].completeness.caveats;
    assert!(
        caveats
            .iter()
            .any(|caveat| matches!(caveat, Caveat::ClockSetBack { .. })),
        "{caveats:?}"
    );
}
