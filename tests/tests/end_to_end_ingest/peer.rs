//! A peer that speaks the session's messages by hand, so that it can also speak them wrongly.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use collector::{
    ingest::tls::ALPN,
    pki::{Authority, Issued, Request, host_uri},
};
use common::{
    batch::{ChainHead, ClockSource, HeaderFields, HeaderFlags, UnverifiedHeader, encode_body, sign_header},
    checkpoint::Checkpoint,
    ids::{BootId, BootNanos, Hash, HostId, KeyEpoch, Nonce, PublicKey, Sequence, WallNanos},
    note::UnverifiedNote,
    session::{FrameDecoder, Hello, Message, PROTOCOL_VERSION, Receipts, Refusal, Welcome},
};
use ed25519_dalek::SigningKey;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::process::{Collector, PATIENCE, command, wait_until};

/// A host with its keys and the tip of its chain.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) key: SigningKey,
    pub(crate) head: ChainHead,
    pub(crate) tls_key: rcgen::KeyPair,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

impl Host {
    /// A host whose signing key follows from `seed`, without a certificate.
    pub(crate) fn new(seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let id = HostId::of_genesis_key(&PublicKey(key.verifying_key().to_bytes()));
        Self {
            id,
            key,
            head: ChainHead::genesis(id),
            tls_key: rcgen::KeyPair::generate().unwrap(),
            certificate: None,
        }
    }

    /// A host enrolled by the real command.
    pub(crate) fn enrolled(seed: u8, collector: &Collector) -> Self {
        let mut host = Self::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let (csr, out) = (dir.path().join("agent.csr"), dir.path().join("out"));
        std::fs::write(&csr, host.request()).unwrap();
        let root = collector.layout.root().to_str().unwrap();
        let (csr, out_text) = (csr.to_str().unwrap(), out.to_str().unwrap());
        let done = command(&["enrol", "--dir", root, "--csr", csr, "--out", out_text]);
        assert!(done.status.success(), "{done:?}");
        host.certificate = Some(read_certificate(&out.join("tls.crt")));
        host
    }

    /// The same, once the running collector has stated it: what follows has later leaves.
    pub(crate) fn enrolled_and_stated(seed: u8, collector: &Collector) -> Self {
        let stated = "hostledger_statements_total{kind=\"host_enrolled\"}";
        let before = collector.metric(stated);
        let host = Self::enrolled(seed, collector);
        let begun = std::time::Instant::now();
        while collector.metric(stated) == before {
            assert!(begun.elapsed() < PATIENCE, "no enrolment was stated");
            std::thread::sleep(Duration::from_millis(20));
        }
        host
    }

    /// A certificate request in PEM.
    pub(crate) fn request(&self) -> String {
        let mut params = rcgen::CertificateParams::default();
        let uri = host_uri(&self.id).as_str().try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        params.serialize_request(&self.tls_key).unwrap().pem().unwrap()
    }

    /// Takes a certificate from the authority in a collector's directory, past its registration.
    pub(crate) fn certify(&mut self, authority: &Authority, now: WallNanos, lifetime: Duration) -> Issued {
        let request = Request::parse(&self.request()).unwrap();
        let issued = authority.issue(&request, now, lifetime).unwrap();
        self.certificate = Some(CertificateDer::from(issued.der.clone()));
        issued
    }

    /// Fields and body of the batch that follows the chain's tip.
    pub(crate) fn next_fields(&self, events: &[Vec<u8>]) -> (HeaderFields, Vec<u8>) {
        let (body, events_root, tags_hash) = encode_body(events).unwrap();
        let fields = HeaderFields {
            flags: HeaderFlags::default(),
            host: self.id,
            key_epoch: KeyEpoch(0),
            public_key: PublicKey(self.key.verifying_key().to_bytes()),
            next_public_key: PublicKey::default(),
            sequence: self.head.next_sequence,
            first_event: self.head.next_event,
            event_count: u32::try_from(events.len()).unwrap(),
            body_bytes: u32::try_from(body.len()).unwrap(),
            previous: self.head.hash,
            events_root,
            tags_hash,
            boot: BootId([3; 16]),
            from_boot: BootNanos(10),
            until_boot: BootNanos(20),
            from_wall: WallNanos(1_000_000_010),
            until_wall: WallNanos(1_000_000_020),
            clock_error_ns: u64::MAX,
            clock_source: ClockSource::Unsynchronised,
            nonce: Nonce([9; 32]),
            sensors: Vec::new(),
        };
        (fields, body)
    }

    /// The next batch, signed, without moving the tip.
    pub(crate) fn peek(&self, events: &[Vec<u8>]) -> (UnverifiedHeader, Vec<u8>) {
        let (fields, body) = self.next_fields(events);
        (sign_header(&fields, &self.key).unwrap(), body)
    }

    /// The next batch; the tip moves on.
    pub(crate) fn seal(&mut self, events: &[Vec<u8>]) -> (UnverifiedHeader, Vec<u8>) {
        let (header, body) = self.peek(events);
        self.head.accept(header.clone()).unwrap();
        (header, body)
    }

