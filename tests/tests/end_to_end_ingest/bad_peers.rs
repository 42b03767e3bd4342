//! Peers that must not get a session: wrong certificates, unknown hosts, garbage on every socket.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use collector::{
    ingest::close,
    layout::Layout,
    pki::{self, Authority},
};
use common::{
    ids::{HostId, WallNanos},
    session::{Message, RefusalCode},
};
use quinn::ConnectionError;

use crate::{
    assert_still_serves,
    peer::{Host, Refusing, Session},
    process::{Collector, PATIENCE},
};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> WallNanos {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    WallNanos(u64::try_from(since.as_nanos()).unwrap())
}

/// How the collector ends the attempt to connect.
async fn refused(host: &Host, collector: &Collector) -> Refusing {
    match Session::connect(host, collector.ingest, &collector.layout.ca_certificate()).await {
        Ok(mut session) => {
            session.send(&Message::Hello(host.hello())).await;
            session.transport_refusal().await
        }
        Err(refusing) => refusing,
    }
}

/// The number of the TLS alert that closed the connection (RFC 8446 §6).
fn alert(refusing: &Refusing) -> u64 {
    match refusing {
        ConnectionError::ConnectionClosed(frame) => u64::from(frame.error_code) - 0x100,
        other => panic!("{other:?}"),
    }
}

