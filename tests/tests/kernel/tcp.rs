//! TCP connections between two network namespaces, whose bytes, ends and owners are known.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use agent::kernel::Options;
use common::abi::tcp::{CloseResult, Direction, OwnerSource, Tcp, flag};
use common::abi::{Body, Kind};

use crate::network::{FAR, NEAR, Network};
use crate::watch::{Standing, Watch, program};

/// One end of a connection, as its program knows it.
#[derive(Clone, Copy, Debug)]
struct End {
    pid: u32,
    local_port: u16,
    remote_port: u16,
    sent: u64,
    received: u64,
}

fn end(line: &str) -> End {
    let words: Vec<&str> = line.split('\t').collect();
    assert_eq!(words[0], "socket", "{line}");
    let number = |at: usize| words[at].parse::<u32>().unwrap();
    End {
        pid: number(1),
        local_port: number(2).try_into().unwrap(),
        remote_port: number(3).try_into().unwrap(),
        sent: number(4).into(),
        received: number(5).into(),
    }
}

/// Everything told about the socket with these ports in this namespace.
fn told(watch: &Watch, netns: u32, local: u16, remote: u16) -> Vec<(Kind, Tcp)> {
    watch
        .sockets
        .iter()
        .filter(|(_, t)| t.netns == netns && t.local.port == local && t.remote.port == remote)
        .copied()
        .collect()
}

/// Runs a client in `near` against a server in `far` and yields what both know.
fn converse(watch: &mut Watch, client: &mut Command, server: &mut Standing) -> (End, End) {
    let (_, output) = watch.run(client);
    (end(output.trim_end()), end(&server.line()))
}

/// Waits until both ends of a connection were told to close: the last packets take their time.
fn wait_for_closes(watch: &mut Watch, near: (u32, End), far: (u32, End)) {
    let closed = |w: &Watch, (netns, e): (u32, End)| {
        told(w, netns, e.local_port, e.remote_port)
            .iter()
            .any(|(kind, _)| *kind == Kind::TcpClose)
    };
    watch.until(|w| closed(w, near) && closed(w, far));
}

fn connect(network: &Network, binary: &Path, address: &str, port: &str, rest: [&str; 3]) -> Command {
    let mut command = Network::inside(&network.near, binary);
    command.args(["connect", address, port]).args(rest);
    command
}

fn serve(network: &Network, binary: &Path, address: &str, port: &str) -> Standing {
    let (server, first) =
        Standing::start(Network::inside(&network.far, binary).args(["serve", address, port]));
    assert!(first.starts_with("listening"), "{first}");
    server
}

/// Checks one end's close against what its program knows.
#[track_caller]
fn check_close(watch: &Watch, netns: u32, e: End, direction: Direction, result: CloseResult) -> Tcp {
    let told = told(watch, netns, e.local_port, e.remote_port);
    let closes: Vec<&Tcp> = told
        .iter()
        .filter(|(k, _)| *k == Kind::TcpClose)
        .map(|(_, t)| t)
        .collect();
    assert_eq!(closes.len(), 1, "{e:?}: {told:?}");
    let close = closes[0];
    assert_eq!(
        (close.bytes_sent, close.bytes_received),
        (e.sent, e.received),
        "{close:?}"
    );
    assert_eq!(
        (close.direction, close.close_result()),
        (direction, result),
        "{close:?}"
    );
    assert_eq!(close.owner.map(|o| o.process.tgid), Some(e.pid), "{close:?}");
    *close
}

