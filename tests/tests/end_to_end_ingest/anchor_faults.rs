//! Targets that misbehave: whatever an authority, a sink or a disk does is named, counted and tried again, nothing that
//! does not verify is kept, and publishing goes on.

#[cfg(feature = "privileged")]
use std::fs;
#[cfg(feature = "privileged")]
use std::io::Write;

use crate::{
    anchor_servers::{Authority, Mode, Server},
    anchors::{BY_LEAVES, anchored, collector, text, verify},
    peer::{Host, feed},
    process::{Collector, command, wait_until},
};

fn failures(collector: &Collector, target: &str) -> u64 {
    collector.metric(&format!(
        "hostledger_anchor_failures_total{{target=\"{target}\"}}"
    ))
}

/// What `GET /anchors` says of the target at `place`.
fn row(collector: &Collector, place: usize) -> serde_json::Value {
    let (status, body) = collector.get("/anchors");
    assert_eq!(status, 200);
    serde_json::from_slice::<serde_json::Value>(&body).unwrap()["targets"][place].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_authority_answers_only_a_good_stamp_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::start(dir.path());
    let file = dir.path().join("anchors");
    let tsa = format!("http://{}", authority.server.address);
    let ca = authority.dir.join("ca.crt");
    let mut settings = vec![
        "--anchor-file",
        text(&file),
        "--anchor-tsa",
        &tsa,
        "--anchor-tsa-ca",
        text(&ca),
    ];
    settings.extend(BY_LEAVES);
    let collector = collector(dir.path(), &settings);
    let mut host = Host::enrolled(1, &collector);
    feed(&collector, &mut host, 10, 1).await;
    wait_until("the first stamp", || anchored(&collector, "tsa") > 0);
    let cases = [
        (Mode::Replay, "the stamp is of other bytes"),
        (Mode::OtherBytes, "the stamp is of other bytes"),
        (Mode::Refuse, "the authority refused with status 2"),
        (Mode::OtherAuthority, "does not lead to a trusted authority"),
        (Mode::Garbage, "not an RFC 3161 answer"),
        (Mode::Huge, "more than an answer may have"),
        (Mode::NoHttp, "no answer"),
        (Mode::Status(500), "it answered with status 500"),
        (Mode::Status(302), "it answered with status 302"),
        (Mode::Silent, "no answer"),
        (Mode::Closed, "no answer"),
    ];
    for (mode, said) in cases {
        authority.server.behave(mode);
        let (before, failed) = (anchored(&collector, "tsa"), failures(&collector, "tsa"));
        // Returns when the last batch is proven: publishing waits for nobody.
        feed(&collector, &mut host, 12, 1).await;
        wait_until(&format!("{mode:?} is named"), || {
            row(&collector, 1)["fault"]
                .as_str()
                .is_some_and(|fault| fault.contains(said))
        });
        assert!(failures(&collector, "tsa") > failed, "{mode:?}");
        assert!(row(&collector, 1)["remedy"].is_string() && row(&collector, 1)["failing_since"].is_string());
        assert_eq!(anchored(&collector, "tsa"), before, "{mode:?}");
        assert!(
            row(&collector, 0)["fault"].is_null(),
            "the file has nothing to do with it"
        );
        authority.server.behave(Mode::Good);
        wait_until(&format!("it goes on after {mode:?}"), || {
            row(&collector, 1)["fault"].is_null()
        });
    }
    let dir = collector.layout.root().to_str().unwrap().to_owned();
    let status = String::from_utf8(command(&["status", "--dir", &dir]).stdout).unwrap();
    assert!(status.contains(&format!("anchor tsa {tsa}:")), "{status}");
    let (vkey, ledger) = (collector.layout.ledger_verifier(), collector.layout.ledger());
    let (code, report) = verify(&ledger, &vkey, &[&file], &["--tsa-ca", text(&ca)]);
    assert_eq!(code, 0, "{report:#}");
    let verified = report.to_string().matches("\"verified\"").count();
    assert!(verified > cases.len(), "{verified}");
    println!(
        "evidence: {} bad answers refused, {verified} stamps kept",
        cases.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_misbehaves_is_named_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Server::sink();
    let http = format!("http://{}", sink.address);
    let mut settings = vec!["--anchor-http", http.as_str()];
    settings.extend(BY_LEAVES);
    let collector = collector(dir.path(), &settings);
    let mut host = Host::enrolled(1, &collector);
    let modes = [
        Mode::Closed,
        Mode::Silent,
        Mode::NoHttp,
        Mode::Status(503),
        Mode::Status(307),
    ];
    for mode in modes {
        sink.behave(mode);
        feed(&collector, &mut host, 12, 1).await;
        wait_until(&format!("{mode:?} is named"), || {
            row(&collector, 0)["fault"].is_string()
        });
        sink.behave(Mode::Good);
        wait_until(&format!("it goes on after {mode:?}"), || {
            row(&collector, 0)["fault"].is_null()
        });
    }
    // How much it says does not matter: the status has the word.
    sink.behave(Mode::Huge);
    let before = anchored(&collector, "http");
    feed(&collector, &mut host, 12, 1).await;
    wait_until("taken all the same", || anchored(&collector, "http") > before);
}

#[cfg(feature = "privileged")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_anchors_is_stated_and_room_resumes() {
    use common::{anchor::AnchorRecord, ids::WallNanos};
    let dir = tempfile::tempdir().unwrap();
    let disk = crate::full_disk::SmallDisk::mount(64 << 10);
    let file = disk.path().join("anchors");
    // A file of whole blocks, so that the next record needs another one.
    let first = AnchorRecord {
        at: WallNanos(1),
        note: vec![b'x'; 4096 - 60],
        response: None,
    };
    fs::write(&file, first.encode().unwrap()).unwrap();
    let mut filler = fs::File::create(disk.path().join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let mut settings = vec!["--anchor-file", text(&file)];
    settings.extend(BY_LEAVES);
    let collector = collector(dir.path(), &settings);
    let mut host = Host::enrolled(1, &collector);
    feed(&collector, &mut host, 12, 1).await;
    wait_until("it is stated", || row(&collector, 0)["fault"].is_string());
    let said = row(&collector, 0);
    assert!(
        said["fault"].as_str().unwrap().contains("takes no more"),
        "{said}"
    );
    assert!(said["remedy"].as_str().unwrap().contains("make room"), "{said}");
    // An open file keeps its blocks.
    drop(filler);
    fs::remove_file(disk.path().join("filler")).unwrap();
    wait_until("room again", || row(&collector, 0)["fault"].is_null());
    assert!(anchored(&collector, "file") > 0);
    assert_eq!(
        crate::anchors::read(&file).damage,
        [],
        "what did not fit was taken away again"
    );
}
