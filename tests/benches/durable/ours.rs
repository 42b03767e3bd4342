//! Many hosts before one real collector.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use collector::layout::Layout;
use common::{
    ids::{Hash, Sequence},
    session::Message,
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use tests::{
    chains::Maker,
    program::{Running, command, enrol},
    shipping::Session,
};
use tokio::task::JoinSet;

use super::{HOSTS, Load, Outcome, Sent, hosts, print};

/// Bytes that may wait in the socket.
const SOCKET_BYTES: usize = 4 << 20;

pub(super) async fn measure(program: &Path, folder: &Path, load: Load) -> Outcome {
    let layout = Layout::new(folder);
    let root = layout.root().to_string_lossy().into_owned();
    command(
        program,
        &["init", "--dir", &root, "--origin", "bench.example/durable"],
    )?;
    let running = Running::start(program, &layout)?;
    // One socket stands for those of all hosts.
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
    let mut sealed = Vec::new();
    for seed in 1..=HOSTS {
        let mut config = enrol(program, &layout, folder, &Maker::new(seed).host())?;
        config.transport_config(Arc::new(agent::ship::transport()));
        sealed.push((seed, config, hosts::payloads(seed, load.batches())?));
    }
    // Only now, for a connection that says nothing for long is closed.
    let mut ready = Vec::new();
    for (seed, config, payloads) in sealed {
        let connection = endpoint
            .connect_with(config, running.ingest, "localhost")?
            .await?;
        let session = Session::open(
            connection,
            Maker::new(seed).host(),
            (Sequence(0), Hash::default()),
        )
        .await?;
        if session.window < load.window {
            return Err(format!("the collector lets {} batches be under way", session.window).into());
        }
        ready.push((session, payloads));
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (session, payloads) in ready {
        tasks.spawn(run(session, payloads, load));
    }
    let (mut stored, mut proven) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let done = done??;
        stored.extend(done.stored);
        proven.extend(done.proven);
    }
    let taken = begun.elapsed();
    print("stored", taken, stored);
    print("receipt", taken, proven);
    drop(running);
    Ok(())
}

/// What one host saw.
#[derive(Default)]
struct Done {
    stored: Vec<Duration>,
    proven: Vec<Duration>,
}

async fn run(mut session: Session, payloads: Vec<Vec<u8>>, load: Load) -> Outcome<Done> {
    let mut sent = Sent::new(payloads.len(), load);
    let mut done = Done::default();
    loop {
        while sent.at.len() - done.proven.len() < load.window && !sent.is_over() {
            let payload = &payloads[sent.at.len()];
            sent.at.push(Instant::now());
            session.send.write_all(payload).await?;
        }
        if sent.at.len() == done.proven.len() {
            session.connection.close(0_u8.into(), b"done");
            return Ok(done);
        }
        match session.next().await? {
            Message::Stored { through } => {
                while done.stored.len() as u64 <= through.0 {
                    done.stored.push(sent.wait_of(done.stored.len())?);
                }
            }
            Message::Receipts(receipts) => {
                for proven in receipts.proven {
                    done.proven
                        .push(sent.wait_of(usize::try_from(proven.sequence.0)?)?);
                }
            }
            Message::Refused(refusal) => return Err(format!("refused: {refusal:?}").into()),
            _ => {}
        }
    }
}