/// Code and reason of the application close.
fn closed(refusing: &Refusing) -> (u64, String) {
    match refusing {
        ConnectionError::ApplicationClosed(frame) => (
            frame.error_code.into_inner(),
            String::from_utf8(frame.reason.to_vec()).unwrap(),
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let mut collector = Collector::start();
    let other = tempfile::tempdir().unwrap();
    let layout = Layout::new(other.path().join("c"));
    pki::init(&layout, "ledger.example/other", &[], now()).unwrap();
    let mut host = Host::new(10);
    host.certify(&Authority::open(&layout).unwrap(), now(), DAY);
    let found = alert(&refused(&host, &collector).await);
    // The authorities' names differ, so the issuer is unknown; with the same name its signature would fail.
    assert_eq!(found, 48, "unknown_ca");
    collector.await_refused("tls_unknown_authority");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(11, &collector);
    let authority = Authority::open(&collector.layout).unwrap();
    let then = WallNanos(now().0 - 30 * 86_400_000_000_000);
    host.certify(&authority, then, DAY);
    assert_eq!(
        alert(&refused(&host, &collector).await),
        45,
        "certificate_expired"
    );
    collector.await_refused("tls_certificate_expired");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let mut collector = Collector::start();
    assert_eq!(
        alert(&refused(&Host::new(12), &collector).await),
        116,
        "certificate_required"
    );
    collector.await_refused("tls_certificate_required");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn an_unregistered_host_is_refused() {
    let mut collector = Collector::start();
    let mut host = Host::new(13);
    host.certify(&Authority::open(&collector.layout).unwrap(), now(), DAY);
    let (code, reason) = closed(&refused(&host, &collector).await);
    assert_eq!(code, u64::from(close::UNREGISTERED));
    assert_eq!(reason, format!("host {} is not registered here", host.id));
    collector.await_refused("unregistered_host");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn a_host_is_refused_once_its_registration_is_removed() {
    let mut collector = Collector::start();
    let host = Host::enrolled(14, &collector);
    drop(Session::open(&host, &collector).await);
    std::fs::remove_file(collector.layout.host(&host.id)).unwrap();
    let (code, _) = closed(&refused(&host, &collector).await);
    assert_eq!(code, u64::from(close::UNREGISTERED));
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn a_certificate_that_the_registration_does_not_list_is_refused() {
    let mut collector = Collector::start();
    let mut host = Host::enrolled(15, &collector);
    host.certify(&Authority::open(&collector.layout).unwrap(), now(), DAY);
    let (code, _) = closed(&refused(&host, &collector).await);
    assert_eq!(code, u64::from(close::CERTIFICATE));
    collector.await_refused("unregistered_certificate");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn the_chain_of_another_host_is_refused() {
    let mut collector = Collector::start();
    let host = Host::enrolled(16, &collector);
    let ca = collector.layout.ca_certificate();
    let mut session = Session::connect(&host, collector.ingest, &ca).await.unwrap();
    let mut hello = host.hello();
    hello.host = HostId([7; 32]);
    session.send(&Message::Hello(hello)).await;
    assert_eq!(session.refusal().await.code, RefusalCode::Host);
    collector.await_refused("host");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn an_unknown_protocol_version_is_refused() {
    let mut collector = Collector::start();
    let host = Host::enrolled(17, &collector);
    let ca = collector.layout.ca_certificate();
    let mut session = Session::connect(&host, collector.ingest, &ca).await.unwrap();
    let mut hello = host.hello();
    hello.version = 999;
    session.send(&Message::Hello(hello)).await;
    assert_eq!(session.refusal().await.code, RefusalCode::Version);
    collector.await_refused("version");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn an_agent_that_saw_more_than_this_ledger_has_is_told_so() {
    let mut collector = Collector::start();
    let host = Host::enrolled(18, &collector);
    let ca = collector.layout.ca_certificate();
    let mut session = Session::connect(&host, collector.ingest, &ca).await.unwrap();
    let mut hello = host.hello();
    hello.seen_size = 5;
    session.send(&Message::Hello(hello)).await;
    assert_eq!(session.refusal().await.code, RefusalCode::LedgerBehind);
    collector.await_refused("ledger_behind");
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn garbage_on_the_session_stream_is_refused() {
    let mut collector = Collector::start();
    let host = Host::enrolled(19, &collector);
    let oversized = u32::MAX.to_be_bytes();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[0, 0, 0, 1, 200],
        &oversized,
    ] {
        let ca = collector.layout.ca_certificate();
        let mut session = Session::connect(&host, collector.ingest, &ca).await.unwrap();
        session.send_bytes(garbage).await;
        let refusal = session.refusal().await;
        assert_eq!(refusal.code, RefusalCode::Protocol, "{garbage:?}: {refusal}");
        let (code, _) = closed(&session.transport_refusal().await);
        assert_eq!(code, u64::from(RefusalCode::Protocol.number()));
    }
    collector.await_refused("garbage");
    assert_eq!(collector.refused("garbage"), 4);
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn garbage_datagrams_are_counted_and_change_nothing() {
    let mut collector = Collector::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let long_header_of_another_version = [0xc0, 9, 9, 9, 9, 0, 0];
    let unknown_connection = [&[0x40][..], &[5; 40]].concat();
    for datagram in [
        &b"hello"[..],
        &[0; 1200],
        &long_header_of_another_version,
        &unknown_connection,
    ] {
        socket.send_to(datagram, collector.ingest).unwrap();
    }
    for reason in ["udp_garbage", "quic_version", "unknown_connection"] {
        collector.await_refused(reason);
    }
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn garbage_on_the_http_socket_is_counted_and_cut_off() {
    let mut collector = Collector::start();
    let mut stream = TcpStream::connect(collector.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
    let mut answer = Vec::new();
    // Closed or reset, but not answered.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    collector.await_refused("http_garbage");
    for path in [
        "/tile/0/../../pki/ca.key",
        "/tile/x/000",
        "/nowhere",
        "/tile/0/000.p/0",
    ] {
        assert_eq!(collector.get(path).0, 404, "{path}");
    }
    assert_still_serves(&mut collector).await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_and_room_is_given_again() {
    let mut collector = Collector::start_with(&["--connections-max", "1"]);
    let host = Host::enrolled(31, &collector);
    let (session, _) = Session::open(&host, &collector).await;
    let refusing = refused(&Host::enrolled(32, &collector), &collector).await;
    match refusing {
        ConnectionError::ConnectionClosed(frame) => {
            assert_eq!(frame.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("{other:?}"),
    }
    collector.await_refused("too_many_connections");
    session.connection.close(0_u32.into(), b"done");
    let begun = std::time::Instant::now();
    while collector.metric("hostledger_connections") > 0 {
        assert!(begun.elapsed() < PATIENCE, "the place is never given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_still_serves(&mut collector).await;
}