    /// What this host would say first.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            host: self.id,
            agent_version: "test".to_owned(),
            next: self.head.next_sequence,
            head: self.head.hash,
            oldest: common::ids::Sequence(0),
            seen_size: 0,
            seen_root: Hash::default(),
        }
    }
}

/// A message that carries a batch.
pub(crate) fn batch(header: &UnverifiedHeader, body: Vec<u8>) -> Message {
    Message::Batch {
        header: header.bytes().to_vec(),
        body,
    }
}

pub(crate) fn read_certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Why no session came about: the transport's error with the reason the collector gave.
pub(crate) type Refusing = quinn::ConnectionError;

/// An open session stream.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    send: SendStream,
    receive: RecvStream,
    decoder: FrameDecoder,
    _endpoint: Endpoint,
}

impl Session {
    /// Connects with the host's certificate. In TLS 1.3 the client is done before the server has judged its
    /// certificate, so a refusal may show only later: see [`Session::refusal_of_transport`].
    pub(crate) async fn connect(host: &Host, ingest: SocketAddr, ca: &Path) -> Result<Self, Refusing> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read_certificate(ca)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &host.certificate {
            Some(certificate) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(host.tls_key.serialize_der()));
                config
                    .with_client_auth_cert(vec![certificate.clone()], key)
                    .unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let connection = endpoint
            .connect_with(config, ingest, "localhost")
            .unwrap()
            .await?;
        let (send, receive) = connection.open_bi().await?;
        Ok(Self {
            connection,
            send,
            receive,
            decoder: FrameDecoder::default(),
            _endpoint: endpoint,
        })
    }

    /// Connects to a collector and says hello; panics unless welcomed.
    pub(crate) async fn open(host: &Host, collector: &Collector) -> (Self, Welcome) {
        let mut session = Self::connect(host, collector.ingest, &collector.layout.ca_certificate())
            .await
            .unwrap();
        session.send(&Message::Hello(host.hello())).await;
        match session.next().await {
            Some(Message::Welcome(welcome)) => (session, welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        self.send_bytes(&message.encode().unwrap()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The collector may have closed already; what it said then is what counts.
        let _ = self.send.write_all(bytes).await;
    }

    /// The next message but for nonces, credit and keys; `None` once the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match self.decoder.next_message().unwrap() {
                Some(Message::Nonce(_) | Message::Credit(_) | Message::Keys(_)) => continue,
                Some(message) => return Some(message),
                None => {}
            }
            let chunk = tokio::time::timeout(PATIENCE, self.receive.read_chunk(65_536, true))
                .await
                .unwrap();
            self.decoder.push(&chunk.ok()??.bytes);
        }
    }

    /// The next nonce, whatever comes before it.
    pub(crate) async fn next_nonce(&mut self) -> Nonce {
        loop {
            match self.decoder.next_message().unwrap() {
                Some(Message::Nonce(nonce)) => return nonce,
                Some(_) => continue,
                None => {}
            }
            let chunk = tokio::time::timeout(PATIENCE, self.receive.read_chunk(65_536, true))
                .await
                .unwrap();
            self.decoder.push(&chunk.unwrap().unwrap().bytes);
        }
    }

    /// The refusal that ends the session, whatever comes before it.
    pub(crate) async fn refusal(&mut self) -> Refusal {
        loop {
            match self.next().await {
                Some(Message::Refused(refusal)) if refusal.fatal => return refusal,
                Some(_) => {}
                None => panic!(
                    "the stream ended without a refusal: {:?}",
                    self.connection.close_reason()
                ),
            }
        }
    }

    /// How the transport was closed.
    pub(crate) async fn transport_refusal(&self) -> Refusing {
        tokio::time::timeout(PATIENCE, self.connection.closed())
            .await
            .unwrap()
    }
}

/// Stores batches that carry `word`, and waits for the last one's receipt.
pub(crate) async fn feed(collector: &Collector, host: &mut Host, count: u64, word: u8) -> Receipts {
    let (mut session, _) = Session::open(host, collector).await;
    let mut last = Sequence(0);
    for _ in 0..count {
        let (header, body) = host.seal(&[vec![word; 40]]);
        last = header.claimed().sequence;
        session.send(&batch(&header, body)).await;
    }
    loop {
        if let Some(Message::Receipts(receipts)) = session.next().await
            && receipts
                .proven
                .last()
                .is_some_and(|proven| proven.sequence == last)
        {
            stored(collector, size_in(&receipts.checkpoint));
            return receipts;
        }
    }
}

/// Waits until the checkpoint in the directory covers so many leaves, for whoever reads that next.
pub(crate) fn stored(collector: &Collector, size: u64) {
    let path = collector.layout.ledger().join("log/checkpoint");
    wait_until("the checkpoint is stored", || {
        std::fs::read(&path).is_ok_and(|note| size_in(&note) >= size)
    });
}

/// The size that a checkpoint claims.
fn size_in(note: &[u8]) -> u64 {
    let note = UnverifiedNote::parse(note).unwrap();
    Checkpoint::parse_body(note.danger_unverified_text())
        .unwrap()
        .size
}
