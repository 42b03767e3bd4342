//! Many hosts before one real collector.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use collector::{ingest::tls::ALPN, layout::Layout, pki::host_uri};
use common::{
    ids::{Hash, HostId, Sequence},
    session::{FrameDecoder, Hello, Message, PROTOCOL_VERSION},
};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tests::chains::Maker;
use tokio::task::JoinSet;

use super::{HOSTS, Load, Outcome, Sent, hosts, print};

/// Ends the collector whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) async fn measure(program: &Path, folder: &Path, load: Load) -> Outcome {
    let layout = Layout::new(folder);
    let root = layout.root().to_string_lossy().into_owned();
    command(
        program,
        &["init", "--dir", &root, "--origin", "bench.example/durable"],
    )?;
    // Whatever ends this program ends the collector as well.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(["run", "--dir", &root, "--log", "warn"])
        .args(["--ingest-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let running = Running(child);
    let ingest = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("ingest="));
    let ingest: SocketAddr = ingest
        .ok_or("the collector did not say where it listens")?
        .parse()?;
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut sealed = Vec::new();
    for seed in 1..=HOSTS {
        let config = enrol(program, &layout, folder, seed)?;
        sealed.push((seed, config, hosts::payloads(seed, load.batches())?));
    }
    // Only now, for a connection that says nothing for long is closed.
    let mut ready = Vec::new();
    for (seed, config, payloads) in sealed {
        let connection = endpoint.connect_with(config, ingest, "localhost")?.await?;
        let streams = connection.open_bi().await?;
        let session = Session::open(Maker::new(seed).host(), connection, streams, load.window).await?;
        ready.push((session, payloads));
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (session, payloads) in ready {
        tasks.spawn(session.run(payloads, load));
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

fn command(program: &Path, words: &[&str]) -> Outcome {
    let done = Command::new(program).args(words).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned().into())
    }
}

/// Enrols a host by the real command.
fn enrol(program: &Path, layout: &Layout, folder: &Path, seed: u8) -> Outcome<ClientConfig> {
    let tls_key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    let uri = host_uri(&Maker::new(seed).host());
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.as_str().try_into()?)];
    let request = folder.join(format!("{seed}.csr"));
    let out = folder.join(format!("{seed}.out"));
    std::fs::write(&request, params.serialize_request(&tls_key)?.pem()?)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (root, request, out_text) = (text(layout.root()), text(&request), text(&out));
    command(
        program,
        &["enrol", "--dir", &root, "--csr", &request, "--out", &out_text],
    )?;

    let certificate = |path: &Path| CertificateDer::from_pem_file(path);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&layout.ca_certificate())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate(&out.join("tls.crt"))?],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(tls_key.serialize_der())),
        )?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)))
}

struct Session {
    /// Kept open for as long as the streams are used.
    connection: quinn::Connection,
    send: SendStream,
    receive: RecvStream,
    decoder: FrameDecoder,
}

/// What one host saw.
#[derive(Default)]
struct Done {
    stored: Vec<Duration>,
    proven: Vec<Duration>,
}

impl Session {
    async fn open(
        host: HostId,
        connection: quinn::Connection,
        (send, receive): (SendStream, RecvStream),
        window: usize,
    ) -> Outcome<Self> {
        let mut session = Self {
            connection,
            send,
            receive,
            decoder: FrameDecoder::default(),
        };
        let hello = Hello {
            version: PROTOCOL_VERSION,
            host,
            agent_version: "bench".to_owned(),
            next: Sequence(0),
            head: Hash::default(),
            oldest: Sequence(0),
            seen_size: 0,
            seen_root: Hash::default(),
        };
        session.send.write_all(&Message::Hello(hello).encode()?).await?;
        match session.next().await? {
            Message::Welcome(welcome) if u64::from(welcome.window.batches) >= window as u64 => Ok(session),
            other => Err(format!("not welcome: {other:?}").into()),
        }
    }

    async fn next(&mut self) -> Outcome<Message> {
        loop {
            match self.decoder.next_message()? {
                Some(Message::Keys(_)) => continue,
                Some(message) => return Ok(message),
                None => {}
            }
            let chunk = self.receive.read_chunk(65_536, true).await?;
            self.decoder.push(&chunk.ok_or("the stream ended")?.bytes);
        }
    }

    async fn run(mut self, payloads: Vec<Vec<u8>>, load: Load) -> Outcome<Done> {
        let mut sent = Sent::new(payloads.len(), load);
        let mut done = Done::default();
        loop {
            while sent.at.len() - done.proven.len() < load.window && !sent.is_over() {
                let payload = &payloads[sent.at.len()];
                sent.at.push(Instant::now());
                self.send.write_all(payload).await?;
            }
            if sent.at.len() == done.proven.len() {
                self.connection.close(0_u8.into(), b"done");
                return Ok(done);
            }
            match self.next().await? {
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
}
