//! HTTPS to witnesses, sinks and logs: a private authority counts where it is configured, and whatever is wrong with
//! a certificate is named with its remedy.

use std::{fs, net::TcpListener};

use common::checkpoint;
use rustix::process::Signal;

use crate::{
    anchor_servers::{self, Server},
    anchors::{anchored, verify},
    peer::{Host, Session, feed},
    process::{Collector, command, wait_until},
    split_view::{hostledger, text, verifier},
    tls_front::{Authority, Flaw},
    witness_process::Witness,
    witnesses::{policy, proven, status, store},
};

/// What a client says of each, and what it says to do.
const REFUSED: [(Flaw, &str, &str); 3] = [
    (Flaw::Expired, "certificate expired", "must renew it"),
    (Flaw::Early, "certificate not valid yet", "clock is wrong"),
    (
        Flaw::OtherName,
        "certificate not valid for name",
        "use an address that the server's certificate names",
    ),
];

/// Why each witness is missing, as far as one is, in the policy's order.
fn faults(collector: &Collector) -> Vec<Option<String>> {
    let (_, body) = collector.get("/witnesses");
    let known: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let rows = known["witnesses"].as_array().unwrap().iter();
    rows.map(|row| row["fault"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn witnesses_are_asked_over_https_under_a_private_authority_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = Collector::start_in(&dir.path().join("c"), &["--silence-after", "1h"]);
    let mut host = Host::enrolled(1, &collector);
    collector.end(Signal::TERM);
    let (private, stranger) = (Authority::new(), Authority::new());
    let log = verifier(&collector).to_string();
    let witnesses: Vec<Witness> = (1..=5)
        .map(|n| {
            let name = format!("witness.example/w{n}");
            Witness::start(&name, std::slice::from_ref(&log), "requests_per_second = 10000")
        })
        .collect();
    // The first is as it should be, the next three have bad certificates, the last one's is a stranger's.
    let mut urls = vec![private.front(witnesses[0].address, Flaw::Nothing)];
    urls.extend(
        (1..)
            .zip(REFUSED)
            .map(|(at, (flaw, _, _))| private.front(witnesses[at].address, flaw)),
    );
    urls.push(stranger.front(witnesses[4].address, Flaw::Nothing));
    let mut asked = String::new();
    for (witness, url) in witnesses.iter().zip(&urls) {
        asked.push_str(&format!("witness {} {} {url}\n", witness.key.name(), witness.key));
    }
    asked.push_str("quorum witness.example/w1\n");
    let root = collector.layout.root().to_owned();
    fs::write(root.join("witnesses.policy"), asked).unwrap();
    fs::write(root.join("authority.pem"), &private.pem).unwrap();
    let settings = [
        "--witness-policy",
        "witnesses.policy",
        "--witness-quorum-missing",
        "closed",
    ];
    collector.settings.extend(settings.map(str::to_owned));

    // Without the setting nobody but a public authority counts, and nothing is shown.
    collector.run();
    // Something to ask about, whether the enrolment was stated before or not.
    let (mut session, _) = Session::open(&host, &collector).await;
    store(&mut session, &mut host, 1).await;
    drop(session);
    let unknown = "where a private one did, name its certificate with https_ca";
    wait_until("the first is missing, and what to do", || {
        let first = faults(&collector).swap_remove(0).unwrap_or_default();
        first.contains("UnknownIssuer") && first.contains(unknown)
    });
    assert!(status(&collector).contains("TOO FEW since"));
    collector.end(Signal::TERM);
    let trusting = ["--https-ca", "authority.pem"].map(str::to_owned);
    collector.settings.extend(trusting);
    collector.run();
    let (mut session, _) = Session::open(&host, &collector).await;
    let seen = store(&mut session, &mut host, 2).await;
    let note = proven(&mut session, seen, 2, Some(&policy(&witnesses[..1], 1))).await;
    assert!(checkpoint::open(&note, &verifier(&collector)).unwrap().size >= 3);
    // The last one's authority bears the name of the one that is trusted.
    let namesake = (
        Flaw::Nothing,
        "BadSignature",
        "one that is trusted has the same name",
    );
    let expected: Vec<_> = REFUSED.into_iter().chain([namesake]).collect();
    wait_until("what is wrong with each certificate is named", || {
        let found = faults(&collector);
        let named = found[1..]
            .iter()
            .zip(&expected)
            .filter(|(fault, (_, cause, remedy))| {
                let said = fault.as_deref().unwrap_or_default();
                said.contains(cause) && said.contains(remedy)
            });
        found[0].is_none() && named.count() == expected.len()
    });
    collector.end(Signal::TERM);

    // What cannot be used is said before anything starts.
    let starts = |file: &str| {
        let dir = text(&root);
        let listen = ["--http-listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0"];
        let words = [&["run", "--dir", dir, "--https-ca", file], &settings[..], &listen].concat();
        let done = command(&words);
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    fs::write(root.join("empty.pem"), "").unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(root.join("garbage.pem"), garbage).unwrap();
    for (file, cause) in [
        ("nowhere.pem", "nowhere.pem"),
        ("empty.pem", "(https_ca): it holds no certificate"),
        ("garbage.pem", "(https_ca): certificate 1"),
    ] {
        let (code, said) = starts(file);
        assert!(code == Some(1) && said.contains(cause), "{code:?} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stamps_are_taken_over_https_and_a_bad_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (private, tsa) = (Authority::new(), anchor_servers::Authority::start(dir.path()));
    let ca = dir.path().join("authority.pem");
    fs::write(&ca, &private.pem).unwrap();
    let tsa_ca = tsa.dir.join("ca.crt");
    for (at, (flaw, cause, remedy)) in [(Flaw::Nothing, "", "")].into_iter().chain(REFUSED).enumerate() {
        let file = dir.path().join(format!("anchors{at}"));
        let url = private.front(tsa.server.address, flaw);
        let settings = [
            "--silence-after",
            "1h",
            "--anchor-leaves",
            "2",
            "--anchor-file",
            text(&file),
            "--anchor-tsa",
            &url,
            "--anchor-tsa-ca",
            text(&tsa_ca),
            // Whose certificates count for the connection, which has nothing to do with whose stamps do.
            "--https-ca",
            text(&ca),
        ];
        let collector = Collector::start_in(&dir.path().join(format!("c{at}")), &settings);
        let mut host = Host::enrolled(1, &collector);
        feed(&collector, &mut host, 3, 7).await;
        if flaw == Flaw::Nothing {
            wait_until("a stamp is kept", || anchored(&collector, "tsa") >= 2);
        } else {
            let failing = "hostledger_anchor_failing{target=\"tsa\"}";
            wait_until("it fails", || collector.metric(failing) == 1);
            let shown = status(&collector);
            assert!(
                shown.contains(cause) && shown.contains(remedy),
                "{flaw:?}: {shown}"
            );
            assert_eq!(anchored(&collector, "tsa"), 0);
        }
        wait_until("the file has it", || anchored(&collector, "file") >= 2);
        let (ledger, vkey) = (collector.layout.ledger(), collector.layout.ledger_verifier());
        drop(collector);
        let (code, report) = verify(&ledger, &vkey, &[&file], &["--tsa-ca", text(&tsa_ca)]);
        assert_eq!(code, 0, "{report:#}");
        let stamped = report.to_string().contains("\"verified\"");
        assert_eq!(stamped, flaw == Flaw::Nothing, "{flaw:?}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_takes_checkpoints_over_https_and_a_bad_certificate_is_named() {
    let (private, sink) = (Authority::new(), Server::sink());
    let mut taken = 0;
    for (flaw, cause, remedy) in [(Flaw::Nothing, "", "")].into_iter().chain(REFUSED) {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("authority.pem");
        fs::write(&ca, &private.pem).unwrap();
        let url = private.front(sink.address, flaw);
        let settings = [
            "--silence-after",
            "1h",
            "--anchor-leaves",
            "2",
            "--anchor-http",
            &url,
        ];
        let trusting = [&settings[..], &["--https-ca", text(&ca)]].concat();
        let collector = Collector::start_in(&dir.path().join("c"), &trusting);
        let mut host = Host::enrolled(1, &collector);
        feed(&collector, &mut host, 3, 7).await;
        let failing = "hostledger_anchor_failing{target=\"http\"}";
        if flaw == Flaw::Nothing {
            wait_until("it is anchored", || {
                collector.metric("hostledger_anchored_leaves{target=\"http\"}") >= 2
            });
            let (_, note) = sink.taken.lock().unwrap().last().cloned().unwrap();
            assert!(checkpoint::open(&note, &verifier(&collector)).unwrap().size >= 2);
            drop(collector);
            taken = sink.taken.lock().unwrap().len();
            continue;
        }
        wait_until("it fails", || collector.metric(failing) == 1);
        let shown = status(&collector);
        assert!(shown.contains(cause) && shown.contains(remedy), "{shown}");
    }
    assert_eq!(
        sink.taken.lock().unwrap().len(),
        taken,
        "a checkpoint went past a bad certificate"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_compared_over_https_under_a_private_authority_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let mut host = Host::enrolled(1, &collector);
    let early = feed(&collector, &mut host, 2, 7).await.checkpoint;
    feed(&collector, &mut host, 3, 8).await;
    let (private, stranger) = (Authority::new(), Authority::new());
    let [ca, other, early_file] = ["ca.pem", "other.pem", "early"].map(|name| dir.path().join(name));
    fs::write(&ca, &private.pem).unwrap();
    fs::write(&other, &stranger.pem).unwrap();
    fs::write(&early_file, &early).unwrap();
    let vkey = collector.layout.ledger_verifier();
    let compare = |url: &str, more: &[&str]| {
        let words = ["compare", text(&early_file), url, "--vkey", text(&vkey)];
        hostledger(&[&words[..], more].concat())
    };
    let good = private.front(collector.http, Flaw::Nothing);
    let (code, shown) = compare(&good, &["--ca", text(&ca)]);
    assert!(code == 0 && shown.contains("consistent"), "{code} {shown}");
    // Nobody but whom --ca names, and without it none but public authorities.
    for (more, why) in [
        (&["--ca", text(&other)][..], "name its new certificate with --ca"),
        (&[], "name its certificate with --ca"),
    ] {
        let (code, shown) = compare(&good, more);
        let named = shown.contains("no trusted authority issued") && shown.contains(why);
        assert!(code == 1 && named, "{code} {shown}");
    }
    for (flaw, cause, remedy) in REFUSED {
        let (code, shown) = compare(&private.front(collector.http, flaw), &["--ca", text(&ca)]);
        assert!(
            code == 1 && shown.contains(cause) && shown.contains(remedy),
            "{code} {shown}"
        );
    }
    // A server that speaks no TLS, and a file that names nobody.
    let plain = format!("https://{}", collector.http);
    let (code, shown) = compare(&plain, &["--ca", text(&ca)]);
    assert!(
        code == 1 && shown.contains("cannot read https://"),
        "{code} {shown}"
    );
    let (code, shown) = compare(&good, &["--ca", text(&early_file)]);
    assert!(
        code == 78 && shown.contains("holds no certificate"),
        "{code} {shown}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _) = compare(&format!("https://{nobody}"), &["--ca", text(&ca)]);
    assert_eq!(code, 1);

    // What was anchored is held against a log over HTTPS likewise.
    let anchored = |more: &[&str]| {
        let words = ["anchor", "verify", "--ledger", &good, "--vkey", text(&vkey)];
        hostledger(&[&words[..], &["--anchors", text(&early_file)], more].concat())
    };
    let (code, shown) = anchored(&["--ca", text(&ca)]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = anchored(&[]);
    assert!(code == 1 && shown.contains("UnknownIssuer"), "{code} {shown}");
}