#[test]
fn each_way_to_end_is_told_at_both_ends_over_both_families() {
    use CloseResult::{Finished, ResetByPeer, ResetByUs};
    let binary = program("sockets");
    let network = Network::make();
    let (near, far) = (Network::inode(&network.near), Network::inode(&network.far));
    let mut watch = Watch::start(&Options::default());
    for family in [0, 1] {
        let mut server = serve(&network, &binary, FAR[family], "7001");
        // (how, bytes sent, bytes answered, how the client's end closes, how the server's does)
        let table = [
            ("client", "100", "5", Finished, Finished),
            ("client", "12", "0", Finished, Finished),
            ("client", "3000000", "1000000", Finished, Finished),
            ("server", "70000", "200000", Finished, Finished),
            ("client-reset", "5000", "6000", ResetByUs, ResetByPeer),
            ("server-reset", "5000", "0", ResetByPeer, ResetByUs),
        ];
        for (how, send, reply, near_result, far_result) in table {
            let mut client = connect(&network, &binary, FAR[family], "7001", [send, reply, how]);
            let (client, served) = converse(&mut watch, &mut client, &mut server);
            wait_for_closes(&mut watch, (near, client), (far, served));
            let at_client = check_close(&watch, near, client, Direction::Outbound, near_result);
            let at_server = check_close(&watch, far, served, Direction::Inbound, far_result);
            for (close, [local, remote]) in [
                (at_client, [NEAR[family], FAR[family]]),
                (at_server, [FAR[family], NEAR[family]]),
            ] {
                assert_eq!(close.local.address, local.parse::<IpAddr>().unwrap());
                assert_eq!(close.remote.address, remote.parse::<IpAddr>().unwrap());
                assert!(close.opened_boot_ns > 0 && close.established_boot_ns >= close.opened_boot_ns);
                assert_eq!(
                    close.has(flag::FIN_RECEIVED),
                    close.close_result() == Finished,
                    "{how}: {close:?}"
                );
            }
            // The client's end had no port yet when it began to connect.
            let mine: Vec<Kind> = watch
                .sockets
                .iter()
                .filter(|(_, t)| t.cookie == at_client.cookie)
                .map(|(k, _)| *k)
                .collect();
            assert_eq!(mine, [Kind::TcpConnect, Kind::TcpOpen, Kind::TcpClose], "{how}");
            let theirs: Vec<Kind> = watch
                .sockets
                .iter()
                .filter(|(_, t)| t.cookie == at_server.cookie)
                .map(|(k, _)| *k)
                .collect();
            assert_eq!(theirs, [Kind::TcpOpen, Kind::TcpClose], "{how}");
            // The accepted connection names its listener.
            let listener = watch
                .sockets
                .iter()
                .find(|(k, t)| *k == Kind::ListenStart && t.cookie == at_server.listener_cookie)
                .unwrap_or_else(|| panic!("no listener {}", at_server.listener_cookie));
            assert_eq!(
                (listener.1.local.port, listener.1.netns, listener.1.backlog_max),
                (7001, far, 77)
            );
            assert_eq!(at_server.owner.map(|o| o.source), Some(OwnerSource::Reader));
            assert_eq!(listener.1.owner.map(|o| o.source), Some(OwnerSource::Listen));
        }
        let pid = server.child.id();
        drop(server);
        let stopped = |w: &Watch| {
            w.sockets.iter().any(|(k, t)| {
                *k == Kind::ListenStop && t.netns == far && t.owner.is_some_and(|o| o.process.tgid == pid)
            })
        };
        watch.until(stopped);
    }
    let totals = watch.settle();
    assert!(watch.losses.is_empty(), "{:?}", watch.losses);
    assert!(totals.owners_forgotten == 0, "{totals:?}");
}

#[test]
fn a_refused_connection_is_told_with_its_owner() {
    let binary = program("sockets");
    let network = Network::make();
    let near = Network::inode(&network.near);
    let mut watch = Watch::start(&Options::default());
    for family in [0, 1] {
        let mut client = connect(&network, &binary, FAR[family], "7002", ["100", "5", "client"]);
        let (pid, output) = watch.run(&mut client);
        assert_eq!(output, format!("failed\t{pid}\t111\n"), "ECONNREFUSED");
        watch.settle();
        let mine = watch.sockets.iter().filter(|(_, t)| {
            t.netns == near && t.owner.is_some_and(|o| o.process.tgid == pid) && t.remote.port == 7002
        });
        let kinds: Vec<_> = mine.clone().map(|(k, t)| (*k, t.remote.address)).collect();
        let remote: IpAddr = FAR[family].parse().unwrap();
        assert_eq!(kinds, [(Kind::TcpConnect, remote), (Kind::TcpClose, remote)]);
        let close = mine.clone().nth(1).unwrap().1;
        assert_eq!(close.close_result(), CloseResult::Refused);
        assert_eq!((close.bytes_sent, close.bytes_received), (0, 0));
        assert_eq!(close.direction, Direction::Outbound);
        assert_ne!(close.local.port, 0, "the port it had tried from");
    }
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_stays_a_mapped_address() {
    let binary = program("sockets");
    let network = Network::make();
    let far = Network::inode(&network.far);
    let mut watch = Watch::start(&Options::default());
    let mut server = serve(&network, &binary, "::", "7003");
    let mut client = connect(&network, &binary, FAR[0], "7003", ["40", "2", "client"]);
    let (client, served) = converse(&mut watch, &mut client, &mut server);
    wait_for_closes(&mut watch, (Network::inode(&network.near), client), (far, served));
    let close = check_close(&watch, far, served, Direction::Inbound, CloseResult::Finished);
    let mapped = |text: &str| IpAddr::V6(text.parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped());
    assert_eq!(
        (close.local.address, close.remote.address),
        (mapped(FAR[0]), mapped(NEAR[0]))
    );
    let listener = watch
        .sockets
        .iter()
        .find(|(k, t)| *k == Kind::ListenStart && t.local.port == 7003)
        .unwrap();
    assert_eq!(listener.1.local.address, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

/// One process listens, its child accepts and answers: the connection belongs to the child.
#[test]
fn a_connection_belongs_to_the_worker_that_answers_it() {
    let binary = program("sockets");
    let network = Network::make();
    let (near, far) = (Network::inode(&network.near), Network::inode(&network.far));
    let mut watch = Watch::start(&Options::default());
    let mut command = Network::inside(&network.far, &binary);
    let (mut server, _) = Standing::start(command.args(["serve", FAR[0], "7006", "prefork"]));
    let mut client = connect(&network, &binary, FAR[0], "7006", ["400", "20", "client"]);
    let (client, served) = converse(&mut watch, &mut client, &mut server);
    wait_for_closes(&mut watch, (near, client), (far, served));
    assert_ne!(served.pid, server.child.id(), "a worker answered");
    check_close(&watch, far, served, Direction::Inbound, CloseResult::Finished);
    let open = told(&watch, far, served.local_port, served.remote_port)[0];
    let owner = open.1.owner.map(|o| (o.process.tgid, o.source));
    assert_eq!(
        (open.0, owner),
        (Kind::TcpOpen, Some((server.child.id(), OwnerSource::Listener)))
    );
}

/// A server, its listener and an open connection are all older than the watcher.
#[test]
fn sockets_older_than_the_watcher_get_owner_direction_and_bytes() {
    let binary = program("sockets");
    let network = Network::make();
    let (near, far) = (Network::inode(&network.near), Network::inode(&network.far));
    for family in [0, 1] {
        let mut server = serve(&network, &binary, FAR[family], "7004");
        let mut command = connect(&network, &binary, FAR[family], "7004", ["60000", "9000", "hold"]);
        let (mut holding, _) = Standing::start(&mut command);
        let mut watch = Watch::start(&Options::default());
        let mut found = Vec::new();
        watch
            .kernel
            .hooks
            .snapshot_sockets(&mut |record| match record.body {
                Body::Tcp(t) => found.push(t),
                Body::SocketOwner(_) => {}
                Body::Process(p) => panic!("{p:?}"),
            })
            .unwrap();
        let pid = server.child.id();
        let listener: Vec<&Tcp> = found
            .iter()
            .filter(|t| t.netns == far && t.remote.port == 0)
            .collect();
        assert_eq!(listener.len(), 1, "{listener:?}");
        assert_eq!(
            (listener[0].local.port, listener[0].direction),
            (7004, Direction::Inbound)
        );
        assert_eq!(
            listener[0].owner.map(|o| (o.process.tgid, o.source)),
            Some((pid, OwnerSource::Holder))
        );
        for (netns, direction, owner) in [
            (near, Direction::Outbound, holding.child.id()),
            (far, Direction::Inbound, pid),
        ] {
            let one: Vec<&Tcp> = found
                .iter()
                .filter(|t| t.netns == netns && t.remote.port != 0)
                .collect();
            assert_eq!(one.len(), 1, "{one:?}");
            assert_eq!(
                (one[0].direction, one[0].owner.map(|o| o.process.tgid)),
                (direction, Some(owner))
            );
            assert!(
                one[0].has(flag::OPENED_BEFORE) && one[0].has(flag::DIRECTION_INFERRED),
                "{one:?}"
            );
        }
        // The old connection goes on and closes while watched.
        holding.tell("go on");
        let (client, served) = (end(&holding.line()), end(&server.line()));
        wait_for_closes(&mut watch, (near, client), (far, served));
        check_close(&watch, near, client, Direction::Outbound, CloseResult::Finished);
        check_close(&watch, far, served, Direction::Inbound, CloseResult::Finished);
        // And what the old listener accepts now has an owner and times.
        let mut client = connect(&network, &binary, FAR[family], "7004", ["100", "50", "client"]);
        let (client, served) = converse(&mut watch, &mut client, &mut server);
        wait_for_closes(&mut watch, (near, client), (far, served));
        let close = check_close(&watch, far, served, Direction::Inbound, CloseResult::Finished);
        assert_eq!(
            (close.listener_cookie, close.flags & flag::OPENED_BEFORE),
            (listener[0].cookie, 0)
        );
        assert!(close.opened_boot_ns > 0);
    }
}

/// Nothing was snapshot: what the sockets themselves do not tell must be unknown, not wrong.
#[test]
fn without_a_snapshot_an_older_connection_closes_with_unknown_owner_and_direction() {
    let binary = program("sockets");
    let network = Network::make();
    let far = Network::inode(&network.far);
    let mut server = serve(&network, &binary, FAR[0], "7005");
    let mut command = connect(&network, &binary, FAR[0], "7005", ["6000", "900", "hold"]);
    let (mut holding, _) = Standing::start(&mut command);
    let mut watch = Watch::start(&Options::default());
    holding.tell("go on");
    let (client, served) = (end(&holding.line()), end(&server.line()));
    wait_for_closes(&mut watch, (Network::inode(&network.near), client), (far, served));
    let told = told(&watch, far, served.local_port, served.remote_port);
    let [(Kind::TcpClose, close)] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (close.bytes_sent, close.bytes_received),
        (served.sent, served.received)
    );
    assert_eq!((close.owner, close.direction), (None, Direction::Unknown));
    assert!(close.has(flag::OPENED_BEFORE));
}

/// The hooks are attached while a connect is waiting for an answer that never comes.
#[test]
fn a_connect_older_than_the_watcher_is_outbound_by_its_state() {
    let binary = program("sockets");
    let network = Network::make();
    let near = Network::inode(&network.near);
    let nobody = "10.77.0.99";
    let mut command = connect(&network, &binary, nobody, "7008", ["100", "5", "client"]);
    let mut waiting = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let in_syn_sent = || {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", waiting.id())).unwrap_or_default();
        table
            .lines()
            .any(|line| line.split_whitespace().nth(3) == Some("02"))
    };
    while !in_syn_sent() {
        std::thread::yield_now();
    }
    let mut watch = Watch::start(&Options::default());
    watch.until(|w| {
        w.sockets
            .iter()
            .any(|(k, t)| *k == Kind::TcpClose && t.netns == near)
    });
    waiting.wait().unwrap();
    let told: Vec<_> = watch.sockets.iter().filter(|(_, t)| t.netns == near).collect();
    let [(Kind::TcpClose, close)] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (close.direction, close.close_result()),
        (Direction::Outbound, CloseResult::Failed(113))
    );
    assert_eq!(close.remote.address, nobody.parse::<IpAddr>().unwrap());
    assert!(
        close.has(flag::OPENED_BEFORE) && close.owner.is_none(),
        "{close:?}"
    );
}

/// Over loopback both ends are told, and the hook runs in system calls and softirqs at once.
#[test]
fn four_thousand_connections_are_told_exactly() {
    let binary = program("sockets");
    let network = Network::make();
    let near = Network::inode(&network.near);
    let mut watch = Watch::start(&Options::default());
    watch.run(Network::inside(&network.near, &binary).args(["storm", "127.0.0.1", "7007", "4", "1000"]));
    let totals = watch.settle();
    assert!(watch.losses.is_empty(), "{:?}", watch.losses);
    // What the kernel left out has no number; it is told apart, and nothing else may be missing.
    let left_out: u64 = totals.left_out.iter().map(|&(_, count)| count).sum();
    let mut by_cookie: HashMap<u64, Vec<(Kind, Tcp)>> = HashMap::new();
    for &(kind, tcp) in watch.sockets.iter().filter(|(_, t)| t.netns == near) {
        by_cookie.entry(tcp.cookie).or_default().push((kind, tcp));
    }
    let (mut ends, mut bytes) = ([0u64; 2], [0u64; 2]);
    let mut incomplete = 0;
    for told in by_cookie.values() {
        let kinds: Vec<Kind> = told.iter().map(|(k, _)| *k).collect();
        match kinds[..] {
            [Kind::ListenStart, Kind::ListenStop] => continue,
            [Kind::TcpConnect, Kind::TcpOpen, Kind::TcpClose] => {
                ends[0] += 1;
                bytes[0] += told[2].1.bytes_sent;
                assert_eq!(told[2].1.direction, Direction::Outbound);
            }
            [Kind::TcpOpen, Kind::TcpClose] => {
                ends[1] += 1;
                bytes[1] += told[1].1.bytes_received;
                assert_eq!(told[1].1.direction, Direction::Inbound);
            }
            _ => incomplete += 1,
        }
    }
    if left_out == 0 {
        assert_eq!((ends, bytes, incomplete), ([4000; 2], [10_000; 2], 0));
    } else {
        assert!(
            incomplete <= left_out,
            "{incomplete} incomplete, {left_out} left out"
        );
        assert!(
            ends.iter().all(|&e| e + left_out >= 4000),
            "{ends:?}, {left_out} left out"
        );
    }
}
